"""The site of folders of results: `vtbench leaderboard --site`, and the page of every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path

from vtbench.base.errors import SuiteError, UnknownName
from vtbench.commands.reproduce import (
    Comparison,
    Measured,
    compare,
    find_facts,
    measure_line,
    resolve_protocol,
)
from vtbench.leaderboard.board import Board, Line
from vtbench.leaderboard.legibility import RunReadings, collect_readings
from vtbench.leaderboard.site.card import Compared
from vtbench.leaderboard.site.data import ReportedRow
from vtbench.leaderboard.site.facts import describe_entry
from vtbench.leaderboard.site.folder import write_site
from vtbench.leaderboard.site.pages import SiteSuite, render_site
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import Entry, load_registry
from vtbench.suites.suites import load_suite

PAGE = "leaderboard-site"
"""The folder of a run's page, below its results."""


def write_pages(
    target: Path,
    names: Sequence[str],
    boards: Iterable[tuple[Board, Path, Board | None]],
    *,
    registries: Sequence[Path] = (),
    data_folders: Sequence[Path] = (),
) -> Path:
    """Write the site of some boards and return its start page.

    Args:
        target: The site's folder.
        names: Of the suites, in the order of the boards.
        boards: Of each suite its board, the folder of its results, and the published board. One at a
            time is asked for, and none is kept.
        registries: Folders of own entries.
        data_folders: Folders of own suites.
    """
    entries = dict(load_registry(registries).items())  # of a run whose entry is gone: none

    def collect(board: Board, folder: Path, published: Board | None) -> SiteSuite:
        facts = find_facts(board.suite.name, data_folders)
        compared = {}
        for line in board.lines:
            entry = entries.get(line.record.tokenizer.name)
            if entry is not None and entry.reported:
                measured = measure_line(line, board.suite.name, facts)
                compared[line.name] = list(compare_all(entry, measured))
        data = (facts.get("source") or {}).get("name")
        reported = list(list_reported(board, entries, data)) if data is not None else []
        readings = read_legibility(board, data_folders)
        return SiteSuite(board, folder, published, reported, compared, readings)

    write_site(target, render_site(names, starmap(collect, boards), entries))
    return target / "index.html"


def read_legibility(board: Board, data_folders: Sequence[Path]) -> tuple[RunReadings, ...]:
    """Return the lines of a board's runs that an engine read, where the suite with its true text is
    here in the same version; empty otherwise."""
    folder = board.suite
    if not folder.published or not any(line.record.protocol.ocr for line in board.complete):
        return ()
    try:
        suite = load_suite(f"{folder.name}@{folder.version}", data_folders)
    except (UnknownName, SuiteError):
        return ()
    if suite.sha256 != folder.sha256 or not suite.scripts():
        return ()
    runs = [line.run for line in board.complete if line.run is not None]
    return tuple(collect_readings(suite, run) for run in runs)


def compare_all(entry: Entry, measured: Measured) -> Iterator[Compared]:
    """Yield each number that papers report of an entry beside the measured one."""
    for reported in entry.reported:
        protocol = resolve_protocol(reported)
        for one in compare(entry, reported, measured):
            metric = METRICS.get(one.metric)
            decimals = 3 if metric is None else metric.decimals
            difference = one.difference
            yield Compared(
                metric=one.metric if metric is None else metric.label,
                reported=f"{one.published:g}",
                measured=one.reason or ""
                if one.measured is None
                else f"{one.measured:.{decimals}f}",
                difference="" if difference is None else f"{difference:+.{decimals}f}",
                protocol=describe_differences(one),
                source=f"{protocol.source} ({protocol.standing})",
                url=protocol.url,
            )


def describe_differences(one: Comparison) -> str:
    """Return which choices of the two protocols differ, or are not stated."""
    parts = [
        f"{choice.name}: {choice.published} | {choice.measured}"
        + (" (not stated)" if choice.verdict == "open" else "")
        for choice in one.choices
        if choice.verdict != "same"
    ]
    return "; ".join(parts) or "the same"


def list_reported(board: Board, entries: Mapping[str, Entry], data: str) -> Iterator[ReportedRow]:
    """Yield a row for each protocol under which numbers of a tokenizer were published on the data
    set of the suite, at the size of its images where the source states one."""
    keys = {
        column.metric.key: column.key
        for column in board.columns
        if column.whole and column.task == next(iter(board.suite.images), None)
    }
    sizes = {size for line in board.lines for size in _sides(line)}
    for entry in entries.values():
        for reported in entry.reported:
            protocol = resolve_protocol(reported)
            if protocol.data != data or (sizes and protocol.size not in (None, *sizes)):
                continue
            values = {
                keys[metric]: value for metric, value in reported.values.items() if metric in keys
            }
            if values:
                source = f"{protocol.source} ({protocol.standing}); size {protocol.size}"
                yield ReportedRow(entry.name, entry.title, describe_entry(entry), values, source)


def _sides(line: Line) -> set[int | str]:
    sizes = set(line.run.list_sizes("task", "reconstruction")) if line.run else set()
    sides: set[int | str] = {width if width == height else "native" for width, height in sizes}
    return sides if len(sides) < 2 else {"native"}
