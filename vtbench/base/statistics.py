"""Confidence intervals, ranks and paired tests over images. numpy alone.

A number of the board is Σ top ÷ Σ bottom over units (a mean: the values over ones; CER: edits over
characters). A unit is what another lab would draw anew: an image, a page, or a photograph with all
its crops, never a line of a page. Units are drawn within their stratum, since a suite fixes how many
of each subset it holds.

The bytes of a board follow from these functions, so they are the same on every machine: draws come
from the raw stream of PCG64 (which numpy promises to keep, unlike `Generator.integers`), sums are
of integers below 2⁵³ (exact in any order, so BLAS may take its own), and an interval's end is one of
the resampled values, chosen by rank, not interpolated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
"""What an interval is meant to cover. Simulated in tests/test_statistics.py."""

RESAMPLES = 4999
"""Draws of the bootstrap. The tail of 2.5 % is then met within ±0.22 % (standard deviation)."""

MANY_UNITS = 5000
RESAMPLES_OF_MANY = 999
"""More units have fewer draws: ±0.5 % of the tail of an interval that is narrow anyway."""

MIN_UNITS = 8
"""Fewer units give no interval: drawn from five, it covers 91 % and not 95."""

FLIPS = 9999
"""Random sign flips of a test, at least; few units are flipped in every way instead."""

EXACT_UNITS = 16
"""Up to this number of units every way of flipping is taken, and p is exact."""

_CHUNK = 1 << 22  # draws held at once
_AT_ONCE = 1 << 17  # words that are counted at once: they and the counts fit a processor's cache
_KEPT = 1 << 26  # counts that a bootstrap keeps, a byte each or two
_NORMAL = NormalDist()
_ALL_EQUAL = 1e-12  # of the largest value: what rounding leaves of a difference that is none


def sum_exactly(values: Floats) -> float:
    """Return the exact sum of the values, rounded once: `math.fsum`. Integers below 2⁵³ in all are
    exact in any order, so numpy adds them."""
    if len(values) * float(np.abs(values).max(initial=0.0)) < 2**53 and (
        (values == np.rint(values)).all()
    ):
        return float(values.sum())
    return math.fsum(values.tolist())


def seed_of(digest: str) -> int:
    """Return the seed that belongs to a hex digest: a protocol always meets the same draws."""
    return int(digest[:16], 16)


def merge_strata(strata: Sequence[str]) -> NDArray[np.intp]:
    """Return the units' strata as 0, 1, …, none with a single unit unless all are one.

    One unit shows no spread. Singles are merged with each other, and a single that is left over with
    the smallest other stratum: collapsed strata (Cochran 1977, 5A.12), which errs to the wide side.
    """
    counts = Counter(strata)
    singles = {name for name, n in counts.items() if n == 1}
    others = sorted(set(counts) - singles, key=lambda name: (counts[name], name))
    merged = {name: name for name in others}
    together = others[0] if len(singles) == 1 and others else min(singles, default="")
    merged |= dict.fromkeys(singles, together)
    index = {name: place for place, name in enumerate(sorted(set(merged.values())))}
    return np.array([index[merged[name]] for name in strata], dtype=np.intp)


class Bootstrap:
    """Draws of units within strata, the same for every column that is asked of it: what is compared
    is compared on the same draws.

    Each draw takes n − 1 of a stratum's n units with replacement and gives them the weight
    n/(n − 1): of n taken, a small stratum would seem to spread less than it does (Rao & Wu, JASA 83,
    1988; McCarthy & Snowden 1985).
    """

    def __init__(self, strata: Sequence[str], *, seed: int, resamples: int | None = None) -> None:
        """strata: of each unit, two units at least. resamples: None for the usual number."""
        if len(strata) < 2:
            raise ValueError(f"{len(strata)} unit(s) cannot be resampled")
        self.strata = merge_strata(strata)
        self.seed = seed
        usual = RESAMPLES if len(strata) <= MANY_UNITS else RESAMPLES_OF_MANY
        self.resamples = usual if resamples is None else resamples
        self._sizes = np.bincount(self.strata)
        self._members = [np.flatnonzero(self.strata == h) for h in range(len(self._sizes))]
        self._counts: list[NDArray[np.unsignedinteger]] = []

    def totals(self, values: Floats) -> Floats:
        """Return the weighted column sums of every draw, resamples×C, of values units×C; exact up to
        the rounding of the values to 2⁻⁵² of their largest possible sum."""
        size = self._sizes[self.strata][:, None]
        whole, exponents = _to_integers(values * (size / (size - 1)), int(self._sizes.sum()))
        totals = np.empty((self.resamples, values.shape[1]))
        done = 0
        for counts in self._draw():
            np.matmul(counts, whole, out=totals[done : done + len(counts)])
            done += len(counts)
        return np.ldexp(totals, -exponents, out=totals)

    def ratios(self, tops: Floats, bottoms: Floats) -> Floats:
        """Return Σ top ÷ Σ bottom of every draw, resamples×C, of tops and bottoms units×C.

        A draw without any bottom (no page with words) has the ratio of none: NaN.
        """
        columns = tops.shape[1]
        kinds: dict[bytes, int] = {}  # most columns share their bottoms: all ones, the characters
        places = [kinds.setdefault(own.tobytes(), len(kinds)) for own in bottoms.T]
        once = [places.index(kind) for kind in range(len(kinds))]
        totals = self.totals(np.concatenate([tops, bottoms[:, once]], axis=1))
        above, below = totals[:, :columns], totals[:, columns:]
        below = np.where(below > 0, below, np.nan)
        return np.divide(above, below[:, places], out=above)

    def _draw(self) -> Iterator[Floats]:
        """Yield how often each unit was taken, draws×units, in chunks; float64 for the product.

        The counts are kept where they are few enough, since many columns come in several calls.
        """
        if self._counts:
            yield from (counts.astype(np.float64) for counts in self._counts)
            return
        kept = []
        for drawn in self._draw_anew():
            if self.resamples * len(self.strata) <= _KEPT:
                kept.append(drawn.astype(np.min_scalar_type(int(drawn.max()))))
            yield drawn
        self._counts = kept

    def _draw_anew(self) -> Iterator[Floats]:
        raw = np.random.PCG64(self.seed)
        units = len(self.strata)
        step = max(1, _CHUNK // units)
        for start in range(0, self.resamples, step):
            draws = min(step, self.resamples - start)
            counts = np.zeros((draws, units))
            for members in self._members:
                _count_taken(raw, members, counts)
            yield counts


def _count_taken(raw: np.random.PCG64, members: NDArray[np.intp], counts: Floats) -> None:
    """Count in `counts`, draws×units, how often each of n members is taken; a draw takes n − 1."""
    n = len(members)
    most = max(1, _AT_ONCE // n)
    for start in range(0, len(counts), most):
        part = counts[start : start + most]
        # The high half of the raw word, scaled: uniform on 0 … n−1 within 2⁻³²·n.
        words = raw.random_raw(len(part) * (n - 1)).reshape(len(part), n - 1)
        words >>= np.uint64(32)
        words *= np.uint64(n)
        words >>= np.uint64(32)
        words += np.arange(len(part), dtype=np.uint64)[:, None] * np.uint64(n)
        times = np.bincount(words.ravel().view(np.int64), minlength=len(part) * n)
        part[:, members] = times.reshape(len(part), n)


def find_intervals(
    bootstrap: Bootstrap, tops: Floats, bottoms: Floats, ratios: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return the low and high ends of the 95 % intervals of Σ top ÷ Σ bottom, one a column.

    tops and bottoms are units×C, bottoms ≥ 0; ratios those of the draws, if they are there already.
    BCa, the bias-corrected and accelerated percentile
    interval (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, 14.3), its acceleration
    from the influence of each unit within its stratum, and with Student's quantile in the place of
    the normal one (the expanded percentiles of Hesterberg, The American Statistician 69, 2015), its
    degrees of freedom by Satterthwaite over the strata: where three pages make most of the spread,
    there are two degrees of freedom and not twenty. Units that all agree have an interval without
    width.
    """
    drawn = bootstrap.ratios(tops, bottoms) if ratios is None else ratios
    drawn = np.sort(drawn, axis=0)  # NaN goes last
    below = bottoms.sum(axis=0)
    value = tops.sum(axis=0) / below
    influence = tops - value * bottoms
    spread = np.zeros_like(value)
    by_freedom = np.zeros_like(value)
    square, cube = np.zeros_like(value), np.zeros_like(value)
    for h, n in enumerate(np.bincount(bootstrap.strata)):
        own = influence[bootstrap.strata == h]
        own = own - own.mean(axis=0)
        squares = own**2
        of_stratum = squares.sum(axis=0)
        part = of_stratum * n / (n - 1)
        spread += part
        by_freedom += part**2 / (n - 1)
        square += of_stratum
        cube += (squares * own).sum(axis=0)  # `own**3` takes a power, which is slower
    low, high = np.empty_like(value), np.empty_like(value)
    flat = np.sqrt(square) <= _ALL_EQUAL * (np.abs(tops).sum(axis=0) + np.abs(value) * below)
    tie = _ALL_EQUAL * np.abs(value)
    draws = (~np.isnan(drawn)).sum(axis=0)
    under = (drawn < value - tie).sum(axis=0)
    upto = (drawn <= value + tie).sum(axis=0)
    for column in range(len(value)):
        if flat[column]:
            whole = math.fsum(tops[:, column]) / math.fsum(bottoms[:, column])
            low[column] = high[column] = whole
            continue
        n = int(draws[column])
        share = (int(under[column]) + int(upto[column])) / 2 / n
        bias = _NORMAL.inv_cdf(min(max(share, 1 / (n + 1)), n / (n + 1)))
        skew = float(cube[column] / (6 * square[column] ** 1.5))
        reach = student_quantile(float(spread[column] ** 2 / by_freedom[column]))
        low[column] = drawn[_rank(_shift(-reach, bias, skew), n), column]
        high[column] = drawn[_rank(_shift(reach, bias, skew), n), column]
    return low, high


def _shift(z: float, bias: float, skew: float) -> float:
    """Return BCa's share of the draws that lie below the end whose normal quantile is z."""
    scale = 1 - skew * (bias + z)
    if scale <= 0:  # so skewed that this end is beyond every draw
        return 0.0 if z < 0 else 1.0
    return _NORMAL.cdf(bias + (bias + z) / scale)


def _rank(share: float, n: int) -> int:
    """Return the place among n sorted draws below which `share` of them lie."""
    return min(max(math.floor(share * (n + 1)) - 1, 0), n - 1)


def student_quantile(freedom: float, share: float = (1 + LEVEL) / 2) -> float:
    """Return Student's quantile for real degrees of freedom ≥ 1.

    The series of Abramowitz & Stegun 26.7.5: within 0.04 from 2 degrees of freedom, 0.001 from 4.
    """
    z = _NORMAL.inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def share_ranks(ratios: Floats, *, higher_is_better: bool) -> tuple[Floats, Floats]:
    """Return the share of draws in which each of R runs holds each rank, R×R, rank 1 first: by its
    best and by its worst rank, which differ where runs are equal. ratios: draws×R, paired."""
    signed = -ratios if higher_is_better else ratios
    draws, runs = signed.shape
    order = np.argsort(signed, axis=1)
    ordered = np.take_along_axis(signed, order, axis=1)
    # Where in the order a run differs from the one before it; NaN, which comes last, equals NaN.
    first = np.ones((draws, runs + 1), dtype=np.bool_)
    both_nan = np.isnan(ordered[:, 1:]) & np.isnan(ordered[:, :-1])
    first[:, 1:-1] = (ordered[:, 1:] != ordered[:, :-1]) & ~both_nan
    places = np.arange(runs)
    starts = np.maximum.accumulate(np.where(first[:, :-1], places, 0), axis=1)
    ends = np.where(first[:, 1:], places, runs)[:, ::-1]
    ends = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    best, worst = (
        np.bincount((order * runs + rank).ravel(), minlength=runs**2).reshape(runs, runs)
        for rank in (starts, ends)
    )
    return best / draws, worst / draws


def find_rank_intervals(ratios: Floats, *, higher_is_better: bool) -> list[tuple[int, int]]:
    """Return for each run the ranks (1 is best) between which 95 % of the paired draws put it.

    Runs that are equal share all the ranks that they take up together (Goldstein & Spiegelhalter,
    JRSS A 159, 1996).
    """
    best, worst = share_ranks(ratios, higher_is_better=higher_is_better)
    tail = (1 - LEVEL) / 2
    intervals = []
    for of_best, of_worst in zip(np.cumsum(best, axis=1), np.cumsum(worst, axis=1), strict=True):
        first = int(np.argmax(of_best > tail + 1e-9))
        last = int(np.argmax(of_worst >= 1 - tail - 1e-9))
        intervals.append((first + 1, last + 1))
    return intervals


def sign_flip_p(differences: Floats, *, seed: int, tests: int = 1) -> Floats:
    """Return the two-sided p of Σ difference = 0, one a column of differences units×C.

    The paired permutation test (Fisher 1935): were the two runs alike, each unit's difference could
    as well have had the other sign. Every way for up to `EXACT_UNITS` units, else random ones, of
    which the one seen is counted as one (Phipson & Smyth 2010), so p is never 0. tests: how many
    tests share a correction; flips are so many that the smallest p survives it.
    """
    units, columns = differences.shape
    whole, _ = _to_integers(differences, units)
    seen = np.abs(whole.sum(axis=0))
    as_far = np.zeros(columns)
    exact = units <= EXACT_UNITS
    flips = 2**units if exact else max(FLIPS, 100 * tests - 1)
    step = max(1, _CHUNK // max(units, columns))
    raw = np.random.PCG64(seed)
    for start in range(0, flips, step):
        ways = min(step, flips - start)
        if exact:
            turned = np.arange(start, start + ways)[:, None] >> np.arange(units) & 1 == 1
        else:
            words = raw.random_raw(ways * -(-units // 64)).reshape(ways, -1).astype("<u8")
            turned = np.unpackbits(words.view(np.uint8), axis=1)[:, :units] == 1
        as_far += (np.abs(np.where(turned, -1.0, 1.0) @ whole) >= seen).sum(axis=0)
    return as_far / flips if exact else (as_far + 1) / (flips + 1)


def adjust_holm(ps: Sequence[float]) -> list[float]:
    """Return the p values for all tests together, in their order (Holm, Scand. J. Stat. 6, 1979)."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for done, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - done) * ps[place]))
        adjusted[place] = highest
    return adjusted


def standardize_difference(tops: Sequence[float], bottoms: Sequence[float]) -> float | None:
    """Return Σ top ÷ Σ bottom over the standard deviation (n − 1) of top ÷ bottom over the units,
    each with its bottom's weight: Cohen's d_z of paired differences.

    None for fewer than two units, and where they are all the same: there is nothing to measure it in.
    """
    pairs = [(top / bottom, bottom) for top, bottom in zip(tops, bottoms, strict=True) if bottom]
    if len(pairs) < 2:
        return None
    weight = math.fsum(bottom for _, bottom in pairs)
    mean = math.fsum(tops) / weight
    square = math.fsum(bottom * (value - mean) ** 2 for value, bottom in pairs) / weight
    deviation = math.sqrt(square * len(pairs) / (len(pairs) - 1))
    if deviation <= _ALL_EQUAL * max(abs(value) for value, _ in pairs):
        return None
    return mean / deviation


def _to_integers(values: Floats, times: int) -> tuple[Floats, NDArray[np.intc]]:
    """Return values·2^k, rounded, and each column's k: the sum of `times` of them, in any order and
    with any signs, stays below 2⁵³ and is therefore exact."""
    largest = np.abs(values).max(axis=0, initial=0.0) * times
    _, size = np.frexp(largest)
    exponents = (52 - size).astype(np.intc)
    return np.rint(_scale(values, exponents)), exponents


def _scale(values: Floats, exponents: NDArray[np.intc]) -> Floats:
    scaled: Floats = np.ldexp(values, exponents)
    return scaled
