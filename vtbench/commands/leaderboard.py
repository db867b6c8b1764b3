"""`vtbench leaderboard`: tables, plots and site of a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base import locations
from vtbench.commands.complaints import complain
from vtbench.commands.options import EMBEDDED, FOLDER, data_option, registry_option
from vtbench.commands.published import find_published

if TYPE_CHECKING:
    from vtbench.leaderboard.board import Board
    from vtbench.results.schema import SuiteFolder


@click.command("leaderboard")
@click.option(
    "--results",
    type=FOLDER,
    multiple=True,
    metavar="DIR",
    help="Folder of results. Default: results/local/embedded. Repeatable with --site.",
)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder for the tables. Default: the folder of results.",
)
@click.option(
    "--site", type=FOLDER, metavar="DIR", help="Write a static site to DIR in place of tables."
)
@registry_option
@data_option
def leaderboard_command(
    results: tuple[Path, ...],
    out: Path | None,
    site: Path | None,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Write the leaderboard of a folder of results, computed from its rows alone.

    Without --site: leaderboard.{md,csv,tex,json} and plots. With --site: static pages with a table
    to search and filter, plots, images side by side, and a page for each tokenizer.
    """
    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.tables import read_beside, render_board, write_board
    from vtbench.results.folder import read_suite_folder

    folders = results or (locations.local_dir(EMBEDDED),)
    if site is None and len(folders) > 1:
        raise click.UsageError("several --results are for --site alone")
    if site is not None and out is not None:
        raise click.UsageError("--out is where tables go, --site where pages go: one of them")
    suites = [read_suite_folder(folder) for folder in folders]
    damaged: list[str] = []

    def read(folder: Path, suite: SuiteFolder) -> tuple[Board, Path, Board | None]:
        published = find_published(suite.name, folder) if suite.published else None
        board = read_board(folder)
        damaged.extend(board.damaged)
        return board, folder, read_beside(folder, published)

    if site is not None:
        from vtbench.commands.site_pages import write_pages

        page = write_pages(
            site,
            [suite.name for suite in suites],
            map(read, folders, suites),  # one at a time
            registries=registries,
            data_folders=data_folders,
        )
        click.echo(str(page))
    else:
        board, folder, beside = read(folders[0], suites[0])
        files = render_board(board, published=beside)
        write_board(out or folder, files)
        for name in files:
            click.echo(str((out or folder) / name))
    for complaint in damaged:
        complain(f"{complaint}: left out of the board")
    if damaged:
        raise click.exceptions.Exit(1)
