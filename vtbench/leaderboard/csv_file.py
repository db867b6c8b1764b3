"""A board as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vtbench.base.text import strip_hidden
from vtbench.leaderboard.board import Board, Column, Line
from vtbench.leaderboard.footnotes import describe_commit
from vtbench.leaderboard.published import match_published
from vtbench.metrics.catalogue import SET_METRICS

BOUNDED = frozenset(
    {"mtf50_cpp", "mtf50_fit_cpp", "mtf10_fit_cpp", "mtf50_fit_cpt", "mtf10_fit_cpt"}
)
"""Metrics whose true value may lie beyond the charts' frequencies."""


def render_csv(board: Board, published: Board | None) -> str:
    """Return leaderboard.csv: a row a run, a column a number (10 significant digits), its n, state
    and, where images are drawn again, the ends of its interval and rank, the standard deviation over
    seeds where there are several, and the difference to the published number where the run is
    published too. An empty cell beside
    `measured` does not exist; MTF50 and MTF10 have a column with their bound."""
    columns = board.columns
    known = match_published(board, published)
    lines = [*board.lines, *board.originals]
    extra = {
        column.key: _Extra(
            interval=any(cell.shares for line in lines if (cell := line.cells.get(column.key))),
            rank=any(column.key in line.ranks for line in lines),
            spread=any(
                cell.spread is not None for line in lines if (cell := line.cells.get(column.key))
            ),
            published=known,
        )
        for column in columns
    }
    head = ["source", "run", "title", "family", "kind", "quantizer", "block", "problem"]
    for column in columns:
        key = column.key
        head += [key, f"{key}.n", f"{key}.state"]
        head += [f"{key}.low", f"{key}.high"] if extra[key].interval else []
        head += [f"{key}.rank_low", f"{key}.rank_high"] if extra[key].rank else []
        head += [f"{key}.sd"] if extra[key].spread else []
        head += [f"{key}.delta"] if known else []
        head += [f"{key}.bound"] if column.metric.key in BOUNDED else []
        head += [f"{key}.se"] if column.metric.key in SET_METRICS else []
    head += ["psnr_capped", "suite", "suite_version", "suite_sha256", "key", "dtype", "device"]
    head += ["processor", "threads", "vtbench", "commit"]
    out = io.StringIO()
    writer = SafeWriter(out)
    writer.writerow(head)
    for line in board.lines:
        writer.writerow([*_csv_facts(line), *_csv_cells(line, columns, extra), *_csv_run(line)])
    for line in board.originals:
        writer.writerow(
            ["local", line.name, *[""] * 4, line.block, "", *_csv_cells(line, columns, extra)]
        )
    return out.getvalue()


class SafeWriter:
    """A writer of rows whose cells are numbers or text, and never a formula that a spreadsheet runs."""

    def __init__(self, out: io.StringIO) -> None:
        self._writer = csv.writer(out, lineterminator="\n")

    def writerow(self, cells: Iterable[str]) -> None:
        """Write a row."""
        self._writer.writerow(
            [
                f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
                for cell in map(strip_hidden, cells)
            ]
        )


_FORMULA = re.compile(r"[=+\-@|%].")
_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


@dataclass(frozen=True)
class _Extra:
    """Which more a column of numbers has."""

    interval: bool
    rank: bool
    spread: bool
    published: Mapping[str, Line]


def _csv_facts(line: Line) -> list[str]:
    quantizer = line.record.tokenizer.quantizer
    texts = [line.name, line.title, line.family, line.kind, quantizer]
    return ["local", *texts, line.block, line.problem or ""]


def _csv_cells(line: Line, columns: Iterable[Column], extra: Mapping[str, _Extra]) -> Iterator[str]:
    for column in columns:
        cell = line.cells.get(column.key)
        yield "" if cell is None or cell.value is None else f"{cell.value:.10g}"
        yield "" if cell is None else str(cell.n)
        yield "" if cell is None else cell.state
        if extra[column.key].interval:
            for end in (None, None) if cell is None else (cell.low, cell.high):
                yield "" if end is None else f"{end:.10g}"
        if extra[column.key].rank:
            yield from map(str, line.ranks.get(column.key, ("", "")))
        if extra[column.key].spread:
            spread = None if cell is None else cell.spread
            yield "" if spread is None else f"{spread:.10g}"
        if extra[column.key].published:
            yield _csv_delta(line, column, extra[column.key].published)
        if column.metric.key in BOUNDED:
            yield "" if cell is None or cell.value is None else cell.bound
        if column.metric.key in SET_METRICS:
            error = None if cell is None else cell.standard_error
            yield "" if error is None else f"{error:.10g}"


def _csv_delta(line: Line, column: Column, known: Mapping[str, Line]) -> str:
    """Return a number less the published one of the same run, "" where one of them is none."""
    if line.name not in known:
        return ""
    here, there = (one.cells[column.key].value for one in (line, known[line.name]))
    return "" if here is None or there is None else f"{here - there:.10g}"


def _csv_run(line: Line) -> list[str]:
    record, here = line.record, line.record.environment
    return [
        str(line.capped),
        record.suite.name,
        str(record.suite.version),
        record.suite.sha256,
        record.key,
        record.protocol.dtype,
        here.device,
        here.processor,
        str(here.threads),
        here.vtbench,
        describe_commit(record),
    ]
