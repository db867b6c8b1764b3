"""`vtbench table`: chosen runs and columns for a paper, a page or a program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base.errors import VtbenchError
from vtbench.base.text_table import screen_width
from vtbench.commands.options import FOLDER
from vtbench.commands.published import find_results

if TYPE_CHECKING:
    from vtbench.leaderboard.paper import Best, Format


@click.command("table")
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Folder of results. Default: results/local/embedded, or the published ones.",
)
@click.option(
    "--rows", metavar="A,B,...", help="Runs, in this order. Default: all tokenizers and codecs."
)
@click.option(
    "--columns", metavar="KEY,...", help="Columns: psnr_db, text.cer, ... Default: at most eight."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "md", "latex", "csv", "json"]),
    help="Default: text on a terminal, in as many columns as fit; md elsewhere.",
)
@click.option("--ci", is_flag=True, help="Add 95 % intervals.")
@click.option(
    "--best",
    type=click.Choice(["bold", "front"]),
    help="bold marks the best of a column, front the Pareto front of rate and score.",
)
def table_command(
    results: Path | None,
    rows: str | None,
    columns: str | None,
    kind: Format | None,
    ci: bool,
    best: Best | None,
) -> None:
    """Print a table of chosen runs and columns for a paper, with a sentence on the protocol.

    LaTeX output needs booktabs. A table that fits neither a column nor the width of a two-column
    page is refused.
    """
    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.choice import find_column, find_lines, list_wanted, split_commas
    from vtbench.leaderboard.paper import MAX_COLUMNS, PaperTable

    folder = find_results(results)
    board = read_board(folder)
    if columns is not None:
        chosen = [find_column(board, name) for name in split_commas(columns)]
    else:
        wanted = list_wanted(board)[:MAX_COLUMNS]
        chosen = [column for column in board.overview.columns if column in wanted]
    lines = find_lines(board, split_commas(rows or ""))
    if not lines:
        raise VtbenchError(f"{folder}: no tokenizer or codec to print; --rows names other runs")
    table = PaperTable(board, lines, chosen, intervals=ci, best=best)
    if kind is None:
        kind = "text" if sys.stdout.isatty() else "md"
    click.echo(table.render(kind, width=screen_width()), nl=False)
