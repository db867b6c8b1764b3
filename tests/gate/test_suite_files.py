"""Suites of strangers: what is refused when they are validated, and by which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vtbench.cli import main

GOOD = """\
title: t
version: 1
description: d
source: {name: two, title: t, licence: l, where: w, n: 2, task: reconstruction}
preprocess: {crop: none}
dtype: fp32
seed: 0
ocr: rapidocr
tasks: {reconstruction: {metrics: [psnr_db, ssim]}}
"""
SHA = "a" * 64
PINNED = f"manifest: m.jsonl\nmanifest_sha256: {SHA}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("version: 1", "version: '1'"), "version: Input should be a valid integer"),
        (GOOD.replace("n: 2", "n: true"), "source.n: Input should be a valid integer"),
        (GOOD.replace("n: 2", f"n: {10**20}"), "source.n: Input should be less than"),
        (GOOD.replace("n: 2", "names: '(a+)+$', n: 2"), "repeats a repeat"),
        (GOOD.replace("n: 2", "names: '((a|b)*?)*', n: 2"), "repeats a repeat"),
        (GOOD.replace("n: 2", "subsets: '(', n: 2"), "not a regular expression"),
        (GOOD.replace("n: 2", "names: '" + "a" * 301 + "', n: 2"), "more than 300 characters"),
        (
            GOOD.replace("n: 2", "hub: {repository: a/b, files: ../../**}, n: 2"),
            "leaves its folder",
        ),
        (GOOD.replace("where: w", 'where: "w\\nvtbench: ok"'), "must be one line"),
        (GOOD.replace("name: two, title: t", "name: two, title: ' '"), "is blank"),
        (GOOD + PINNED.replace("m.jsonl", "../../m.jsonl"), "leaves its folder"),
        (GOOD + PINNED.replace("m.jsonl", "/etc/passwd"), "leaves its folder"),
        (GOOD + PINNED, "not a regular file"),
    ],
)
def test_suites_that_mislead_are_refused(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "m.jsonl")
    path = tmp_path / "suites" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said
