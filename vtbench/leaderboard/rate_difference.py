"""Rate differences between runs and a codec's curve at equal quality."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vtbench.base.errors import ResultsError, UnknownName
from vtbench.base.statistics import LEVEL, MIN_UNITS, Bootstrap, seed_of
from vtbench.base.text_table import format_table
from vtbench.leaderboard.aggregate import read_lines, suite_label
from vtbench.leaderboard.bjontegaard import find_bd_rate, find_rate_at
from vtbench.leaderboard.board import Column, Floats, Line
from vtbench.leaderboard.columns import OVERVIEW_MEANS, group_title
from vtbench.leaderboard.intervals import stack_shares
from vtbench.leaderboard.words import describe_column
from vtbench.results.folder import read_runs, read_suite_folder
from vtbench.results.schema import SuiteFolder

MIN_POINTS = 3
"""Points of a codec's curve; through two any curve would do."""


@dataclass(frozen=True)
class RateDifference:
    """The rate of a run, or of the curve of all of them, beside a codec's at the same quality.

    Attributes:
        name: The run; None for the curve (BD-rate).
        percent: More rate than the codec's, below 0 less; None where they share no quality.
        interval: Its 95 % percentile interval over images, None where there is none.
    """

    column: Column
    name: str | None
    percent: float | None
    interval: tuple[float, float] | None


def compare_with_codec(
    folder: Path, names: Sequence[str], codec: str, keys: Sequence[str] = ()
) -> tuple[SuiteFolder, list[RateDifference]]:
    """Return the rate differences of runs of a suite's folder to a codec.

    Args:
        folder: The results of a suite.
        names: Of the runs; two or more are also a curve of their own.
        codec: The series of the codec ("jpeg", "JPEG 2000"), in any case, with or without spaces.
        keys: Columns ("text.cer") or metrics of every task; none: the overview's quality.

    Raises:
        UnknownName: no such codec, run or column.
        ResultsError: a run without numbers, or a codec of less than `MIN_POINTS` points.
    """
    suite = read_suite_folder(folder)
    lines, columns = read_lines(suite, read_runs(folder))
    by_name = {line.name: line for line in lines}
    for name in names:
        if name not in by_name:
            raise UnknownName("run", name, sorted(by_name))
        if by_name[name].problem is not None:
            raise ResultsError(f"{folder / name}: not compared: {by_name[name].problem}")
    curves: dict[str, list[Line]] = {}
    for line in lines:
        if line.joined and line.name not in names:
            curves.setdefault(_fold(line.series), []).append(line)
    if _fold(codec) not in curves:
        raise UnknownName("codec", codec, sorted(curves))
    curve = curves[_fold(codec)]
    if len(curve) < MIN_POINTS:
        raise ResultsError(
            f"{folder}: {codec} has {len(curve)} points here, {MIN_POINTS} are needed"
        )
    runs = [by_name[name] for name in names]
    differences: list[RateDifference] = []
    for column in _choose_columns(columns, keys):
        if all(column_measured(line, column) for line in (*runs, *curve)):
            differences += _compare(column, runs, curve, seed=seed_of(suite.sha256))
    return suite, differences


def _fold(series: str) -> str:
    """Return a series as a user may type it: small letters and digits."""
    return "".join(sign for sign in series.lower() if sign.isalnum())


def _choose_columns(columns: Sequence[Column], keys: Sequence[str]) -> list[Column]:
    ranked = [c for c in columns if c.rate is not None and c.metric.better is not None]
    if not keys:
        return [c for c in ranked if c.whole and c.metric.key in OVERVIEW_MEANS]
    for key in keys:
        if not any(key in (c.key, c.metric.key) for c in ranked):
            raise UnknownName("metric", key, sorted({c.key for c in ranked if c.whole}))
    return [c for c in ranked if c.key in keys or (c.whole and c.metric.key in keys)]


def column_measured(line: Line, column: Column) -> bool:
    """Return whether a line has the column's number and its rate."""
    assert column.rate is not None
    return line.cells[column.key].value is not None and bool(line.cells[column.rate].value)


def _compare(
    column: Column, runs: Sequence[Line], curve: Sequence[Line], *, seed: int
) -> Iterator[RateDifference]:
    lines = [*runs, *curve]
    rates = np.array([line.cells[column.rate or ""].value for line in lines], dtype=np.float64)
    quality = np.array([line.cells[column.key].value for line in lines], dtype=np.float64)
    n = len(runs)
    drawn = _draw(column, lines, seed=seed)
    for place, run in enumerate(runs):
        percent = find_rate_at(rates[place], quality[place], rates[n:], quality[n:])
        ends = None
        if drawn is not None:
            r, q = drawn
            ends = _find_ends(find_rate_at(r[:, place], q[:, place], r[:, n:], q[:, n:]))
        yield RateDifference(column, run.name, _finite(percent), ends)
    if n > 1:
        percent = find_bd_rate(rates[:n], quality[:n], rates[n:], quality[n:])
        ends = None
        if drawn is not None:
            r, q = drawn
            ends = _find_ends(find_bd_rate(r[:, :n], q[:, :n], r[:, n:], q[:, n:]))
        yield RateDifference(column, None, _finite(percent), ends)


def _draw(column: Column, lines: Sequence[Line], *, seed: int) -> tuple[Floats, Floats] | None:
    """Return rates and quality of the lines in every draw, draws×lines; None where they are not of
    the same images, or of too few."""
    shares = [line.cells[key].shares for key in (column.rate or "", column.key) for line in lines]
    known = [one for one in shares if one is not None]
    images = known[0].images if known else None
    if images is None or len(known) < len(shares) or len(images.names) < MIN_UNITS:
        return None
    if any(one.images is not images for one in known):
        return None
    ratios = Bootstrap(images.strata, seed=seed).ratios(*stack_shares(known))
    return ratios[:, : len(lines)], ratios[:, len(lines) :]


def _find_ends(draws: Floats) -> tuple[float, float] | None:
    """Return the ends of the percentile interval; None where a draw had no common quality."""
    if np.isnan(draws).any():
        return None
    ordered, tail = np.sort(draws), (1 - LEVEL) / 2
    n = len(ordered)
    low, high = math.floor(tail * (n + 1)) - 1, math.ceil((1 - tail) * (n + 1)) - 1
    return float(ordered[max(low, 0)]), float(ordered[min(high, n - 1)])


def _finite(percent: Floats) -> float | None:
    return None if np.isnan(percent) else float(percent)


def describe_rates(
    suite: SuiteFolder, codec: str, differences: Sequence[RateDifference]
) -> Iterator[str]:
    """Yield the lines to print."""
    yield f"{suite_label(suite)}: rate beside {codec} at the same quality"
    yield ""
    rows = [("", "", "rate", "95 % interval")]
    for one in differences:
        low, high = one.interval or (None, None)
        rows.append(
            (
                f"{group_title(one.column.group)} {describe_column(one.column)}",
                one.name or "all of them (BD-rate)",
                "no common quality" if one.percent is None else f"{one.percent:+.1f} %",
                "-" if low is None else f"{low:+.1f} to {high:+.1f} %",
            )
        )
    yield format_table(rows)
    yield ""
    yield (
        "rate: how much more (+) or less (-) rate than the codec's curve has at the same quality. "
        "Curves: log rate over quality, monotone cubics (PCHIP). BD-rate: the mean over the quality "
        "that both curves have (Bjontegaard, VCEG-M33). Intervals: percentiles of the bootstrap over "
        "images; none where a draw left the codec's curve."
    )
