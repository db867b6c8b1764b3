"""What each engine that works offline reads of the originals of text-multilingual, of 20 px and more."""

from __future__ import annotations

from functools import cache

import pytest

from vtbench.base.errors import WeightsMissing
from vtbench.images import load_rgb8
from vtbench.leaderboard.legibility import LARGE_PX
from vtbench.metrics.legibility import CER_LIMIT
from vtbench.metrics.ocr import open_reader
from vtbench.metrics.ocr.reader import (
    SCRIPTS,
    SCRIPTS_WITHOUT_SPACES,
    LineReader,
    read_known_lines,
)
from vtbench.metrics.text import score_lines
from vtbench.suites.suites import load_suite

WELL_READ = 0.02


@cache
def open_engine(engine: str) -> LineReader:
    try:
        return open_reader(engine, scripts=SCRIPTS)
    except WeightsMissing as error:
        pytest.skip(f"{engine} is not installed: {error}")


def measure_originals(engine: str, script: str) -> float | None:
    """Return the engine's CER on the plain originals of LARGE_PX and more; None where it cannot read."""
    truth, read = [], []
    for sample in load_suite("text-multilingual").samples:
        meta = sample.meta
        if (meta["script"], meta["condition"]) != (script, "plain") or meta["glyph_px"] < LARGE_PX:
            continue
        own = read_known_lines(
            open_engine(engine), load_rgb8(sample.path), meta["lines"], script=script
        )
        if own is None:
            return None
        truth += [line["text"] for line in meta["lines"]]
        read += own
    scores = score_lines(truth, read, has_words=script not in SCRIPTS_WITHOUT_SPACES)
    return scores.char_edits / scores.chars


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("engine", ["rapidocr", "tesseract"])
def test_large_originals_are_read_or_not_applicable(engine: str, script: str) -> None:
    cer = measure_originals(engine, script)
    print(f"{engine}, {script}: {'not applicable' if cer is None else f'CER {100 * cer:.1f} %'}")
    if script not in open_engine(engine).scripts:
        assert cer is None  # never an error of 100 %
        return
    limit = WELL_READ if script in ("latin", "chinese") else CER_LIMIT
    assert cer is not None and cer <= limit


@pytest.mark.slow
def test_two_engines_read_latin_and_chinese_and_one_reads_every_script() -> None:
    readers = [open_engine(engine) for engine in ("rapidocr", "tesseract")]
    for reader in readers:
        assert {"latin", "chinese"} <= reader.scripts
    assert readers[1].scripts == frozenset(SCRIPTS)
