"""The intervals of a board's numbers and of its ranks, by resampling the images behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vtbench.base.statistics import (
    MIN_UNITS,
    Bootstrap,
    Floats,
    find_intervals,
    find_rank_intervals,
    seed_of,
)
from vtbench.leaderboard.board import Cell, Line, Shares
from vtbench.metrics.catalogue import METRICS
from vtbench.results.schema import SuiteFolder

RANKED = ("reconstruction.psnr_db", "reconstruction.ssim", "text.cer")
"""The columns by which tokenizers and codecs are ranked together, whatever their rate."""

COUNTED = ("cer", "wer")
"""Shares of errors: none at all gives no interval, since drawing pages without errors finds none."""


@dataclass(frozen=True)
class Units:
    """The units that shares belong to, and the stratum of each: the subsets of its images."""

    names: tuple[str, ...]
    strata: tuple[str, ...]


def find_units(shares: Shares) -> Units:
    """Return the units behind a number, by name."""
    subsets: dict[str, set[str]] = {}
    for unit, subset in zip(shares.units, shares.subsets, strict=True):
        subsets.setdefault(unit, set()).add(subset)
    names = tuple(sorted(subsets))
    return Units(names, tuple(" + ".join(sorted(subsets[name])) for name in names))


def sum_by_unit(shares: Shares, values: Sequence[float] | Floats) -> Floats:
    """Return the sums of the images' values over the parts of each unit, in `find_units`' order."""
    names, places = np.unique(np.array(shares.units), return_inverse=True)
    sums = np.zeros(len(names))
    np.add.at(sums, places, np.asarray(values, dtype=np.float64))  # in the order of the ids
    return sums


def add_intervals(
    suite: SuiteFolder, lines: Sequence[Line], originals: Sequence[Line]
) -> tuple[list[Line], list[Line]]:
    """Return the lines with the intervals of their numbers, and with their ranks.

    All numbers of the same images are resampled together, so runs are compared on the same draws.
    """
    seed = seed_of(suite.sha256)
    both = [*lines, *originals]
    groups: dict[tuple[Units, tuple[str, ...]], list[tuple[int, str]]] = {}
    for place, line in enumerate(both):
        for key, cell in line.cells.items():
            if cell.shares is not None:
                units = find_units(cell.shares)
                if len(units.names) >= MIN_UNITS:
                    groups.setdefault((units, cell.shares.ids), []).append((place, key))
    cells: list[dict[str, Cell]] = [dict(line.cells) for line in both]
    ranks: dict[str, dict[int, tuple[int, int]]] = {}
    for (units, _), places in groups.items():
        shares = [_shares(both[place].cells[key]) for place, key in places]
        tops = np.stack([sum_by_unit(s, s.tops) for s in shares], axis=1)
        bottoms = np.stack([sum_by_unit(s, s.bottoms) for s in shares], axis=1)
        bootstrap = Bootstrap(units.strata, seed=seed)
        ratios = bootstrap.ratios(tops, bottoms)
        lows, highs = find_intervals(bootstrap, tops, bottoms, ratios)
        for (place, key), own, low, high in zip(places, shares, lows, highs, strict=True):
            if not _without_errors(key, own):
                cell = cells[place][key]
                cells[place][key] = replace(cell, low=float(low), high=float(high))
        for key in RANKED:
            found = _rank(key, both, places, ratios)
            if len(found) > len(ranks.get(key, {})):  # ranked on the images that most runs have
                ranks[key] = found
    done = [
        replace(line, cells=own, ranks={k: of[place] for k, of in ranks.items() if place in of})
        for place, (line, own) in enumerate(zip(both, cells, strict=True))
    ]
    return done[: len(lines)], done[len(lines) :]


def _shares(cell: Cell) -> Shares:
    assert cell.shares is not None
    return cell.shares


def _without_errors(key: str, shares: Shares) -> bool:
    return key.rpartition(".")[2] in COUNTED and not any(shares.tops)


def _rank(
    key: str, lines: Sequence[Line], places: Sequence[tuple[int, str]], ratios: Floats
) -> dict[int, tuple[int, int]]:
    """Return the rank intervals by a column, by line, of the tokenizers and codecs that are among
    the places; ratios has a column for each place."""
    columns = {
        place: column
        for column, (place, own) in enumerate(places)
        if own == key and lines[place].block in ("tokenizers", "codecs")
    }
    if len(columns) < 2:
        return {}
    better = METRICS[key.rpartition(".")[2]].better
    found = find_rank_intervals(
        ratios[:, list(columns.values())], higher_is_better=better == "higher"
    )
    return dict(zip(columns, found, strict=True))
