"""Results of one's own pictures: what suite.json says that the rows contradict, and files of nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import make_rows, write_results_suite
from PIL import Image

import vtbench
from vtbench.base.errors import ResultsError
from vtbench.cli import main
from vtbench.commands.audit.folder_files import audit_files
from vtbench.commands.audit.own_suites import audit_own_suite
from vtbench.results.folder import read_runs, read_suite_folder
from vtbench.results.schema import PanelItem

PANEL = tuple(
    PanelItem(n=n, id=name, task="reconstruction", width=width, height=100)
    for n, (name, width) in enumerate((("a-1", 100), ("a-2", 100), ("b-1", 200)))
)


@pytest.fixture
def folder(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """Return results of a folder of three pictures, with one run."""
    name = "images-mine-01234567"
    stated = {"images": {"reconstruction": 3}, "metrics": {"reconstruction": ("psnr_db",)}}
    folder = write_results_suite(tmp_path / name, name=name, published=False, panel=PANEL, **stated)
    rows = [row for row in make_rows() if row["task"] == "reconstruction"]
    own = {"suite__name": name, "suite__published": False}
    write_run(folder, "good", rows, protocol__tasks=("reconstruction",), **own)
    return folder


def change_panel(**changes: Any) -> dict[str, Any]:
    return {"panel": (PANEL[0].model_copy(update=changes), *PANEL[1:])}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, ""),
        ({"cut_from": {"x": "x"}}, "cut_from: 'x' is no image of the runs"),
        ({"cut_from": {PANEL[0].id: PANEL[1].id}}, "is not the first of its file"),
        ({"cut_from": {PANEL[0].id: PANEL[0].id}}, "pictures of a folder share no file"),
        ({"panel": ()}, "panel: 0 pictures; a run shows 3 or more"),
        ({"panel": (*PANEL, *PANEL, *PANEL)}, "has more than 6 pictures"),
        (change_panel(id="x"), "panel: 'x' is no image of the runs"),
        (change_panel(task="text"), "is of the task reconstruction, not text"),
        (change_panel(width=9999), "is larger than its image"),
        (change_panel(width=5), "is not 100×100"),
        ({"pinned": False}, "pinned is not what good says"),
        ({"images": {"reconstruction": 9}}, "images: {'reconstruction': 9}; the runs have"),
        ({"metrics": {}}, "metrics: not those of its tasks"),
        ({"metrics": {"reconstruction": ("psnr_db",) * 9}}, "metrics: one is named twice"),
        ({"metrics": {"reconstruction": ("nope",)}}, "metrics: 'nope', of which good says nothing"),
    ],
)
def test_what_the_rows_contradict_is_named(
    folder: Path, changes: dict[str, Any], complaint: str
) -> None:
    suite = read_suite_folder(folder).model_copy(update=changes)
    found = list(audit_own_suite(suite, None, read_runs(folder)))
    assert any(complaint in one for one in found) if complaint else found == []


def list_complaints(folder: Path) -> list[str]:
    return list(audit_files(folder, read_suite_folder(folder), read_runs(folder), published=False))


@pytest.mark.parametrize(
    "name",
    [
        *("lib.so", ".hidden", "good/lib.so", "good/panel/9.png", "good/.run.json", "other/a/b/c"),
        *("originals/x.png", "leaderboard-site/x.js", ".good.lock.so", ".good.panel/x.so"),
        *("good/reconstructions/x.so", "nobody/reconstructions/x.png"),
    ],
)
def test_a_file_that_no_run_leaves_is_named(folder: Path, name: str) -> None:
    assert list_complaints(folder) == []
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    assert any("no file of a result" in one for one in list_complaints(folder))


@pytest.mark.parametrize(
    "name",
    [
        *(".good.lock", ".other@bf16.partial.jsonl", ".good.batches.json", ".good.panel/0.png"),
        *("good/reconstructions/_0.png", ".good.features/a/b.npy", ".DS_Store", "good/._x"),
        *("good/.run.json.abcd_123", ".leaderboard.md.abcd_123"),
    ],
)
def test_what_a_run_leaves_is_nobodys_fault(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    assert list_complaints(folder) == []


def test_a_run_under_another_name_is_no_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "good", folder / "copy")
    for command in (
        ["validate", str(folder / "copy")],
        ["compare", "--results", str(folder), "good", "copy"],
        ["compare", "--results", str(folder), "good", "copy", "--worst", "1"],
        ["legibility", "--suite", "embedded", "--results", str(folder), "copy"],
    ):
        assert main(command) == 2
        assert "run 'good' in folder 'copy'" in capsys.readouterr().err


def test_a_run_alone_is_audited_with_its_suite(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(folder / "good")]) == 2  # made up, as the builders' rows are
    assert "good: its key is not that of what run.json says" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["good/panel/0.png", "originals/0.png"])
def test_a_link_of_a_stranger_is_no_picture(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("secret")
    for name in ("good/panel/0.png", "originals/0.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (100, 100)).save(folder / name)
    result = vtbench.read_results(folder)["good"]
    assert [image for image, _, _ in result.panel()] == ["a-1"]
    assert (result.save(tmp_path / "kept") / "panel" / "0.png").is_file()
    (folder / place).unlink()
    (folder / place).symlink_to(tmp_path / "secret")
    assert result.panel() == []
    with pytest.raises(ResultsError, match="a symbolic link"):
        result.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_digest_of_a_suite_is_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "suite.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"sha256": "x"}), encoding="utf-8")
    assert main(["leaderboard", "--results", str(folder)]) == 2
    assert "suite.json: sha256: String should match pattern" in capsys.readouterr().err


def test_a_plot_that_cannot_be_removed_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "leaderboard-rate-cer.svg").mkdir()
    assert main(["leaderboard", "--results", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "cannot remove" in said and said.count("\n") == 1
