"""`vtbench leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base import locations
from vtbench.commands.complaints import complain
from vtbench.commands.options import EMBEDDED, FOLDER
from vtbench.commands.published import find_published


@click.command("leaderboard")
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: the results' own folder.")
def leaderboard_command(results: Path | None, out: Path | None) -> None:
    """Write leaderboard.{md,csv,tex,html} of a folder of results, from its rows alone."""
    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.tables import read_beside, render_board, write_board
    from vtbench.results.folder import read_suite_folder

    folder = results or locations.local_dir(EMBEDDED)
    suite = read_suite_folder(folder)
    published = find_published(suite.name, folder) if suite.published else None
    board = read_board(folder)
    files = render_board(board, folder, published=read_beside(folder, published))
    target = out or folder
    write_board(target, files, pictures=folder)
    for name in files:
        click.echo(str(target / name))
    for complaint in board.damaged:
        complain(f"{complaint}: left out of the board")
    if board.damaged:
        raise click.exceptions.Exit(1)
