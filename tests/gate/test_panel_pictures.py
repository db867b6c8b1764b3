"""A run's panel pictures against its rows, and the error maps that older runs have."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vtbench.base.locations import published_dir
from vtbench.commands.audit.case import Case
from vtbench.commands.audit.pictures import audit_panel, load_originals
from vtbench.images import RGB8, encode_png, error_map, load_rgb8, pixel_sha256
from vtbench.results.folder import read_run, read_suite_folder

PUBLISHED = published_dir("embedded")


@pytest.fixture(scope="module")
def originals() -> dict[int, RGB8]:
    """Return the published originals by their numbers."""
    suite = read_suite_folder(PUBLISHED)
    shown = [picture for _, picture in load_originals(PUBLISHED, suite, None)]
    return {n: picture for n, picture in enumerate(shown) if picture is not None}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Return a copy of a published run."""
    shutil.copytree(PUBLISHED / "jpeg-q25", tmp_path / "jpeg-q25")
    run = read_run(tmp_path / "jpeg-q25")
    return Case(run, read_suite_folder(PUBLISHED), None, None, published=True)


def test_error_maps_of_an_older_run_are_checked(case: Case, originals: dict[int, RGB8]) -> None:
    panel = case.run.folder / "panel"
    assert list(audit_panel(case, originals)) == []
    errors = error_map(originals[0], load_rgb8(panel / "0.png"))
    (panel / "0.error.png").write_bytes(encode_png(errors))
    assert list(audit_panel(case, originals)) == []
    (panel / "0.error.png").write_bytes(encode_png(np.flip(errors, 0).copy()))
    assert list(audit_panel(case, originals)) == ["panel/0.error.png: is not the picture's error"]


def test_a_whole_picture_has_the_hash_of_its_row(case: Case, originals: dict[int, RGB8]) -> None:
    picture = load_rgb8(case.run.folder / "panel" / "0.png")
    item = case.folder.panel[0]
    size = {"width": item.width, "height": item.height}
    error = (originals[item.n].astype(float) - picture) ** 2
    large = {**size, "mse": 2 * error.mean()}

    def audit(sha256: str) -> list[str]:
        own = {**large, "reconstruction_sha256": sha256}
        rows = [{**row, **own} if row["id"] == item.id else row for row in case.run.rows]
        return list(audit_panel(replace(case, run=case.run.with_rows(rows)), originals))

    assert audit(pixel_sha256(picture)) == []
    (told,) = audit(pixel_sha256(originals[0]))
    assert told == "panel/0.png: is not the reconstruction whose hash its row has"
