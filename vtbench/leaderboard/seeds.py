"""Merging of runs that differ only in the seed into one line of means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vtbench.leaderboard.board import Bound, Cell, Column, Line, Shares


def merge_seeds(lines: Iterable[Line], columns: Iterable[Column]) -> list[Line]:
    """Return the lines with those of one tokenizer's seeds as one, where the first of them stood.

    Each number is the mean over the seeds, `spread` the standard deviation between them (n − 1);
    what takes time or memory has none. Runs are merged only if entry, weights, protocol and code agree;
    runs without results are never merged.
    """
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        key = (line.name,) if line.problem is not None else _facts(line)
        groups.setdefault(key, []).append(line)
    varying = {column.key: column.task is not None for column in columns}
    return [_merge(same, varying) if len(same) > 1 else same[0] for same in groups.values()]


def _facts(line: Line) -> tuple[str, ...]:
    """Return what runs must share to be seeds of one tokenizer."""
    record = line.record
    return (
        record.tokenizer.name,
        record.tokenizer.model_dump_json(include={"entry_sha256", "weights", "libraries"}),
        record.protocol.model_dump_json(exclude={"seed"}),
        record.environment.code_sha256,
    )


def _merge(lines: Sequence[Line], varying: Mapping[str, bool]) -> Line:
    lines = sorted(lines, key=lambda line: line.record.protocol.seed)
    # The run of the suite's own seed has the name that says no seed: the shortest.
    first, name = lines[0], min((line.name for line in lines), key=len)
    cells = {
        key: _mean([line.cells[key] for line in lines], varies=varying[key]) for key in first.cells
    }
    others = tuple(line.run for line in lines[1:] if line.run is not None)
    capped = sum(line.capped for line in lines)
    return replace(first, name=name, cells=cells, other_seeds=others, capped=capped)


def _mean(cells: Sequence[Cell], *, varies: bool) -> Cell:
    """Return the mean of the seeds' cells; varies: whether it follows the seed."""
    for cell in cells:
        if cell.value is None:
            return cell
    values = [cell.value for cell in cells if cell.value is not None]
    bounds: set[Bound] = {cell.bound for cell in cells}
    if {"<", ">="} <= bounds:
        return Cell(None, 0, "missing", "some seeds are beyond the charts on either side")
    return replace(
        cells[0],
        value=math.fsum(values) / len(values),
        bound=next(iter(bounds - {"="}), "="),
        shares=_average_shares([cell.shares for cell in cells]),
        standard_error=None,
        spread=statistics.stdev(values) if varies else None,
    )


def _average_shares(of_seeds: Sequence[Shares | None]) -> Shares | None:
    """Return each image's mean share; none where the seeds have other images or denominators, whose
    mean of quotients is no quotient of means."""
    first = of_seeds[0]
    if first is None:
        return None
    total = np.zeros_like(first.numerators)
    for shares in of_seeds:
        if (
            shares is None
            or shares.images is not first.images
            or not np.array_equal(shares.denominators, first.denominators)
        ):
            return None
        total += shares.numerators
    return replace(first, numerators=total / len(of_seeds))
