"""A board as a table of the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.leaderboard.aggregate import read_board, suite_label
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


def terminal_table(folder: Path) -> RichTable:
    """Return the narrow overview of a suite's folder, for a terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    board = read_board(folder)
    shown = {column.key: column for column in board.tables[0].columns}
    columns = [shown[key] for key in _TERMINAL if key in shown]
    table = RichTable(title=suite_label(board.suite), caption=describe_n(columns, board.complete))
    table.add_column("tokenizer")
    for column in columns:
        table.add_column(
            Text(
                f"{GROUP_TITLES[column.group]}\n{describe_column(column).replace(' (', chr(10) + '(')}"
            ),
            justify="right",
        )
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    for title, lines in blocks(board.lines):
        table.add_section()
        table.add_row(Text(title, style="dim"))
        for line in lines:
            cells = [format_cell(line.cells[c.key], c, usual[c.key]) for c in columns]
            table.add_row(*map(Text, [describe_line(line), *cells]))
    return table
