"""A board as JSON, for programs and pages."""

from __future__ import annotations

import json
from typing import Any

from vtbench.leaderboard.board import Board, Cell, Column, Line
from vtbench.leaderboard.footnotes import describe_commit


def render_json(board: Board) -> str:
    """Return leaderboard.json: the suite, its columns, and a run with its numbers (10 significant
    digits) a line. A number that was not measured has its state and reason; one that does not apply
    is left out."""
    suite = board.suite
    head = {
        "suite": {"name": suite.name, "version": suite.version, "sha256": suite.sha256}
        | {"title": suite.title, "partial": suite.partial, "images": suite.images},
        "columns": {column.key: _column(column) for column in board.columns},
    }
    runs = [_dump(_line(line, board)) for line in (*board.lines, *board.originals)]
    body = ",\n".join(f"  {run}" for run in runs)
    facts = ",\n".join(f'"{key}": {_dump(value)}' for key, value in head.items())
    return f'{{\n{facts},\n"runs": [\n{body}\n]\n}}\n'


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _column(column: Column) -> dict[str, Any]:
    metric = column.metric
    facts = {"label": column.label, "group": column.group, "unit": metric.unit}
    return facts | {"better": metric.better, "metric": metric.key, "rate": column.rate}


def _line(line: Line, board: Board) -> dict[str, Any]:
    facts: dict[str, Any] = {"run": line.name, "block": line.block}
    if line.run is not None:
        record = line.record
        facts |= {"title": line.title, "family": line.family, "kind": line.kind}
        facts |= {"problem": line.problem, "key": record.key, "dtype": record.protocol.dtype}
        facts |= {"device": record.environment.device, "commit": describe_commit(record)}
    cells = {
        column.key: _cell(cell, line.ranks.get(column.key))
        for column in board.columns
        if (cell := line.cells[column.key]).state != "not-applicable" or cell.reason
    }
    return facts | {"cells": cells}


def _cell(cell: Cell, rank: tuple[int, int] | None) -> dict[str, Any]:
    if cell.value is None:
        return {"state": cell.state, "reason": cell.reason}
    ends = {"low": cell.low, "high": cell.high, "se": cell.standard_error, "sd": cell.spread}
    written: dict[str, Any] = {"value": _round(cell.value), "n": cell.n}
    written |= {name: _round(end) for name, end in ends.items() if end is not None}
    written |= {"rank": list(rank)} if rank else {}
    written |= {"bound": cell.bound} if cell.bound != "=" else {}
    return written | ({"warning": cell.warning} if cell.warning else {})


def _round(value: float) -> float:
    return float(f"{value:.10g}")
