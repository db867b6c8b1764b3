"""From a local run to a published table: what may pass, and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.base.files import resolve_below, write_atomic
from vtbench.base.locations import published_dir
from vtbench.commands.options import EMBEDDED, FOLDER
from vtbench.leaderboard.tables import render_board, write_board
from vtbench.results.folder import read_runs, read_suite_folder
from vtbench.results.known_files import list_run_files, list_suite_files, read_known_files
from vtbench.results.schema import RunRecord


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
        if reason := _refuse(run.record):
            raise ResultsError(f"{run.folder}: not published: {reason}")
        if run.record.suite.sha256 != suite.sha256:
            raise ResultsError(
                f"{run.folder}: of another version of {suite.name}; measure it again"
            )
    # Every file is read and checked before the first is written: all of it is published or nothing.
    files = {
        run.record.run: read_known_files(run.folder, list_run_files(run.record, suite))
        for run in runs
    }
    originals = read_known_files(folder, list_suite_files(suite))
    target = target or published_dir(suite.name)
    for run in runs:
        for name, content in files[run.record.run].items():
            write_atomic(resolve_below(target, f"{run.record.run}/{name}"), content)
        yield f"{run.record.run}: {run.record.n_done} images"
    for name, content in originals.items():
        write_atomic(resolve_below(target, name), content)
    write_board(target, render_board(target))
    yield f"published {len(runs)} runs in {target}"


def _refuse(record: RunRecord) -> str | None:
    if not record.tokenizer.registered:
        return "it is of a model that is no registry entry"
    if record.protocol.source != "pass":
        return "its reconstructions were read from files"
    if not record.complete:
        return f"{record.n_done} of {record.n_expected} images, limit {record.protocol.limit}"
    if record.suite.manifest_sha256 is None:
        return "no manifest pins its images"
    if record.protocol.crop is not None:
        return f"its crop {record.protocol.crop} is not the suite's, so its pixels are not pinned"
    if not record.tokenizer.pinned:
        return "its weights are not pinned by revision and sha256"
    if record.environment.commit is None:
        return "it was not made from a checkout, so its code has no commit"
    if record.environment.dirty:
        return "it was made with uncommitted changes; commit, then run again"
    return None


@click.command("publish")
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--to", "target", type=FOLDER, metavar="DIR", help="Default: results/<suite>.")
def publish_command(results: Path | None, target: Path | None) -> None:
    """Copy complete, clean, pinned runs to the published folder and render its board."""

    folder = results or locations.local_dir(EMBEDDED)
    for line in publish_results(folder, target):
        click.echo(line)
