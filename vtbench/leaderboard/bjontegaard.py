"""BD-rate: the rate that a curve of runs needs, relative to a codec's curve, at equal quality.

Bjøntegaard, VCEG-M33, 2001, with log10 of the rate interpolated over quality by monotone cubics
(PCHIP: Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5, 1984), as HEVC's and VVC's common test
conditions do. Every curve may be many at once, one a draw of the bootstrap. numpy alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vtbench.leaderboard.board import Floats


def find_bd_rate(
    rates: Floats, quality: Floats, other_rates: Floats, other_quality: Floats
) -> Floats:
    """Return the mean difference in rate at equal quality, in percent of the other curve's rate.

    Args:
        rates: Of a curve, …×P points in any order, P ≥ 2; above 0.
        quality: Of the same points.
        other_rates: Of the curve that it is measured against, …×Q points.
        other_quality: Of the same points.

    Returns:
        A number a curve (…); below 0 where less rate is needed. NaN where the curves share no
        quality, or a curve has two points of the same quality.
    """
    curves = [_sort(quality, np.log10(rates)), _sort(other_quality, np.log10(other_rates))]
    low = np.maximum(*(x[..., 0] for x, _ in curves))
    high = np.minimum(*(x[..., -1] for x, _ in curves))
    this, other = (integrate_pchip(x, y, low, high) for x, y in curves)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(high > low, (this - other) / (high - low), np.nan)
    percent: Floats = (10**mean - 1) * 100
    return percent


def find_rate_at(
    rates: Floats, quality: Floats, other_rates: Floats, other_quality: Floats
) -> Floats:
    """Return by how many percent a point's rate (…) is above that of a curve (…×Q) at its quality;
    NaN outside the curve."""
    x, y = _sort(other_quality, np.log10(other_rates))
    inside = (x[..., 0] <= quality) & (quality <= x[..., -1])
    slopes = _find_slopes(x, y)
    place = np.clip((x <= quality[..., None]).sum(axis=-1) - 1, 0, x.shape[-1] - 2)
    at = _hermite(x, y, slopes, place, np.where(inside, quality, np.nan))
    percent: Floats = (rates / 10**at - 1) * 100
    return percent


def _sort(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(x, axis=-1, kind="stable")
    return np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)


def integrate_pchip(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    """Return the integral from low to high (…) of the monotone cubics through the points.

    x and y are …×P, x ascending; low and high within x.
    """
    slopes = _find_slopes(x, y)
    total = np.zeros(x.shape[:-1])
    for piece in range(x.shape[-1] - 1):
        start = np.clip(low, x[..., piece], x[..., piece + 1])
        end = np.clip(high, x[..., piece], x[..., piece + 1])
        place = np.full(x.shape[:-1], piece)
        middle = (start + end) / 2
        ends = _hermite(x, y, slopes, place, start) + _hermite(x, y, slopes, place, end)
        # Simpson's rule is exact for cubics.
        total += (end - start) / 6 * (ends + 4 * _hermite(x, y, slopes, place, middle))
    return total


def _find_slopes(x: Floats, y: Floats) -> Floats:
    """Return PCHIP's derivative at each point, …×P."""
    h = np.diff(x, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.where(h > 0, np.diff(y, axis=-1) / h, np.nan)
        if x.shape[-1] == 2:
            return np.repeat(delta, 2, axis=-1)
        before, after = 2 * h[..., 1:] + h[..., :-1], h[..., 1:] + 2 * h[..., :-1]
        d0, d1 = delta[..., :-1], delta[..., 1:]
        inner = (before + after) / (before / d0 + after / d1)
        inner = np.where(d0 * d1 > 0, inner, np.where(np.isnan(d0 * d1), np.nan, 0.0))
    first = _find_end(h[..., 0], h[..., 1], delta[..., 0], delta[..., 1])
    last = _find_end(h[..., -1], h[..., -2], delta[..., -1], delta[..., -2])
    return np.concatenate([first[..., None], inner, last[..., None]], axis=-1)


def _find_end(h0: Floats, h1: Floats, d0: Floats, d1: Floats) -> Floats:
    """Return the derivative at an end: a parabola's through three points, held monotone."""
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    slope = np.where(np.sign(slope) != np.sign(d0), 0 * d0, slope)
    steep = (np.sign(d0) != np.sign(d1)) & (np.abs(slope) > 3 * np.abs(d0))
    held: Floats = np.where(steep, 3 * d0, slope)
    return held


def _hermite(x: Floats, y: Floats, slopes: Floats, place: NDArray[np.intp], at: Floats) -> Floats:
    """Return the cubic of the piece that begins at point `place` (…), at `at` (…)."""

    def pick(values: Floats, shift: int) -> Floats:
        return np.take_along_axis(values, place[..., None] + shift, -1)[..., 0]

    width = pick(x, 1) - pick(x, 0)
    t = (at - pick(x, 0)) / np.where(width > 0, width, np.nan)
    value: Floats = (
        (1 + 2 * t) * (1 - t) ** 2 * pick(y, 0)
        + t * (1 - t) ** 2 * width * pick(slopes, 0)
        + t**2 * (3 - 2 * t) * pick(y, 1)
        + t**2 * (t - 1) * width * pick(slopes, 1)
    )
    return value
