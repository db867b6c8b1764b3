"""Entries of strangers: what is refused when they are validated, and by which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtbench.base.errors import RegistryError
from vtbench.cli import main
from vtbench.images import encode_png
from vtbench.registry import adapters
from vtbench.registry.entries import load_entry, load_registry

GOOD = """\
title: A thing
family: sanity
adapter: vtbench.tokenizers.resample:Resample
options: {factor: 2}
kind: pixels
quantizer: none
licence: Apache-2.0
description: Nothing special.
"""
SHA = "a" * 64
REVISION = "b" * 40


def hub(**changes: object) -> str:
    weights = {"source": "hub", "repo": "a/b", "licence": "MIT"} | changes
    return GOOD + f"weights: {weights}\n".replace("None", "null")


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (
            GOOD.replace("vtbench.tokenizers.resample:Resample", "os:system"),
            "adapter",
            "neither in",
        ),
        (GOOD.replace("tokenizers.resample:Resample", "cli:main"), "adapter", "neither in"),
        (GOOD.replace("resample:Resample", "none:Resample"), "adapter", "there is no module"),
        (GOOD.replace(":Resample", ":Nothing"), "adapter", "has no class Nothing"),
        (GOOD.replace(":Resample", ":main"), "adapter", "has no class main"),
        (GOOD.replace("resample:Resample", "base:Code"), "adapter", "is not a Tokenizer"),
        (GOOD.replace("resample:Resample", "base:Tokenizer"), "adapter", "is not a Tokenizer"),
        (GOOD.replace("resample:Resample", "resample:Tensor"), "adapter", "is not a Tokenizer"),
        (GOOD.replace("A thing", '" "'), "title", "is blank"),
        (GOOD.replace("A thing", '"a\\nregistry: ok"'), "title", "one line"),
        (GOOD.replace("A thing", "x" * 301), "title", "at most 300"),
        (GOOD + "size: {fixed: [0, 8], policy: resize}\n", "size.fixed.0", "greater than"),
        (GOOD + "size: {fixed: [-8, 8], policy: resize}\n", "size.fixed.0", "greater than"),
        (GOOD + "size: {fixed: [8, 1000000000], policy: tile}\n", "size.fixed.1", "less than"),
        (GOOD.replace("A thing", '"\u2800"'), "title", "is blank"),
        (GOOD.replace("{factor: 2}", "{factor: 2, device: cuda}"), "options.device", "takes fact"),
        (GOOD.replace("{factor: 2}", "{factor: 2, self: 1}"), "options.self", "Resample takes f"),
        (
            GOOD.replace("resample:Resample", "codecs:PillowCodec"),
            "family",
            "sanity is the family of vtbench.tokenizers.resample alone",
        ),
        (GOOD.replace("{factor: 2}", "{'': 2}"), "options.", "Resample takes factor"),
        (
            GOOD + f"weights: {{source: package, file: weights, sha256: {SHA}, licence: x}}\n",
            *("weights.file", "data has no file weights"),
        ),
        (
            GOOD + "weights: {source: package, file: weights/patch-vq-f8.safetensors, "
            f"sha256: {SHA}, licence: x}}\n",
            *("weights.sha256", "patch-vq-f8.safetensors has"),
        ),
        (GOOD + "input_range: [0, 1.0e-9]\n", "entry", "narrower than"),
        (GOOD + "input_range: [-1.0e+7, 1]\n", "input_range.0", "greater than"),
        (GOOD + "parameters: true\n", "parameters", "valid integer"),
        (GOOD + "parameters: 1e+30\n", "parameters", "valid integer"),
        (GOOD + "downsample: 100000\n", "downsample", "less than"),
        (GOOD + "gmac: {encode: 0}\n", "gmac.encode", "greater than 0"),
        (GOOD + "gmac: {encode: '1'}\n", "gmac.encode", "valid number"),
        (GOOD + "gmac: {encode: true}\n", "gmac.encode", "valid number"),
        (GOOD + "gmac: {encode: 1e+308}\n", "gmac.encode", "less than"),
        (GOOD + "size: {fixed: [true, 8], policy: resize}\n", "size.fixed.0", "valid integer"),
        (GOOD + "downsample: 8.0\n", "downsample", "valid integer"),
        (GOOD.replace("tokenizers.resample", "tokenizers..resample"), "adapter", "no module:Class"),
        (GOOD.replace("A thing", "\u041cine"), "title", "Latin and Cyrillic"),
        (GOOD.replace("A thing", "Z" + "\u0300" * 5), "title", "four marks"),
        (GOOD + "paper: https://\u00e9xample.org/\n", "paper", "host of other characters"),
        (GOOD + "paper: https://a%40b.org/\n", "paper", "host of other characters"),
        (GOOD + "paper: https://a.org:99999/\n", "paper", "port that is none"),
        (GOOD + "used_by: [" + ", ".join(["a"] * 101) + "]\n", "used_by", "at most 100"),
        (hub(files=["a//b"]), "weights.files.0", "written otherwise"),
        (hub(files=["A.bin", "a.bin"]), "weights", "named twice"),
        (GOOD + "paper: javascript:alert(1)\n", "paper", "no http or https address"),
        (GOOD + "paper: https://a@evil.example/x\n", "paper", "names a user"),
        (GOOD + "paper: 'https://a/\"onload=x'\n", "paper", "character that an address"),
        (
            GOOD + "reported: [{protocol: nope, values: {ssim: 1}}]\n",
            "reported.0.protocol",
            "no pro",
        ),
        (hub(repo="../.."), "weights.repo", "no OWNER/NAME"),
        (hub(repo="a/.."), "weights.repo", "no OWNER/NAME"),
        (hub(subfolder="../x"), "weights.subfolder", "leaves its folder"),
        (hub(files=[]), "weights.files", "at least 1"),
        (hub(files=["a\\b"]), "weights.files.0", "leaves its folder"),
        (hub(files=["/etc/passwd"]), "weights.files.0", "leaves its folder"),
        (hub(files=["C:x"]), "weights.files.0", "leaves its folder"),
        (hub(files=["a", "a"]), "weights", "named twice"),
        (hub(revision=REVISION, sha256={}), "weights", "no digest of config.json"),
        (hub(files=["a", "b"], sha256={"a": SHA}), "weights", "no digest of b"),
        (hub(files=["a"], sha256={"a": SHA, "c": SHA}), "weights", "has one of c"),
        (
            GOOD + f"weights: {{source: package, file: ../x, sha256: {SHA}, licence: x}}\n",
            *("weights.file", "leaves its folder"),
        ),
        (
            GOOD + f"weights: {{source: package, file: /etc/x, sha256: {SHA}, licence: x}}\n",
            *("weights.file", "leaves its folder"),
        ),
        (GOOD + "weights: {source: local, path: ../x}\n", "weights.path", "leaves its folder"),
        (
            GOOD + "weights: {source: page, url: 'https://a/b', file: ../x, licence: x}\n",
            *("weights.file", "match pattern"),
        ),
        (
            GOOD + "weights: {source: page, url: 'https://a/b', file: x, licence: x,"
            " beside: {..: null}}\n",
            *("weights.beside", "match pattern"),
        ),
        (
            GOOD + "weights: {source: page, url: 'https://a@evil/b', file: x, licence: x}\n",
            *("weights.url", "names a user"),
        ),
    ],
)
def test_entries_that_mislead_are_refused(
    tmp_path: Path, text: str, key: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    assert f": {key}" in said and message in said and said.count("\n") == 1, said


@pytest.mark.parametrize(
    "name",
    ["suite.json", "leaderboard.md", "originals", "a.", "con", "com1.x", "x" * 250, "a\u202eb"],
)
def test_names_that_are_no_folder_of_a_run_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(RegistryError, match="file name"):
        load_entry(path)


@pytest.mark.slow
def test_every_adapter_of_the_registry_is_found_without_importing_it() -> None:
    for entry in load_registry().values():
        assert adapters.find_adapter_fault(entry.adapter) is None


def test_a_plug_in_is_found_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged" / "__init__.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "plugged" / "inner.py").write_text("raise SystemExit\nclass Mine: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        adapters.plugins, "list_modules", lambda group: ("plugged.inner", "plugged.gone")
    )
    assert adapters.find_adapter_fault("plugged.inner:Mine") is None
    assert adapters.find_adapter_fault("plugged.inner:Other") == "plugged.inner has no class Other"
    assert adapters.find_adapter_fault("plugged.gone:A") == "there is no module plugged.gone"


@pytest.mark.slow
@pytest.mark.parametrize(
    "raised", [TypeError("abstract"), OSError(36, "name"), RecursionError("x")]
)
def test_a_tokenizer_that_cannot_be_built_fails_alone(
    tmp_path: Path,
    raised: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vtbench.tokenizers.resample import Resample

    def fail(self: Resample, spec: Any, *, factor: int, **_: Any) -> None:
        raise raised

    monkeypatch.setattr(Resample, "__init__", fail)
    picture = tmp_path / "a.png"
    picture.write_bytes(encode_png(np.full((16, 16, 3), 9, np.uint8)))
    both = ["-t", "resize-2x", "-t", "jpeg-q50"]
    for arguments in (
        ["check", "resize-2x", "jpeg-q50"],
        ["reconstruct", str(picture), *both, "--out", str(tmp_path / "out")],
    ):
        assert main(arguments) == 1
        told = capsys.readouterr()
        assert "jpeg-q50" in told.out
        assert f"resize-2x: cannot be built: {type(raised).__name__}" in told.err
        assert told.err.count("\n") == 1
    assert main(["drift", str(picture), "-t", "resize-2x"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
