"""`vtbench compare A B --worst N`: the images that decide, as a table and as strips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vtbench.base.errors import ResultsError, UnknownName
from vtbench.cli import main
from vtbench.commands.worst import find_deciding


@pytest.fixture
def folder(write_suite, write_run, rows):
    """Return two runs that differ by 5 dB on one image, by 1 on another, and by one page of text."""
    folder = write_suite()
    write_run(folder, "a")
    own = rows()
    own[0] = own[0] | {"psnr_db": own[0]["psnr_db"] - 5}
    own[1] = own[1] | {"psnr_db": own[1]["psnr_db"] + 1}
    own[-1] = own[-1] | {"char_edits": own[-1]["char_edits"] + 30}
    write_run(folder, "b", own)
    return folder


def test_the_largest_difference_comes_first_and_says_who_is_better(folder, rows):
    one, two = find_deciding(folder, ("a", "b"), "psnr_db", 2)
    assert (one.image, one.gain) == (rows()[0]["id"], -5)
    assert (two.image, two.gain) == (rows()[1]["id"], 1)
    (page,) = find_deciding(folder, ("b", "a"), "text.cer", 1)
    assert page.image == rows()[-1]["id"] and page.gain == pytest.approx(30 / 300)


def test_wrong_names_are_said(folder):
    with pytest.raises(UnknownName, match="psnr_db"):
        find_deciding(folder, ("a", "b"), "psnr", 2)
    with pytest.raises(UnknownName, match="run"):
        find_deciding(folder, ("a", "c"), "psnr_db", 2)
    with pytest.raises(ResultsError, match="two"):
        find_deciding(folder, ("a",), "psnr_db", 2)


@pytest.mark.slow
def test_strips_are_drawn_of_the_published_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no local results: the published ones
    out = Path("strips.png")
    command = ["compare", "jpeg-q50", "jpeg-q10", "--worst", "2", "--json", "--out", str(out)]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 2 and all(one["gain"] < 0 for one in found)
    with Image.open(out) as picture:
        assert picture.width > 3 * 64 and picture.height > 4 * 64
    assert main(["compare", "jpeg-q50", "jpeg-q10", "--out", str(out)]) == 2
