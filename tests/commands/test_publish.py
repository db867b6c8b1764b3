"""What `publish` and `leaderboard --out` copy: the files that a run has, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vtbench.cli import main
from vtbench.images import encode_png, pixel_sha256
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.site.pictures import find_pictures
from vtbench.results.schema import PanelItem

PNG = encode_png(np.zeros((8, 8, 3), np.uint8))
HASH = pixel_sha256(np.zeros((8, 8, 3), np.uint8))
PANEL = (PanelItem(n=0, id="a-1", task="reconstruction", width=8, height=8),)
PICTURES = ("originals/0.png", "good/panel/0.png")


@pytest.fixture
def folder(write_suite: Callable[..., Path], write_run: Callable[..., Path]) -> Path:
    """Return a folder of results that may be published: one run with a panel of one picture."""
    folder = write_suite(panel=PANEL)
    write_run(folder, "good")
    for name in PICTURES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    return folder


def rename_suite(folder: Path, name: str) -> None:
    for path in (folder / "suite.json", *folder.glob("*/run.json")):
        data = json.loads(path.read_text())
        (data if path.name == "suite.json" else data["suite"])["name"] = name
        path.write_text(json.dumps(data))


@pytest.mark.slow
def test_the_files_of_a_run_are_published_and_no_other(folder: Path, tmp_path: Path) -> None:
    for extra in ("evil.py", ".hidden", "panel/1.png", "panel/0.svg", "panel/0.error.png"):
        (folder / "good" / extra).write_bytes(PNG)
    target = tmp_path / "published"
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    copied = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    tables = {name for name in copied if name.startswith("leaderboard")}
    assert copied - tables == {*PICTURES, "suite.json", "good/run.json", "good/images.parquet"}


@pytest.mark.slow
def test_a_point_of_a_curve_is_published_without_pictures(folder: Path, tmp_path: Path) -> None:
    path = folder / "good" / "run.json"
    record = json.loads(path.read_text())
    record["tokenizer"] |= {"series": "JPEG", "curve_only": True}
    path.write_text(json.dumps(record))
    target = tmp_path / "published"
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    assert {path.name for path in (target / "good").iterdir()} == {"run.json", "images.parquet"}
    assert (target / "originals" / "0.png").is_file()


@pytest.mark.slow
def test_another_run_joins_those_that_are_published(
    folder: Path, tmp_path: Path, write_suite: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    """What was not run stays said, but of what has been run since; the older run's pictures, which
    have no hash in them, stay beside an original that has one."""
    target = tmp_path / "published"
    said = json.loads((folder / "suite.json").read_text())
    said["skipped"] = [{"name": name, "reason": "no weights"} for name in ("later", "never")]
    (folder / "suite.json").write_text(json.dumps(said))
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    (folder / "good").rename(tmp_path / "older")
    write_run(folder, "later")
    noted = encode_png(np.zeros((8, 8, 3), np.uint8), original=HASH)
    for name in ("originals/0.png", "later/panel/0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noted)
    (folder / "suite.json").write_text(json.dumps({**said, "skipped": []}))
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    now = json.loads((target / "suite.json").read_text())
    assert [item["name"] for item in now["skipped"]] == ["never"]
    shown = set(find_pictures(read_board(target), target).values())
    assert {"good/panel/0.png", "later/panel/0.png"} <= shown


@pytest.mark.slow
def test_error_maps_of_an_earlier_copy_are_removed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "published"
    old = target / "good" / "panel" / "0.error.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(PNG)
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    assert not old.exists() and old.with_name("0.png").is_file()


@pytest.mark.slow
def test_pictures_that_may_not_be_shown_are_not_published(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "published"
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    assert all((target / name).is_file() for name in PICTURES)
    said = json.loads((folder / "suite.json").read_text())
    (folder / "suite.json").write_text(json.dumps({**said, "show_images": False}))
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 0
    assert not list(target.rglob("*.png"))
    assert json.loads((target / "suite.json").read_text())["panel"] == []
    assert all((folder / name).is_file() for name in PICTURES)  # they stay where they were made


@pytest.mark.parametrize("name", ["../vtbench", "/etc", "a/b", "..", "con", "suite.json", "x" * 81])
def test_a_suite_that_names_a_path_is_refused(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rename_suite(folder, name)
    before = sorted(folder.parent.rglob("*"))
    for command in ("publish", "leaderboard"):
        assert main([command, "--results", str(folder)]) == 2
        assert "suite.json: name: " in capsys.readouterr().err
    assert main(["validate", str(folder)]) == 2
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../good", "good@evil", "good@", "good@bf16+<b>", "Good", "leaderboard.md", "nul.x"]
)
def test_a_run_that_is_no_name_is_refused(
    folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "good" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run": name}))
    assert main(["publish", "--results", str(folder), "--to", str(tmp_path / "published")]) == 2
    assert "run.json: run: " in capsys.readouterr().err
    assert not (tmp_path / "published").exists()
    # A board is made without it.
    assert main(["leaderboard", "--results", str(folder)]) == 1
    assert "run.json: run: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PICTURES, "good/run.json", "good/images.parquet", "suite.json"])
def test_a_linked_file_is_not_copied(
    folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((folder / name).read_bytes())
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    target = tmp_path / "carried"
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert not target.exists()
    # A board takes no pictures along, and is made without a run that cannot be read.
    code = main(["leaderboard", "--results", str(folder), "--out", str(target)])
    assert code == 0 if name in PICTURES else code in (1, 2)
    assert not (target / name).exists()


@pytest.mark.slow
def test_a_linked_folder_is_not_copied(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "good" / "panel").rename(tmp_path / "elsewhere")
    (folder / "good" / "panel").symlink_to(tmp_path / "elsewhere")
    assert main(["publish", "--results", str(folder), "--to", str(tmp_path / "published")]) == 2
    assert "good/panel: a symbolic link" in capsys.readouterr().err


@pytest.mark.slow
def test_a_target_behind_a_link_is_not_written(folder: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "published", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "good").symlink_to(elsewhere)
    assert main(["publish", "--results", str(folder), "--to", str(target)]) == 2
    assert not list(elsewhere.iterdir())


def test_a_picture_that_is_none_is_not_published(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "good/panel/0.png").write_text("root:x:0:0")
    assert main(["publish", "--results", str(folder), "--to", str(tmp_path / "published")]) == 2
    assert "good/panel/0.png: " in capsys.readouterr().err
    assert not (tmp_path / "published").exists()
