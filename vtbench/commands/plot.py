"""`vtbench plot`: one number of the runs against another."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.commands.options import FOLDER
from vtbench.commands.published import find_results


@click.command("plot")
@click.option(
    "--x",
    "x_name",
    default="bpp",
    show_default=True,
    metavar="KEY",
    help="Horizontal axis: bpp, tokens, ssim, ...",
)
@click.option(
    "--y", "y_name", required=True, metavar="KEY", help="Vertical axis: psnr_db, text.cer, ..."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File ending in .pdf, .svg or .png.",
)
@click.option("--rows", metavar="A,B,...", help="Runs to plot. Default: all but sanity rows.")
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Folder of results. Default: results/local/embedded, or the published ones.",
)
def plot_command(
    x_name: str, y_name: str, out: Path, rows: str | None, results: Path | None
) -> None:
    """Plot any two columns of the leaderboard, with each codec as a curve.

    A metric without a task means the first task that has it. On the horizontal axis it means the
    task of the vertical one.
    """
    from vtbench.base.files import write_atomic
    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.choice import find_column, find_lines, split_commas
    from vtbench.leaderboard.figure import draw_figure, kind_of

    board = read_board(find_results(results))
    y = find_column(board, y_name)
    x = find_column(board, x_name, task=y.task)
    lines = find_lines(board, split_commas(rows or ""), curves=True)
    write_atomic(out, draw_figure(lines, x, y, kind=kind_of(out)))
    click.echo(str(out))
