"""`vtbench submit`: every problem at once, and a tree that validates, in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vtbench.base.locations import registry_dir
from vtbench.cli import main

LOCAL = """
title: Mine
family: codec
adapter: vtbench.tokenizers.codecs:PillowCodek
kind: codec
quantizer: none
licence: Own
weights: {source: local, path: mine.safetensors}
description: Mine.
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder in which vtbench is run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Return a folder of one entry of one's own, without weights: the codec JPEG."""
    folder = tmp_path / "registry"
    folder.mkdir()
    shutil.copy(registry_dir() / "jpeg-q50.yaml", folder / "my-jpeg.yaml")
    return folder


@pytest.fixture
def results(write_suite: Callable[..., Path], write_run: Callable[..., Path]) -> Path:
    """Return a folder of results with a run of my-jpeg, one of its variants, and one of another."""
    folder = write_suite()
    for name in ("my-jpeg", "my-jpeg@tile", "my-jpeg-2"):
        write_run(folder, name, tokenizer__name=name.partition("@")[0])
    return folder


def test_every_problem_of_entry_and_results_is_said_at_once(
    here: Path,
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = here / "entries"
    entries.mkdir()
    (entries / "mine.yaml").write_text(LOCAL, encoding="utf-8")
    folder = write_suite(limit=2)
    write_run(folder, "mine")
    arguments = ["submit", "mine", "--registry", "entries", "--results", str(folder)]
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    for part in ("PillowCodek", "source: local", "licence", "vtbench pin mine", "--limit 2"):
        assert sum(part in line for line in said) == 1, (part, said)
    assert not (here / "submission-mine").exists()


@pytest.mark.slow
def test_results_of_a_suite_that_is_not_here_are_refused(
    here: Path, registry: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", "my-jpeg", "--registry", str(registry), "--results", str(results)]
    assert main([*arguments, "--out", "packed"]) == 2
    assert "the suite tiny is not here" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_link_in_place_of_a_runs_file_packs_nothing(
    here: Path,
    registry: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = here / "secret.parquet"
    shutil.copy(results / "my-jpeg" / "images.parquet", secret)
    (results / "my-jpeg" / "images.parquet").unlink()
    (results / "my-jpeg" / "images.parquet").symlink_to(secret)
    arguments = ["submit", "my-jpeg", "--registry", str(registry), "--results", str(results)]
    assert main([*arguments, "--out", "packed"]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert not (here / "packed").exists()


def test_a_folder_without_runs_of_it_is_refused(
    here: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "jpeg-q25", "--results", str(results)]) == 2
    assert "no run of jpeg-q25" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tokenizer_that_breaks_the_contract_is_not_packed(
    here: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = registry / "my-jpeg.yaml"
    text = path.read_text(encoding="utf-8")
    assert "input_range: [0, 1]" in text
    path.write_text(text.replace("input_range: [0, 1]", "input_range: [0, 9]"), encoding="utf-8")
    assert main(["submit", "my-jpeg", "--registry", str(registry)]) == 1
    assert "my-jpeg: broken clause" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_text_of_an_entry_is_text_in_the_summary(here: Path, registry: Path) -> None:
    path = registry / "my-jpeg.yaml"
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("title:")]
    title = "title: '<img src=x> | [a](b) @everyone `c`'"
    path.write_text("\n".join([title, *lines]) + "\n", encoding="utf-8")
    assert main(["submit", "my-jpeg", "--registry", str(registry)]) == 0
    (row,) = [
        line
        for line in (here / "submission-my-jpeg" / "SUMMARY.md").read_text("utf-8").splitlines()
        if line.startswith("| title |")
    ]
    assert not set("<>[]@`") & set(row) and row.count("|") == 3
    # A second time the folder holds something, which is not written over.
    assert main(["submit", "my-jpeg", "--registry", str(registry)]) == 2
