"""The intervals of a board's numbers and of its ranks, by resampling the images behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vtbench.metrics.catalogue import METRICS
from vtbench.results import SuiteFolder
from vtbench.statistics import (
    MIN_UNITS,
    Bootstrap,
    Floats,
    find_intervals,
    find_rank_intervals,
    seed_of,
)

if TYPE_CHECKING:
    from vtbench.leaderboard.aggregate import Cell, Line, Shares

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
    asked: dict[Units, list[tuple[int, str]]] = {}
    for place, line in enumerate(both):
        for key, cell in line.cells.items():
            if cell.shares is not None and not _without_errors(key, cell.shares):
                units = find_units(cell.shares)
                if len(units.names) >= MIN_UNITS:
                    asked.setdefault(units, []).append((place, key))
    cells: list[dict[str, Cell]] = [dict(line.cells) for line in both]
    for units, places in asked.items():
        shares = [_shares(both[place].cells[key]) for place, key in places]
        tops = np.stack([sum_by_unit(s, s.tops) for s in shares], axis=1)
        bottoms = np.stack([sum_by_unit(s, s.bottoms) for s in shares], axis=1)
        lows, highs = find_intervals(Bootstrap(units.strata, seed=seed), tops, bottoms)
        for (place, key), low, high in zip(places, lows, highs, strict=True):
            own = cells[place][key]
            cells[place][key] = replace(own, low=float(low), high=float(high))
    done = [replace(line, cells=own) for line, own in zip(both, cells, strict=True)]
    ranks = {key: _ranks(key, lines, seed) for key in RANKED}
    ranked = [
        replace(line, ranks={k: of[line.name] for k, of in ranks.items() if line.name in of})
        for line in done[: len(lines)]
    ]
    return ranked, done[len(lines) :]


def _shares(cell: Cell) -> Shares:
    assert cell.shares is not None
    return cell.shares


def _without_errors(key: str, shares: Shares) -> bool:
    return key.rpartition(".")[2] in COUNTED and not any(shares.tops)


def _ranks(key: str, lines: Iterable[Line], seed: int) -> Mapping[str, tuple[int, int]]:
    """Return the rank intervals of the tokenizers and codecs that have the column; only of those
    measured on the images that most of them were measured on."""
    groups: dict[tuple[str, ...], list[tuple[str, Shares]]] = {}
    for line in lines:
        if line.block in ("tokenizers", "codecs") and (own := line.cells[key].shares) is not None:
            groups.setdefault(own.ids, []).append((line.name, own))
    named = max(groups.values(), key=len, default=[])
    if len(named) < 2 or len((units := find_units(named[0][1])).names) < MIN_UNITS:
        return {}
    tops = np.stack([sum_by_unit(shares, shares.tops) for _, shares in named], axis=1)
    bottoms = np.stack([sum_by_unit(shares, shares.bottoms) for _, shares in named], axis=1)
    ratios = Bootstrap(units.strata, seed=seed).ratios(tops, bottoms)
    better = METRICS[key.rpartition(".")[2]].better
    found = find_rank_intervals(ratios, higher_is_better=better == "higher")
    return dict(zip((name for name, _ in named), found, strict=True))
