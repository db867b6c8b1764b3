"""What the readings of known lines say: by script and glyph height, down to which height text is read,
and whether an engine reads or mends. numpy and rapidfuzz; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vtbench.base.statistics import LEVEL, MIN_UNITS, Bootstrap
from vtbench.metrics.ocr.reader import SCRIPTS_WITHOUT_SPACES
from vtbench.metrics.text import LineScores, count_lost, normalize_text, score_lines

Floats = NDArray[np.float64]

CER_LIMIT = 0.05
"""Text with more errors is not called legible, and a script that an engine reads worse on the originals
is not published for it."""

MENDABLE, RANDOM = "sentence", "random"
"""Kinds of lines: one that a language model could mend, and one that it could not."""

MIN_LOST = 10
"""Fewer lost glyphs of random strings say nothing of mending."""


@dataclass(frozen=True)
class LineReading:
    """One line of known text as an engine read it.

    Attributes:
        page: the image.
        script, kind: as in the manifest.
        glyph_px: height of the script's sample glyph in pixels.
        truth: what stands there.
        original: the reading of the original.
        reading: the reading of the reconstruction.
    """

    page: str
    script: str
    kind: str
    glyph_px: float
    truth: str
    original: str
    reading: str

    @property
    def has_words(self) -> bool:
        """Whether words are separated in this script."""
        return self.script not in SCRIPTS_WITHOUT_SPACES

    def count_lost(self) -> tuple[int, int, int]:
        """Return how many glyphs were readable on the original, were not, and were lost."""
        return count_lost(self.truth, self.original, self.reading, has_words=self.has_words)


@dataclass(frozen=True)
class Legibility:
    """Scores of a group of lines.

    Attributes:
        scores: of the reconstruction against the true text: all glyphs.
        original: of the original against the true text: the engine's own errors.
        readable: glyphs that the engine read on the original.
        unreadable: glyphs that it did not: they count in `scores` alone.
        lost: readable glyphs that it did not read on the reconstruction.
    """

    scores: LineScores
    original: LineScores
    readable: int
    unreadable: int
    lost: int

    @property
    def lost_share(self) -> float | None:
        """Lost glyphs per readable glyph, in [0, 1]; None where the engine read none."""
        return self.lost / self.readable if self.readable else None


def score_readings(lines: Sequence[LineReading]) -> Legibility:
    """Return the scores of lines of one script. Raises ValueError for none, or of several scripts."""
    if len({line.has_words for line in lines}) != 1:
        raise ValueError(f"{len(lines)} lines are not of one script")
    has_words = lines[0].has_words
    truth = [line.truth for line in lines]
    counts = [line.count_lost() for line in lines]
    readable, unreadable, lost = (sum(column) for column in zip(*counts, strict=True))
    return Legibility(
        scores=score_lines(truth, [line.reading for line in lines], has_words=has_words),
        original=score_lines(truth, [line.original for line in lines], has_words=has_words),
        readable=readable,
        unreadable=unreadable,
        lost=lost,
    )


def group_readings(
    lines: Iterable[LineReading], key: Callable[[LineReading], object]
) -> dict[object, list[LineReading]]:
    """Return the lines by what `key` says of each, in the order of first appearance."""
    groups: dict[object, list[LineReading]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups


# The smallest legible height


@dataclass(frozen=True)
class Threshold:
    """The smallest glyph height that is read, in pixels.

    Attributes:
        px: None outside the heights that were measured.
        beyond: "below" where the smallest height is legible, "above" where the largest is not.
        low, high: 95 % interval; −∞ and ∞ stand for below and above what was measured. None where
            there are too few lines.
        heights: the smallest and largest height that was measured.
    """

    px: float | None
    beyond: Literal["below", "above"] | None
    low: float | None
    high: float | None
    heights: tuple[float, float]

    def in_tokens(self, stride: int) -> Threshold:
        """Return the same in glyph height ÷ stride of the code grid, all numbers."""
        px, low, high = (
            None if own is None else own / stride for own in (self.px, self.low, self.high)
        )
        smallest, largest = self.heights
        return Threshold(px, self.beyond, low, high, (smallest / stride, largest / stride))


@dataclass(frozen=True)
class HeightRate:
    """The CER at one glyph height. low, high: 95 % interval, None where there are too few lines."""

    px: float
    cer: float
    low: float | None
    high: float | None


def measure_heights(lines: Sequence[LineReading], *, seed: int) -> list[HeightRate]:
    """Return the CER by glyph height, smallest height first, with intervals of the same bootstrap as
    the threshold's. No lines have no heights."""
    heights = np.array(sorted({line.glyph_px for line in lines}), dtype=np.float64)
    edits, chars = _counts_by_height(lines, heights)
    rates = edits.sum(axis=0) / chars.sum(axis=0)
    if len(lines) < MIN_UNITS:
        return [HeightRate(px, rate, None, None) for px, rate in _pair(heights, rates)]
    strata = [f"{line.glyph_px:08.2f}" for line in lines]
    drawn = np.sort(Bootstrap(strata, seed=seed).ratios(edits, chars), axis=0)
    tail = (1 - LEVEL) / 2
    low = np.maximum(drawn[math.floor(tail * len(drawn))], 0)
    high = drawn[math.ceil((1 - tail) * len(drawn)) - 1]
    return [
        HeightRate(px, rate, float(low[place]), float(high[place]))
        for place, (px, rate) in enumerate(_pair(heights, rates))
    ]


def _pair(heights: Floats, rates: Floats) -> list[tuple[float, float]]:
    return list(zip(heights.tolist(), rates.tolist(), strict=True))


def find_threshold(
    lines: Sequence[LineReading], *, seed: int, limit: float = CER_LIMIT
) -> Threshold:
    """Return the smallest glyph height whose lines are read with a CER of at most `limit`.

    The CER by height is fitted by a curve that never rises with the height (isotonic regression,
    weighted by characters), and the crossing is interpolated over the logarithm of the height. The
    interval is a bootstrap over lines within each height: every line of the suite was drawn by itself.

    Args:
        lines: at least two heights.
        seed: of the bootstrap's draws.
        limit: the CER up to which text counts as legible.

    Raises:
        ValueError: fewer than two heights.
    """
    heights = np.array(sorted({line.glyph_px for line in lines}), dtype=np.float64)
    if len(heights) < 2:
        raise ValueError(f"{len(heights)} glyph height(s) have no threshold")
    edits, chars = _counts_by_height(lines, heights)
    px = _cross(heights, edits.sum(axis=0), chars.sum(axis=0), limit)
    low = high = None
    if len(lines) >= MIN_UNITS:
        strata = [f"{line.glyph_px:08.2f}" for line in lines]
        draws = Bootstrap(strata, seed=seed).totals(np.concatenate([edits, chars], axis=1))
        count = len(heights)
        found = np.sort(
            [_cross(heights, own[:count], own[count:], limit) for own in np.maximum(draws, 0)]
        )
        tail = (1 - LEVEL) / 2
        low = float(found[math.floor(tail * len(found))])
        high = float(found[math.ceil((1 - tail) * len(found)) - 1])
    return Threshold(
        px=px if math.isfinite(px) else None,
        beyond=None if math.isfinite(px) else "below" if px < 0 else "above",
        low=low,
        high=high,
        heights=(float(heights[0]), float(heights[-1])),
    )


def _counts_by_height(lines: Sequence[LineReading], heights: Floats) -> tuple[Floats, Floats]:
    """Return edits and characters, lines×heights, each line in the column of its height."""
    edits, chars = np.zeros((2, len(lines), len(heights)))
    for row, line in enumerate(lines):
        score = score_lines([line.truth], [line.reading], has_words=line.has_words)
        column = int(np.searchsorted(heights, line.glyph_px))
        edits[row, column], chars[row, column] = score.char_edits, score.chars
    return edits, chars


def _cross(heights: Floats, edits: Floats, chars: Floats, limit: float) -> float:
    """Return the height at which the fitted CER falls to the limit; −∞ or ∞ outside of the heights."""
    fitted = fit_falling(edits / chars, chars)
    legible = np.flatnonzero(fitted <= limit)
    if len(legible) == 0:
        return math.inf
    first = int(legible[0])
    if first == 0:
        return -math.inf
    before, after = fitted[first - 1], fitted[first]
    share = (before - limit) / (before - after)
    low, high = math.log(heights[first - 1]), math.log(heights[first])
    return math.exp(low + share * (high - low))


def fit_falling(values: Floats, weights: Floats) -> Floats:
    """Return the sequence that never rises and is nearest to the values by weighted least squares.

    Pool adjacent violators (Barlow et al. 1972).
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


# Reading or mending


@dataclass(frozen=True)
class Repair:
    """Whether readings come from pixels or from the engine's knowledge of language.

    Attributes:
        lost_random: readable glyphs of random strings that were lost, as a share.
        lost_mendable: the same of sentences.
        mended: 1 − lost_mendable ÷ lost_random: 0 where both are read alike, 1 where no glyph of a
            sentence is lost. None with fewer than MIN_LOST lost glyphs of random strings.
        low, high: 95 % interval of `mended`, from lines; None where `mended` is.
    """

    lost_random: float | None
    lost_mendable: float | None
    mended: float | None
    low: float | None = None
    high: float | None = None


def measure_repair(lines: Sequence[LineReading], *, seed: int) -> Repair:
    """Return how much less is lost of sentences than of random strings of the same heights.

    Heights at which only one of the two kinds occurs are left out.
    """
    heights = [
        {line.glyph_px for line in lines if line.kind == kind} for kind in (MENDABLE, RANDOM)
    ]
    common = heights[0] & heights[1]
    used = [x for x in lines if x.glyph_px in common and x.kind in (MENDABLE, RANDOM)]
    counts = np.zeros((len(used), 4))
    for row, line in enumerate(used):
        readable, _, lost = line.count_lost()
        column = 2 * (line.kind == RANDOM)
        counts[row, column : column + 2] = lost, readable
    totals = counts.sum(axis=0)
    mendable = float(totals[0] / totals[1]) if totals[1] else None
    at_random = float(totals[2] / totals[3]) if totals[3] else None
    if mendable is None or at_random is None or totals[2] < MIN_LOST:
        return Repair(at_random, mendable, None)
    mended = 1 - mendable / at_random
    strata = [f"{line.kind} {line.glyph_px:08.2f}" for line in used]
    draws = Bootstrap(strata, seed=seed).totals(counts)
    draws = draws[(draws[:, 1:] > 0).all(axis=1)]
    ratios = np.sort(1 - draws[:, 0] / draws[:, 1] * draws[:, 3] / draws[:, 2])
    tail = (1 - LEVEL) / 2
    low = float(ratios[math.floor(tail * len(ratios))])
    high = float(ratios[math.ceil((1 - tail) * len(ratios)) - 1])
    return Repair(at_random, mendable, mended, low, high)


# Several engines


def measure_agreement(
    readings: Mapping[str, Sequence[str]], *, has_words: bool
) -> dict[tuple[str, str], float | None]:
    """Return how much each two engines agree on the same lines, in [0, 1].

    1 − Σ d ÷ Σ max(length) over the lines, d the Levenshtein distance of both readings over code
    points, normalized as for the CER. None where neither read anything.

    Args:
        readings: of each engine, its reading of every line.
        has_words: whether the lines' script separates words.

    Raises:
        ValueError: the engines did not read the same number of lines.
    """
    from rapidfuzz.distance import Levenshtein

    if len({len(own) for own in readings.values()}) > 1:
        raise ValueError("the engines did not read the same lines")
    agreement: dict[tuple[str, str], float | None] = {}
    for first, second in combinations(sorted(readings), 2):
        distance = length = 0
        for a, b in zip(readings[first], readings[second], strict=True):
            x, y = normalize_text(a, has_words=has_words), normalize_text(b, has_words=has_words)
            distance += Levenshtein.distance(x, y)
            length += max(len(x), len(y))
        agreement[first, second] = 1 - distance / length if length else None
    return agreement
