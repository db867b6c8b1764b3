"""The generator of text-multilingual: scripts are shaped, boxes hold their ink, pages come out again."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from vtbench.base.locations import data_dir
from vtbench.images import load_rgb8, pixel_sha256
from vtbench.suites.suites import load_suite


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    pytest.importorskip("regex", reason="regex is not installed")
    if not features.check("raqm"):
        pytest.skip("libfribidi0 of .ci/packages is not installed: Pillow cannot shape text")
    path = data_dir() / "text-multilingual" / "make_pages.py"
    spec = importlib.util.spec_from_file_location("make_pages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_pages"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    needed = {font for script in module.SCRIPTS.values() for font in script.fonts}
    if lacking := [font for font in needed if not any(module.FONTS.rglob(font))]:
        pytest.skip(f"fonts-noto-* of .ci/packages are not installed: no {lacking[0]}")
    return module


def ink(pages: ModuleType, text: str, font: str, **how: Any) -> np.ndarray[Any, Any]:
    opened = pages.load_font(*pages.find_font(font, None), 64)
    mask = opened.getmask(text, **how)
    return np.array(mask).reshape(mask.size[::-1])


def test_arabic_letters_join_and_run_from_the_right(pages: ModuleType) -> None:
    font = "NotoNaskhArabic-Regular.ttf"
    word = ink(pages, "بيت", font, direction="rtl", language="ar")
    alone = sum(ink(pages, letter, font, direction="rtl").shape[1] for letter in "بيت")
    assert word.shape[1] < 0.8 * alone  # isolated forms are wider
    # Joined: there is ink in every column. Isolated letters leave gaps.
    columns = np.flatnonzero(word.max(axis=0))
    assert len(columns) == columns[-1] - columns[0] + 1
    path, face = pages.find_font(font, None)
    basic = ImageFont.truetype(str(path), 64, index=face, layout_engine=ImageFont.Layout.BASIC)
    unshaped = basic.getmask("بيت")
    assert unshaped.size[0] > 1.2 * word.shape[1]
    # lam and alef are one glyph.
    pair = ink(pages, "لا", font, direction="rtl", language="ar").shape[1]
    assert pair < ink(pages, "ل", font, direction="rtl").shape[1] * 1.2


def test_devanagari_forms_conjuncts_and_moves_its_vowels(pages: ModuleType) -> None:
    font = "NotoSansDevanagari-Regular.ttf"
    conjunct = ink(pages, "क्ष", font, language="hi").shape[1]
    apart = ink(pages, "क", font).shape[1] + ink(pages, "ष", font).shape[1]
    assert conjunct < 0.9 * apart
    # The sign of "i" is written after its consonant and stands before it.
    consonant, syllable = (ink(pages, text, font, language="hi") for text in ("क", "कि"))
    right = syllable[-consonant.shape[0] :, -consonant.shape[1] :]
    same = (np.abs(right.astype(int) - consonant) < 64).mean()
    assert syllable.shape[1] > consonant.shape[1] and same > 0.9


def test_a_box_holds_the_ink_of_its_line_and_words_divide_it(pages: ModuleType) -> None:
    for script in pages.SCRIPTS:
        rng = random.Random(7)
        lines = pages.fill_page(script, 20, pages.SCRIPTS[script].fonts[0], rng)
        placed, bottom = pages.place_column(
            lines, script, left=9, top=9, width=700, align="start", leading=0.25
        )
        page = pages.draw_page(placed, script, pages.Style("plain"), width=720, height=bottom + 9)
        dark = np.array(page)[..., 0] < 128
        for own in placed:
            left, top, right, low = map(round, own.box)
            assert dark[top:low, left:right].any()
            dark[top:low, left:right] = False
            if own.words:
                edges = [box[0] for _, box in own.words] + [own.words[-1][1][2]]
                assert edges == sorted(edges) and edges[0] == own.box[0]
        assert not dark.any(), script  # no ink outside of the boxes


def test_the_sample_glyph_has_the_height_that_is_stated(pages: ModuleType) -> None:
    for script, how in pages.SCRIPTS.items():
        for glyph in (6, 20, 48):
            font = pages.fit_font(how.fonts[0], script, glyph)
            # Hinting leaves out heights: of Noto Sans CJK at 20 px both neighbours of 22.
            assert abs(pages.measure_ink(font, how.sample) - glyph) <= 2


@pytest.mark.parametrize("script", ["latin", "arabic", "chinese"])
def test_a_committed_page_comes_out_again(pages: ModuleType, script: str, tmp_path: Path) -> None:
    if (Image.__version__, features.version("freetype2")) != ("13.0.0", "2.14.3"):
        pytest.skip("the pages were drawn by Pillow 13.0.0 with FreeType 2.14.3")
    glyph, places = 16, pages.HEIGHTS.index(16)
    number, how = list(pages.SCRIPTS).index(script), pages.SCRIPTS[script]
    lines = pages.fill_page(
        script,
        glyph,
        how.fonts[(places + number) % len(how.fonts)],
        random.Random(f"{pages.VERSION}/{script}/{glyph}"),
    )
    committed = {sample.id: sample for sample in load_suite("text-multilingual").samples}
    sample = committed[f"text-{script}-{glyph}"]
    align = "end" if how.rtl else "start"
    placed, _ = pages.place_column(
        lines, script, left=9, top=9, width=sample.width - 18, align=align, leading=0.25
    )
    page = pages.draw_page(
        placed, script, pages.Style("plain"), width=sample.width, height=sample.height
    )
    assert pixel_sha256(np.array(page)) == sample.sha256 == pixel_sha256(load_rgb8(sample.path))
    assert [line.line.text for line in placed] == [x["text"] for x in sample.meta["lines"]]
