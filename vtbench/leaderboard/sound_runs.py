"""Selection of the runs that a leaderboard is made of, over the images that all of them could read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vtbench.results.folder import Run
from vtbench.results.rows import ROW_COLUMNS
from vtbench.results.schema import Failure, SuiteFolder

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class SoundRuns:
    """Runs without the rows of originals that cannot be read.

    Attributes:
        left_out: Those originals. They leave the set for every run alike, so that nobody gains by
            failing on hard images. No such run is published.
        tasks: How many of them each task lost.
        others: By run that had read one of them, why what it computed of all images together stands
            for others.
        complaints: About runs with NaN or infinity, which are not among the runs.
    """

    runs: tuple[Run, ...]
    left_out: tuple[Failure, ...]
    tasks: Mapping[str, int]
    others: Mapping[str, str]
    complaints: tuple[str, ...]


def choose_sound(suite: SuiteFolder, runs: Iterable[Run]) -> SoundRuns:
    """Return the runs of a suite's folder that have no NaN, by name, each of the same images."""
    complaints, finite = [], []
    for run in sorted(runs, key=lambda run: run.record.run):
        problem = _find_non_finite(run)
        if problem is None:
            finite.append(run)
        else:
            complaints.append(problem)
    gone: dict[str, tuple[str, str]] = {}
    for run in finite:
        if run.record.suite.sha256 == suite.sha256:
            gone |= _list_unreadable(run.table)
    tasks: dict[str, int] = {}
    for task, _ in gone.values():
        tasks[task] = tasks.get(task, 0) + 1
    chosen, others = [], {}
    for run in finite:
        if gone and run.record.suite.sha256 == suite.sha256:
            had = sorted(
                set(gone) & set(run.table["id"].to_pylist()) - set(_list_unreadable(run.table))
            )
            if had:
                others[run.record.run] = (
                    f"of other images, with {had[0]}, which other runs cannot read"
                )
            run = replace(run, table=_without(run.table, gone))
        chosen.append(run)
    left_out = tuple(Failure(id=name, error=gone[name][1]) for name in sorted(gone))
    return SoundRuns(tuple(chosen), left_out, tasks, others, tuple(complaints))


def _list_unreadable(table: pa.Table) -> dict[str, tuple[str, str]]:
    """Return (task, error) of the originals that cannot be read, by id: failed rows without a hash."""
    import pyarrow.compute as pc

    mask = pc.and_(table["error"].is_valid(), table["sha256"].is_null())
    rows = table.select(["id", "task", "error"]).filter(mask).to_pylist()
    return {row["id"]: (row["task"], row["error"]) for row in rows}


def _without(table: pa.Table, ids: Iterable[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pc.is_in(table["id"].cast("string"), value_set=pa.array(sorted(ids), pa.string()))
    return table.filter(pc.invert(known))


def _find_non_finite(run: Run) -> str | None:
    """Return where a run has a NaN or infinity: neither is a number, nor a state."""
    import pyarrow.compute as pc

    for column, kind in ROW_COLUMNS.items():
        values = run.table[column]
        if "float64" not in kind or values.null_count == len(values):
            continue
        flat = pc.list_flatten(values) if kind.startswith("list") else values
        if pc.all(pc.is_finite(flat)).as_py() is False:
            owners = pc.list_parent_indices(values) if kind.startswith("list") else None
            place = pc.index(pc.is_finite(flat), False).as_py()
            row = place if owners is None else owners[place].as_py()
            return (
                f"{run.folder / 'images.parquet'}: {column} of {run.table['id'][row]} is not finite: "
                "measure it again"
            )
    for key, record in run.record.sets.items():
        numbers = [x for x in (record.value, record.standard_error) if x is not None]
        if not all(map(math.isfinite, numbers)):
            return f"{run.folder / 'run.json'}: {key} is not finite: measure it again"
    return None


def join_units(suite: SuiteFolder, runs: Iterable[Run]) -> dict[str, str]:
    """Return, by id, the first image of those that are one draw: crops of one picture file, and
    pictures that are the same pixel for pixel. An image that is alone is not in it."""
    cut_from = suite.cut_from
    pixels: dict[str, str | None] = {}
    for run in runs:
        if run.record.suite.sha256 == suite.sha256:
            ids, hashes = (run.table[name].to_pylist() for name in ("id", "sha256"))
            pixels |= {name: sha for name, sha in zip(ids, hashes, strict=True) if sha}
            if len(pixels) >= sum(suite.images.values()):
                break  # every run of the suite has the same images
    first: dict[str, str] = {}

    def find(name: str) -> str:
        while (parent := first.get(name, name)) != name:
            name = parent
        return name

    by_pixels: dict[str, str] = {}
    for name in sorted({*pixels, *cut_from}):
        unit = find(cut_from.get(name, name))
        sha256 = pixels.get(name)
        same = find(by_pixels.setdefault(sha256, unit)) if sha256 else unit
        low, high = sorted((unit, same))
        first[high] = first[name] = low
    return {name: unit for name in first if (unit := find(name)) != name} | {
        name: unit for name, unit in cut_from.items() if find(unit) == unit
    }
