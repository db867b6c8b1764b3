"""A board as a table of the terminal: as many columns as fit, every name and number whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column
from vtbench.leaderboard.choice import list_wanted
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_missing, describe_n, usual_n
from vtbench.leaderboard.words import blocks, describe_column, format_cell

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable

_FRAME = 3  # columns of the screen that a column of the table takes beside its text


def terminal_table(board: Board, *, width: int, asked: Sequence[str] = ()) -> Group:
    """Return the narrow overview of a board, and below it what is not shown and why.

    Args:
        board: The numbers.
        width: Of the screen, in characters. Columns that do not fit are left out and named.
        asked: Keys of metrics that were asked for. They are the most wanted.
    """
    from rich.console import Group
    from rich.text import Text

    columns = _choose_columns(board, width, asked)
    dropped = [_label(c) for c in _list_wanted(board, asked) if c not in columns]
    notes = [describe_n(columns, board.complete)]
    notes += [f"Not shown at this width: {', '.join(dropped)}."] if dropped else []
    notes += describe_missing(board, columns)
    return Group(_draw_table(board, columns), Text("\n".join(note for note in notes if note)))


def _draw_table(board: Board, columns: Sequence[Column]) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=suite_label(board.suite))
    table.add_column("tokenizer", overflow="fold")
    for column in columns:
        table.add_column(Text(_head(column)), justify="right", no_wrap=True)
    rows = iter(_format_rows(board, columns))
    for title, lines in blocks(board.lines, curves=True):
        table.add_section()
        table.add_row(Text(title, style="dim"))
        for _ in lines:
            table.add_row(*map(Text, next(rows)))
    return table


def _list_wanted(board: Board, asked: Sequence[str]) -> list[Column]:
    """Return the columns that a narrow table may have, the most wanted first."""
    own = [
        column
        for column in board.columns
        if column.whole
        and column.metric.key in asked
        and any(line.cells[column.key].value is not None for line in board.complete)
    ]
    return [*own, *(column for column in list_wanted(board) if column not in own)]


def _choose_columns(board: Board, width: int, asked: Sequence[str]) -> list[Column]:
    """Return the most wanted columns that fit beside the names, in the order of the overview; those
    that the overview lacks stand after those of their task."""
    wanted = _list_wanted(board, asked)
    rows = _format_rows(board, wanted)
    left = width - 1 - _FRAME - max(map(_width, ["tokenizer", *(row[0] for row in rows)]))
    chosen = []
    for place, column in enumerate(wanted, start=1):
        needed = _FRAME + max(map(_width, [_head(column), *(row[place] for row in rows)]))
        if needed <= left:
            chosen.append(column)
            left -= needed
    groups = list(dict.fromkeys(column.group for column in board.overview.columns))
    order = {column.key: place for place, column in enumerate(board.overview.columns)}
    return sorted(
        chosen, key=lambda column: (groups.index(column.group), order.get(column.key, len(order)))
    )


def _format_rows(board: Board, columns: Sequence[Column]) -> list[list[str]]:
    return list(_rows(board, columns))


def _rows(board: Board, columns: Sequence[Column]) -> Iterator[list[str]]:
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    for _, lines in blocks(board.lines, curves=True):
        for line in lines:
            name = f"{line.name}\n({len(line.records)} seeds)" if line.other_seeds else line.name
            cells = (format_cell(line.cells[c.key], c, usual[c.key]) for c in columns)
            yield [name, *cells]


def _width(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))


def _head(column: Column) -> str:
    return f"{group_title(column.group)}\n{describe_column(column).replace(' (', chr(10) + '(')}"


def _label(column: Column) -> str:
    return f"{group_title(column.group)} {column.label}"
