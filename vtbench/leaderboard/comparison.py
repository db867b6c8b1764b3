"""Paired comparison of runs on the same images, with tests: `vtbench compare A B`.

Runs of one suite had the same images, so they are compared image by image: what an image is worth
drops out, and a difference is seen that the intervals of the two numbers would hide. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from vtbench.base.errors import ResultsError, UnknownName, VtbenchError
from vtbench.base.locations import without_paths
from vtbench.base.statistics import (
    LEVEL,
    MIN_UNITS,
    Bootstrap,
    adjust_holm,
    find_intervals,
    seed_of,
    sign_flip_p,
    standardize_difference,
)
from vtbench.leaderboard.aggregate import read_lines, suite_label
from vtbench.leaderboard.board import Cell, Column, Images, Line, Shares
from vtbench.leaderboard.columns import OVERVIEW_MEANS, TEXT_METRICS, group_title
from vtbench.leaderboard.intervals import stack_shares
from vtbench.leaderboard.words import describe_column
from vtbench.results.folder import Run, read_checked_run, read_suite_folder
from vtbench.results.schema import SuiteFolder

Verdict = Literal["first", "second", "equal", "unclear"]
"""Which run is better; equal: on every picture the same; unclear: it cannot be told."""

MAX_NAMED = 8
"""A list of images longer than this is cut and counted."""


@dataclass(frozen=True)
class Difference:
    """One number of two runs.

    difference: first − second, with its 95 % interval (None below `MIN_UNITS` pictures). effect:
    Cohen's d_z, None where the pictures' differences do not vary. wins: on how many of `pictures`
    each is better. p: two-sided, adjusted for all differences of the comparison.
    """

    column: Column
    first: str
    second: str
    values: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    effect: float | None
    wins: tuple[int, int]
    pictures: int
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class Uncompared:
    """A number that was not compared, and why."""

    column: Column
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Every pair of the runs, in the order in which they were named."""

    suite: SuiteFolder
    runs: tuple[str, ...]
    differences: tuple[Difference, ...]
    uncompared: tuple[Uncompared, ...]

    @property
    def pairs(self) -> Iterator[tuple[str, str, list[Difference]]]:
        """Each pair with its differences."""
        for first, second in combinations(self.runs, 2):
            of_pair = [d for d in self.differences if (d.first, d.second) == (first, second)]
            yield first, second, of_pair

    def __str__(self) -> str:
        return "\n".join(describe_comparison(self))


def list_differences(comparison: Comparison) -> list[dict[str, object]]:
    """Return a mapping a difference, and one a number that was not compared, for programs."""
    differences: list[dict[str, object]] = [
        {**vars(difference), "column": difference.column.key, "unit": difference.column.metric.unit}
        for difference in comparison.differences
    ]
    return differences + [
        {"column": number.column.key, "reason": number.reason} for number in comparison.uncompared
    ]


def compare_runs(folder: Path, names: Sequence[str], keys: Sequence[str] = ()) -> Comparison:
    """Return the paired differences of runs of a suite's folder.

    keys: columns ("text.cer") or metrics of every task ("psnr_db"); none: quality and rate of the
    overview. Raises UnknownName for a key that is not there, ResultsError for a run that is not, for
    runs of different suites, incomplete ones, ones without the same images, and for a key that is no
    mean over images.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise VtbenchError(f"compare needs two different runs or more, not {' '.join(names)!r}")
    suite = read_suite_folder(folder)
    known = sorted(path.parent.name for path in folder.glob("*/run.json"))
    for name in names:
        if name not in known:
            raise ResultsError(f"{folder} has no run named {name!r}; it has {', '.join(known)}")
    runs = [read_checked_run(folder / name) for name in names]
    _require_same_images(runs)
    lines, columns = read_lines(suite, runs)
    by_name = {line.name: line for line in lines}
    ordered = [by_name[name] for name in names]
    for line in ordered:
        if line.problem is not None:
            raise ResultsError(f"{folder / line.name}: not compared: {line.problem}")
    differences: list[Difference] = []
    uncompared: list[Uncompared] = []
    asked: dict[Images, list[tuple[Column, Line, Line]]] = {}
    for column in _choose_columns(columns, keys):
        if not keys and all(x.cells[column.key].state == "not-applicable" for x in ordered):
            continue
        if reason := _refuse(column, ordered):
            uncompared.append(Uncompared(column, reason))
            continue
        images = _shares(ordered[0].cells[column.key]).images
        for first, second in combinations(ordered, 2):
            asked.setdefault(images, []).append((column, first, second))
    tests = sum(map(len, asked.values()))
    for images, triples in asked.items():
        differences += _test(images, triples, seed=seed_of(suite.sha256), tests=tests)
    place = {(d.column.key, d.first, d.second): d for d in _adjust(differences)}
    in_order = [
        place[column.key, first, second]
        for first, second in combinations(names, 2)
        for column in columns
        if (column.key, first, second) in place
    ]
    return Comparison(suite, tuple(names), tuple(in_order), tuple(uncompared))


def _require_same_images(runs: Sequence[Run]) -> None:
    first, *others = runs
    pixels = _read_hashes(first)
    for other in others:
        if other.record.suite.sha256 != first.record.suite.sha256:
            raise ResultsError(
                f"{first.record.run} was measured under {suite_label(first.record.suite)}, "
                f"{other.record.run} under {suite_label(other.record.suite)}: not comparable"
            )
        hashes = _read_hashes(other)
        for lacking, ids in (
            (other.record.run, pixels.keys() - hashes.keys()),
            (first.record.run, hashes.keys() - pixels.keys()),
        ):
            if ids:
                raise ResultsError(f"{lacking} lacks {_name_some(ids)}: not comparable")
        if changed := {name for name, sha256 in hashes.items() if sha256 != pixels[name]}:
            raise ResultsError(
                f"{first.record.run} and {other.record.run} had other pixels as "
                f"{_name_some(changed)}: not comparable"
            )


def _read_hashes(run: Run) -> dict[str, str]:
    """Return the sha256 of each image's pixels, by id."""
    ids, hashes = (run.table[name].to_pylist() for name in ("id", "sha256"))
    return dict(zip(ids, hashes, strict=True))


def _name_some(ids: Iterable[str]) -> str:
    named = sorted(ids)
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more


def _choose_columns(columns: Sequence[Column], keys: Sequence[str]) -> list[Column]:
    overview = [column for column in columns if column.whole]
    if not keys:
        return [c for c in overview if c.metric.key in OVERVIEW_MEANS]
    chosen: dict[str, Column] = {}
    for key in keys:
        matching = [c for c in columns if c.key == key]
        matching = matching or [c for c in overview if c.metric.key == key]
        if not matching:
            metrics = {column.metric.key for column in overview}
            raise UnknownName("metric", key, sorted({c.key for c in columns} | metrics))
        chosen |= {column.key: column for column in matching}
    return [column for column in columns if column.key in chosen]


def _refuse(column: Column, lines: Sequence[Line]) -> str | None:
    """Return why a column of these runs cannot be compared, or None."""
    cells = [line.cells[column.key] for line in lines]
    for line, cell in zip(lines, cells, strict=True):
        if cell.state != "measured":
            why = f": {cell.reason}" if cell.reason else ""
            return f"{cell.state} in {line.name}{why}"
    if any(cell.shares is None for cell in cells):
        raise ResultsError(
            f"{column.key} cannot be tested: it is no mean over a sample of images (charts are a "
            "fixed set; time and memory vary with the machine)"
        )
    versions = {
        record.version
        for line in lines
        if (record := line.record.protocol.metrics.get(column.metric.key)) is not None
    }
    if len(versions) > 1:
        return f"measured by versions {', '.join(map(str, sorted(versions)))} of the metric"
    if column.metric.key in TEXT_METRICS:
        engines = {tuple(sorted(line.record.protocol.ocr.items())) for line in lines}
        if len(engines) > 1:
            return "read by different OCR engines"
    first, *others = cells
    for line, other in zip(lines[1:], others, strict=True):
        ids, others_ids = _shares(first).images.ids, _shares(other).images.ids
        if apart := set(ids) ^ set(others_ids):
            return f"{lines[0].name} and {line.name} do not both have it for {_name_some(apart)}"
        if not np.array_equal(_shares(first).denominators, _shares(other).denominators):
            return f"{lines[0].name} and {line.name} count it over different amounts"
    return None


def _test(
    images: Images, triples: Sequence[tuple[Column, Line, Line]], *, seed: int, tests: int
) -> Iterator[Difference]:
    """Yield the differences of columns that share their images; p is not adjusted yet."""
    pairs = [(_shares(a.cells[c.key]), _shares(b.cells[c.key])) for c, a, b in triples]
    numerators, denominators = stack_shares(
        [replace(a, numerators=a.numerators - b.numerators) for a, b in pairs]
    )
    ps = sign_flip_p(numerators, seed=seed, tests=tests)
    intervals: list[tuple[float, float] | None] = [None] * len(triples)
    if len(images.names) >= MIN_UNITS:
        ends = find_intervals(Bootstrap(images.strata, seed=seed), numerators, denominators)
        intervals = [(float(low), float(high)) for low, high in zip(*ends, strict=True)]
    for place, (column, first, second) in enumerate(triples):
        given, other = pairs[place]
        top, bottom = numerators[:, place].tolist(), denominators[:, place].tolist()
        sign = 1 if column.metric.better == "higher" else -1
        yield Difference(
            column=column,
            first=first.name,
            second=second.name,
            values=(_value(first.cells[column.key]), _value(second.cells[column.key])),
            difference=math.fsum(top) / math.fsum(bottom),
            interval=intervals[place],
            effect=standardize_difference(top, bottom),
            wins=(sum(sign * x > 0 for x in top), sum(sign * x < 0 for x in top)),
            pictures=sum(x > 0 for x in bottom),
            p=float(ps[place]),
            verdict="equal" if np.array_equal(given.numerators, other.numerators) else "unclear",
        )


def _shares(cell: Cell) -> Shares:
    assert cell.shares is not None
    return cell.shares


def _value(cell: Cell) -> float:
    assert cell.value is not None
    return cell.value


def _adjust(differences: Sequence[Difference]) -> Iterator[Difference]:
    """Yield the differences with p adjusted for all of them, and with their verdicts."""
    for difference, p in zip(differences, adjust_holm([d.p for d in differences]), strict=True):
        verdict = difference.verdict
        if verdict == "unclear" and p < 1 - LEVEL and difference.difference != 0:
            higher = difference.column.metric.better == "higher"
            verdict = "first" if (difference.difference > 0) == higher else "second"
        yield replace(difference, p=p, verdict=verdict)


def describe_comparison(comparison: Comparison, width: int | None = None) -> Iterator[str]:
    """Yield the lines to print: for each pair a table and what it says in words; how it was tested.

    width: of the screen; columns that do not fit are left out."""
    from vtbench.base.text_table import fit_table

    yield f"{suite_label(comparison.suite)}, paired by image"
    for first, second, differences in comparison.pairs:
        if not differences:
            continue
        yield ""
        head = ("", first, second, "difference", "95 % interval", "d_z", "wins", "p", "")
        rows = [head, *(_row(difference, first, second) for difference in differences)]
        yield fit_table(rows, width, optional=("d_z", "wins", "p"))
        yield ""
        yield from _words(first, second, differences)
    yield ""
    reasons: dict[str, list[str]] = {}
    for left in comparison.uncompared:
        reasons.setdefault(without_paths(left.reason).rstrip("."), []).append(_label(left.column))
    for reason, labels in reasons.items():
        yield f"Not compared: {', '.join(labels)}: {reason}."
    tests = len(comparison.differences)
    # Of all ways to flip n signs two are as clear as can be.
    few = {
        d.pictures for d in comparison.differences if tests * 2.0 ** (1 - d.pictures) >= 1 - LEVEL
    }
    for pictures in sorted(few):
        yield (
            f"{pictures} images are too few for a significant difference among {tests} tests: name "
            "fewer runs, or --metric."
        )
    if comparison.differences:
        yield (
            "difference: first − second. d_z: the mean difference over the standard deviation of the "
            "images' differences. wins: images on which each run is better. p: two-sided sign-flip "
            f"test over images, Holm-adjusted for {tests} tests; below {1 - LEVEL:.2f} the difference "
            "is significant. Parts of one image count once."
        )


def _row(difference: Difference, first: str, second: str) -> tuple[str, ...]:
    digits = difference.column.metric.decimals
    low, high = difference.interval or (None, None)
    verdicts = {
        "first": f"{first} better",
        "second": f"{second} better",
        "equal": "equal on every image",
        "unclear": "not significant",
    }
    return (
        describe_column(replace(difference.column, label=_label(difference.column))),
        *(f"{value:.{digits}f}" for value in difference.values),
        f"{difference.difference:+.{digits}f}",
        "-" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}",
        "-" if difference.effect is None else f"{difference.effect:+.2f}",
        f"{difference.wins[0]}:{difference.wins[1]} of {difference.pictures}",
        f"{difference.p:.4f}" if difference.p >= 0.0001 else "<0.0001",
        verdicts[difference.verdict],
    )


def _label(column: Column) -> str:
    return f"{group_title(column.group)} {column.label}"


def _words(first: str, second: str, differences: Sequence[Difference]) -> Iterator[str]:
    """Yield who is better on what, and what cannot be told."""
    for name, verdict in ((first, "first"), (second, "second")):
        won = [difference.column for difference in differences if difference.verdict == verdict]
        quality = [_label(column) for column in won if column.metric.key != "bpp"]
        rate = [group_title(column.group) for column in won if column.metric.key == "bpp"]
        if quality:
            yield f"{name} is better on {', '.join(quality)}."
        if rate:
            yield f"{name} needs fewer bits ({', '.join(rate)})."
    for verdict, opening in (
        ("equal", "They are equal on"),
        ("unclear", "No significant difference on"),
    ):
        labels = [_label(d.column) for d in differences if d.verdict == verdict]
        if labels:
            yield f"{opening} {', '.join(labels)}."
