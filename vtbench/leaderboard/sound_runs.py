"""Runs that a board can be made of, of the images that every one of them could read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vtbench.results.folder import Run
from vtbench.results.rows import ROW_COLUMNS, Row, is_unreadable
from vtbench.results.schema import Failure, SuiteFolder


@dataclass(frozen=True)
class SoundRuns:
    """Runs without the rows of originals that cannot be read.

    left_out: those originals. They leave the set for every run alike, so that nobody gains by failing
    on hard images; no such run is published. tasks: how many of them each task lost. others: by run
    that had read one of them, why what it computed of all images together stands for others.
    complaints: about runs with NaN or infinity, which are not among the runs.
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
    own = [run for run in finite if run.record.suite.sha256 == suite.sha256]
    gone = {row["id"]: row for run in own for row in run.rows if is_unreadable(row)}
    tasks: dict[str, int] = {}
    for row in gone.values():
        tasks[row["task"]] = tasks.get(row["task"], 0) + 1
    chosen, others = [], {}
    for run in finite:
        if run.record.suite.sha256 == suite.sha256:
            dropped = [row for row in run.rows if row["id"] in gone]
            read = next((row["id"] for row in dropped if not is_unreadable(row)), None)
            if read is not None:
                others[run.record.run] = (
                    f"of other images, with {read}, which other runs cannot read"
                )
            run = replace(run, rows=tuple(row for row in run.rows if row["id"] not in gone))
        chosen.append(run)
    left_out = tuple(Failure(id=name, error=gone[name]["error"]) for name in sorted(gone))
    return SoundRuns(tuple(chosen), left_out, tasks, others, tuple(complaints))


def _find_non_finite(run: Run) -> str | None:
    """Return where a run has a NaN or infinity: neither is a number, nor a state."""
    for row in run.rows:
        for column, kind in ROW_COLUMNS.items():
            if "float64" in kind and row[column] is not None:
                values = row[column] if kind.startswith("list") else [row[column]]
                if not all(map(math.isfinite, values)):
                    return (
                        f"{run.folder / 'images.parquet'}: {column} of {row['id']} is not finite: "
                        "measure it again"
                    )
    for key, record in run.record.sets.items():
        numbers = [x for x in (record.value, record.standard_error) if x is not None]
        if not all(map(math.isfinite, numbers)):
            return f"{run.folder / 'run.json'}: {key} is not finite: measure it again"
    return None


def join_units(cut_from: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Return, by id, the first image of those that are one draw: crops of one picture file, and
    pictures that are the same pixel for pixel. An image that is alone is not in it."""
    first: dict[str, str] = {}

    def find(name: str) -> str:
        while (parent := first.get(name, name)) != name:
            name = parent
        return name

    by_pixels: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        unit = find(cut_from.get(row["id"], row["id"]))
        same = find(by_pixels.setdefault(row["sha256"], unit)) if row["sha256"] else unit
        low, high = sorted((unit, same))
        first[high] = first[row["id"]] = low
    return {row["id"]: unit for row in rows if (unit := find(row["id"])) != row["id"]} | {
        name: unit for name, unit in cut_from.items() if find(unit) == unit
    }
