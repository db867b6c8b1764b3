"""A board as a table of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column
from vtbench.leaderboard.footnotes import describe_n, usual_n
from vtbench.leaderboard.words import (
    GROUP_TITLES,
    blocks,
    describe_column,
    describe_line,
    format_cell,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable


# Terminal

_TERMINAL = (
    "rate.tokens",
    "reconstruction.bpp",
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "reconstruction.lpips_alex",
    "detail.psnr_db",
    "detail.mtf50_cpp",
    "text.bpp",
    "text.cer",
    "cost.decode_images_per_s",
)
"""What fits a terminal of the overview."""


NAME_WIDTH = 30
"""Characters of a row's name that have a line of their own; the rest of a longer one is folded."""


def terminal_table(board: Board, *, width: int | None = None) -> RichTable:
    """Return the narrow overview of a board, for a terminal.

    Args:
        board: the numbers.
        width: characters of a line; columns that do not fit into it whole are left out, and counted
            below the table. None takes all.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = {column.key: column for column in board.tables[0].columns}
    columns = [shown[key] for key in _TERMINAL if key in shown]
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    names = {line.name: describe_line(line) for line in board.lines}
    cells = {
        column.key: [
            format_cell(line.cells[column.key], column, usual[column.key]) for line in board.lines
        ]
        for column in columns
    }
    longest = min(NAME_WIDTH, max(map(len, names.values()), default=0))
    fitting, left = [], (width or 10**6) - max(longest, len("tokenizer")) - 4
    for column in columns:
        texts = [*_head(column).split("\n"), *cells[column.key]]
        left -= max(map(len, texts)) + 3
        if left < 0:
            break
        fitting.append(column)
    more = len(columns) - len(fitting)
    caption = describe_n(fitting, board.complete)
    caption += f" {more} more columns in leaderboard.md." if more else ""
    table = RichTable(title=suite_label(board.suite), caption=caption.strip())
    table.add_column("tokenizer", overflow="fold", min_width=longest)
    for column in fitting:
        table.add_column(Text(_head(column)), justify="right", no_wrap=True)
    place = {line.name: index for index, line in enumerate(board.lines)}
    for title, lines in blocks(board.lines):
        table.add_section()
        table.add_row(Text(title, style="dim"))
        for line in lines:
            own = [cells[column.key][place[line.name]] for column in fitting]
            table.add_row(*map(Text, [names[line.name], *own]))
    return table


def _head(column: Column) -> str:
    return f"{GROUP_TITLES[column.group]}\n{describe_column(column)}".replace(" (", "\n(")
