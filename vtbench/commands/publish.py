"""`vtbench publish`: copies runs that may be published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.commands.audit.publishing import copy_results, find_target, find_unpublishable
from vtbench.commands.options import EMBEDDED, FOLDER
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_runs, read_suite_folder


def publish_results(folder: Path, target: Path | None = None) -> Iterator[str]:
    """Copy a folder's runs to the published one, render its board, and say what was done.

    Raises:
        ResultsError: a run or file may not be published (see `publishing.find_unpublishable`), a line a
            problem; then nothing is copied.
    """
    suite, runs = read_suite_folder(folder), read_runs(folder)
    problems = find_unpublishable(folder, suite, runs, load_registry())
    if problems:
        raise ResultsError(*problems)
    if not runs:
        raise ResultsError(f"{folder}: no runs to publish")
    target = target or find_target(suite)
    copy_results(folder, suite, runs, target)
    for run in runs:
        yield f"{run.record.run}: {run.record.n_done} images"
    yield f"published {len(runs)} runs in {target}"


@click.command("publish")
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Folder of results. Default: results/local/embedded.",
)
@click.option(
    "--to",
    "target",
    type=FOLDER,
    metavar="DIR",
    help="Folder of published results. Default: results/<suite>.",
)
def publish_command(results: Path | None, target: Path | None) -> None:
    """Copy complete, pinned runs of committed code to the published folder and write its
    leaderboard.
    """
    folder = results or locations.local_dir(EMBEDDED)
    for line in publish_results(folder, target):
        click.echo(line)
