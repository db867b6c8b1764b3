"""The convolutional families against figures that their official code gave on the same weights.

Each golden names the upstream repository, commit, class and config; README.md says how it was made.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.derive import (
    derive_images,
    derive_tensor,
    digest_indices,
    digest_shapes,
    sample_values,
)

from vtbench.errors import RegistryError, WeightsMismatch
from vtbench.records import SizePolicy, Spec
from vtbench.tokenizers.convnet import ConvTokenizer

GOLDENS = sorted((Path(__file__).parent / "goldens").glob("*.json"))

TOLERANCE = 1e-4
"""Of the largest value. Both sides sum the same products in float32 in another order, which came to
at most 7e-6 at full size; a wrong constant anywhere is 1e-2 and more."""


cached_tensor = functools.cache(derive_tensor)


def load_golden(name: str) -> dict[str, Any]:
    path = Path(__file__).parent / "goldens" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def adapt(golden: dict[str, Any]) -> tuple[type[ConvTokenizer], Spec]:
    module, name = golden["ours"]["adapter"].split(":")
    facts = dict(golden["ours"]["spec"])
    fixed = facts.pop("fixed", None)
    size = SizePolicy(fixed=tuple(fixed), policy="resize") if fixed else SizePolicy(32)
    facts["input_range"] = tuple(map(float, facts["input_range"]))
    spec = Spec("under-test", "test", **facts, size=size)
    return getattr(importlib.import_module(module), name), spec


def official_shapes(golden: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    adapter, spec = adapt(golden)
    options = golden["ours"]["options"]
    plan = adapter.parse_config(spec, options["config"])
    with torch.device("meta"):
        network = adapter.make_network(spec, plan)
    shapes = {here: tuple(tensor.shape) for here, tensor in network.state_dict().items()}
    names = adapter.name_tensors(network, plan)
    assert set(names.values()) == set(shapes)  # no two tensors share an official name
    return {there: shapes[here] for there, here in names.items()}


def write_checkpoint(golden: dict[str, Any], path: Path, **change: torch.Tensor | None) -> Path:
    """Write derived weights as the official code lays its file out; a change of None removes."""
    layout = golden["checkpoint"]
    state: dict[str, Any] = {
        name: cached_tensor(name, shape) for name, shape in official_shapes(golden).items()
    }
    for name, tensor in change.items():
        state.pop(name)
        if tensor is not None:
            state[name] = tensor
    if layout["averaged"]:
        flat = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state.items()}
        flat |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(3)}
        flat["model_ema.lossdiscriminatormain0weight"] = torch.zeros(2)
        # The weights that the optimiser left are others, and must not be read.
        state = {name: torch.zeros_like(tensor) for name, tensor in state.items()} | flat
    state |= {name: torch.zeros(shape) for name, shape in layout["others"].items()}
    if layout["wrapper"] is not None:
        state = {layout["wrapper"]: state, "epoch": 7}
    torch.save(state, path)
    return path


def load_tokenizer(golden: dict[str, Any], path: Path) -> ConvTokenizer:
    adapter, spec = adapt(golden)
    layout = golden["checkpoint"]
    return adapter(
        spec,
        **golden["ours"]["options"],
        weights=path,
        wrapper=layout["wrapper"],
        averaged=layout["averaged"],
    )


def compare(tokenizer: ConvTokenizer, golden: dict[str, Any]) -> list[str]:
    """Return which of the golden's figures the tokenizer does not give."""
    images = derive_images(golden["input"]["shape"], tokenizer.spec.input_range)
    with torch.inference_mode():
        latents = tokenizer.model.compute_latents(images)
        code = tokenizer.model.encode(images)
        pixels = tokenizer.model.decode(code)
    wrong = []
    for name, tensor in (("latents", latents), ("pixels", pixels)):
        expected = golden[name]
        assert list(tensor.shape) == expected["shape"]
        values = torch.tensor(expected["values"], dtype=torch.float64)
        gap = (torch.tensor(sample_values(tensor), dtype=torch.float64) - values).abs().max()
        if gap > TOLERANCE * values.abs().max():
            wrong.append(name)
    if golden["indices"] is None:
        assert torch.equal(code, latents)
    else:
        grids = code if isinstance(code, tuple) else (code,)
        # A token's bits, where they are carried singly, come last in Infinity's code.
        grids = tuple(grid.movedim(1, -1) if grid.ndim == 4 else grid for grid in grids)
        assert sum(grid.numel() for grid in grids) == golden["indices"]["count"]
        if digest_indices(grids) != golden["indices"]["sha256"]:
            wrong.append("indices")
    return wrong


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_ours_gives_what_the_official_code_gave(path, tmp_path):
    golden = load_golden(path.stem)
    assert {"repository", "commit", "class", "config"} <= set(golden["upstream"])
    shapes = official_shapes(golden)
    assert len(shapes) == golden["keys"] and digest_shapes(shapes) == golden["keys_sha256"]
    tokenizer = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.ckpt"))
    parameters = sum(tensor.numel() for tensor in tokenizer.model.parameters())
    assert parameters == golden["parameters"]
    assert compare(tokenizer, golden) == []


MUTANTS = {
    "levels halved in the wrong order": ("cosmos-ci8x8", {"steps": 2, "haar": 1}, None),
    "the first position's attention is left out": ("taming-vqgan", {"attention": []}, None),
    "nearest instead of the largest product": ("ibq", {}, "nearest"),
    "the largest product instead of the nearest": ("taming-vqgan", {}, "dot"),
    "codewords not normalised": ("llamagen-ds16", {}, "nearest"),
    "shortcut from the input": ("maskbit", {"shortcut": "input"}, None),
    "mean instead of a strided convolution": ("maskbit", {"down": "mean"}, None),
    "padding all round": ("mar-kl16", {"down": "around"}, None),
    "padding in the corner": ("open-magvit2", {"down": "corner"}, None),
    "attention in the decoder too": ("mar-kl16", {"decoder_attention": None}, None),
    "depth to space without modulation": ("open-magvit2", {"adaptive": False}, None),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_wrong_network_does_not_pass(what, tmp_path):
    name, plan, lookup = MUTANTS[what]
    golden = load_golden(name)
    mutant = copy.deepcopy(golden)
    mutant["ours"]["options"]["config"] |= plan
    # Where the mutant has other tensors, the file does not fit it; else the figures must tell.
    if digest_shapes(official_shapes(mutant)) != golden["keys_sha256"]:
        path = write_checkpoint(golden, tmp_path / "official.ckpt")
        with pytest.raises(WeightsMismatch, match=r"missing|unexpected|misshaped"):
            load_tokenizer(mutant, path)
        return
    tokenizer = load_tokenizer(mutant, write_checkpoint(mutant, tmp_path / "official.ckpt"))
    if lookup is not None:
        tokenizer.model.quantizer.lookup = lookup
    assert compare(tokenizer, golden)


@pytest.mark.parametrize("name", ["var", "infinity-d32"])
def test_a_wrong_pyramid_does_not_pass(name, tmp_path, monkeypatch):
    golden = load_golden(name)
    tokenizer = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.ckpt"))
    pyramid = tokenizer.model.quantizer
    pyramid.enlarge = "nearest"
    assert compare(tokenizer, golden) == ["pixels", "indices"]
    if name == "var":
        pyramid.enlarge = "bicubic"
        # Ties at 2/9 and 7/9, decided the other way round.
        module = "vtbench.tokenizers.nn.quantize.nearest_tick"
        others = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
        monkeypatch.setattr(module, lambda place, count: others[round(9 * place)])
        assert compare(tokenizer, golden) == ["pixels", "indices"]


@pytest.mark.parametrize("name", ["taming-vqgan", "ibq", "infinity-d32"])
def test_a_file_that_does_not_fit_is_refused_by_name(name, tmp_path):
    golden = load_golden(name)
    wide = torch.zeros(1, 2, 3)
    key = next(iter(official_shapes(golden)))
    for change, message in (({key: None}, "missing"), ({key: wide}, "misshaped")):
        path = write_checkpoint(golden, tmp_path / f"{message}.ckpt", **change)
        with pytest.raises(WeightsMismatch, match=rf"{message} encoder\.conv_in\.weight"):
            load_tokenizer(golden, path)
    more = copy.deepcopy(golden)
    more["checkpoint"]["others"]["encoder.extra.weight"] = [3]
    if golden["checkpoint"]["averaged"]:
        more["checkpoint"]["others"] = {"model_ema.encoderextraweight": [3]}
    path = write_checkpoint(more, tmp_path / "more.ckpt")
    with pytest.raises(WeightsMismatch, match=r"unexpected encoder\.?extra"):
        load_tokenizer(golden, path)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("taming-vqgan", {"downsample": 8}, "downsample is 8, but the plan makes it 16"),
        ("taming-vqgan", {"input_range": (0.0, 1.0)}, "input_range"),
        ("mar-kl16", {"latent_channels": 8}, "latent_channels is 8"),
        ("mar-kl16", {"kind": "discrete", "codebook_size": 4}, "kind is discrete"),
        ("maskbit", {"codebook_size": 1000}, "10 bits make 1024"),
        ("var", {"size": SizePolicy(16)}, "square of side 256, 512, got None"),
        ("var", {"size": SizePolicy(fixed=(320, 320), policy="resize")}, "got"),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(name, change, message):
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    options = golden["ours"]["options"]
    with pytest.raises(RegistryError, match=message):
        adapter(dataclasses.replace(spec, **change), **options, weights=None)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"multiplier": [1], "multipliers": [1], "latent": 2},
            r"options\.config\.multiplier: Extra",
        ),
        (["x"], "must be a mapping"),
    ],
)
def test_a_config_that_is_none_is_refused(config, message):
    adapter, spec = adapt(load_golden("taming-vqgan"))
    with pytest.raises(RegistryError, match=message):
        adapter(spec, config=config, weights=None)
