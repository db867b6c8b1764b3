"""From a local run to a published table: what may pass, and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.base.files import resolve_below, write_atomic
from vtbench.base.locations import published_dir
from vtbench.commands.audit.fitness import find_unfit
from vtbench.commands.audit.folder import audit_results
from vtbench.commands.options import EMBEDDED, FOLDER
from vtbench.leaderboard.tables import render_folder, write_board
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_runs, read_suite_folder
from vtbench.results.known_files import list_run_files, list_suite_files, read_known_files
from vtbench.results.schema import SuiteFolder
from vtbench.suites.suites import suite_paths


def publish_results(folder: Path, target: Path | None = None) -> Iterator[str]:
    """Copy a folder's runs to the published one, render its board, and say what was done.

    Every run must be complete, without failures, of the suite's own protocol, with pinned weights,
    and made by committed code. Only the files that a run has are copied: regular files of bounded
    size, pictures that decode. Raises ResultsError naming the first run or file that is not so; then
    nothing is copied.
    """
    suite = read_suite_folder(folder)
    if not suite.pinned:
        raise ResultsError(
            f"{folder}: no manifest pins the images of {suite.name}; write one with `vtbench manifest "
            f"{suite.name}` and name it in the suite"
        )
    if suite.partial is not None:
        raise ResultsError(f"{folder}: {suite.partial}; only a whole suite is published")
    if not suite.published:
        raise ResultsError(f"{folder}: {suite.name} is an ad-hoc suite and is never published")
    runs = read_runs(folder)
    if not runs:
        raise ResultsError(f"{folder}: no runs to publish")
    for run in runs:
        if reason := find_unfit(run.record):
            raise ResultsError(f"{run.folder}: not published: {reason}")
        if run.record.suite.sha256 != suite.sha256:
            raise ResultsError(
                f"{run.folder}: of another version of {suite.name}; measure it again"
            )
    if suite.name in suite_paths():  # another's manifest and protocol are not here to compare with
        audit_results(folder, suite, runs, load_registry(), published=False)
    # Every file is read and checked before the first is written: all of it is published or nothing.
    files = {
        run.record.run: read_known_files(run.folder, list_run_files(run.record, suite))
        for run in runs
    }
    originals = read_known_files(folder, list_suite_files(suite))
    beside = (
        f"{suite.name}@{suite.version}"  # a version beside the current one, as in suites.suites
    )
    target = target or published_dir(beside if beside in suite_paths() else suite.name)
    for run in runs:
        for name, content in files[run.record.run].items():
            write_atomic(resolve_below(target, f"{run.record.run}/{name}"), content)
        yield f"{run.record.run}: {run.record.n_done} images"
    for name, content in originals.items():
        write_atomic(resolve_below(target, name), content)
    write_board(target, render_folder(target))
    yield f"published {len(runs)} runs in {target}"


def find_target(suite: SuiteFolder) -> Path:
    """Return where a suite's published results are: NAME@VERSION of a version that stands beside the
    current one."""
    beside = f"{suite.name}@{suite.version}"
    return published_dir(beside if beside in suite_paths() else suite.name)


@click.command("publish")
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--to", "target", type=FOLDER, metavar="DIR", help="Default: results/<suite>.")
def publish_command(results: Path | None, target: Path | None) -> None:
    """Copy complete, clean, pinned runs to the published folder and render its board."""

    folder = results or locations.local_dir(EMBEDDED)
    for line in publish_results(folder, target):
        click.echo(line)
