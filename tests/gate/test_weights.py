"""Weight files of strangers: what a claim is worth, and what the walls of `convert` hold."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vtbench
from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.base.locations import data_dir
from vtbench.cli import main
from vtbench.commands import convert
from vtbench.images import encode_png
from vtbench.registry.entries import Entry, load_entry
from vtbench.weights.entries import CONVERTED, check_hashes, find_weights
from vtbench.weights.states import load_state

PINNED = "c" * 64


def entry_of(folder: Path, file: str) -> Entry:
    text = f"""\
title: Mine
family: kl-vae
adapter: vtbench.tokenizers.ldm_kl:LdmKl
kind: continuous
quantizer: kl
latent_channels: 4
licence: MIT
weights: {{source: local, path: {file}, sha256: {PINNED}}}
description: Of the tests.
"""
    (folder / "mine.yaml").write_text(text)
    return load_entry(folder / "mine.yaml")


def claim(path: Path) -> Path:
    """Write a file that says that it was made of the pinned one."""
    metadata = {CONVERTED: json.dumps({"sha256": PINNED})}
    save_file({"a": torch.zeros(2)}, path, metadata)
    return path


def test_a_claim_counts_for_a_pickle_that_the_user_gave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = claim(tmp_path / "x.safetensors")
    found = find_weights(entry_of(tmp_path, "model.ckpt"), path)
    assert found is not None
    with caplog.at_level(logging.WARNING):
        assert check_hashes(entry_of(tmp_path, "model.ckpt"), found) == {
            path.name: sha256_file(path)
        }
    assert "cannot be checked; its results are not pinned" in caplog.text


def test_a_claim_counts_for_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = claim(tmp_path / "x.safetensors")
    plain = entry_of(tmp_path, "model.safetensors")
    found = find_weights(plain, path)
    assert found is not None
    with pytest.raises(WeightsMismatch, match="has sha256"):
        check_hashes(plain, found)
    claim(tmp_path / "mine.safetensors")
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path))
    entry = entry_of(tmp_path, "model.ckpt")
    found = find_weights(entry)
    assert found is not None and found.searched
    with pytest.raises(WeightsMismatch, match="has sha256"):
        check_hashes(entry, found)


def test_a_compressed_archive_is_not_inflated(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    small = tmp_path / "small.pt"
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as source,
        zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert small.stat().st_size < 20_000
    with pytest.raises(WeightsMismatch, match="compressed archive"):
        load_state(small)
    assert load_state(tmp_path / "plain.pt")["a"].shape == (1 << 20,)


WALLS = """
import os, pathlib, sys, threading
from vtbench.weights.quarantine import isolate
place = pathlib.Path(sys.argv[1])
isolate(1000, place)
held = []
for act in (
    os.fork,
    lambda: os.execv("/bin/true", ["true"]),
    lambda: open(f"/proc/{os.getppid()}/mem", "r+b"),
):
    try:
        act()
    except OSError:
        held.append(True)
thread = threading.Thread(target=lambda: held.append(True))
thread.start()
thread.join()
(place / "inside").write_text("written")
print(len(held))
"""


def test_the_process_cannot_fork_nor_write_its_parents_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALLS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "4", done.stderr
    assert (tmp_path / "inside").read_text() == "written"


def test_a_conversion_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "SECONDS", 0.0)
    monkeypatch.setattr(convert, "BYTES_A_SECOND", 1e12)
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.ckpt")
    entry = entry_of(tmp_path, "model.ckpt")
    with pytest.raises(convert.WeightsError, match="not read within 0 s"):
        convert.convert_checkpoint(entry, tmp_path / "model.ckpt", tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""
STAND_INS = {
    "pointer": (POINTER, "a Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "a web page"),
    "upper-case page": (b"<HTML><head>", "a web page"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web"),
}


def commands_with(
    path: Path, pictures: Path, out: Path, name: str = "patch-vq-f8"
) -> dict[str, list[str]]:
    """Return a call of each command that takes weights."""
    given = ["--weights", f"{name}={path}"]
    return {
        "run": ["run", "--images", str(pictures), "-t", name, *given, "--out", str(out)],
        "check": ["check", name, *given],
        "reconstruct": [
            "reconstruct",
            str(pictures / "a.png"),
            "-t",
            name,
            *given,
            "--out",
            str(out),
        ],
        "drift": ["drift", str(pictures / "a.png"), "-t", name, *given],
        "pin": ["pin", name, *given],
        "plan": ["plan", "--suite", "embedded", "-t", name, *given],
        "convert": ["convert", name, str(path), "--yes", "--out", str(out / "a.safetensors")],
        "demo": ["demo", "--port", "0", "-t", name, *given],
        "suite": ["reconstruct", "--suite", "embedded", "-t", name, *given, "--out", str(out)],
        "strips": [
            *("strips", "--suite", "embedded", "--at", "photo-astronaut-r0c0:0,0,32,32"),
            *("-t", name, *given, "--out", str(out / "strip.png")),
        ],
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pics"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_png(np.full((16, 16, 3), 9, np.uint8)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "check", "reconstruct", "drift", "plan"])
@pytest.mark.parametrize("kind", STAND_INS)
def test_a_file_in_place_of_the_weights_is_named(
    tmp_path: Path, pictures: Path, kind: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = STAND_INS[kind]
    for ending in ("safetensors", "pt"):
        path = tmp_path / f"mine.{ending}"
        path.write_bytes(content)
        assert main(commands_with(path, pictures, tmp_path / "out")[command]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def write_misfits(folder: Path, name: str) -> dict[str, Path]:
    """Write files that are weights and not those of the tokenizer, by what is wrong with them."""
    own = data_dir() / "weights" / f"{name}.safetensors"
    state = load_file(own)
    paths = {
        kind: folder / f"{kind}.safetensors"
        for kind in ("another", "integers", "prefixed", "torn", "empty")
    }
    save_file({"other.weight": torch.zeros(2)}, paths["another"])
    save_file({key: value.to(torch.int64) for key, value in state.items()}, paths["integers"])
    save_file({f"net.{key}": value for key, value in state.items()}, paths["prefixed"])
    paths["torn"].write_bytes(own.read_bytes()[:-7])
    paths["empty"].write_bytes(b"")
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patch-vq-f8", "ref-vq-f16"])
@pytest.mark.parametrize("command", ["run", "check", "reconstruct", "suite", "drift", "strips"])
def test_weights_that_do_not_fit_are_refused_alike(
    tmp_path: Path, pictures: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, which names the file's own tensors, and exit 2."""
    for kind, path in write_misfits(tmp_path, name).items():
        assert main(commands_with(path, pictures, tmp_path / "out", name)[command]) == 2, kind
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        named = {"another": "other.weight", "prefixed": "net.", "integers": "int64"}
        assert named.get(kind, path.name) in said
        with pytest.raises(WeightsMismatch, match=named.get(kind, path.name)):
            vtbench.evaluate(name, pictures, weights=path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pointer", "page", "another"])
def test_the_demo_does_not_open_with_weights_that_do_not_fit(
    tmp_path: Path, pictures: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", exc_type=ImportError)
    path = tmp_path / "mine.safetensors"
    if kind == "another":
        save_file({"other.weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(STAND_INS[kind][0])
    assert main(commands_with(path, pictures, tmp_path / "out")["demo"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert ("other.weight" if kind == "another" else STAND_INS[kind][1]) in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STAND_INS, "empty", "torn", "folder", "nothing", "."])
def test_what_is_no_checkpoint_is_not_converted(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.pt"
    if kind in STAND_INS:
        path.write_bytes(STAND_INS[kind][0])
    elif kind == "torn":
        torch.save({"a": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    given = kind if kind == "." else str(path)
    for more in ([], ["--out", str(tmp_path / "out" / "a.safetensors")]):
        assert main(["convert", "patch-vq-f8", given, "--yes", *more]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and (path.name in said or kind == ".")
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_a_place_that_cannot_be_one_is_missing(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "x" * 250 + ".safetensors")
    for given in (Path("y" * 300), tmp_path / "a\0b", None):
        with pytest.raises(WeightsMissing, match=r"cannot be read|does not exist"):
            find_weights(entry, given)


@pytest.mark.slow
def test_a_training_goes_on_from_no_file_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train-reference", "ref-vq-f16", "--out", str(tmp_path), "--steps", "1", "--resume"]
    for content, message in (
        (POINTER, "cannot be read"),
        ({"other.weight": torch.zeros(2)}, "no checkpoint of a training; it has other.weight"),
        ([torch.zeros(2)], "no checkpoint of a training; it has list"),
    ):
        path = tmp_path / "checkpoint.pt"
        path.unlink(missing_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        assert main([*call, "--device", "cpu"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_one_that_does_not_fit_among_others_is_exit_1(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "mine.safetensors")
    for command in ("run", "check", "reconstruct"):
        arguments = commands_with(tmp_path / "mine.safetensors", pictures, tmp_path / command)
        more = ["resize-2x"] if command == "check" else ["-t", "resize-2x"]
        assert main([*arguments[command], *more]) == 1
        assert "other.weight is unexpected" in capsys.readouterr().err


@pytest.mark.slow
def test_a_pointer_is_not_pinned(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(POINTER)
    calls = commands_with(tmp_path / "mine.safetensors", pictures, tmp_path)
    assert main(calls["pin"]) == 2
    assert "a Git LFS pointer" in capsys.readouterr().err
