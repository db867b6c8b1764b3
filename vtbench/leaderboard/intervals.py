"""Confidence intervals of a leaderboard's numbers and ranks, by a bootstrap over clusters of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vtbench.base.statistics import (
    MIN_UNITS,
    Bootstrap,
    find_intervals,
    find_rank_intervals,
    seed_of,
)
from vtbench.leaderboard.board import Cell, Column, Floats, Images, Line, Shares
from vtbench.results.schema import SuiteFolder

ERROR_RATES = ("cer", "wer")
"""No error at all gives no interval: pages without errors, drawn again, have none."""

MAX_VALUES = 2**21
"""Values, of clusters or of draws, that are held in one array; more columns go in several."""


def sum_by_cluster(images: Images, values: Floats) -> Floats:
    """Return the sums of the images' values over each cluster, added in the order of the ids."""
    sums: Floats = np.bincount(images.clusters, values, len(images.names)).astype(np.float64)
    return sums


def add_intervals(
    suite: SuiteFolder, lines: Sequence[Line], originals: Sequence[Line], columns: Sequence[Column]
) -> tuple[list[Line], list[Line]]:
    """Return the lines with the intervals of their numbers, and with their ranks.

    All numbers of the same images are drawn together, so runs are compared on the same draws.
    """
    seed = seed_of(suite.sha256)
    both = [*lines, *originals]
    by_key = {column.key: column for column in columns}
    groups: dict[Images, dict[Shares, list[tuple[int, Column]]]] = {}
    for place, line in enumerate(both):
        for key, cell in line.cells.items():
            if cell.shares is not None and len(cell.shares.images.names) >= MIN_UNITS:
                group = groups.setdefault(cell.shares.images, {})
                group.setdefault(cell.shares, []).append((place, by_key[key]))
    cells: list[dict[str, Cell]] = [dict(line.cells) for line in both]
    ranks: dict[str, dict[int, tuple[int, int]]] = {}
    for images, group in groups.items():
        bootstrap = Bootstrap(images.strata, seed=seed)
        drawn: dict[str, dict[int, Floats]] = {}
        for block in _split(list(group), images, bootstrap):
            numerators, denominators = stack_shares(block)
            ratios = bootstrap.ratios(numerators, denominators)
            ends = zip(*find_intervals(bootstrap, numerators, denominators, ratios), strict=True)
            for column_of_block, (shares, (low, high)) in enumerate(zip(block, ends, strict=True)):
                for place, column in group[shares]:
                    if column.metric.key not in ERROR_RATES or shares.numerators.any():
                        cell = cells[place][column.key]
                        cells[place][column.key] = replace(cell, low=float(low), high=float(high))
                    if column.ranked and both[place].competes:
                        of_key = drawn.setdefault(column.key, {})
                        of_key[place] = ratios[:, column_of_block].copy()
        for key, ratios_of in drawn.items():
            # Ranked on the images that most runs have.
            if len(ratios_of) > max(1, len(ranks.get(key, {}))):
                ranks[key] = _rank(by_key[key], ratios_of)
    done = [
        replace(line, cells=of_line, ranks={k: of[place] for k, of in ranks.items() if place in of})
        for place, (line, of_line) in enumerate(zip(both, cells, strict=True))
    ]
    return done[: len(lines)], done[len(lines) :]


def stack_shares(shares: Sequence[Shares]) -> tuple[Floats, Floats]:
    """Return numerators and denominators of some numbers of the same images, clusters×numbers."""
    images = shares[0].images
    numerators = [sum_by_cluster(images, one.numerators) for one in shares]
    denominators = [sum_by_cluster(images, one.denominators) for one in shares]
    return np.stack(numerators, axis=1), np.stack(denominators, axis=1)


def _split(shares: list[Shares], images: Images, bootstrap: Bootstrap) -> list[list[Shares]]:
    """Return the shares in blocks of equal size that fit `MAX_VALUES`. numpy adds up a single column
    in another order than several, so there is no block of one unless it is all."""
    width = max(4, MAX_VALUES // max(len(images.names), bootstrap.resamples))
    blocks = -(-len(shares) // width)
    return [
        shares[len(shares) * i // blocks : len(shares) * (i + 1) // blocks] for i in range(blocks)
    ]


def _rank(column: Column, drawn: Mapping[int, Floats]) -> dict[int, tuple[int, int]]:
    """Return the rank intervals by a column, by line, from the numbers of every draw."""
    ratios = np.stack(list(drawn.values()), axis=1)
    better = column.metric.better == "higher"
    return dict(zip(drawn, find_rank_intervals(ratios, higher_is_better=better), strict=True))
