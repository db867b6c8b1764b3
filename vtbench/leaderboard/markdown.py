"""A board as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column, Line, Table
from vtbench.leaderboard.footnotes import describe_n, usual_n, write_footnotes
from vtbench.leaderboard.words import (
    GROUP_TITLES,
    INTERVALS,
    blocks,
    describe_column,
    describe_line,
    describe_published,
    find_front,
    format_cell,
    format_interval,
    format_rank,
    interval_columns,
    overview_columns,
    split_code,
)

if TYPE_CHECKING:
    pass


# Markdown

_MARKDOWN = re.compile(r"([\\`*_\[\]~$|#])")


def render_markdown(board: Board, published: Board | None) -> str:
    """Return leaderboard.md."""
    from vtbench.leaderboard.plots import plan_plots

    columns = overview_columns(board, published)
    parts = [f"# {_md(suite_label(board.suite))}: {_md(board.suite.title)}"]
    parts += [_md(board.suite.description)] if board.suite.description else []
    for table in (Table("overview", "Overview", columns), *board.tables[1:]):
        parts += [f"## {_md(table.title)}", _markdown_table(board, table)]
        if table.key == "overview":
            if published is not None:
                parts.append("## Published results")
                parts.append("\n".join(f"- {_md(s)}" for s in describe_published(board, published)))
                parts.append(_markdown_table(published, table))
            plots = plan_plots(board, published)
            parts += [f"![{_md(plot.title)}]({plot.file})" for plot in plots]
        if table.key == "overview" and (chosen := interval_columns(board, INTERVALS)):
            parts += ["## Intervals and ranks", _markdown_intervals(board, chosen)]
    for note in write_footnotes(board, columns):
        parts.append(f"## {note.heading}")
        parts.append("\n".join(f"- {_md(sentence)}" for sentence in note.lines))
    return "\n\n".join(parts) + "\n"


def _markdown_table(board: Board, table: Table) -> str:
    overview = table.key == "overview"
    facts = ("tokenizer", "family", "kind") if overview else ("tokenizer",)
    heads = [
        describe_column(c)
        if not overview or c.group in ("rate", "cost")
        else f"{GROUP_TITLES[c.group]} {describe_column(c)}"
        for c in table.columns
    ]
    rows = [[*facts, *map(_md, heads)]]
    usual = {column.key: usual_n(column, board.complete) for column in table.columns}
    fronts = {column.key: find_front(board.lines, column) for column in table.columns}
    for title, lines in blocks(table.choose_lines(board.lines)):
        rows.append([f"**{title}**", *[""] * (len(rows[0]) - 1)])
        for line in lines:
            names = [_md(describe_line(line)), _md(line.family), _md(line.kind)]
            cells = [
                _strong(_md(format_cell(line.cells[c.key], c, usual[c.key])), line, fronts[c.key])
                for c in table.columns
            ]
            rows.append([*names[: len(facts)], *cells])
    for line in board.originals if table.originals else ():
        cells = [_original_cell(line, c, usual[c.key]) for c in table.columns]
        rows.append([f"*{_md(line.name)}*", *map(_md, cells)])
    align = [*["---"] * len(facts), *["---:"] * len(heads)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], align, *rows[1:]])
    n = describe_n(table.columns, board.complete)
    return f"{_md(n)}\n\n{text}" if n else text


def _markdown_intervals(board: Board, columns: Sequence[Column]) -> str:
    """Return the table of values with their intervals, and of ranks where the board has them."""
    ranked = {c.key for c in columns if any(c.key in line.ranks for line in board.lines)}
    heads = []
    for column in columns:
        heads.append(_md(f"{GROUP_TITLES[column.group]} {describe_column(column)}"))
        heads += ["rank"] if column.key in ranked else []
    rows = [["tokenizer", *heads], ["---", *["---:"] * len(heads)]]
    groups = [*blocks(board.lines), ("", list(board.originals))]
    for title, lines in groups:
        rows += [[f"**{title}**", *[""] * len(heads)]] if title else []
        for line in lines:
            cells = []
            for column in columns:
                cell = line.cells.get(column.key)
                told = "" if cell is None else format_cell(cell, column, cell.n)
                ends = "" if cell is None else format_interval(cell, column)
                cells.append(_md(f"{told} ({ends})" if ends else told))
                cells += [format_rank(line, column)] if column.key in ranked else []
            name = _md(describe_line(line))
            rows.append([name if title else f"*{name}*", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _strong(text: str, line: Line, front: frozenset[str]) -> str:
    return f"**{text}**" if line.name in front and line.block in ("tokenizers", "codecs") else text


def _original_cell(line: Line, column: Column, usual: int) -> str:
    cell = line.cells.get(column.key)
    return format_cell(cell, column, usual) if cell is not None else ""


def _md(text: str) -> str:
    """Return text that Markdown shows as it is; what stands between backticks becomes code."""

    def plain(part: str) -> str:
        part = part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return _MARKDOWN.sub(r"\\\1", part)

    flat = " ".join(text.split())
    # A pipe ends a table's cell even inside code.
    return "".join(
        f"`{part}`" if code and "|" not in part else plain(part) for code, part in split_code(flat)
    )
