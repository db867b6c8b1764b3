"""`vtbench convert`: what a safe load refuses becomes safetensors, and nothing of it runs."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vtbench.base.errors import OutputError, WeightsError, WeightsMismatch, WeightsMissing
from vtbench.cli import main
from vtbench.commands import convert as conversion
from vtbench.registry.entries import Entry, load_entry
from vtbench.weights.entries import CONVERTED, WeightFiles, check_hashes, find_origin
from vtbench.weights.pickles import PickledFile, name_tensors
from vtbench.weights.quarantine import extract_tensors
from vtbench.weights.states import load_state

ENTRY = """\
title: Mine
family: kl-vae
adapter: vtbench.tokenizers.ldm_kl:LdmKl
options:
  config: {channels: 32, multipliers: [1, 1], latent: 4, width: 4, moments: true, attention: []}
  wrapper: ema
kind: continuous
quantizer: kl
downsample: 2
latent_channels: 4
input_range: [-1, 1]
size: {multiple: 2}
licence: MIT
weights: {source: local, path: model.ckpt}
description: Of the tests.
"""


class Config:
    """A stranger's object; its code is not there where the file is read."""

    def __init__(self) -> None:
        self.width = 3
        self.table = torch.ones(2)


class Harm:
    """Runs a command when it is unpickled by something that runs pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


BASE = torch.arange(24, dtype=torch.float32).reshape(4, 6)
STATE: dict[str, Tensor] = {
    "plain": BASE,
    "view": BASE[1:3, ::2],
    "transposed": BASE.T,
    "tied": BASE,
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "nothing": torch.zeros(0, 3),
    "flags": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


def checkpoint(path: Path, *, zipped: bool = True, **more: object) -> Path:
    content = {
        "ema": STATE,
        "model": {"plain": torch.zeros(1)},
        "args": argparse.Namespace(lr=1, device=torch.device("cpu")),
        "config": Config(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        **more,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    (tmp_path / "registry").mkdir()
    path = tmp_path / "registry" / "mine.yaml"
    path.write_text(ENTRY)
    return load_entry(path)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_safe_load_refuses_is_converted_and_nothing_of_it_runs(
    entry: Entry, tmp_path: Path, zipped: bool
) -> None:
    ran = tmp_path / "ran"
    source = checkpoint(tmp_path / "a.ckpt", zipped=zipped, harm=Harm(ran))
    with pytest.raises(WeightsMismatch, match="`vtbench convert NAME FILE` takes"):
        load_state(source, wrapper="ema")
    done = conversion.convert_checkpoint(entry, source, tmp_path / "a.safetensors")
    assert not ran.exists()
    assert {"argparse.Namespace", "posix.system"} <= set(done.left)
    state = load_state(done.path, wrapper="ema")
    assert state.keys() == STATE.keys() and done.tensors == len(STATE)
    for key, tensor in STATE.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    # The mutant: the same file, unpickled by what runs pickles, does its harm.
    torch.load(source, weights_only=False)
    assert ran.exists()


@pytest.mark.slow
def test_the_converted_file_says_what_it_was_made_of(entry: Entry, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a.ckpt")
    done = conversion.convert_checkpoint(entry, source, tmp_path / "a.safetensors")
    again = conversion.convert_checkpoint(entry, source, tmp_path / "b.safetensors")
    assert done.sha256 == again.sha256, "the same bytes each time"
    with safe_open(done.path, framework="pt") as file:
        origin = json.loads(file.metadata()[CONVERTED])
    assert (origin["entry"], origin["file"], origin["wrapper"]) == ("mine", "a.ckpt", "ema")
    found = WeightFiles(done.path, (done.path,))
    assert find_origin(found) == origin["sha256"]

    def pinned(sha256: str) -> Entry:
        assert entry.weights is not None
        weights = entry.weights.model_copy(update={"sha256": sha256})
        return entry.model_copy(update={"weights": weights})

    assert check_hashes(pinned(origin["sha256"]), found) == {"a.safetensors": done.sha256}
    with pytest.raises(WeightsMismatch, match="converted from a file of sha256"):
        check_hashes(pinned("0" * 64), found)
    with pytest.raises(WeightsMismatch, match="has no 'model'; it has ema"):
        load_state(done.path, wrapper="model")
    with pytest.raises(WeightsMismatch, match="no key starts with 'module"):
        load_state(done.path, wrapper="ema", prefix="module.")


@pytest.mark.slow
def test_a_tokenizer_runs_from_the_converted_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import vtbench
    from vtbench.tokenizers import build_tokenizer

    (tmp_path / "mine.yaml").write_text(ENTRY)
    mine = load_entry(tmp_path / "mine.yaml")
    random = build_tokenizer(mine, device="cpu", random_weights=True)
    official = type(random).name_tensors(
        random.model, random.parse_config(mine.spec, mine.options["config"])
    )
    tensors = random.model.state_dict()
    state = {there: tensors[here] for there, here in official.items()}
    torch.save({"ema": state, "args": argparse.Namespace()}, tmp_path / "model.ckpt")
    with pytest.raises(WeightsMismatch, match=r"mine: .*model\.ckpt holds argparse.Namespace"):
        vtbench.load("mine", registry=str(tmp_path))
    arguments = ["convert", "mine", str(tmp_path / "model.ckpt"), "--registry", str(tmp_path)]
    assert main([*arguments, "--yes"]) == 0
    said = capsys.readouterr().out
    converted = tmp_path / "model.safetensors"
    assert f"--weights mine={converted}" in said and "argparse.Namespace" in said
    loaded = vtbench.load("mine", registry=str(tmp_path), weights=str(converted), device="cpu")
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.decode(loaded.encode(images)), random.decode(random.encode(images)))


@pytest.mark.slow
def test_it_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = checkpoint(tmp_path / "a.pt")
    assert main(["convert", "identity", str(source)]) == 2
    said = capsys.readouterr().err
    assert "give --yes" in said and "may be a program" in said and said.count("\n") == 1
    assert not (tmp_path / "a.safetensors").exists()
    assert main(["convert", "identity", str(source), "--yes"]) == 0
    whole = load_state(tmp_path / "a.safetensors")
    assert {"ema.plain", "model.plain", "optimizer.state.0.exp_avg", "config.table"} <= set(whole)
    assert main(["convert", "identity", str(source), "--yes"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["convert", "spae", str(source), "--yes"]) == 2
    assert "unreleased" in capsys.readouterr().err


def cut(path: Path) -> None:
    checkpoint(path)
    path.write_bytes(path.read_bytes()[:-900])


def cut_stream(path: Path) -> None:
    checkpoint(path, zipped=False)
    path.write_bytes(path.read_bytes()[:-20])


def no_tensors(path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}}, path)


def rewrite(path: Path, change: Callable[[str, bytes], bytes], compress: bool = False) -> None:
    whole = path.with_suffix(".whole")
    torch.save({"ema": {"a": torch.rand(4096)}}, whole)
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def outside(path: Path) -> None:
    # 4096 numbers of a storage that says it has 4097: they are not there.
    rewrite(path, lambda name, data: data[:-8] if name.endswith("data/0") else data)


def bomb(path: Path) -> None:
    rewrite(path, lambda name, data: data, compress=True)


def repeated(path: Path) -> None:
    torch.save({"ema": {"a": torch.ones(1).expand(2**40)}}, path)


def endless(path: Path) -> None:
    path.write_bytes(pickle.dumps([1]) * 3)


def zip_of_nothing(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/version", "3")


def within_itself(path: Path) -> None:
    state: dict[str, Any] = {"a": torch.ones(1)}
    state["b"] = state
    torch.save({"ema": state}, path)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "damaged or not complete"),
    "cut stream": (cut_stream, "damaged or not complete"),
    "short storage": (outside, "storage 0 has 16376 bytes"),
    "compressed": (bomb, "storage 0 is compressed"),
    "repeated": (repeated, "larger than its storage"),
    "no wrapper": (no_tensors, "has no tensors at 'ema'; it has model"),
    "another pickle": (endless, "neither a zip archive nor a stream"),
    "no pickle": (zip_of_nothing, "without data.pkl"),
    "in a circle": (within_itself, "or itself"),
    "text": (lambda path: path.write_text("version https://git-lfs"), "damaged or not complete"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    entry: Entry, tmp_path: Path, what: str
) -> None:
    write, words = REFUSED[what]
    write(tmp_path / "a.ckpt")
    if what != "cut":  # one of them by the process, which takes two seconds to start
        with pytest.raises(WeightsMismatch) as caught:
            extract_tensors(tmp_path / "a.ckpt", tmp_path / "a.safetensors", "ema", {})
        assert words in str(caught.value) and "\n" not in str(caught.value)
        return
    with pytest.raises(WeightsMismatch) as caught:
        conversion.convert_checkpoint(
            entry, tmp_path / "a.ckpt", tmp_path / "out" / "a.safetensors"
        )
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_places_that_cannot_be(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        conversion.convert_checkpoint(entry, tmp_path / "a.pt", tmp_path / "a.safetensors")
    source = checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(OutputError, match=r"must end in \.safetensors"):
        conversion.convert_checkpoint(entry, source, tmp_path / "a.pt")
    with pytest.raises(OutputError, match="cannot write"):
        conversion.convert_checkpoint(entry, source, source / "a.safetensors")


WALLS = """
import socket, subprocess, sys
from vtbench.weights.quarantine import isolate
allowed = sys.argv[1] == "open"
if not allowed:
    isolate(1000)
for attempt in (
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: subprocess.run(["/bin/true"], check=True),
    lambda: open("/dev/null", "rb").read(),
):
    try:
        attempt()
        print("done", end=" ")
    except OSError as error:
        print(type(error).__name__, end=" ")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the walls are of Linux")
def test_the_walls_hold() -> None:
    def run(how: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", WALLS, how], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert run("open") == ["done"] * 4
    assert run("walled") == ["PermissionError"] * 3 + ["done"]


def test_without_walls_nothing_is_read(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtbench.weights import quarantine

    monkeypatch.setattr(quarantine.platform, "machine", lambda: "riscv64")
    with pytest.raises(WeightsError, match="cannot be kept from the network"):
        quarantine.isolate(1000)
    monkeypatch.setattr(conversion.sys, "executable", "/bin/false")
    with pytest.raises(WeightsError, match="ended by status 1"):
        conversion.convert_checkpoint(
            entry, checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors"
        )


def test_no_name_but_those_of_tensors_is_imported(tmp_path: Path) -> None:
    """The pickle of a tensor beside calls of everything: only tensors come back."""
    path = tmp_path / "a.pt"
    torch.save(
        {"a": torch.ones(2), "b": Harm(tmp_path / "ran"), "size": torch.Size([2]), "c": {1, 2}},
        path,
    )
    with PickledFile(path) as file:
        assert set(name_tensors(file.content)) == {"a"}
        assert torch.equal(file.open(file.content["a"]), torch.ones(2))
        assert file.content["size"] == (2,)
        assert "posix.system" in file.placeholders
    assert not (tmp_path / "ran").exists()


class Reshaping:
    """Pickles a tensor, and then as its state another shape, as nothing of torch does."""

    def __init__(self, what: Any, state: dict[str, Any]) -> None:
        self.what, self.state = what, state

    def __reduce__(self) -> tuple[Any, ...]:
        function, arguments = self.what.__reduce_ex__(2)
        return function, arguments, self.state


def test_a_pickle_can_change_no_object_of_ours(tmp_path: Path) -> None:
    """Attributes that a pickle gives to anything but a placeholder are dropped."""
    path = tmp_path / "a.pt"
    torch.save({"a": Reshaping(torch.arange(4.0), {"shape": (2**40,), "strides": (0,)})}, path)
    with PickledFile(path) as file:
        tensor = name_tensors(file.content)["a"]
        assert (tensor.shape, tensor.strides) == ((4,), (1,))
        assert torch.equal(file.open(tensor), torch.arange(4.0))


def test_numbers_of_another_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(2), "b": torch.ones(2, dtype=torch.complex64)}, path)
    with PickledFile(path) as file:
        assert set(name_tensors(file.content)) == {"a"}
        assert "torch.ComplexFloatStorage" in file.placeholders
