"""The audit of a results folder: its files, its suite, each run, and runs against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from vtbench.base.errors import RegistryError, ResultsError, SuiteError, UnknownName, VtbenchError
from vtbench.base.files import find_place
from vtbench.base.schema import MAX_PROBLEMS
from vtbench.commands.audit import distinct, pixel_hashes, plots
from vtbench.commands.audit.case import Case
from vtbench.commands.audit.folder_files import audit_files
from vtbench.commands.audit.manifest import audit_images
from vtbench.commands.audit.own_suites import audit_own_suite
from vtbench.commands.audit.pictures import audit_panel, list_other_panels, load_originals
from vtbench.commands.audit.pixel_metrics import audit_pixel_metrics
from vtbench.commands.audit.provenance import audit_provenance, audit_suite_folder
from vtbench.commands.audit.rates import audit_rates
from vtbench.commands.audit.states import audit_states
from vtbench.commands.audit.text_scores import audit_text
from vtbench.images import RGB8
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board
from vtbench.registry.entries import Entry, Registry
from vtbench.results.folder import Run
from vtbench.results.schema import RunRecord, SuiteFolder
from vtbench.runs.request import (
    change_decoder,
    change_size_policy,
    keep_tokens,
    sample_posterior,
)
from vtbench.suites.suites import Suite, load_suite, suite_paths

LOCAL = ("local", "scratch")
"""Folders, by the name of the one above, whose runs need not be fit to be published."""

OF_A_RUN = (
    *(audit_images, audit_states, audit_pixel_metrics, audit_rates, audit_text, audit_provenance),
    *(distinct.audit_images, distinct.audit_exactness, pixel_hashes.audit_hashes),
)
"""The questions that are asked of each run."""


def audit_results(
    path: Path,
    folder: SuiteFolder,
    runs: Sequence[Run],
    registry: Registry,
    *,
    boards: Sequence[tuple[Board, Board | None]] = (),
    data_folders: Sequence[Path] = (),
    published: bool,
    other_files: bool = False,
    alone: bool = False,
) -> None:
    """Raise ResultsError with what is wrong with a folder of results, as far as anybody can tell.

    Args:
        path: the folder.
        folder: its suite.json.
        runs: its runs.
        registry: the entries that runs are compared with.
        boards: of the folder, each with one that its plots may stand beside, where they are made.
        data_folders: the user's folders with suites.
        published: whether the folder must have what a published one has, and nothing else.
        other_files: whether it may have other files, or lack tables, all the same: those are not
            copied, and tables are made when they are.
        alone: whether the runs are some of the folder's, of which nothing is asked as a whole.
    """
    suite = find_suite(folder, data_folders)
    complaints = _audit(path, folder, runs, registry, suite, published)
    if not alone:
        own = (f"suite.json: {what}" for what in audit_own_suite(folder, suite, runs))
        complaints = chain(own, complaints, plots.audit_plots(path, _draw(path, boards)))
    if not other_files and not alone:
        complaints = chain(audit_files(path, folder, runs, published=published), complaints)
    found: list[str] = []
    for complaint in complaints:
        found.append(f"{path}: {complaint}")
        if len(found) > MAX_PROBLEMS:
            found[-1] = f"{path}: and more"
            break
    if found:
        raise ResultsError(*found)


def _audit(
    path: Path,
    folder: SuiteFolder,
    runs: Sequence[Run],
    registry: Registry,
    suite: Suite | None,
    published: bool,
) -> Iterator[str]:
    if suite is not None:
        names = {run.record.run for run in runs}
        for what in audit_suite_folder(folder, suite, registry, names):
            yield f"suite.json: {what}"
    elif published:
        yield f"suite.json: {folder.name}@{folder.version} is not this vtbench's: measure it again"
    cases = []
    for run in runs:
        # A run of another version has no numbers on the board.
        of_suite = run.record.suite.sha256 == folder.sha256
        entry, fault = find_entry(run.record, registry)
        if fault is not None:
            yield f"{run.record.run}: {fault}"
        cases.append(Case(run, folder, suite if of_suite else None, entry, published))
    for case in cases:
        for ask in OF_A_RUN:
            for what in ask(case):
                yield f"{case.record.run}: {what}"
    yield from distinct.audit_runs(cases)
    yield from pixel_hashes.audit_hashes_of_runs(cases)
    yield from _audit_pictures(path, folder, suite, cases)


def is_shipped(path: Path, folder: SuiteFolder) -> bool:
    """Return whether a folder's suite comes with vtbench, and it is not below results/local."""
    return (
        find_place(path).parent.name not in LOCAL
        and folder.partial is None
        and folder.name in suite_paths()
        and load_suite(folder.name).published
    )


def find_suite(folder: SuiteFolder, data_folders: Sequence[Path]) -> Suite | None:
    """Return the suite of this name and version, if it is here."""
    try:
        return load_suite(f"{folder.name}@{folder.version}", data_folders)
    except (UnknownName, SuiteError):
        return None


def find_entry(record: RunRecord, registry: Registry) -> tuple[Entry | None, str | None]:
    """Return the entry as the run's name says it was changed, or why that cannot be."""
    if record.tokenizer.name not in registry or not record.tokenizer.registered:
        return None, None
    entry = registry[record.tokenizer.name]
    name, _, deviations = record.run.partition("@")
    if name != entry.name:
        return entry, f"its tokenizer is {entry.name}"
    try:
        for part in filter(None, deviations.split("+")):
            key, _, value = part.partition("-")
            if part == "posterior-sample":
                entry = sample_posterior(entry)
            elif part in ("resize", "tile"):
                entry = change_size_policy(entry, part)
            elif key == "tokens":
                entry = keep_tokens(entry, int(value))
            elif key in ("steps", "guidance"):
                entry = change_decoder(entry, key, int(value) if key == "steps" else float(value))
    except (RegistryError, ValueError) as error:
        return entry, f"its name says what its entry cannot be: {error}"
    return entry, None


def _audit_pictures(
    path: Path, folder: SuiteFolder, suite: Suite | None, cases: Sequence[Case]
) -> Iterator[str]:
    originals: dict[int, RGB8] = {}
    try:
        shown = load_originals(path, folder, suite)
        for item, (complaint, picture) in zip(folder.panel, shown, strict=True):
            if complaint:
                yield complaint
            if picture is not None:
                originals[item.n] = picture
        others = list_other_panels(folder, [case.run for case in cases])
        for case in cases:
            if case.record.run in others and not case.published:
                continue
            for what in audit_panel(case, originals):
                yield f"{case.record.run}: {what}"
    except VtbenchError as error:
        yield str(error)


def _draw(path: Path, boards: Sequence[tuple[Board, Board | None]]) -> Iterator[dict[str, bytes]]:
    """Yield the plots that the folder may have, each drawn when it is asked for: it takes a while."""
    from vtbench.leaderboard.plots import draw_plots

    for board, beside in boards or [(read_board(path), None)]:
        yield draw_plots(board, beside)
