"""The published rows of text-multilingual@1: at one rate, PSNR and reading prefer others."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vtbench.base.locations import published_dir
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.comparison import compare_runs
from vtbench.registry.entries import load_registry
from vtbench.suites.suites import load_suite

FOLDER = published_dir("text-multilingual")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "text_and_psnr.py"
READ, SHARP = "ref-dito-f8", "patch-pca-f16c16"
"""Two learned tokenizers of 65,536 bits for a 256×256 image: one read better, one of higher PSNR."""


def load_script() -> ModuleType:
    """Return the benchmark as a module."""
    spec = importlib.util.spec_from_file_location("text_and_psnr", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["text_and_psnr"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_text_and_psnr_rank_two_tokenizers_of_one_rate_differently() -> None:
    script = load_script()
    cer, psnr, bpp = script.compare_text(READ, SHARP)
    # Intervals of the paired differences on the same 116 pages leave zero out.
    assert cer.first < cer.second and cer.high < 0
    assert psnr.first < psnr.second and psnr.high < 0
    # On small pages a grid of 16 px is padded further: the better reader spends the fewer bits.
    assert bpp.high < 0
    page = (Path(__file__).parents[1] / "docs" / "reading" / "disagreement.md").read_text("utf-8")
    for own, digits in ((cer, 4), (psnr, 2)):
        differences = (own.first - own.second, own.low, own.high)
        intervals = (*own.own[0], *own.own[1], *own.within[0], *own.within[1])
        for value in (own.first, own.second, *differences, *intervals):
            assert f"{abs(value):.{digits}f}" in page
        # The page says so: within pages they are apart, alone they overlap.
        assert script.are_apart(own.within) and not script.are_apart(own.own)
    # The board says the same of reading.
    (found,) = compare_runs(FOLDER, [READ, SHARP], ("text.cer",)).differences
    assert found.verdict == "first"
    assert found.difference == pytest.approx(cer.first - cer.second, abs=1e-12)
    registry = load_registry()
    bits = {
        name: (256 // (registry[name].downsample or 1)) ** 2 * (registry[name].latent_channels or 0)
        for name in (READ, SHARP)
    }
    assert len(set(bits.values())) == 1


def test_intervals_within_pages_are_moreys() -> None:
    # Of 400 normal pairs: pages' means taken out, standard errors widened by √2 (Morey 2008, eq. 2).
    draw = np.random.default_rng(0)
    pages = draw.normal(0, 5, 400)
    both = np.stack([pages + draw.normal(0, 1, 400), pages + draw.normal(0.5, 1, 400)])
    centred = both - both.mean(axis=0) + both.mean()
    widths = 1.96 * math.sqrt(2) * centred.std(axis=1, ddof=1) / math.sqrt(400)
    first, second = map(float, both.mean(axis=1))
    half = 1.96 * float((both[0] - both[1]).std(ddof=1)) / math.sqrt(400)
    found = load_script().find_within(first, second, first - second - half, first - second + half)
    for (low, high), mean, width in zip(found, (first, second), widths, strict=True):
        assert (low, high) == pytest.approx((mean - width, mean + width), abs=1e-9)


@pytest.mark.slow
def test_runs_are_complete_and_of_this_suite() -> None:
    suite, board = load_suite("text-multilingual"), read_board(FOLDER)
    assert board.suite.sha256 == suite.sha256
    cells = {line.name: line.cells["text.cer"] for line in board.complete}
    cer, _, _ = load_script().compare_text(READ, SHARP)
    assert cer.own == tuple((cells[name].low, cells[name].high) for name in (READ, SHARP))
    assert {READ, SHARP, "identity"} <= {line.name for line in board.complete}
    for line in board.lines:
        assert line.problem is None and line.record.environment.dirty is False
        assert line.run is not None and len(line.run.rows) == len(suite.samples)
