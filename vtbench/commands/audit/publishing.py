"""Reasons that keep runs from a published folder, all at once, and the copy of runs without any."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from vtbench.base.errors import ResultsError
from vtbench.base.files import resolve_below, write_atomic
from vtbench.base.locations import published_dir
from vtbench.commands.audit.fitness import find_unfit
from vtbench.commands.audit.folder import audit_results
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board
from vtbench.leaderboard.tables import check_board, render_folder, write_board
from vtbench.registry.entries import Registry
from vtbench.results.folder import Run, read_suite_folder, write_suite_folder
from vtbench.results.known_files import (
    list_error_maps,
    list_run_files,
    list_suite_files,
    read_known_files,
)
from vtbench.results.schema import Skipped, SuiteFolder
from vtbench.suites.suites import suite_paths


def find_unpublishable(
    folder: Path,
    suite: SuiteFolder,
    runs: Sequence[Run],
    registry: Registry,
    *,
    data_folders: Sequence[Path] = (),
) -> list[str]:
    """Return why runs of a folder may not be published, a line a problem; empty where they may.

    A suite must be whole, pinned and no ad-hoc one; a run complete, without failures, of the suite's own
    protocol, with pinned weights, and made by committed code. Where the suite is here, the runs' numbers
    are compared with it and with each other.
    """
    found = []
    if not suite.pinned:
        found.append(
            f"{folder}: no manifest pins the images of {suite.name}; write one with `vtbench manifest "
            f"{suite.name}` and name it in the suite"
        )
    if suite.partial is not None:
        found.append(f"{folder}: {suite.partial}; only a whole suite is published")
    if not suite.published:
        found.append(f"{folder}: {suite.name} is an ad-hoc suite and is never published")
    if found:  # of such a folder, nothing more can be said
        return found
    for run in runs:
        if reason := find_unfit(run.record):
            found.append(f"{run.folder}: not published: {reason}")
        if run.record.suite.sha256 != suite.sha256:
            found.append(f"{run.folder}: of another version of {suite.name}; measure it again")
    if suite.name in suite_paths(data_folders):  # another's manifest is not here to compare with
        board = read_board(folder)
        companions: list[Board | None] = [None]
        try:
            # Its tables and plots may stand beside those that are published, as `vtbench run` has them.
            companions = check_board(board, folder)
        except ResultsError as error:
            found += map(str, error.args)
        try:
            audit_results(
                *(folder, suite, runs, registry),
                boards=[(board, beside) for beside in companions],
                data_folders=data_folders,
                published=True,
                other_files=True,
            )
        except ResultsError as error:
            found += map(str, error.args)
    return found


def find_target(suite: SuiteFolder) -> Path:
    """Return where a suite's published results are: NAME@VERSION of a version that stands beside the
    current one."""
    beside = f"{suite.name}@{suite.version}"
    return published_dir(beside if beside in suite_paths() else suite.name)


def copy_results(folder: Path, suite: SuiteFolder, runs: Sequence[Run], target: Path) -> None:
    """Copy runs, the suite's record and originals to another folder, and render its board.

    Only the files that a run has are copied: regular files of bounded size, pictures that decode. Every
    file is read and checked before the first is written: all of it is copied or nothing. Of a suite
    whose images may not be shown, no picture is copied, and those of an earlier copy are removed. Of
    points that only draw a codec's curve none is copied either: few would look at them, and they
    would be most of the published bytes.

    Raises:
        ResultsError: a file is none that a run may have.
    """
    pictures = suite
    if not suite.show_images:
        suite = suite.model_copy(update={"panel": ()})
    bare = suite.model_copy(update={"panel": ()})
    files = {}
    for run in runs:
        shown = bare if run.record.tokenizer.curve_only else suite
        files[run.record.run] = read_known_files(run.folder, list_run_files(run.record, shown))
    originals = read_known_files(folder, list_suite_files(suite))
    skipped = _list_skipped(suite, target, files)
    for name, contents in files.items():
        for file, content in contents.items():
            write_atomic(resolve_below(target, f"{name}/{file}"), content)
    _remove_pictures(target, pictures, runs, kept=suite)
    for file, content in originals.items():
        write_atomic(resolve_below(target, file), content)
    write_suite_folder(target, suite.model_copy(update={"skipped": skipped}))
    write_board(target, render_folder(target))


def _remove_pictures(
    target: Path, pictures: SuiteFolder, runs: Sequence[Run], *, kept: SuiteFolder
) -> None:
    """Remove error maps that runs had in their folders before, and pictures that may not be there."""
    known = [f"{run.record.run}/{name}" for run in runs for name in list_error_maps(pictures)]
    if not kept.panel:
        places = [path.parent.name for path in target.glob("*/run.json")]
        known += [f"{place}/panel/{item.n}.png" for place in places for item in pictures.panel]
        known += [f"originals/{item.n}.png" for item in pictures.panel]
    for name in known:
        resolve_below(target, name).unlink(missing_ok=True)


def _list_skipped(suite: SuiteFolder, target: Path, runs: Collection[str]) -> tuple[Skipped, ...]:
    """Return what was not run, by name: a folder of a few runs says nothing of the others, so what the
    published one says of these stands."""
    before = read_suite_folder(target).skipped if (target / "suite.json").is_file() else ()
    skipped = {item.name: item for item in (*before, *suite.skipped)}
    return tuple(item for name, item in sorted(skipped.items()) if name not in runs)
