"""From a local run to a published table: what may pass, and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vtbench.errors import ResultsError
from vtbench.files import write_atomic
from vtbench.leaderboard.tables import render_board, write_board
from vtbench.locations import published_dir
from vtbench.results import RunRecord, read_runs, read_suite_folder


def publish_results(folder: Path, target: Path | None = None) -> Iterator[str]:
    """Copy a folder's runs to the published one, render its board, and say what was done.

    Every run must be complete, without failures, of the suite's own protocol, with pinned weights,
    and made by committed code. Raises ResultsError naming the first run that is not; then nothing
    is copied.
    """
    suite = read_suite_folder(folder)
    if not suite.pinned:
        raise ResultsError(
            f"{folder}: no manifest pins the images of {suite.name}; write one with `vtbench manifest "
            f"{suite.name}` and name it in the suite"
        )
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
    target = target or published_dir(suite.name)
    for run in runs:
        for source in sorted(run.folder.rglob("*")):
            if source.is_file():
                write_atomic(target / source.relative_to(folder), source.read_bytes())
        yield f"{run.record.run}: {run.record.n_done} images"
    for source in [folder / "suite.json", *sorted((folder / "originals").glob("*.png"))]:
        write_atomic(target / source.relative_to(folder), source.read_bytes())
    write_board(target, render_board(target))
    yield f"published {len(runs)} runs in {target}"


def _refuse(record: RunRecord) -> str | None:
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
