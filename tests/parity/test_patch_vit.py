"""What tells a wrong tokenizer from the right one, of those added late in 2026, and files and entries
that do not fit."""

from __future__ import annotations

import copy
import dataclasses
import re

import pytest
import torch
from parity.derive import digest_shapes
from parity.golden import (
    adapt,
    compare,
    load_golden,
    load_tokenizer,
    official_shapes,
    write_checkpoint,
)
from safetensors.torch import save_file

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import SizePolicy
from vtbench.tokenizers import patch_vit
from vtbench.tokenizers.nn import vit

ALL = ["latents", "pixels", "indices"]


def load(golden, tmp_path):
    return load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.pt"))


def change(golden, changes):
    mutant = copy.deepcopy(golden)
    config = mutant["ours"]["options"]["config"]
    for path, value in changes.items():
        *parts, last = path.split(".")
        place = config
        for part in parts:
            place = place[part]
        place[last] = value
    return mutant


@pytest.mark.parametrize(
    "name, changes, wrong",
    [
        ("detok", {"turn": "vitok"}, ["latents", "pixels"]),
        ("detok", {"encoder.gated": "last"}, ["latents", "pixels"]),
        ("detok", {"decoder.epsilon": 1e-2}, ["pixels"]),
        ("vitok-v2", {"encoder.halves": True}, ["latents", "pixels"]),
        ("vitok-v2", {"decoder.gated": "first"}, ["pixels"]),
        ("vitok-v2", {"level": False}, ["latents", "pixels"]),
        ("vtp", {"coarse": True}, ["latents", "pixels"]),
        ("vtp", {"encoder.halves": False}, ["latents", "pixels"]),
        ("vtp", {"normalised": False}, ["latents", "pixels"]),
        ("atoken-c", {"turn": "vitok"}, ["latents", "pixels"]),
        ("atoken-c", {"decoder.gelu": "exact"}, ["pixels"]),
        ("atoken-d", {"encoder.epsilon": 1e-2}, ALL),
        ("mgvq-f16c32", {"head": 16}, ALL),
        ("tatitok-vae", {"text.ids": [62, 4, 63]}, ["pixels"]),
        ("tatitok-vae", {"text.vit.gelu": "exact"}, ["pixels"]),
        ("softvq", {"temperature": 0.1}, ["latents", "pixels"]),
        ("maetok", {"encoder.heads": 1}, ["latents", "pixels"]),
        ("maetok", {"decoder.heads": 1}, ["pixels"]),
        ("xqgan-vq", {"encoder.epsilon": 1e-2}, ALL),
        ("xqgan-vp2", {"decoder.epsilon": 1e-2}, ["pixels"]),
        ("unitok", {"vit.heads": 1}, ALL),
        ("qlip", {"encoder.epsilon": 1e-2}, ALL),
        ("qlip", {"mean": [0.5, 0.5, 0.5]}, ALL),
        ("omnitokenizer-vq", {"vit.gate": "silu"}, ALL),
        ("omnitokenizer-vae", {"vit.gated": "first"}, ["latents", "pixels"]),
        ("fqgan-dual", {"adapter.heads": 1}, ALL),
    ],
)
def test_a_wrong_plan_does_not_pass(name, changes, wrong, tmp_path):
    golden = load_golden(name)
    mutant = change(golden, changes)
    assert digest_shapes(official_shapes(mutant)) == golden["keys_sha256"]
    assert compare(load(mutant, tmp_path), golden) == wrong


@pytest.mark.parametrize(
    "name, spoil, wrong",
    [
        ("mgvq-f16c32", lambda model: setattr(model.quantizer, "lookup", "nearest"), ALL[1:]),
        ("showo-magvit2", lambda model: setattr(model.quantizer, "first", "low"), ALL[2:]),
        ("simvq", lambda model: model.quantizer.projection.bias.data.zero_(), ALL[1:]),
        ("qlip", lambda model: setattr(model.quantizer, "scale", 1.0), ["pixels"]),
        ("atoken-d", lambda model: setattr(model.quantizer.books[1], "levels", (5,) * 6), ALL[1:]),
        ("taehv", lambda model: setattr(model.encoder[2], "stride", 1), None),
    ],
)
def test_a_wrong_part_does_not_pass(name, spoil, wrong, tmp_path):
    golden = load_golden(name)
    tokenizer = load(golden, tmp_path)
    spoil(tokenizer.model)
    if wrong is None:
        with pytest.raises(RuntimeError):
            compare(tokenizer, golden)
    else:
        assert compare(tokenizer, golden) == wrong


def test_of_four_frames_the_last_is_shown(tmp_path):
    golden = load_golden("taehv")
    tokenizer = load(golden, tmp_path)
    tokenizer.model.decoder.register_forward_hook(lambda *call: call[-1].flip(0))
    assert compare(tokenizer, golden) == ["pixels"]


def test_coarse_positions_move_what_is_turned_by_no_more_than_bfloat16_rounds(tmp_path):
    golden = load_golden("vtp")
    exact = load(golden, tmp_path)
    coarse = load(change(golden, {"coarse": True}), tmp_path)
    images = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        gap = coarse.model.compute_latents(images) - exact.model.compute_latents(images)
    # bfloat16 keeps 8 bits; attention and norms pass a few of its units on.
    assert 0 < gap.abs().max() < 8 * 2**-8
    turned = patch_vit.turn_dinov3(3, 5, 32, torch.bfloat16)
    assert turned.dtype == torch.bfloat16 and turned.shape == (2, 15, 16)


def test_tokens_before_the_turned_ones_stay(tmp_path):
    golden = load_golden("vtp")
    tokenizer = load(golden, tmp_path)
    rotate = vit.rotate

    def turn_all(x, rotations, **how):
        ahead = x.shape[-2] - rotations.shape[-2]
        return rotate(x, torch.cat([rotations[:, :1].expand(-1, ahead, -1), rotations], 1), **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vit, "rotate", turn_all)
        assert compare(tokenizer, golden) == ["latents", "pixels"]
    assert compare(tokenizer, golden) == []


@pytest.mark.parametrize(
    "name, key, ours",
    [
        ("detok", "encoder.positional_embedding", "places"),
        ("vitok-v2", "patch_embed.weight", r"embedding\.weight"),
        ("vtp", "trunk.cls_token", "leader"),
        ("atoken-d", "decoder.blocks.2.attn.k_rms_norm.gamma", r"decoder.*k_norm\.gamma"),
        ("mgvq-f16c32", "quantize.embedding.weight", r"quantizer\.entries"),
        ("tatitok-vq", "decoder.text_guidance_positional_embedding", "text_positions"),
        ("softvq", "quantize.embedding", "entries"),
        ("qlip", "vision_decoder.position_embeddings", "out_positions"),
        ("fqgan-triple", "quantize_sem_mid.embedding.weight", r"heads\.sem_mid\.quantizer"),
        ("simvq", "quantize.embedding_proj.weight", r"quantizer\.projection\.weight"),
        ("taehv-super", "decoder.1.conv.0.weight", r"decoder\.1\.conv\.0\.weight"),
        ("omnitokenizer-vq", "codebook.embeddings", r"quantizer\.entries"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(name, key, ours, tmp_path):
    golden = load_golden(name)
    for new, message in ((None, "missing"), (torch.zeros(2, 7), "misshaped")):
        path = write_checkpoint(golden, tmp_path / f"{message}.pt", **{key: new})
        with pytest.raises(WeightsMismatch, match=rf"{message} {ours}"):
            load_tokenizer(golden, path)
    more = copy.deepcopy(golden)
    more["checkpoint"]["others"]["encoder.extra.weight"] = [3]
    with pytest.raises(WeightsMismatch, match=r"unexpected encoder\.extra\.weight"):
        load_tokenizer(golden, write_checkpoint(more, tmp_path / "more.pt"))


@pytest.mark.parametrize(
    "name, part, files",
    [
        ("vitok-v2", r"(decoder|to_pixels)", ("decoder.safetensors", "encoder.safetensors")),
        ("tatitok-vae", r"text_model\.", ("clip.safetensors", "model.safetensors")),
    ],
)
def test_a_folder_of_the_official_files_gives_what_one_file_gives(name, part, files, tmp_path):
    golden = load_golden(name)
    state = torch.load(write_checkpoint(golden, tmp_path / "one.pt"), weights_only=True)
    halves = ({}, {})
    for key, tensor in state.items():
        halves[0 if re.match(part, key) else 1][key] = tensor
    for file, half in zip(files, halves, strict=True):
        save_file(half, tmp_path / file)
    assert compare(load_tokenizer(golden, tmp_path), golden) == []
    (tmp_path / files[0]).unlink()
    with pytest.raises(WeightsMissing, match=files[0]):
        load_tokenizer(golden, tmp_path)


def test_a_moving_average_without_the_frozen_words_takes_the_file_s_own(tmp_path):
    golden = load_golden("simvq")
    path = write_checkpoint(golden, tmp_path / "plain.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    words = "quantize.embedding.weight"
    flat = {f"model_ema.{k.replace('.', '')}": v for k, v in state.items() if k != words}
    spoilt = {k: v if k == words else torch.zeros_like(v) for k, v in state.items()}
    torch.save({"state_dict": spoilt | flat}, path)
    averaged = copy.deepcopy(golden)
    averaged["checkpoint"]["averaged"] = True
    assert compare(load_tokenizer(averaged, path), golden) == []


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("detok", {"size": SizePolicy(16)}, "multiple of the patch, 16, got None"),
        ("vitok-v2", {"downsample": 8}, "downsample is 8, but the plan makes it 16"),
        ("vtp", {"latent_channels": 3}, "latent_channels is 3"),
        ("mgvq-f16c32", {"codebook_size": 512}, "codebook_size is 512"),
        ("fqgan-dual", {"codebook_size": 128}, "codebook_size is 128"),
        ("qlip", {"codebook_size": 1000}, "12 bits make 4096"),
        ("softvq", {"input_range": (0.0, 1.0)}, "input_range"),
        ("taehv", {"downsample": 16}, "downsample is 16, but the plan makes it 8"),
        (
            "omnitokenizer-vq",
            {"size": SizePolicy(fixed=(48, 48), policy="resize")},
            "windows of 4 do not fill",
        ),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(name, changes, message):
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match=message):
        adapter(dataclasses.replace(spec, **changes), **golden["ours"]["options"], weights=None)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("qlip", {"encoder.apart": False}, "keyless needs apart"),
        ("qlip", {"encoder.gated": None}, "inner needs gated"),
        ("softvq", {"codebooks": 3}, "3 codebooks cannot share 8 tokens"),
        ("omnitokenizer-vq", {"encoder": "ttxw"}, "other blocks than t and w"),
        ("showo-magvit2", {"blocks": [1, 2]}, "blocks has 2 levels, multipliers 5"),
    ],
)
def test_a_plan_that_is_none_is_refused(name, changes, message):
    golden = change(load_golden(name), changes)
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match=message):
        adapter(spec, **golden["ours"]["options"], weights=None)


def test_vitok_and_vtp_take_any_size_that_is_full_of_patches(tmp_path):
    for name in ("vitok-v2", "vtp"):
        tokenizer = load(load_golden(name), tmp_path)
        images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
        code = tokenizer.encode(images)
        assert code.tokens == (8,) and tokenizer.decode(code).shape == images.shape
