"""`vtbench legibility`: how well known text is read, by script and glyph height."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.base.files import write_atomic
from vtbench.base.text_table import format_table
from vtbench.commands.options import FOLDER, data_option
from vtbench.leaderboard.legibility import (
    ReadingTable,
    collect_readings,
    compare_runs,
    describe_run,
)
from vtbench.results.folder import read_checked_run, read_runs
from vtbench.suites.suites import load_suite


@click.command("legibility")
@click.argument("names", nargs=-1, metavar="[RUN ...]")
@click.option(
    "--suite",
    "suite_name",
    default="text-multilingual",
    show_default=True,
    metavar="NAME",
    help="Suite whose pages were read.",
)
@click.option(
    "--results", type=FOLDER, metavar="DIR", help="Folder of results. Default: results/local/SUITE."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Also plot the curves."
)
@data_option
def legibility_command(
    names: tuple[str, ...],
    suite_name: str,
    results: Path | None,
    plot: Path | None,
    data_folders: tuple[Path, ...],
) -> None:
    """Print how well known text is read, by script and glyph height.

    Without names, all runs of the folder are printed: error rates, the smallest legible glyph
    height, text that an engine seems to have corrected by itself, and how far two engines agree.
    """
    suite = load_suite(suite_name, data_folders)
    folder = results or locations.local_dir(suite.folder)
    runs = [read_checked_run(folder / name) for name in names] if names else read_runs(folder)
    if not runs:
        raise ResultsError(f"{folder}: no runs; measure one by `vtbench run --suite {suite_name}`")
    read = [collect_readings(suite, run) for run in runs]
    told: set[str] = set()
    for own in read:
        version = own.run.record.protocol.ocr.get(own.engine, "")
        click.echo(f"{own.name} · read by {own.engine or 'nothing'} {version}".rstrip())
        for table in describe_run(own):
            _print(table, told)
    for table in compare_runs(read):
        click.echo(table.title)
        _print(table, told)
    if plot is not None:
        from vtbench.leaderboard.legibility_plot import draw_legibility

        picture = draw_legibility(read)
        if picture is None:
            raise ResultsError(f"{suite.name} has no plain pages of two glyph heights to draw")
        write_atomic(plot, picture)
        click.echo(str(plot))


def _print(table: ReadingTable, told: set[str]) -> None:
    """Print a table, and what its cells are where that was not `told` yet."""
    click.echo(format_table(table.rows))
    if table.explanation not in told:
        click.echo(textwrap.fill(table.explanation, 100))
        told.add(table.explanation)
    click.echo()
