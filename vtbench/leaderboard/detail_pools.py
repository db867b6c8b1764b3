"""Pooling of rows of detail charts: limits of contrast transfer, grid blindness, spreads, bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vtbench.metrics.transfer import (
    RESAMPLES,
    Limit,
    Point,
    average_points,
    find_limit,
    measure_grid_blindness,
    measure_spread,
)
from vtbench.results.rows import Row

MTF50, MTF10 = 0.5, 0.1
"""Levels of transfer at which a limit is read."""

CURVE, GRID = "curve", "grid"
"""Subsets of gratings along the axes, of one contrast: off every grid, and on it."""


def list_gratings(rows: Sequence[Row], *subsets: str) -> list[tuple[Row, Point, float]]:
    """Return row, (frequency, gain) and aliasing of every grating of the subsets; all without any."""
    return [
        (row, (math.hypot(x, y), gain), alias)
        for row in rows
        if row.get("wave_gain") and (not subsets or row["subset"] in subsets)
        for x, y, gain, alias in zip(
            row["wave_x"], row["wave_y"], row["wave_gain"], row["wave_alias"], strict=True
        )
    ]


def find_transfer_limit(
    rows: Sequence[Row], *, level: float, resamples: int = RESAMPLES
) -> Limit | None:
    """Return where the curve's transfer falls below a level, in cycles per pixel; None without a
    curve. The interval is left out with 0 resamples."""
    points = [point for _, point, _ in list_gratings(rows, CURVE)]
    return find_limit(points, level=level, resamples=resamples) if points else None


def pixels_per_token_side(rows: Sequence[Row]) -> float | None:
    """Return √(pixels ÷ tokens) of the curve's images: times cycles per pixel, cycles per token.

    Of a tokenizer with a grid this is its stride, of one with 1-D tokens what its stride would be.
    """
    counted = [row for row in rows if row["subset"] == CURVE and row["tokens"]]
    tokens = sum(row["tokens"] for row in counted)
    pixels = sum(row["width"] * row["height"] for row in counted)
    return math.sqrt(pixels / tokens) if tokens else None


def find_blindness(rows: Sequence[Row], *, stride: int | None) -> Mapping[float, float | None]:
    """Return the grid blindness by period in pixels; empty for a tokenizer without a stride.

    Raises LookupError for a stride that the charts do not cover.
    """
    points = [point for _, point, _ in list_gratings(rows, CURVE, GRID)]
    return measure_grid_blindness(points, stride=stride) if points and stride else {}


def find_aliasing(rows: Sequence[Row]) -> float | None:
    """Return the mean aliasing of the curve's gratings, over a grating's energy."""
    aliases = [alias for *_, alias in list_gratings(rows, CURVE)]
    return math.fsum(aliases) / len(aliases) if aliases else None


def find_orientation_spread(rows: Sequence[Row]) -> float | None:
    """Return the largest minus the smallest mean transfer along x and along y over the curve, and of
    the oblique gratings of each direction; None without charts.

    Only wave vectors of equal length are comparable: x with y, and mirrored obliques.
    """
    spreads = []
    for subset in (CURVE, "oblique"):
        groups: dict[str, list[Point]] = {}
        for row in rows:
            if row["subset"] == subset and row.get("wave_gain"):
                for x, y, gain in zip(row["wave_x"], row["wave_y"], row["wave_gain"], strict=True):
                    angle = round(math.degrees(math.atan2(y, x)) % 180)
                    groups.setdefault(f"{angle}", []).append((math.hypot(x, y), gain))
        for family in _families(groups):
            spreads.append(measure_spread({name: groups[name] for name in family}))
    return max(spreads, default=None)


def _families(groups: Mapping[str, Sequence[Point]]) -> list[list[str]]:
    """Return the orientations that were drawn at the same frequencies, two or more together."""
    families: dict[tuple[float, ...], list[str]] = {}
    for name, points in groups.items():
        key = tuple(round(frequency, 6) for frequency in average_points(points))
        families.setdefault(key, []).append(name)
    return [names for names in families.values() if len(names) > 1]


def find_color_spread(rows: Sequence[Row]) -> float | None:
    """Return the largest minus the smallest mean transfer of the colour directions, gray among them,
    at the frequencies of the color charts; None without them."""
    groups: dict[str, list[Point]] = {}
    for row, point, _ in list_gratings(rows, CURVE, "color"):
        groups.setdefault(row["wave_direction"], []).append(point)
    return measure_spread(groups) if len(groups) > 1 else None
