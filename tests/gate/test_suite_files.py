"""Suites of strangers: what is refused when they are validated, and by which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vtbench.base import expressions
from vtbench.base.expressions import NameSearch, check_expression
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
ANNOTATED = GOOD.replace("n: 2", "annotations: {format: tokbench, files: 'FILES'}, n: 2")
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
        (GOOD.replace("n: 2", "names: '(a|a)+$', n: 2"), "repeats a repeat or a choice"),
        (GOOD.replace("n: 2", "names: '(?:a*[)]a){9}', n: 2"), "repeats a repeat or a choice"),
        (GOOD.replace("n: 2", "names: '.*.*?.*.*x', n: 2"), "so many repeats and choices"),
        (GOOD.replace("n: 2", "names: '" + "(a|a)" * 40 + "', n: 2"), "so many repeats and"),
        (GOOD.replace("n: 2", "names: '" + "a?" * 40 + "', n: 2"), "so many repeats and"),
        (GOOD.replace("n: 2", "names: '(?ix) a b', n: 2"), "with spaces and comments"),
        (GOOD.replace("n: 2", "names: 'a{99999999999}', n: 2"), "not a regular expression"),
        (GOOD.replace("n: 2", "names: '[[]a', n: 2"), "not a regular expression"),
        (ANNOTATED.replace("FILES", "(a|a)+$"), "repeats a repeat or a choice"),
        (ANNOTATED.replace("FILES", "(a{99999999999})"), "not a regular expression"),
        (GOOD.replace("n: 2", "hub: {repository: a--b/c}, n: 2"), "no OWNER/NAME of a repository"),
        (GOOD.replace("n: 2", "hub: {repository: a/b, files: ''}, n: 2"), "no pattern of files"),
        (GOOD.replace("n: 2", "hub: {repository: a/b, files: '**x'}, n: 2"), "no pattern of files"),
        (GOOD.replace("n: 2", "hub: {repository: a/b, files: '**/**'}, n: 2"), "more than one **"),
        (GOOD.replace("n: 2", "subsets: '(', n: 2"), "not a regular expression"),
        (GOOD.replace("n: 2", "names: '" + "a" * 301 + "', n: 2"), "more than 300 characters"),
        (
            GOOD.replace("n: 2", "hub: {repository: a/b, files: ../../**}, n: 2"),
            "leaves its folder",
        ),
        (GOOD.replace("{crop: none}", "{crop: center, size: 4097}"), "less than or equal to 4096"),
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


@pytest.mark.parametrize(
    "text",
    [
        r"ILSVRC2012_val_\d{8}",
        r"^0(?:8(?!00)\d\d|900)(?=\.)",
        r"(?<=text_data/)[a-z0-9]+",
        "Chinese|Hindi|Japanese|Korean|Latin|Arabic|Thai|Greek",
        r"(\w+)-(\d+)-(?P<part>[^*+?|]+)",
        r"(?i)img_?(\d+)(?:\.png|\.jpe?g)?",
    ],
)
def test_honest_expressions_are_taken(text: str) -> None:
    check_expression(text)


def test_a_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of an expression that is taken, on names that make it slow."""
    search = NameSearch("[a-z]*[a-z]*x")
    assert search.find("abx") == "abx" and search.find("ab") is None
    with pytest.raises(ValueError, match="a name of more than 400 characters"):
        search.find("a" * 401)
    monkeypatch.setattr(expressions, "SECONDS", 0.0)
    search = NameSearch("[a-z]*[a-z]*x")
    with pytest.raises(ValueError, match="takes too long on these names"):
        search.find("a" * 200)
