"""Emu3's and Janus-Pro's tokenizers against the library called by hand, on tiny networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers.transformers_vq import (
    CODEBOOK,
    OFFICIAL_NAMES,
    WEIGHTS,
    WIRINGS,
    TransformersVq,
)

SIZE = 48

# case → (class, its config, downsample factor)
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "emu3": (
        "Emu3VQVAE",
        {
            "base_channels": 32,
            "channel_multiplier": [1, 1, 2],
            "codebook_size": SIZE,
            "attn_resolutions": [2],
            "hidden_size": 64,
            "num_res_blocks": 1,
        },
        4,
    ),
    "janus": (
        "JanusVQVAE",
        {
            "base_channels": 32,
            "channel_multiplier": [1, 2],
            "num_embeddings": SIZE,
            "latent_channels": 32,
            "num_res_blocks": 1,
            "num_patches": 32,
        },
        2,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Random networks of the library, and their folders as the library writes them."""
    import transformers

    built = {}
    for case, (class_name, config, _) in CASES.items():
        torch.manual_seed(0)
        arguments = getattr(transformers, f"{class_name}Config")(**config)
        model = getattr(transformers, class_name)(arguments).eval()
        torch.nn.init.normal_(model.quantize.embedding.weight, std=0.5)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
        folder = tmp_path_factory.mktemp(case)
        model.save_pretrained(folder)
        built[case] = (model, folder)
    return built


def load(case: str, weights: Path, **changes: Any) -> TransformersVq:
    class_name, config, factor = CASES[case]
    spec = Spec(
        name=case,
        family="test",
        kind="discrete",
        quantizer="vq",
        downsample=factor,
        codebook_size=changes.pop("codebook_size", SIZE),
        input_range=(-1.0, 1.0),
        size=SizePolicy(factor),
    )
    given = {"class_name": class_name, "config": config, "weights": weights} | changes
    return TransformersVq(spec, **given)


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(7))


@torch.inference_mode()
def by_hand(model: Any, case: str, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = images.shape[-2:]
    factor = CASES[case][2]
    pad = ((0, 0), (0, 0), (0, -height % factor), (0, -width % factor))
    x = torch.from_numpy(np.pad(images.numpy(), pad, mode="reflect")) * 2 - 1
    if case == "emu3":
        ids = model.encode(x, image_sizes=[x.shape[-2:]]).image_tokens[0][None]
        y = model.decode(ids)
    else:
        model.quantize.embedding.weight.copy_(
            torch.nn.functional.normalize(model.quantize.embedding.weight, dim=-1)
        )
        ids = model.encode(x).image_tokens.view(1, x.shape[-2] // factor, -1)
        y = model.decode(ids.flatten(1)) if x.shape[-2:] == (64, 64) else None
    return ids, y if y is None else ((y + 1) / 2)[..., :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (45, 77)])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_library_called_by_hand(
    saved: dict[str, tuple[Any, Path]], case: str, size: tuple[int, int]
) -> None:
    model, folder = saved[case]
    images = picture(*size)
    tokenizer = load(case, folder)
    code = tokenizer.encode(images)
    ids, expected = by_hand(model, case, images)
    assert isinstance(code.indices, torch.Tensor) and torch.equal(code.indices, ids)
    assert len(ids.unique()) > 4 and code.indices.dtype == torch.int64
    got = tokenizer.decode(code)
    assert got.shape == images.shape and got.std() > 1e-3
    if expected is not None:  # Janus refuses all but its own square; the network does not care
        assert (got - expected).abs().max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bfloat16_runs(saved: dict[str, tuple[Any, Path]], case: str) -> None:
    tokenizer = load(case, saved[case][1], dtype=torch.bfloat16)
    decoded = tokenizer.decode(tokenizer.encode(picture(32, 32)))
    assert decoded.dtype == torch.float32 and torch.isfinite(decoded).all()


def test_janus_compares_directions(saved: dict[str, tuple[Any, Path]]) -> None:
    """As its official code does (LlamaGen's): entries and latents on the unit sphere. With entries as
    stored, the library's own answer is another one."""
    model, folder = saved["janus"]
    stored = load_file(folder / WEIGHTS)[CODEBOOK]
    images = picture(64, 64)
    with torch.inference_mode():
        latents = model.quant_conv(model.encoder(images * 2 - 1)).permute(0, 2, 3, 1)
    unit = torch.nn.functional.normalize(latents, dim=-1)
    official = (unit @ torch.nn.functional.normalize(stored, dim=-1).T).argmax(dim=-1)
    nearest = torch.cdist(latents.flatten(0, 2), stored).argmin(dim=-1).view_as(official)
    got = load("janus", folder).encode(images).indices
    assert isinstance(got, torch.Tensor)
    # Ties of directions round either way; a random entry would agree once in 48.
    assert (got == official).float().mean() > 0.99
    assert (got == nearest).float().mean() < 0.9, "the stored lengths would not matter"


def officially_named(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names and shapes of BAAI's own file, written out by hand as the inverse of the adapter's."""
    named = {}
    for key, tensor in state.items():
        if "_proj.weight" in key:
            tensor = tensor[:, :, None, None]
        for new, old in (
            ("down_block.down.", "down."),
            ("up_block.up.", "up."),
            ("middle_block.attn_norm.", "mid.attn_1.norm."),
            ("middle_block.", "mid."),
            (".out_proj.", ".proj_out."),
            (".q_proj.", ".q."),
            (".k_proj.", ".k."),
            (".v_proj.", ".v."),
            (".attn_norms.0.", ".attn.0.norm."),
            (".attn_norms.1.", ".attn.1.norm."),
        ):
            key = key.replace(new, old)
        named[key] = tensor
    return named


@pytest.mark.slow
def test_emu3_reads_its_official_file(saved: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    state = load_file(saved["emu3"][1] / WEIGHTS)
    official = officially_named(state)
    assert len(official) == len(state) and len(official.keys() & state.keys()) < len(state) / 2
    save_file(official, tmp_path / WEIGHTS)
    images = picture(32, 32)
    there, here = load("emu3", saved["emu3"][1]), load("emu3", tmp_path)
    assert torch.equal(there.decode(there.encode(images)), here.decode(here.encode(images)))
    for pattern, _ in OFFICIAL_NAMES:
        assert any(pattern.search(key) for key in official), f"{pattern.pattern} is never used"


@pytest.mark.slow
def test_a_part_of_a_whole_model(saved: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    state = load_file(saved["janus"][1] / WEIGHTS)
    whole = {f"model.vqmodel.{key}": tensor for key, tensor in state.items()}
    save_file(whole | {"model.language_model.weight": torch.zeros(8)}, tmp_path / WEIGHTS)
    tokenizer = load("janus", tmp_path, prefix="model.vqmodel.")
    images = picture(64, 64)
    expected = load("janus", saved["janus"][1])
    got, wanted = tokenizer.encode(images).indices, expected.encode(images).indices
    assert isinstance(got, torch.Tensor) and isinstance(wanted, torch.Tensor)
    assert torch.equal(got, wanted)
    with pytest.raises(WeightsMismatch, match="unexpected model"):
        load("janus", tmp_path)


@pytest.mark.parametrize("what", ["removed", "added", "misshaped"])
@pytest.mark.parametrize("case", CASES)
def test_files_that_do_not_fit_are_named(
    saved: dict[str, tuple[Any, Path]], tmp_path: Path, case: str, what: str
) -> None:
    state = load_file(saved[case][1] / WEIGHTS)
    key = "decoder.conv_out.weight"
    if what == "removed":
        del state[key]
    elif what == "added":
        key = "loss.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = torch.zeros(3, 3)
    save_file(state, tmp_path / WEIGHTS)
    named = {"removed": "missing", "added": "unexpected", "misshaped": "misshaped"}[what]
    with pytest.raises(WeightsMismatch, match=f"^{case}: .*{named} {key}"):
        load(case, tmp_path)


@pytest.mark.slow
def test_what_cannot_be_is_refused(saved: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    folder = saved["emu3"][1]
    with pytest.raises(RegistryError, match="has no such argument"):
        load("emu3", folder, config=CASES["emu3"][1] | {"ch_mult": [1]})
    with pytest.raises(WeightsMismatch, match="emu3: Emu3VQVAE: embed_dim must be divisible"):
        load("emu3", folder, config=CASES["emu3"][1] | {"num_attention_heads": 7})
    with pytest.raises(RegistryError, match="is none of Emu3VQVAE, JanusVQVAE"):
        load("emu3", folder, class_name="ChameleonVQVAE")
    with pytest.raises(
        WeightsMismatch, match="codebook size: the entry says 64, the weights have 48"
    ):
        load("emu3", folder, codebook_size=64)
    with pytest.raises(WeightsMissing, match=r"emu3: .*does not exist"):
        load("emu3", tmp_path)
    tokenizer = load("janus", saved["janus"][1])
    code = tokenizer.encode(picture(16, 16))
    with pytest.raises(ValueError, match="decodes one tensor"):
        tokenizer.decode(type(code)((1,), (8.0,), payload=(b"x",), fit=code.fit))


def test_without_the_library_the_way_out_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RegistryError, match=r'pip install "vtbench\[transformers\]"'):
        load("emu3", tmp_path)


def test_every_class_is_tried_and_its_library_recorded() -> None:
    import transformers

    assert {class_name for class_name, *_ in CASES.values()} == set(WIRINGS)
    assert TransformersVq.libraries({}) == {"transformers": transformers.__version__}
