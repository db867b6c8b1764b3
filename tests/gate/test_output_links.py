"""A folder of results that somebody else made, with symbolic links in it, as `--out`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vtbench.base.errors import OutputError
from vtbench.cli import main
from vtbench.images import encode_png
from vtbench.results.writer import hold_run

PLACES = (
    *("jpeg-q50", "jpeg-q50/panel", "jpeg-q50/panel/0.png", "jpeg-q50/run.json"),
    *("jpeg-q50/images.parquet", "jpeg-q50/reconstructions", "originals", "originals/0.png"),
    *(".jpeg-q50.lock", ".jpeg-q50.partial.jsonl", ".jpeg-q50.panel", ".jpeg-q50.features"),
)


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", PLACES)
def test_no_run_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    link(out / place, elsewhere)
    with (
        pytest.raises(OutputError, match="a symbolic link; it could lead out of"),
        hold_run(out, "jpeg-q50"),
    ):
        pass
    assert list_files(elsewhere) == {"kept": b"kept"}


@pytest.mark.parametrize("name", [".jpeg-q50.partial.jsonl", ".jpeg-q50.lock", "jpeg-q50/run.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_gone_on_from(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    make(place)
    with (
        pytest.raises(OutputError, match="not a regular file"),
        hold_run(tmp_path / "out", "jpeg-q50"),
    ):
        pass


def test_a_linked_folder_of_results_and_other_runs_links_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link(tmp_path / "out", tmp_path / "elsewhere")
    link(tmp_path / "out" / "jpeg-q25", tmp_path / "elsewhere")
    with hold_run(tmp_path / "out", "jpeg-q50"):
        assert (tmp_path / "elsewhere" / ".jpeg-q50.lock").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["jpeg-q50", "jpeg-q50/panel", "originals"])
def test_a_run_writes_nothing_outside(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, out, elsewhere = (tmp_path / name for name in ("pictures", "out", "elsewhere"))
    pictures.mkdir()
    elsewhere.mkdir()
    (pictures / "a.png").write_bytes(encode_png(np.zeros((16, 16, 3), np.uint8)))
    link(out / place, elsewhere)
    assert main(["run", "--images", str(pictures), "-t", "jpeg-q50", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{place}: a symbolic link" in said and said.count("\n") == 1
    assert not list_files(elsewhere)
