"""`vtbench strips`: the original's pixels first, each tokenizer's below, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vtbench.cli import main
from vtbench.commands.strips import GAP_PX, TEXT_PX, parse_place
from vtbench.images import load_rgb8
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite

PLACE = "text-latin-12:8,8,96,24"


@pytest.mark.slow
def test_strips_show_the_same_place_original_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "strip.png"
    asked = ["strips", "--at", PLACE, "--at", "text-greek-12:8,8,40,20", "--out", str(out)]
    assert main([*asked, "-t", "identity,jpeg-q10", "--scale", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "identity · 24.000 bpp · 100.00 dB" and told[1].startswith("jpeg-q10 · ")
    assert told[2] == str(out)
    picture = load_rgb8(out)
    suite = {sample.id: sample for sample in load_suite("text-multilingual").samples}
    part = load_pixels(suite["text-latin-12"])[8:32, 8:104].repeat(2, axis=0).repeat(2, axis=1)
    step = 48 + TEXT_PX + GAP_PX
    rows = [picture[GAP_PX + TEXT_PX + n * step :][:48, GAP_PX:][:, :192] for n in range(3)]
    assert np.array_equal(rows[0], part) and np.array_equal(rows[1], part)
    assert not np.array_equal(rows[2], part) and abs(rows[2].mean() - part.mean()) < 10
    # The second part stands beside the first.
    beside = load_pixels(suite["text-greek-12"])[8:28, 8:48].repeat(2, axis=0).repeat(2, axis=1)
    left = 2 * GAP_PX + 192
    assert np.array_equal(picture[GAP_PX + TEXT_PX :][:40, left : left + 80], beside)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("text-latin-12:0,0,9000,9", "leaves the"),
        ("text-latin-12:0,0,9", "expected IMAGE:LEFT,TOP,WIDTH,HEIGHT"),
        ("text-latin-12:0,0,0,9", "a part of no size"),
        ("text-latin-99:0,0,9,9", "text-latin-99"),
    ],
)
def test_a_place_that_is_none_is_refused(
    place: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "strip.png"
    assert main(["strips", "--at", place, "-t", "identity", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("vtbench: ") and not out.exists()


def test_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "strip.jpg")
    assert main(["strips", "--at", PLACE, "-t", "identity", "--out", out]) == 2
    assert "expected a .png file" in capsys.readouterr().err
    assert parse_place("a:b:1,2,3,4").image == "a:b"
