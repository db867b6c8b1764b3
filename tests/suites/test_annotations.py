"""TokBench's and OmniDoc-TokenBench's pictures as suites: what is attached, refused and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from vtbench.base.errors import SuiteError
from vtbench.base.padding import pad_to_square
from vtbench.images import RGB8, load_rgb8
from vtbench.leaderboard.pools import pool_tokbench
from vtbench.metrics import text_pages
from vtbench.metrics.ocr import open_reader
from vtbench.metrics.text_pages import OmniDocMeter, TokBenchMeter
from vtbench.metrics.text_protocols import TokBenchWord, score_tokbench
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import attach_data, load_suite

WORDS = ("harbour", "Velvet", "5.40")


def draw_words(folder: Path, name: str, size: int) -> dict[str, Any]:
    """Draw a picture of words and return its annotation as TokBench writes it."""
    page = Image.new("RGB", (12 * size, 8 * size), (240, 240, 240))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=size)
    words = []
    for row, word in enumerate(WORDS):
        place = (size, size + 2 * row * size)
        draw.text(place, word, font=font, fill=(10, 10, 60))
        left, top, right, bottom = draw.textbbox(place, word, font=font)
        box = [left - 4.5, top - 4.5, right + 4.5, bottom + 4.5]
        ratio = (bottom - top) / max(page.size)
        words.append({"bbox": box, "rec": word, "ratio": ratio, "more": 1})
    folder.mkdir(parents=True, exist_ok=True)
    page.save(folder / name)
    return {
        "file_name": name,
        "width": page.width,
        "height": page.height,
        "annotations": words,
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    pictures = tmp_path / "images" / "text_data"
    sets = {
        "ic13": [draw_words(pictures / "ic13", "img_1.jpg", 40)],
        "cord": [draw_words(pictures / "cord", f"{n}.png", 40 + n) for n in (0, 1)],
    }
    sets["cord"].append({**sets["cord"][0], "file_name": "9.png", "annotations": []})
    draw_words(pictures / "cord", "9.png", 24)  # without words: none of TokBench's
    draw_words(tmp_path / "images" / "face_data", "other.png", 24)
    (tmp_path / "annotations").mkdir()
    for name, own in sets.items():
        path = tmp_path / "annotations" / f"text_{name}.json"
        path.write_text(json.dumps(own), encoding="utf-8")
    return tmp_path


def test_tokbench_is_attached_with_its_words(copy: Path) -> None:
    suite = load_suite("tokbench-512")
    assert suite.images_per_task() == {}  # nobody states how many there are
    attached = attach_data(suite, {"tokbench": copy})
    names = [(sample.subset, sample.id) for sample in attached.samples]
    assert names == [
        ("cord", "cord-0.png"),
        ("cord", "cord-1.png"),
        ("ic13", "ic13-img_1.jpg"),
    ]
    sample = attached.samples[0]
    assert [word["text"] for word in sample.meta["tokbench"]] == list(WORDS)
    square = load_pixels(sample)
    assert np.array_equal(square, pad_to_square(load_rgb8(sample.path), 512)[0])
    assert attached.scripts() == {"latin"}


def test_other_annotations_are_refused_by_name(copy: Path) -> None:
    suite, path = load_suite("tokbench-256"), copy / "annotations" / "text_ic13.json"
    path.write_text('[{"file_name": "gone.jpg", "width": 4, "height": 4, "annotations": []}]')
    with pytest.raises(SuiteError, match=r"gone\.jpg is not among the pictures"):
        attach_data(suite, {"tokbench": copy})
    path.write_text('[{"file_name": "img_1.jpg", "width": 0, "height": 4, "annotations": []}]')
    with pytest.raises(SuiteError, match=r"text_ic13\.json: 0\.width"):
        attach_data(suite, {"tokbench": copy})
    for file in (copy / "annotations").iterdir():
        file.unlink()
    with pytest.raises(SuiteError, match="no annotations"):
        attach_data(suite, {"tokbench": copy})


@pytest.mark.slow
def test_tokbench_is_measured_as_its_protocol_says(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipeline with RapidOCR in PARSeq's place, whose weights are not to be had here.
    asked: list[RGB8] = []
    reader = open_reader("rapidocr", scripts={"latin"})

    class Watched:
        identity = reader.identity

        def read_lines(self, image: RGB8, boxes: Any, *, script: str) -> list[str]:
            asked.append(image)
            assert all(float(x).is_integer() for box in boxes for corner in box for x in corner)
            return reader.read_lines(image, boxes, script=script)

    monkeypatch.setattr(text_pages, "open_reader", lambda *_, **__: Watched())
    suite = attach_data(load_suite("tokbench-512"), {"tokbench": copy})
    meter = TokBenchMeter("doctr-parseq", device="cpu", scripts=())
    rows = []
    for sample in suite.samples:
        square = torch.from_numpy(load_pixels(sample).transpose(2, 0, 1).copy())[None]
        rows += [{"width": 512, **row} for row in meter([sample], square, square)]
        assert list(asked[-1].shape[1::-1]) == sample.meta["size"]  # back to its own size
    words = [
        TokBenchWord(word["text"], word["text"], word["ratio"])
        for sample in suite.samples
        for word in sample.meta["tokbench"]
    ]
    # At 512 px the drawn words are all read; ratios are .06 and more, so two buckets are empty.
    assert score_tokbench(words, side=512).t_acc is None
    assert [row["word_exact"] for row in rows] == [[1.0, 1.0, 1.0]] * 3
    assert pool_tokbench("word_exact")(SimpleNamespace(rows=rows)) is None
    spread = [{**row, "word_ratio": [0.015, 0.025, 0.5]} for row in rows]
    spread[0]["word_exact"] = [0.0, 1.0, 1.0]
    pooled = pool_tokbench("word_exact")(SimpleNamespace(rows=spread))
    assert pooled is not None and pooled.n == 3
    assert pooled.value == pytest.approx((2 / 3 + 1 + 1) / 3)
    nothing = replace(suite.samples[0], meta={})
    assert meter([nothing], square, square) == [{}]


@pytest.mark.slow
def test_omnidoc_compares_two_readings(copy: Path) -> None:
    suite = load_suite("omnidoc-tokenbench")
    assert suite.images_per_task() == {"text": 3042}
    meter = OmniDocMeter("rapidocr", device="cpu", scripts=())
    page = load_rgb8(copy / "images" / "text_data" / "cord" / "0.png")
    original = torch.from_numpy(page.transpose(2, 0, 1).copy())[None]
    sample = attach_data(load_suite("tokbench-256"), {"tokbench": copy}).samples[0]
    assert meter([sample], original, original) == [{"omnidoc_ned": 1.0}]
    blank = torch.full_like(original, 240)
    assert meter([sample], original, blank) == [{"omnidoc_ned": 0.0}]
    # An original without any text says nothing.
    assert meter([sample], blank, original) == [{"omnidoc_ned": None}]
