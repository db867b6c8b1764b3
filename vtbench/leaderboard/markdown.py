"""A board as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column, Line, Table
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_n, usual_n, write_footnotes
from vtbench.leaderboard.published import describe_published, find_delta, match_published
from vtbench.leaderboard.words import (
    NO_CELL,
    blocks,
    describe_column,
    describe_line,
    find_front,
    format_cell,
    format_interval,
    format_rank,
    interval_columns,
    split_code,
)

_MARKDOWN = re.compile(r"([\\`*_\[\]~$|#])")
_HTML = re.compile(r"[&<>]")


def render_markdown(board: Board, published: Board | None) -> str:
    """Return leaderboard.md."""
    from vtbench.leaderboard.plots import plan_plots

    columns = board.overview.columns
    known = match_published(board, published)
    parts = [f"# {escape_markdown(suite_label(board.suite))}: {escape_markdown(board.suite.title)}"]
    parts += [escape_markdown(board.suite.description)] if board.suite.description else []
    for table in board.tables:
        parts += [f"## {escape_markdown(table.title)}", _markdown_table(board, table, known)]
        if table.overview:
            parts += map(escape_markdown, describe_published(board, published))
            plots = plan_plots(board, published)
            parts += [f"![{escape_markdown(plot.title)}]({plot.file})" for plot in plots]
        if table.overview and (chosen := interval_columns(board)):
            parts += ["## Intervals and ranks", _markdown_intervals(board, chosen)]
    for note in write_footnotes(board, columns):
        parts.append(f"## {note.heading}")
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in note.lines))
    return "\n\n".join(parts) + "\n"


def _markdown_table(board: Board, table: Table, known: Mapping[str, Line]) -> str:
    """Return a table. known: published lines, to which numbers have their differences."""
    facts = ("tokenizer", "family", "kind") if table.overview else ("tokenizer",)
    heads = [
        describe_column(c)
        if not table.overview or c.task is None
        else f"{group_title(c.group)} {describe_column(c)}"
        for c in table.columns
    ]
    rows = [[*facts, *map(escape_markdown, heads)]]
    usual = {column.key: usual_n(column, board.complete) for column in table.columns}
    fronts = {column.key: find_front(board.lines, column) for column in table.columns}
    for title, lines in blocks(board.lines, table.kind, curves=table.overview):
        rows.append([f"**{title}**", *[""] * (len(rows[0]) - 1)])
        for line in lines:
            names = [*map(escape_markdown, (describe_line(line), line.family, line.kind))]
            cells = []
            for c in table.columns:
                cell = line.cells.get(c.key, NO_CELL)
                text = escape_markdown(format_cell(cell, c, usual[c.key]))
                text = f"**{text}**" if line.competes and line.name in fronts[c.key] else text
                delta = find_delta(line, c, known)
                cells.append(f"{text} (Δ {delta})" if delta else text)
            rows.append([*names[: len(facts)], *cells])
    for line in board.originals if table.originals else ():
        cells = [_original_cell(line, c, usual[c.key]) for c in table.columns]
        rows.append([f"*{escape_markdown(line.name)}*", *map(escape_markdown, cells)])
    align = [*["---"] * len(facts), *["---:"] * len(heads)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], align, *rows[1:]])
    n = describe_n(table.columns, board.complete)
    return f"{escape_markdown(n)}\n\n{text}" if n else text


def _markdown_intervals(board: Board, columns: Sequence[Column]) -> str:
    """Return the table of values with their intervals, and of ranks where the board has them."""
    ranked = {c.key for c in columns if any(c.key in line.ranks for line in board.lines)}
    heads = []
    for column in columns:
        heads.append(escape_markdown(f"{group_title(column.group)} {describe_column(column)}"))
        heads += ["rank"] if column.key in ranked else []
    rows = [["tokenizer", *heads], ["---", *["---:"] * len(heads)]]
    groups = [*blocks(board.lines), ("", list(board.originals))]
    for title, lines in groups:
        rows += [[f"**{title}**", *[""] * len(heads)]] if title else []
        for line in lines:
            cells = []
            for column in columns:
                cell = line.cells.get(column.key)
                text = "" if cell is None else format_cell(cell, column, cell.n)
                ends = "" if cell is None else format_interval(cell, column)
                cells.append(escape_markdown(f"{text} ({ends})" if ends else text))
                cells += [format_rank(line, column)] if column.key in ranked else []
            name = escape_markdown(describe_line(line))
            rows.append([name if title else f"*{name}*", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _original_cell(line: Line, column: Column, usual: int) -> str:
    cell = line.cells.get(column.key)
    return format_cell(cell, column, usual) if cell is not None else ""


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is; what stands between backticks becomes code."""

    def plain(part: str) -> str:
        part = part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return _MARKDOWN.sub(r"\\\1", part)

    flat = " ".join(text.split())
    if not (_MARKDOWN.search(flat) or _HTML.search(flat)):
        return flat
    # A pipe ends a table's cell even inside code.
    return "".join(
        f"`{part}`" if code and "|" not in part else plain(part) for code, part in split_code(flat)
    )
