"""Tokenizers whose official weights are several files, or one that does not fit as it is, against
figures that their official code gave on the same weights.

Each golden names the upstream repository, commit, class and config, and lists each official file's
tensors. README.md says how weights follow from their names; three do not: `decoder_pos_embed` is the
formula that the official code fills it with, `var` is positive, and RQ-VAE's codebooks are one.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity.derive import derive_images, derive_tensor, digest_indices, sample_values
from safetensors.torch import load_file, save_file
from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers import rae

GOLDENS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "files").glob("*.json"))
}
RAES = [
    name for name in GOLDENS if "encoder_type" in GOLDENS[name]["ours"]["options"].get("config", {})
]

TOLERANCE = 1e-4
"""Of the largest value. Both sides sum the same products in float32 in another order, which came to
at most 5e-6 at full size; a wrong constant anywhere is 1e-3 and more."""

State = dict[str, Tensor]


def derive_positions(shape: tuple[int, ...]) -> Tensor:
    """Sine and cosine of column and row, as MAE has them; zeros for the class token."""
    _, tokens, width = shape
    side = round((tokens - 1) ** 0.5)
    places = np.arange(side) / 1.0
    angles = np.outer(places, 10000.0 ** -(np.arange(width // 4) / (width / 4)))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns = np.broadcast_to(waves[None, :], (side, side, width // 2))
    rows = np.broadcast_to(waves[:, None], (side, side, width // 2))
    table = np.concatenate([columns, rows], axis=2).reshape(-1, width)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), table])[None]).float()


def derive_file(names: dict[str, str]) -> State:
    """The tensors of one official file by their official names."""
    state = {}
    for name, text in names.items():
        shape = tuple(int(side) for side in text.split("×") if side)
        if name == "decoder_pos_embed":
            state[name] = derive_positions(shape)
            continue
        shared = re.sub(r"^(quantizer\.codebooks\.)\d+", r"\g<1>0", name)
        state[name] = derive_tensor(shared, shape)
        if name == "var":
            state[name] = (16 * state[name]).exp()
    return state


def write_file(state: State, path: Path, wrapper: str | None) -> None:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if wrapper is None else {wrapper: state}, path)


def write_folder(golden: dict[str, Any], folder: Path) -> Path:
    """Write all official files; return the one that the adapter is given."""
    for file, names in golden["files"].items():
        write_file(derive_file(names), folder / file, golden["wrapper"])
    return folder / golden["ours"]["weights"]


def make_spec(golden: dict[str, Any]) -> Spec:
    facts = dict(golden["ours"]["spec"])
    fixed = facts.pop("fixed", None)
    size = SizePolicy(fixed=tuple(fixed), policy="resize") if fixed else SizePolicy(32)
    facts["input_range"] = tuple(map(float, facts["input_range"]))
    return Spec("under-test", "test", **facts, size=size)


def load(golden: dict[str, Any], weights: Path | None, **options: Any) -> Any:
    module, name = golden["ours"]["adapter"].split(":")
    adapter = getattr(importlib.import_module(module), name)
    options = {**golden["ours"]["options"], **options}
    return adapter(make_spec(golden), **options, weights=weights)


def compare(golden: dict[str, Any], tokenizer: Any) -> list[str]:
    """Return which of the golden's figures the tokenizer does not give."""
    images = derive_images(golden["input"]["shape"], tokenizer.spec.input_range)
    with torch.inference_mode():
        latents = tokenizer.model.compute_latents(images)
        code = tokenizer.model.encode(images)
        pixels = tokenizer.model.decode(code)
    wrong = []
    for name, tensor in (("latents", latents), ("pixels", pixels)):
        assert list(tensor.shape) == golden[name]["shape"]
        values = torch.tensor(golden[name]["values"], dtype=torch.float64)
        gap = (torch.tensor(sample_values(tensor), dtype=torch.float64) - values).abs().max()
        if gap > TOLERANCE * values.abs().max():
            wrong.append(name)
    if golden["indices"] is not None and digest_indices(code) != golden["indices"]["sha256"]:
        wrong.append("indices")
    return wrong


@pytest.mark.parametrize("name", GOLDENS)
def test_ours_gives_what_the_official_code_gave(name: str, tmp_path: Path) -> None:
    golden = GOLDENS[name]
    assert set(golden["upstream"]) == {"repository", "commit", "class", "config"}
    weights = write_folder(golden, tmp_path)
    assert compare(golden, load(golden, weights)) == []
    if name in RAES:
        assert compare(golden, load(golden, tmp_path)) == []


@pytest.mark.parametrize("name", GOLDENS)
def test_a_tensor_too_few_or_of_another_shape_is_refused_by_name(name: str, tmp_path: Path) -> None:
    golden = GOLDENS[name]
    weights = write_folder(golden, tmp_path)
    file = next(file for file in golden["files"] if file != "stat.pt")
    state = derive_file(golden["files"][file])
    key = next(key for key in state if key.endswith((".weight", ".w")))
    last = key.removesuffix(".w")[-12:]
    for change, message in ((None, "missing"), (torch.zeros(1, 2), "misshaped")):
        changed = {other: tensor for other, tensor in state.items() if other != key}
        if change is not None:
            changed[key] = change
        write_file(changed, tmp_path / file, golden["wrapper"])
        with pytest.raises(WeightsMismatch, match=rf"{message} .*{re.escape(last)}"):
            load(golden, weights)
    write_file({**state, "extra.weight": torch.zeros(3)}, tmp_path / file, golden["wrapper"])
    with pytest.raises(WeightsMismatch, match=r"unexpected (decoder|encoder|vae)?\.?extra"):
        load(golden, weights)


@pytest.mark.parametrize("name", ["rae-dinov2", "rae-siglip2", "rae-mae"])
@pytest.mark.parametrize("names", ["old", "new"])
def test_the_library_s_folder_gives_the_same(name: str, names: str, tmp_path: Path) -> None:
    """diffusers' file of all parts, with the encoder's names before and after transformers changed
    them, without the decoder's positions, and with the square root of the variance."""
    golden = GOLDENS[name]
    parts = {file: derive_file(listed) for file, listed in golden["files"].items()}
    unused = ("layernorm.", "text_model.", "logit_", "decoder.", "vision_model.post_layernorm.")
    state: State = {}
    for key, tensor in parts["model.safetensors"].items():
        inner = key.removeprefix("vit.")
        if key.startswith(unused) or inner.startswith(unused):
            continue
        state[f"encoder.{inner if names == 'old' else modernize(inner, name)}"] = tensor
    for key, tensor in parts["decoder.pt"].items():
        if key != "decoder_pos_embed":
            key = re.sub(r"attention\.(query|key|value)\.", lambda m: f"to_{m[1][0]}.", key)
            state["decoder." + key.replace("attention.output.dense.", "attention.to_out.0.")] = (
                tensor
            )
    state |= rae.list_pixel_statistics(rae.RaePlan(**golden["ours"]["options"]["config"]))
    state["_latents_mean"] = parts["stat.pt"]["mean"]
    state["_latents_std"] = (parts["stat.pt"]["var"] + 1e-5).sqrt()
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    config = {"encoder_type": name.removeprefix("rae-"), "decoder_num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert compare(golden, load(golden, tmp_path)) == []

    (tmp_path / "config.json").write_text(json.dumps({**config, "decoder_num_attention_heads": 8}))
    with pytest.raises(
        WeightsMismatch, match="decoder_num_attention_heads is 8, the entry needs 4"
    ):
        load(golden, tmp_path)


def modernize(key: str, name: str) -> str:
    """The encoder's key as transformers 5.23 has it."""
    key = key.removeprefix("vision_model.")
    key = re.sub(r"attention\.attention\.(q|k|v)\w+\.", r"attention.\1_proj.", key)
    key = key.replace("attention.output.dense", "attention.o_proj")
    if name == "rae-mae":
        key = key.replace("encoder.layer.", "layers.").replace("intermediate.dense", "mlp.fc1")
        key = key.replace("output.dense", "mlp.fc2")
    return key


def test_a_wrong_resize_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = GOLDENS["rae-dinov2"]
    tokenizer = load(golden, write_folder(golden, tmp_path))
    resize = torch.nn.functional.interpolate

    def antialiased(images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return resize(images, *args, **{**kwargs, "antialias": True})

    monkeypatch.setattr(rae.functional, "interpolate", antialiased)
    assert compare(golden, tokenizer)


def test_wrong_statistics_do_not_pass(tmp_path: Path) -> None:
    golden = GOLDENS["rae-siglip2"]
    weights = write_folder(golden, tmp_path)
    tokenizer = load(golden, weights)
    tokenizer.model.encoder_mean += 0.01
    assert compare(golden, tokenizer) == ["latents", "pixels"]
    stat = derive_file(golden["files"]["stat.pt"])
    torch.save({"mean": stat["mean"], "var": stat["var"].sqrt()}, tmp_path / "stat.pt")
    # What was divided by a wrong deviation is multiplied by it again: only the latents tell.
    assert compare(golden, load(golden, weights)) == ["latents"]
    torch.save({"mean": stat["mean"]}, tmp_path / "stat.pt")
    with pytest.raises(WeightsMismatch, match="has mean, not mean and var"):
        load(golden, weights)
    (tmp_path / "stat.pt").unlink()
    with pytest.raises(WeightsMissing, match=r"stat\.pt"):
        load(golden, weights)


def test_the_last_norm_s_weights_are_taken_away(tmp_path: Path) -> None:
    """The official code drops them: a file with others gives the same, a network with them not."""
    golden = GOLDENS["rae-dinov2"]
    weights = write_folder(golden, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert state["layernorm.weight"].std() > 0.05
    tokenizer = load(golden, weights)
    tokenizer.model.encoder.layernorm = torch.nn.LayerNorm(64)
    tokenizer.model.encoder.layernorm.weight.data = state["layernorm.weight"]
    assert "latents" in compare(golden, tokenizer)


@pytest.mark.parametrize("name", RAES)
def test_an_entry_that_contradicts_its_plan_is_refused(name: str) -> None:
    golden = GOLDENS[name]
    config = golden["ours"]["options"]["config"]
    with pytest.raises(RegistryError, match=r"size\.fixed is \(\d+, \d+\), but the plan makes it"):
        load(golden, None, config={**config, "encoder_input_size": 112})
    spec = dataclasses.replace(make_spec(golden), latent_channels=3)
    with pytest.raises(RegistryError, match="latent_channels is 3"):
        rae.Rae(spec, config=config, weights=None)


def test_codebooks_that_are_not_one_are_refused(tmp_path: Path) -> None:
    golden = GOLDENS["rq-vae"]
    state = derive_file(golden["files"]["model.pt"])
    state["quantizer.codebooks.2.weight"] = state["quantizer.codebooks.2.weight"] + 1
    torch.save({"state_dict": state}, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatch, match="codebook 2 is missing or not codebook 0"):
        load(golden, tmp_path / "model.pt")


def test_rq_vae_takes_any_size_and_three_words_are_not_four(tmp_path: Path) -> None:
    golden = GOLDENS["rq-vae"]
    tokenizer = load(golden, write_folder(golden, tmp_path))
    code = tokenizer.encode(derive_images((1, 3, 64, 96), (0.0, 1.0)))
    assert [tuple(grid.shape) for grid in code.indices] == [(1, 2, 3)] * 4
    assert code.tokens == (24,) and code.bits == (24 * 8.0,)
    assert tokenizer.decode(code).shape == (1, 3, 64, 96)
    tokenizer.model.quantizer.sides = (1, 1, 1)
    assert compare(golden, tokenizer) == ["pixels", "indices"]


def test_a_pickled_module_s_tensors_are_found_along_its_attributes(tmp_path: Path) -> None:
    golden = GOLDENS["dall-e-dvae"]
    for file, names in golden["files"].items():
        state = {}
        for name, tensor in derive_file(names).items():
            *path, last = name.split(".")
            state[".".join([*(f"_modules.{part}" for part in path), "_parameters", last])] = tensor
        save_file(state, tmp_path / file)
    tokenizer = load(golden, tmp_path / "encoder.safetensors")
    assert compare(golden, tokenizer) == []
    for block in tokenizer.model.modules():
        if hasattr(block, "gain"):
            block.gain = 1 / 8
    assert compare(golden, tokenizer)
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"decoder\.safetensors"):
        load(golden, tmp_path / "encoder.safetensors")
