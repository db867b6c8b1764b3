"""Every published file format, written as its official code writes it; and that what does not fit
is named."""

from __future__ import annotations

import argparse
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vtbench.base.errors import VtbenchError, WeightsMismatch, WeightsMissing
from vtbench.weights.containers import is_torchscript
from vtbench.weights.states import assign_state, load_state, restore_dots


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


STATE = {key: tensor.clone() for key, tensor in network().state_dict().items()}
OTHER = {key: tensor.clone() for key, tensor in network(1).state_dict().items()}


def under(prefix: str, state: Mapping[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def lit_ema(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As ldm.modules.ema.LitEma registers the averages: only of parameters, dots removed."""
    shadow = {
        f"model_ema.{name.replace('.', '')}": state[name]
        for name, _ in network().named_parameters()
    }
    return shadow | {
        "model_ema.decay": torch.tensor(0.99),
        "model_ema.num_updates": torch.tensor(7),
    }


class Attributes(nn.Module):
    """A module whose parameters and buffers have the names of a state."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        parameters = {name for name, _ in network().named_parameters()}
        for path, tensor in state.items():
            at: nn.Module = self
            *above, name = path.split(".")
            for part in above:
                if not hasattr(at, part):
                    at.add_module(part, Attributes({}))
                at = getattr(at, part)
            if path in parameters:
                at.register_parameter(name, nn.Parameter(tensor))
            else:
                at.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Not called: an archive has to have a program."""
        return x


def save_torchscript(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; checkpoints of its kind stay
        torch.jit.save(torch.jit.script(module), path)


State = Mapping[str, Tensor]
Write = Callable[[Path], None]
FORMATS: dict[str, tuple[str, Callable[[Path, State], None], dict[str, Any]]] = {
    "safetensors": ("a.safetensors", lambda p, state: save_file(dict(state), p), {}),
    "flat .bin": ("a.bin", lambda p, state: torch.save(state, p), {}),
    "legacy .pth": (
        "a.pth",
        lambda p, state: torch.save(state, p, _use_new_zipfile_serialization=False),
        {},
    ),
    "model beside ema": (
        "a.pt",
        lambda p, state: torch.save({"model": OTHER, "ema": state, "steps": 5}, p),
        {"wrapper": "ema"},
    ),
    "ema beside model": (
        "a.pt",
        lambda p, state: torch.save({"model": state, "ema": OTHER, "steps": 5}, p),
        {"wrapper": "model"},
    ),
    "wrapper in a wrapper": (
        "a.pt",
        lambda p, state: torch.save({"trainer": {"vae": state}}, p),
        {"wrapper": "trainer.vae"},
    ),
    "data parallel": (
        "a.pth",
        lambda p, state: torch.save({"ema_state_dict": under("module.", state)}, p),
        {"wrapper": "ema_state_dict", "prefix": "module."},
    ),
    "lightning": (
        "a.ckpt",
        lambda p, state: torch.save(
            {
                "epoch": 3,
                "pytorch-lightning_version": "1.0.8",
                "state_dict": {**state, "loss.perceptual.weight": torch.zeros(2)},
                "optimizer_states": [{"state": {}, "param_groups": []}],
                "callbacks": {"checkpoint": {"best": np.float64(0.5), "at": np.int64(3)}},
            },
            p,
        ),
        {
            "wrapper": "state_dict",
            "rename": lambda key: None if key.startswith("loss.") else key,
        },
    ),
    "averages of a state": (
        "a.ckpt",
        lambda p, state: torch.save(
            {"state_dict": under("encoder.", OTHER) | under("model_ema.", state)}, p
        ),
        {"wrapper": "state_dict", "prefix": "model_ema."},
    ),
    "torchscript": ("a.jit", lambda p, state: save_torchscript(Attributes(state), p), {}),
    "torchscript under another name": (
        "a.pt",
        lambda p, state: save_torchscript(Attributes(under("vae.", state)), p),
        {"prefix": "vae."},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_loads_into_a_network_without_values(name: str, tmp_path: Path) -> None:
    file, write, how = FORMATS[name]
    write(tmp_path / file, STATE)
    with torch.device("meta"):
        built = network()
    assign_state(built, load_state(tmp_path / file, **how))
    got = built.state_dict()
    assert got.keys() == STATE.keys()
    assert all(torch.equal(got[key], STATE[key]) for key in STATE)
    assert not torch.equal(OTHER["0.weight"], STATE["0.weight"]), "the wrong half would be noticed"


def test_averages_without_dots(tmp_path: Path) -> None:
    """Open-MAGVIT2 and IBQ: parameters from LitEma, buffers from the plain state."""
    torch.save({"state_dict": OTHER | lit_ema(STATE)}, tmp_path / "a.ckpt")
    parameters = [name for name, _ in network().named_parameters()]
    averaged = load_state(
        tmp_path / "a.ckpt",
        wrapper="state_dict",
        prefix="model_ema.",
        rename=restore_dots(parameters),
    )
    assert averaged.keys() == set(parameters)
    assert all(torch.equal(averaged[name], STATE[name]) for name in parameters)
    with pytest.raises(WeightsMismatch, match="are the same without their dots"):
        restore_dots(["a.bc", "ab.c"])


def test_scalars_pickled_under_numpy_1(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "best": np.float64(0.5)}, tmp_path / "new.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "new.ckpt") as new,
        zipfile.ZipFile(tmp_path / "old.ckpt", "w") as old,
    ):
        for member in new.namelist():
            content = new.read(member)
            if member.endswith("data.pkl"):
                assert content.count(b"numpy._core.multiarray") == 1
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(member, content)
    assert load_state(tmp_path / "old.ckpt", wrapper="state_dict").keys() == STATE.keys()


def cut_pickle(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:700])


def cut_safetensors(path: Path) -> None:
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:700])


def point(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def script(path: Path) -> None:
    save_torchscript(nn.Linear(2, 2), path)


def flat(path: Path) -> None:
    FORMATS["flat .bin"][1](path, STATE)


REFUSED: dict[str, tuple[str, Write | None, dict[str, Any], str]] = {
    "no file": ("a.pt", None, {}, "does not exist"),
    "suffix": ("a.onnx", flat, {}, ".onnx is none of .safetensors, "),
    "pickled objects": ("a.pkl", flat, {}, "`vtbench convert NAME "),
    "safetensors by another name": (
        "a.pt",
        lambda path: save_file(dict(STATE), path),
        {},
        "is safetensors, whatever its name says: rename it to a.safetensors",
    ),
    "a pickle by another name": ("a.safetensors", flat, {}, "rename it to a.pt"),
    "short pickle": ("a.pt", cut_pickle, {}, "damaged or not complete"),
    "short safetensors": ("a.safetensors", cut_safetensors, {}, "damaged or not complete"),
    "not a pickle": ("a.pt", point, {}, "damaged or not complete"),
    "a program": (
        "a.pt",
        lambda p: torch.save({"model": STATE, "args": argparse.Namespace(a=1)}, p),
        {"wrapper": "model"},
        "holds argparse.Namespace, which a safe load refuses",
    ),
    "wrapper of TorchScript": ("a.pt", script, {"wrapper": "ema"}, "cannot have 'ema'"),
    "no wrapper given": (
        "a.pt",
        lambda p: torch.save({"model": STATE, "ema": OTHER}, p),
        {},
        "model is no tensor but dict (in which of them is the state? options.wrapper of an entry says "
        "it); the file has model, ema",
    ),
    "another wrapper": (
        "a.pt",
        lambda p: torch.save({"model": STATE}, p),
        {"wrapper": "ema"},
        "has no 'ema'; it has model",
    ),
    "wrapper of a safetensors file": (
        "a.safetensors",
        lambda p: save_file(STATE, p),
        {"wrapper": "ema"},
        "cannot have 'ema'",
    ),
    "prefix": (
        "a.pt",
        flat,
        {"prefix": "module."},
        "no key starts with 'module.'; the file has 0.",
    ),
    "a list": ("a.pt", lambda p: torch.save([1], p), {}, "holds list and no mapping"),
    "a number": (
        "a.pt",
        lambda p: torch.save({**STATE, "step": 3}, p),
        {},
        "step is no tensor but int",
    ),
    "two of one name": (
        "a.pt",
        flat,
        {"rename": lambda key: key.replace("running_mean", "x").replace("running_var", "x")},
        "1.running_mean and 1.running_var are both renamed to 1.x",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_are_refused_say_why_in_one_line(what: str, tmp_path: Path) -> None:
    file, write, how, words = REFUSED[what]
    if write is not None:
        write(tmp_path / file)
    with pytest.raises(VtbenchError) as caught:
        load_state(tmp_path / file, **how)
    assert type(caught.value) is (WeightsMissing if write is None else WeightsMismatch)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")  # torch warns of what it tries before it gives up
def test_damage_is_an_error_of_ours(tmp_path: Path, zipped: bool) -> None:
    """Bytes changed and cut at random: a state or one line, never another exception."""
    path = tmp_path / "a.pt"
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(250):
        data = bytearray(whole)
        for place in random.integers(len(data), size=random.choice([1, 4, 40])):
            data[place] = random.integers(256)
        for place in random.integers(300, size=2):
            data[place] = random.integers(256)
        path.write_bytes(data[: len(data) - int(random.choice([0, 0, 1, 200]))])
        try:
            load_state(path, wrapper="model")
        except WeightsMismatch as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    state: dict[str, Any] = STATE | {key.replace("_", ".", 1): t for key, t in changes.items()}
    return {key: tensor for key, tensor in state.items() if tensor is not None}


MISFITS: dict[str, tuple[dict[str, Tensor], str]] = {
    "removed": (changed(**{"0_weight": None}), "missing 0.weight"),
    "two removed": (changed(**{"0_weight": None, "2_bias": None}), "missing 0.weight and 1 more"),
    "added": (changed(**{"3_weight": torch.zeros(2)}), "unexpected 3.weight"),
    "misshaped": (
        changed(**{"0_weight": torch.zeros(4, 3, 5, 5)}),
        "misshaped 0.weight (the file has 4×3×5×5 float32, the network 4×3×3×3 float32)",
    ),
    "quantized": (
        changed(**{"0_bias": torch.zeros(4, dtype=torch.int8)}),
        "misshaped 0.bias (the file has 4 int8, the network 4 float32)",
    ),
    "all at once": (
        changed(**{"0_weight": None, "2_bias": torch.zeros(3), "9_x": torch.zeros(1)}),
        "missing 0.weight; unexpected 9.x; misshaped 2.bias (",
    ),
}


@pytest.mark.parametrize("what", ["removed", "added", "misshaped"])
@pytest.mark.parametrize("name", FORMATS)
def test_in_each_format_what_does_not_fit_is_named(name: str, what: str, tmp_path: Path) -> None:
    state, words = MISFITS[what]
    file, write, how = FORMATS[name]
    write(tmp_path / file, state)
    with pytest.raises(WeightsMismatch) as caught:
        assign_state(network(), load_state(tmp_path / file, **how))
    assert f"do not fit Sequential: {words}" in str(caught.value)


@pytest.mark.parametrize("what", MISFITS)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(what: str) -> None:
    state, words = MISFITS[what]
    built = network(1)
    with pytest.raises(WeightsMismatch) as caught:
        assign_state(built, state)
    assert f"do not fit Sequential: {words}" in str(caught.value)
    assert all(torch.equal(tensor, OTHER[key]) for key, tensor in built.state_dict().items())


def test_what_no_file_has_may_not_stay_empty() -> None:
    with torch.device("meta"):
        built = network()
        built.register_buffer("positions", torch.arange(4), persistent=False)
    with pytest.raises(WeightsMismatch, match="positions is in no file"):
        assign_state(built, STATE)


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float64])
def test_the_networks_dtype_holds(given: torch.dtype) -> None:
    built = network(1).eval().requires_grad_(False)
    assign_state(built, {k: t.to(given) if t.is_floating_point() else t for k, t in STATE.items()})
    for key, tensor in built.state_dict().items():
        assert tensor.dtype == STATE[key].dtype
        wanted = STATE[key].to(given).to(tensor.dtype)
        assert torch.equal(tensor, wanted)
    assert not any(p.requires_grad for p in built.parameters())


def test_torchscript_is_told_from_a_state(tmp_path: Path) -> None:
    script(tmp_path / "a.jit")
    flat(tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(b"PK nothing")
    assert [is_torchscript(tmp_path / n) for n in ("a.jit", "b.pt", "c.pt")] == [True, False, False]


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "module._orig_mod."])
def test_what_compilation_and_parallel_training_add_is_left_out(
    before: str, tmp_path: Path
) -> None:
    save_file(under(before), tmp_path / "a.SAFETENSORS")
    assert load_state(tmp_path / "a.SAFETENSORS").keys() == STATE.keys()
    # One key without it: then it is part of the names.
    save_file({**under(before), "other": torch.zeros(1)}, tmp_path / "b.safetensors")
    assert load_state(tmp_path / "b.safetensors").keys() == {*under(before), "other"}


def test_a_prefix_that_would_make_it_fit_is_named() -> None:
    with pytest.raises(WeightsMismatch, match=r"start with 'vae\.': options\.prefix"):
        assign_state(network(), under("vae."))
    with pytest.raises(WeightsMismatch) as caught:
        assign_state(network(), {key: STATE[key] for key in list(STATE)[1:]})
    assert "prefix" not in str(caught.value)
