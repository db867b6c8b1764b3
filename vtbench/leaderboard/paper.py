"""A small table for a paper, a page or a program: chosen runs and columns, as LaTeX, Markdown, CSV or
JSON, with the protocol's sentence."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vtbench.base.errors import VtbenchError
from vtbench.base.text import show_text
from vtbench.base.text_table import wrap_text
from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Cell, Column, Line
from vtbench.leaderboard.choice import list_wanted
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_n, usual_n
from vtbench.leaderboard.latex import escape_latex
from vtbench.leaderboard.markdown import escape_markdown
from vtbench.leaderboard.words import describe_column, find_front, format_cell, format_interval

Format = Literal["text", "md", "latex", "csv", "json"]
Best = Literal["bold", "front"]

MAX_COLUMNS = 8
"""Columns of the table that nobody chose columns for."""

COLUMN_PT, PAGE_PT = 236.0, 496.0
"""The narrowest column and text width of the usual two-column styles (IEEE, ACM, CVPR), in points."""

_DIGIT_PT, _LETTER_PT, _SMALL_PT, _GAP_PT = 4.3, 4.5, 3.7, 6.0
"""Widths at \\footnotesize of a 10 pt document: 8 pt type, 7 pt for intervals; the space of a column."""


_GAP = 2
"""Spaces between the columns of plain text."""


@dataclass(frozen=True)
class PaperTable:
    """Lines × columns of a board.

    Attributes:
        intervals: Whether a number has its 95 % interval beside it.
        best: What is bold: the best number of a column, or those that none beats at their rate.
    """

    board: Board
    lines: Sequence[Line]
    columns: Sequence[Column]
    intervals: bool = False
    best: Best | None = None

    def render(self, kind: Format, *, width: int | None = None) -> str:
        """Return the table as text. width: of the terminal, for plain text; columns that do not fit
        are left out and named.

        Raises:
            VtbenchError: LaTeX wider than a page.
        """
        if kind == "text":
            return _plain(self, width)
        render = {"md": _markdown, "latex": _latex, "csv": _csv, "json": _json}
        return render[kind](self)

    def text(self, line: Line, column: Column) -> str:
        """Return what a cell says, without its interval."""
        return format_cell(line.cells[column.key], column, self._usual[column.key])

    @cached_property
    def _usual(self) -> dict[str, int]:
        return {column.key: usual_n(column, self.lines) for column in self.columns}

    def interval(self, line: Line, column: Column) -> str:
        """Return the ends of a cell's interval, "" where it is not shown or has none."""
        return format_interval(line.cells[column.key], column) if self.intervals else ""

    def bold(self, column: Column) -> frozenset[str]:
        """Return the lines whose number is bold."""
        if self.best is None or column.rate is None or column.metric.better is None:
            return frozenset()  # a rate is no quality
        if self.best == "front":
            return find_front(self.lines, column)
        sign = 1 if column.metric.better == "higher" else -1
        values = {
            line.name: (sign * cell.value, self.text(line, column))
            for line in self.lines
            if line.competes and (cell := line.cells[column.key]).value is not None
            if cell.bound != "<"
        }
        if not values:
            return frozenset()
        _, best = max(values.values())
        # Numbers that are printed alike are bold alike.
        return frozenset(name for name, (_, text) in values.items() if text == best)

    def caption(self) -> str:
        """Return the protocol in sentences: the suite, n, the versions, what is bold."""
        records = [record for line in self.lines for record in line.records]
        versions = sorted({record.environment.vtbench for record in records})
        dtypes = sorted({record.protocol.dtype for record in records})
        parts = [f"{self.board.suite.title}: {suite_label(self.board.suite)}"]
        parts += [f"measured with vtbench {', '.join(versions)} in {', '.join(dtypes)}"]
        sentences = [", ".join(parts) + "."]
        if (partial := self.board.suite.partial) is not None:
            sentences.append(f"{partial[0].upper()}{partial[1:]}.")
        sentences += [n] if (n := describe_n(self.columns, self.lines)) else []
        sentences += {
            None: [],
            "bold": ["Bold: best of the table, whatever its rate."],
            "front": ["Bold: no other does as well at this rate (bpp of the same task) or less."],
        }[self.best]
        if self.intervals:
            sentences.append("Ranges: 95 % intervals over images (cluster bootstrap, BCa).")
        return " ".join(sentences)

    def groups(self) -> list[tuple[str, int]]:
        """Return the headings above the columns, each with how many it spans."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            title = group_title(column.group)
            if groups and groups[-1][0] == title:
                groups[-1] = (title, groups[-1][1] + 1)
            else:
                groups.append((title, 1))
        return groups


def _plain(table: PaperTable, width: int | None) -> str:
    """Return aligned columns for a terminal, headings in up to three lines, `*` at what is bold."""
    wanted = list_wanted(table.board)
    columns = sorted(table.columns, key=lambda c: wanted.index(c) if c in wanted else len(wanted))
    names = ["", "tokenizer", "", *(show_text(line.name) for line in table.lines)]
    texts = {column.key: _plain_column(table, column) for column in columns}
    left = (width or sys.maxsize) - max(map(len, names))
    shown = set()
    for column in columns:
        needed = _GAP + max(map(len, texts[column.key]))
        if needed <= left:
            shown.add(column.key)
            left -= needed
    chosen = [names, *(texts[column.key] for column in table.columns if column.key in shown)]
    widths = [max(map(len, own)) for own in chosen]
    lines = []
    for cells in zip(*chosen, strict=True):
        first, *rest = (cell.rjust(n) for cell, n in zip(cells, widths, strict=True))
        lines.append((" " * _GAP).join([first.strip().ljust(widths[0]), *rest]).rstrip())
    left_out = [c for c in table.columns if c.key not in shown]
    gone = [f"{group_title(c.group)} {c.label}" for c in left_out]
    notes = [f"(not shown at this width: {', '.join(gone)})"] if gone else []
    marked = table.caption().replace("Bold:", "*:")
    return (
        "\n".join([*filter(None, lines), "", *(wrap_text(x, width) for x in [marked, *notes])])
        + "\n"
    )


def _plain_column(table: PaperTable, column: Column) -> list[str]:
    """Return a column's three lines of heading and its cells."""
    bold, cells = table.bold(column), []
    for line in table.lines:
        mark = "*" if line.name in bold else ""
        interval = table.interval(line, column)
        cells.append(f"{mark}{table.text(line, column)}" + (f" {interval}" if interval else ""))
    return [group_title(column.group), *_split_head(column), *cells]


def _markdown(table: PaperTable) -> str:
    heads = [f"{group_title(c.group)} {describe_column(c)}" for c in table.columns]
    rows = [["tokenizer", *map(escape_markdown, heads)], ["---", *["---:"] * len(heads)]]
    bold = {column.key: table.bold(column) for column in table.columns}
    for line in table.lines:
        cells = []
        for column in table.columns:
            text = escape_markdown(table.text(line, column))
            text = f"**{text}**" if line.name in bold[column.key] else text
            interval = table.interval(line, column)
            cells.append(f"{text} ({escape_markdown(interval)})" if interval else text)
        rows.append([escape_markdown(line.name), *cells])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{text}\n\n{escape_markdown(table.caption())}\n"


def _latex(table: PaperTable) -> str:
    width = _measure(table)
    if width > PAGE_PT:
        raise VtbenchError(
            f"the table would be {width:.0f} pt wide, a page of two columns has {PAGE_PT:.0f} pt at "
            "8 pt type: fewer --columns, or without --ci"
        )
    environment = "table" if width <= COLUMN_PT else "table*"
    n = len(table.columns)
    spans, rules, first = [], [], 2
    for group, size in table.groups():
        spans.append(rf"\multicolumn{{{size}}}{{c}}{{{escape_latex(group)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + size - 1}}}")
        first += size
    heads = [_split_head(column) for column in table.columns]
    text = [
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{{environment}}}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(table.caption())}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * n}@{{}}}}",
        r"\toprule",
        rf" & {' & '.join(spans)} \\",
        "".join(rules),
        rf"tokenizer & {' & '.join(escape_latex(label) for label, _ in heads)} \\",
    ]
    if any(unit for _, unit in heads):
        text.append(rf" & {' & '.join(escape_latex(unit) for _, unit in heads)} \\")
    text += _latex_rows(table)
    text += [r"\bottomrule", r"\end{tabular}", rf"\end{{{environment}}}"]
    return "\n".join(text) + "\n"


def _latex_rows(table: PaperTable) -> Iterator[str]:
    block = None
    bold = {column.key: table.bold(column) for column in table.columns}
    for line in table.lines:
        if line.block != block:
            block = line.block
            yield r"\midrule"
        cells = []
        for column in table.columns:
            cell = escape_latex(table.text(line, column))
            cell = rf"\textbf{{{cell}}}" if line.name in bold[column.key] else cell
            interval = table.interval(line, column)
            cells.append(rf"{cell} {{\scriptsize {escape_latex(interval)}}}" if interval else cell)
        yield rf"{escape_latex(line.name)} & {' & '.join(cells)} \\"


def _split_head(column: Column) -> tuple[str, str]:
    """Return a column's label with its direction, and its unit in brackets for the line below."""
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.metric.better]
    text = describe_column(column)
    label = f"{column.label}{arrow}"
    return (label, text.removeprefix(label).strip()) if text.startswith(label) else (text, "")


def _measure(table: PaperTable) -> float:
    """Return how wide the LaTeX table is at most, in points."""
    names = ["tokenizer", *(line.name for line in table.lines)]
    width = _LETTER_PT * max(map(len, names))
    for column in table.columns:
        heads = max(map(len, _split_head(column))) * _LETTER_PT
        cells = (
            _DIGIT_PT * len(table.text(line, column))
            + (_SMALL_PT * (len(interval) + 1) if (interval := table.interval(line, column)) else 0)
            for line in table.lines
        )
        width += _GAP_PT + max(heads, *cells)
    return width


def _csv(table: PaperTable) -> str:
    """Return a row a run. A column of numbers has a second one of bounds if a number lies beyond what
    was measured, and one of states if a number is missing, failed or not applicable."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kinds: list[tuple[str, str]] = []
    for column in table.columns:
        cells = [line.cells[column.key] for line in table.lines]
        facts = ["", *((".low", ".high") if table.intervals else ())]
        facts += [".bound"] if any(cell.bound != "=" for cell in cells) else []
        facts += [".state"] if any(cell.state != "measured" for cell in cells) else []
        kinds += [(column.key, fact) for fact in facts]
    writer.writerow(["run", *("".join(kind) for kind in kinds)])
    for line in table.lines:
        writer.writerow([line.name, *(_csv_fact(line.cells[key], fact) for key, fact in kinds)])
    return out.getvalue()


def _csv_fact(cell: Cell, fact: str) -> str:
    if fact == ".state":
        return cell.state
    if fact == ".bound":
        return cell.bound if cell.value is not None else ""
    value = {"": cell.value, ".low": cell.low, ".high": cell.high}[fact]
    return "" if value is None else f"{value:.10g}"


def _json(table: PaperTable) -> str:
    suite = table.board.suite
    columns = [
        {"key": c.key, "label": c.label, "unit": c.metric.unit, "better": c.metric.better}
        for c in table.columns
    ]
    rows = [
        {"run": line.name, "cells": {c.key: _json_cell(line.cells[c.key]) for c in table.columns}}
        for line in table.lines
    ]
    facts = {"name": suite.name, "version": suite.version, "sha256": suite.sha256}
    record = {"suite": facts, "caption": table.caption(), "columns": columns, "rows": rows}
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _json_cell(cell: Cell) -> dict[str, object]:
    return {
        "value": cell.value,
        "bound": cell.bound,
        "low": cell.low,
        "high": cell.high,
        "n": cell.n,
        "state": cell.state,
        "reason": cell.reason,
    }
