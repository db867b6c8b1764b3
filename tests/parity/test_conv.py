"""What tells a wrong convolutional network from the right one, and files and entries that do not fit."""

from __future__ import annotations

import copy
import dataclasses

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

from vtbench.base.errors import RegistryError, WeightsMismatch
from vtbench.base.records import SizePolicy

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
