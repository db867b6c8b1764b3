"""`vtbench cache`: what it shows, what it removes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vtbench.cli import main

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache with two readings, one of them old, and a reference."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "vtbench"
    for name, size, days in (
        ("readings/e.1/new.kept", 10, 0),
        ("readings/e.2/old.kept", 20, 9),
        ("references/mini.npy", 30, 3),
    ):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
        os.utime(path, (time.time() - days * DAY,) * 2)
    return root


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[int, int]]:
    assert main(["cache", *arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    return {own["kind"]: (own["files"], own["bytes"]) for own in said["kinds"]}


def test_kinds_are_shown_with_files_and_bytes(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys)
    assert found["readings"] == (2, 30) and found["references"] == (1, 30)
    assert found["crops"] == (0, 0)
    assert main(["cache"]) == 0
    text = capsys.readouterr().out
    assert str(cache) in text and "readings" in text


def test_only_what_is_old_and_of_the_kind_is_removed(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(capsys, "prune", "--older-than", "5")["readings"] == (1, 20)
    assert not (cache / "readings" / "e.2").exists()  # empty folders go too
    assert ask(capsys, "prune", "--kind", "references", "--all") == {"references": (1, 30)}
    assert ask(capsys)["readings"] == (1, 10)


@pytest.mark.parametrize("arguments", [(), ("--all", "--older-than", "1")])
def test_what_to_remove_must_be_said(cache: Path, arguments: tuple[str, ...]) -> None:
    assert main(["cache", "prune", *arguments]) == 2
    assert (cache / "readings" / "e.1" / "new.kept").exists()


def test_links_and_other_files_are_left_alone(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    (cache / "readings" / "link").symlink_to(mine)
    (cache / "readings" / "link.kept").symlink_to(mine / "precious")
    (cache / "crops").symlink_to(mine)
    (cache / "weights").mkdir()
    (cache / "weights" / "w").write_text("x")
    assert ask(capsys)["crops"] == (0, 0)
    assert ask(capsys, "prune", "--all")["readings"] == (2, 30)
    assert (mine / "precious").exists() and (cache / "weights" / "w").exists()
    assert (cache / "readings" / "link").is_symlink() and (cache / "crops").is_symlink()


def test_a_file_that_is_being_written_is_left(cache: Path) -> None:
    part = cache / "references" / ".mini.npy.part"
    part.write_bytes(b"half")
    assert main(["cache", "prune", "--all"]) == 0
    assert part.exists() and not (cache / "references" / "mini.npy").exists()
