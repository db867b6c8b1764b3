"""A board as the data that the pages' scripts read: plain lists, numbers and text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench.base.locations import without_paths
from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Cell, Column, Line
from vtbench.leaderboard.choice import list_wanted
from vtbench.leaderboard.columns import RATES, group_title
from vtbench.leaderboard.detail_pools import CURVE, GRID, list_gratings
from vtbench.leaderboard.footnotes import usual_n
from vtbench.leaderboard.paper import MAX_COLUMNS, PaperTable
from vtbench.leaderboard.published import format_delta, match_published
from vtbench.leaderboard.site.facts import FACTS, list_facts
from vtbench.leaderboard.words import (
    BLOCK_TITLES,
    describe_column,
    find_front,
    format_cell,
    format_interval,
)
from vtbench.metrics.transfer import average_points
from vtbench.registry.entries import Entry

Json = dict[str, Any]


@dataclass(frozen=True)
class ReportedRow:
    """Numbers that somebody published of a tokenizer on a suite's data, never ranked with measured
    ones.

    Attributes:
        values: By the key of the column that measures the same.
        source: The paper and table, with what the protocol states.
    """

    name: str
    title: str
    facts: Mapping[str, str | float | None]
    values: Mapping[str, float]
    source: str


def collect_data(
    board: Board,
    *,
    published: Board | None,
    reported: Sequence[ReportedRow],
    entries: Mapping[str, Entry],
    pages: Mapping[str, str],
) -> Json:
    """Return everything that the pages of a suite show but for pictures.

    Args:
        board: The suite's numbers.
        published: The published ones of the same suite, told as differences.
        reported: Numbers of papers about the same data.
        entries: The registry's, by name.
        pages: The address of each run's page.
    """
    columns = list_columns(board)
    beside = match_published(board, published)
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    rows = [
        _row(line, usual, columns, entries.get(line.record.tokenizer.name), beside)
        for line in board.lines
    ]
    rows += [_originals(line, columns) for line in board.originals]
    rows += [_reported(row, board, columns) for row in reported]
    for row in rows:
        row["page"] = pages.get(row["name"], "")
    return {
        "suite": _suite(board),
        "columns": [_describe(board, column) for column in columns],
        "facts": [vars(fact) for fact in FACTS],
        "blocks": [*BLOCK_TITLES.values(), "Originals", "Reported by others, not measured here"],
        "presets": list_presets(board, columns),
        "rows": rows,
        "fronts": {column.key: sorted(find_front(board.lines, column)) for column in columns},
        "caption": PaperTable(board, board.complete, board.overview.columns).caption(),
        "published": bool(beside),
    }


def list_columns(board: Board) -> list[Column]:
    """Return the columns of all tables, those of the overview first; of no other, as no run has
    numbers there."""
    shown = {column.key for table in board.tables for column in table.columns}
    return [column for column in board.columns if column.key in shown]


def list_presets(board: Board, columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return choices of columns by name, the first of them the default."""
    wanted = {column.key for column in list_wanted(board)[:MAX_COLUMNS]}
    overview = [column.key for column in board.overview.columns]
    presets = {"main": [c.key for c in columns if c.key in wanted], "overview": overview}
    for task in board.suite.images:
        presets[task] = [c.key for c in columns if c.task == task and c.key in overview]
    costs = ["parameters", "gmac_encode", "gmac_decode", "rate.tokens", "rate.bits"]
    presets["cost"] = [*costs, *(c.key for c in columns if c.group == "cost")]
    presets["about"] = [fact.key for fact in FACTS]
    for table in board.tables[1:]:
        presets[table.title] = [column.key for column in table.columns]
    return {name: keys for name, keys in presets.items() if keys}


def _suite(board: Board) -> Json:
    suite = board.suite
    facts = {"name": suite.name, "version": suite.version, "sha256": suite.sha256}
    return facts | {"title": suite.title, "label": suite_label(suite), "partial": suite.partial}


def _describe(board: Board, column: Column) -> Json:
    metric = column.metric
    part = column.part
    return {
        "key": column.key,
        "group": group_title(column.group),
        "label": _label(column),
        "head": describe_column(column),
        "unit": metric.unit,
        "better": metric.better,
        "decimals": metric.decimals,
        "definition": metric.definition,
        "rate": column.rate,
        "log": metric.key in RATES,
        "metric": metric.key,
        "task": column.task,
        "cpp": column.cpp,
        "glyph": None if part is None else part.glyph_px,
        "table": _table(board, column),
        "n": usual_n(column, board.complete),
    }


def _table(board: Board, column: Column) -> str:
    return next(table.title for table in board.tables if column in table.columns)


def _label(column: Column) -> str:
    """Return a label that says by itself what a column of a breakdown is of."""
    part = column.part
    metric = column.metric.label
    own = column.label if column.label == metric or metric in column.label else ""
    label = own or f"{metric} {column.label}"
    if part is not None and part.subset is not None and part.subset not in label:
        label = f"{label} ({part.subset})" if column.task is not None else label
    return label


def _row(
    line: Line,
    usual: Mapping[str, int],
    columns: Sequence[Column],
    entry: Entry | None,
    beside: Mapping[str, Line],
) -> Json:
    cells = {}
    for column in columns:
        cell = line.cells[column.key]
        written = write_cell(cell, column, usual[column.key])
        if rank := line.ranks.get(column.key):
            written["r"] = list(rank)
        other = beside.get(line.name)
        delta = None if other is None else format_delta(cell, other.cells[column.key], column)
        written |= {} if delta is None else {"d": delta}
        cells[column.key] = written
    return {
        "name": line.name,
        "title": line.title,
        "source": "measured",
        "block": BLOCK_TITLES[line.block],
        "competes": line.competes,
        "joined": line.joined,
        "curve": line.block == "curves",
        "series": line.series,
        "problem": line.problem,
        "seeds": len(line.records),
        "facts": list_facts(line, entry),
        "cells": cells,
        "transfer": _curve(line),
    }


def write_cell(cell: Cell, column: Column, usual: int) -> Json:
    """Return a cell: t its text, v its value, i its interval, n, s its state, w why it has none."""
    written: Json = {"t": format_cell(cell, column, usual)}
    if cell.value is None:
        written |= {"s": cell.state}
        if cell.reason:
            written["w"] = without_paths(cell.reason)
        return written
    written |= {"v": float(f"{cell.value:.10g}"), "n": cell.n}
    if interval := format_interval(cell, column):
        written |= {"i": interval, "l": cell.low, "h": cell.high}
    if cell.bound == "<":
        written["b"] = cell.bound
    if cell.warning:
        written["w"] = cell.warning
    return written


def _originals(line: Line, columns: Sequence[Column]) -> Json:
    cells = {
        column.key: write_cell(cell, column, cell.n)
        for column in columns
        if (cell := line.cells[column.key]).value is not None
    }
    facts = {"source": "measured", "block": "Originals", "competes": False, "series": ""}
    return {"name": line.name, "title": "", "problem": None, "facts": {}, "cells": cells} | facts


def _reported(row: ReportedRow, board: Board, columns: Sequence[Column]) -> Json:
    known = {column.key: column for column in columns}
    return {
        "name": row.name,
        "title": f"{row.title}. {row.source}",
        "source": "reported",
        "block": "Reported by others, not measured here",
        "competes": False,
        "series": "",
        "problem": None,
        "facts": dict(row.facts),
        "cells": {
            key: {"t": f"{value:g}", "v": value}
            for key, value in row.values.items()
            if key in known
        },
    }


def _curve(line: Line) -> list[list[float]]:
    """Return (frequency, mean transfer) of gratings on and off the grids of tokenizers."""
    if line.run is None or "wave_gain" not in line.run.table.column_names:
        return []
    if line.run.table["wave_gain"].null_count == len(line.run.table):
        return []
    points: Iterable[tuple[float, float]] = (
        point for _, point, _ in list_gratings(line.run.rows, CURVE, GRID)
    )
    means = average_points(points)
    return [[frequency, sum(gains) / len(gains)] for frequency, gains in means.items()]
