"""What tells a wrong transformer from the right one, and files and entries that do not fit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from parity.derive import derive_images, digest_shapes, sample_values
from parity.golden import (
    adapt,
    compare,
    load_golden,
    load_tokenizer,
    official_shapes,
    write_checkpoint,
)

from vtbench.base.errors import RegistryError, WeightsMismatch
from vtbench.base.records import SizePolicy
from vtbench.tokenizers import gigatok, mae, titok
from vtbench.tokenizers.nn import vit

POSITIONS = {
    "titok-s128": ("encoder.positional_embedding", r"encoder\.positions"),
    "titok-bl64-vae": ("decoder.positional_embedding", r"detokenizer\.positions"),
    "bsq-vit-18": ("decoder.positional_embedding", r"decoder\.positions"),
    "gigatok-b-l": ("s2to1encoder.positional_embedding", r"tokenizer\.grid_places"),
    "mae": ("decoder_pos_embed", "decoder_positions"),
}
"""A tensor's official name, and ours."""


def load(golden, tmp_path):
    return load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.pt"))


@pytest.mark.parametrize(
    "name, changes, wrong",
    [
        ("titok-s128", {"lookup": "nearest"}, ["pixels", "indices"]),
        ("titok-bl64-vq", {"lookup": "cosine"}, ["pixels", "indices"]),
        ("titok-bl64-vq", {"encoder": {"epsilon": 1e-2}}, ["latents", "pixels", "indices"]),
        ("titok-bl64-vae", {"encoder": {"heads": 1}}, ["latents", "pixels"]),
        ("titok-bl64-vae", {"decoder": {"gelu": "tanh"}}, ["pixels"]),
        ("bsq-vit-18", {"vit": {"heads": 1}}, ["latents", "pixels", "indices"]),
        ("gigatok-b-l", {"encoder": {"heads": 1}}, ["latents", "pixels", "indices"]),
        ("gigatok-b-l", {"decoder": {"epsilon": 1e-2}}, ["pixels"]),
        ("mae", {"encoder": {"heads": 1}}, ["latents", "pixels"]),
        ("mae", {"decoder": {"epsilon": 1e-2}}, ["pixels"]),
    ],
)
def test_a_wrong_plan_does_not_pass(name, changes, wrong, tmp_path):
    golden = load_golden(name)
    mutant = copy.deepcopy(golden)
    config = mutant["ours"]["options"]["config"]
    for key, change in changes.items():
        config[key] = {**config[key], **change} if isinstance(change, dict) else change
    assert digest_shapes(official_shapes(mutant)) == golden["keys_sha256"]
    assert compare(load(mutant, tmp_path), golden) == wrong


def test_the_first_models_slip_is_part_of_them(tmp_path, monkeypatch):
    golden = load_golden("titok-s128")
    tokenizer = load(golden, tmp_path)
    monkeypatch.setattr(tokenizer.model, "words", None)
    images = derive_images(golden["input"]["shape"], (0.0, 1.0))
    with torch.inference_mode():
        latents = tokenizer.model.compute_latents(images)
    expected = torch.tensor(golden["latents"]["values"], dtype=torch.float64)
    gap = torch.tensor(sample_values(latents), dtype=torch.float64) - expected
    assert gap.abs().max() > 0.1 * expected.abs().max()


def test_the_likeliest_word_is_not_the_mean_of_all(tmp_path, monkeypatch):
    golden = load_golden("titok-s128")
    tokenizer = load(golden, tmp_path)

    def pick(scores, dim):
        return torch.nn.functional.one_hot(scores.argmax(dim), scores.shape[dim]).movedim(-1, dim)

    monkeypatch.setattr(torch.Tensor, "softmax", lambda *a, **k: pick(*a, **k).float())
    assert compare(tokenizer, golden) == ["pixels"]


@pytest.mark.parametrize("name, module", [("titok-bl64-vae", titok), ("mae", vit)])
def test_patches_have_their_channels_last_in_titok_and_mae(name, module, tmp_path, monkeypatch):
    golden = load_golden(name)
    tokenizer = load(golden, tmp_path)
    join = vit.join_patches
    monkeypatch.setattr(module, "join_patches", lambda p, grid, **_: join(p, grid))
    assert compare(tokenizer, golden) == ["pixels"]


def test_pixels_are_normalised_for_mae_and_back(tmp_path, monkeypatch):
    golden = load_golden("mae")
    tokenizer = load(golden, tmp_path)
    monkeypatch.setattr(mae, "IMAGENET", ((0.5,) * 3,) * 2)
    assert compare(tokenizer, golden) == ["latents", "pixels"]


def test_the_class_token_is_part_of_the_code(tmp_path):
    golden = load_golden("mae")
    tokenizer = load(golden, tmp_path)
    with torch.inference_mode():
        code = tokenizer.encode(derive_images(golden["input"]["shape"], (0.0, 1.0)))
        images = tokenizer.decode(code)
        assert code.latents is not None and code.tokens == (1 + 4 * 4,)
        lacking = code.latents.clone()
        lacking[..., 0] = 0
        gap = tokenizer.decode(dataclasses.replace(code, latents=lacking)) - images
    assert gap.abs().max() > 0.1 * images.std()


def test_tokens_that_nothing_reads_must_be_in_the_file(tmp_path):
    path = write_checkpoint(load_golden("mae"), tmp_path / "official.pt", mask_token=None)
    with pytest.raises(WeightsMismatch, match="missing mask"):
        load_tokenizer(load_golden("mae"), path)


def test_means_of_rows_first_do_not_pass(tmp_path, monkeypatch):
    golden = load_golden("gigatok-b-l")
    tokenizer = load(golden, tmp_path)
    pool = gigatok.pool_levels
    monkeypatch.setattr(gigatok, "pool_levels", lambda grid: pool(grid.mT))
    assert "latents" in compare(tokenizer, golden)


def test_positions_are_no_part_of_what_is_answered(tmp_path, monkeypatch):
    golden = load_golden("gigatok-b-l")
    tokenizer = load(golden, tmp_path)
    attend = vit.Attention.forward
    monkeypatch.setattr(
        vit.Attention, "forward", lambda self, x, key, value: attend(self, x, key, key)
    )
    assert compare(tokenizer, golden) == ["latents", "pixels", "indices"]


@pytest.mark.parametrize("name", ["bsq-vit-18", "bsq-vit-36"])
def test_the_first_channel_is_the_highest_bit(name, tmp_path):
    golden = load_golden(name)
    tokenizer = load(golden, tmp_path)
    tokenizer.model.quantizer.first = "low"
    assert compare(tokenizer, golden) == ["indices"]  # the decoder is given the same signs
    tokenizer.model.quantizer.first = "high"
    tokenizer.model.quantizer.scale = 1.0
    assert compare(tokenizer, golden) == ["pixels"]


@pytest.mark.parametrize("name", POSITIONS)
def test_a_file_that_does_not_fit_is_refused_by_name(name, tmp_path):
    golden = load_golden(name)
    key, ours = POSITIONS[name]
    for change, message in (({key: None}, "missing"), ({key: torch.zeros(2, 3)}, "misshaped")):
        path = write_checkpoint(golden, tmp_path / f"{message}.pt", **change)
        with pytest.raises(WeightsMismatch, match=rf"{message} {ours}"):
            load_tokenizer(golden, path)
    more = copy.deepcopy(golden)
    more["checkpoint"]["others"]["encoder.extra.weight"] = [3]
    path = write_checkpoint(more, tmp_path / "more.pt")
    with pytest.raises(WeightsMismatch, match=r"unexpected encoder\.extra\.weight"):
        load_tokenizer(golden, path)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("titok-s128", {"size": SizePolicy(16)}, "multiple of the patch, 16, got None"),
        ("titok-s128", {"size": SizePolicy(fixed=(64, 72), policy="resize")}, r"got \(64, 72\)"),
        ("titok-s128", {"downsample": 16}, "downsample is 16, but the plan makes it None"),
        ("titok-s128", {"input_range": (-1.0, 1.0)}, "input_range"),
        ("titok-bl64-vae", {"latent_channels": 8}, "latent_channels is 8"),
        ("titok-bl64-vae", {"kind": "discrete", "codebook_size": 4}, "kind is discrete"),
        ("gigatok-b-l", {"size": SizePolicy(fixed=(48, 48), policy="resize")}, "power of two"),
        ("bsq-vit-18", {"codebook_size": 1000}, "18 bits make 262144"),
        ("bsq-vit-18", {"downsample": 16}, "downsample is 16, but the plan makes it 8"),
        ("mae", {"downsample": 16}, "downsample is 16, but the plan makes it None"),
        ("mae", {"latent_channels": 32}, "latent_channels is 32, but the plan makes it 64"),
        ("mae", {"size": SizePolicy(fixed=(64, 72), policy="resize")}, r"got \(64, 72\)"),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(name, change, message):
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match=message):
        adapter(dataclasses.replace(spec, **change), **golden["ours"]["options"], weights=None)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("titok-s128", {"pixels": {"latent": 32}}, r"pixels\.multipliers: Field required"),
        ("titok-s128", {"encoder": {"width": 64, "depth": 1, "heads": 5}}, "5 heads cannot share"),
        ("bsq-vit-18", {"registers": 4}, r"options\.config\.registers: Extra"),
        ("mae", {"decoder": {"width": 6, "depth": 1, "heads": 2}}, r"decoder\.width: .* of 4"),
    ],
)
def test_a_plan_that_is_none_is_refused(name, change, message):
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match=message):
        adapter(spec, config={**golden["ours"]["options"]["config"], **change}, weights=None)


def test_the_first_tokens_alone_are_counted_and_decoded(tmp_path: Path) -> None:
    """One-D-Piece's prefixes: the encoder sees to all tokens, the code has the first."""
    golden = load_golden("titok-s128")
    whole = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.ckpt"))
    config = {**golden["ours"]["options"]["config"], "kept": 3}
    some = type(whole)(whole.spec, config=config, weights=tmp_path / "official.ckpt")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    code, all_tokens = some.encode(images), whole.encode(images)
    assert isinstance(code.indices, torch.Tensor) and isinstance(all_tokens.indices, torch.Tensor)
    assert torch.equal(code.indices, all_tokens.indices[..., :3])
    assert code.tokens == (3, 3) and code.bits == (24.0, 24.0)
    assert not torch.equal(some.decode(code), whole.decode(all_tokens))
    with pytest.raises(RegistryError, match="kept: 9 of 8 tokens"):
        type(whole)(whole.spec, config={**config, "kept": 9}, weights=None)
