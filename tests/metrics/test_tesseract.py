"""Tesseract as a program: the same reading whatever else is in the call, bounded, refused by name."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from vtbench.base.errors import MetricError, WeightsMismatch, WeightsMissing
from vtbench.base.locations import data_dir
from vtbench.images import RGB8, load_rgb8
from vtbench.metrics.ocr import open_reader, tesseract
from vtbench.metrics.ocr.reader import SCRIPTS, read_known_lines
from vtbench.metrics.ocr.tesseract import LANGUAGES, TesseractReader
from vtbench.metrics.text import score_lines
from vtbench.weights.metrics import find_metric_weights

PAGES = {
    row["id"]: row
    for row in map(
        json.loads,
        (data_dir() / "manifests" / "text-multilingual.jsonl").read_text("utf-8").splitlines(),
    )
}


@pytest.fixture(scope="module")
def reader() -> TesseractReader:
    try:
        opened = open_reader("tesseract", scripts=SCRIPTS)
    except WeightsMissing as error:
        pytest.skip(f"Debian's tesseract-ocr of .ci/packages is not installed: {error}")
    assert isinstance(opened, TesseractReader)
    return opened


def load_page(name: str) -> tuple[RGB8, list[dict[str, object]]]:
    row = PAGES[name]
    return load_rgb8(data_dir() / row["file"]), row["meta"]["lines"]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_read_at_20_px(reader: TesseractReader, script: str) -> None:
    page, lines = load_page(f"text-{script}-20")
    read = read_known_lines(reader, page, lines, script=script)
    assert read is not None
    truth = [str(line["text"]) for line in lines]
    has_words = script not in ("chinese", "japanese")
    scores = score_lines(truth, read, has_words=has_words)
    # Measured: 0 to 3 %. Another model, an unshaped font or a lost line is far above 6 %.
    assert scores.char_edits / scores.chars <= 0.06


@pytest.mark.slow
def test_a_reading_does_not_depend_on_its_neighbours(reader: TesseractReader) -> None:
    page, lines = load_page("text-latin-08")
    boxes = [line["box"] for line in lines]
    nothing = [[500, 5], [520, 5], [520, 9], [500, 9]]  # outside of the page
    together = reader.read_lines(page, [nothing, *boxes], script="latin")
    assert together[0] == ""
    assert together[1:] == [reader.read_lines(page, [box], script="latin")[0] for box in boxes]
    assert reader.read_lines(page, boxes[::-1], script="latin") == together[:0:-1]


@pytest.mark.slow
def test_pages_and_nothing(reader: TesseractReader) -> None:
    page, lines = load_page("text-latin-24")
    assert str(lines[0]["text"]) in reader.read_page(page, script="latin")
    blank: RGB8 = np.full((64, 64, 3), 255, dtype=np.uint8)
    assert reader.read_page(blank, script="latin") == []
    whole = [[0, 0], [64, 0], [64, 64], [0, 64]]
    assert reader.read_lines(blank, [whole, whole], script="latin") == ["", ""]
    assert reader.read_lines(blank, [], script="latin") == []


def test_it_says_what_it_is(reader: TesseractReader) -> None:
    assert reader.identity["engine"] == "tesseract"
    assert reader.identity["tesseract"].startswith("5.")
    assert {f"{name}.traineddata" for name in LANGUAGES.values()} <= set(reader.identity)
    one = open_reader("tesseract", scripts={"greek", "klingon"})
    assert [key for key in one.identity if key.endswith("data")] == ["Greek.traineddata"]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program in the place of tesseract, and data of its names."""
    data = tmp_path / "weights" / "tesseract"
    data.mkdir(parents=True)
    for name in LANGUAGES.values():
        (data / f"{name}.traineddata").write_bytes(b"")
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(tesseract, "check_metric_weights", lambda *_: {})
    program = tmp_path / "tesseract"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return program


def write_program(path: Path, script: str) -> None:
    path.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'tesseract 5.9' && exit\n{script}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sleep 9", "took more than 0.3 s$"),
        pytest.param(
            "while :; do :; done", "took more than 1 s of processor time", marks=pytest.mark.slow
        ),
        ("echo 'cannot read' >&2; exit 3", "ended with 3: cannot read"),
        ("printf 'a\\fb\\n'", "read 2 of 1 images"),
    ],
)
def test_a_program_that_fails_is_the_image_s_failure(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    write_program(stand_in, script)
    reader = open_reader("tesseract", scripts={"latin"})
    monkeypatch.setattr(tesseract, "CPU_SECONDS", 1)
    monkeypatch.setattr(tesseract, "WALL_SECONDS", 0.3 if "sleep" in script else 60)
    page: RGB8 = np.arange(1200, dtype=np.uint8).reshape(20, 20, 3)
    with pytest.raises(MetricError, match=words):
        reader.read_lines(page, [[[0, 0], [9, 0], [9, 9], [0, 9]]], script="latin")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "tesseract"
    folder.mkdir()
    for name in LANGUAGES.values():
        (folder / f"{name}.traineddata").write_bytes(b"other data")
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMismatch, match="another file or a damaged one"):
        open_reader("tesseract", scripts={"latin"})
    monkeypatch.setattr(tesseract, "check_metric_weights", lambda *_: {})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsMissing, match="apt-get install tesseract-ocr"):
        open_reader("tesseract", scripts={"latin"})
    monkeypatch.setenv("TESSDATA_PREFIX", str(folder))
    monkeypatch.delenv("VTBENCH_WEIGHTS")
    assert find_metric_weights("tesseract").path == folder
