"""`vtbench validate`: checks entries, suites with their pixels, results and leaderboards.

Imports no torch; `vtbench validate` runs in CI and before a submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vtbench.base.errors import DataMissing, ResultsError, SuiteError, VtbenchError
from vtbench.base.files import find_place
from vtbench.base.locations import data_dir
from vtbench.base.text import show_text
from vtbench.commands.audit.fitness import find_unfit
from vtbench.commands.audit.folder import audit_results, is_shipped
from vtbench.commands.complaints import complain
from vtbench.commands.json_text import print_json
from vtbench.commands.options import FILE_OR_FOLDER, data_option, json_option, registry_option
from vtbench.leaderboard.aggregate import aggregate
from vtbench.leaderboard.tables import check_board
from vtbench.registry.entries import UNRELEASED, load_entry, load_registry, load_unreleased
from vtbench.registry.published_protocols import published_protocols
from vtbench.results.folder import read_checked_run, read_runs, read_suite_folder
from vtbench.suites.batches import load_pixels
from vtbench.suites.ground_truth import check_contrast
from vtbench.suites.suites import attach_data, load_suite
from vtbench.weights.folder import MANIFEST, check_folder
from vtbench.weights.metrics import metric_weights


def validate_path(
    path: Path, *, registries: Sequence[Path] = (), data_folders: Sequence[Path] = ()
) -> str:
    """Return what the path is and how much of it was checked; raise the VtbenchError that says why
    it is not that.

    A registry entry (NAME.yaml) or a folder of them, with those of unreleased/; a suite's YAML below
    suites/ or its data folder, with every image that is here decoded and its pixels compared with the
    manifest; a folder of weights, every file hashed; one run's folder; a suite's results folder,
    whose tables must be the ones that its rows give.
    """
    if not path.exists():
        raise VtbenchError(f"{path} does not exist")
    if path.is_file():
        if path.suffix != ".yaml":
            raise VtbenchError(f"{path}: expected an entry or suite (.yaml), or a folder")
        if path.parent.name == "suites":
            return _validate_suite(path)
        if path.parent.name == UNRELEASED:
            load_unreleased(path)
            return "unreleased tokenizer"
        load_entry(path, resolve=True)
        return "registry entry"
    if (path / "suite.json").is_file():
        return _validate_results(path, registries, data_folders)
    if (path / MANIFEST).is_file():
        return f"{check_folder(path)} weight files"
    if (path / "run.json").is_file():
        return _validate_run(path, registries, data_folders)
    if (path / "suites").is_dir():
        checked = [_validate_suite(suite) for suite in sorted((path / "suites").glob("[!.]*.yaml"))]
        if find_place(path) == find_place(data_dir()):
            checked.append(f"{len(metric_weights())} metrics' weights")
            checked.append(f"{len(published_protocols())} published protocols")
        return "; ".join(checked) or "data folder without suites"
    below = path if path.name == UNRELEASED else path / UNRELEASED
    unreleased = sorted(below.glob("[!.]*.yaml"))
    entries = sorted(path.glob("[!.]*.yaml")) if below != path else []
    if not entries and not unreleased:
        raise VtbenchError(f"{path}: neither results, nor a data folder, nor registry entries")
    for entry in entries:
        load_entry(entry, resolve=True)
    for record in unreleased:
        load_unreleased(record)
    others = f", {len(unreleased)} unreleased tokenizers" if unreleased else ""
    return f"{len(entries)} registry entries{others}"


def _validate_suite(path: Path) -> str:
    root = find_place(path).parent.parent
    folders = [] if root == find_place(data_dir()) else [root]
    suite = load_suite(path.stem, folders)
    title = f"suite {suite.name}@{suite.protocol.version}"
    if (source := suite.protocol.source) is not None:
        pinned = "pinned" if suite.pinned else "unpinned"
        count = "the annotated" if source.n is None else str(source.n)
        try:
            suite = attach_data(suite)
        except DataMissing:
            return f"{title}, {count} images, {pinned}, data set not here"
        if not suite.pinned:
            return f"{title}, {count} images, {pinned}"
    for sample in suite.samples:
        pixels = load_pixels(sample)
        if pixels.shape[:2] != (sample.height, sample.width):
            raise SuiteError(
                f"image {sample.id} is {pixels.shape[1]}×{pixels.shape[0]}, the manifest says "
                f"{sample.width}×{sample.height}"
            )
        try:
            check_contrast(sample.meta, pixels)
        except ValueError as error:
            raise SuiteError(f"image {sample.id}: {error}") from None
    return f"{title}, {len(suite.samples)} images"


def _validate_run(path: Path, registries: Sequence[Path], data_folders: Sequence[Path]) -> str:
    run = read_checked_run(path)
    beside = find_place(path).parent
    if (beside / "suite.json").is_file():
        suite = read_suite_folder(beside)
        if run.record.suite.name != suite.name:
            raise ResultsError(f"{path}: a run of {run.record.suite.name} in {suite.name}")
        audit_results(
            *(beside, suite, [run], load_registry(registries)),
            data_folders=data_folders,
            published=is_shipped(beside, suite),
            alone=True,
        )
        return f"run of {len(run.table)} rows, compared with {suite.name}@{suite.version}"
    return f"run of {len(run.table)} rows; no suite.json beside it to compare them with"


def _validate_results(path: Path, registries: Sequence[Path], data_folders: Sequence[Path]) -> str:
    suite = read_suite_folder(path)
    runs = read_runs(path)
    for run in runs:
        if run.record.suite.name != suite.name:
            raise ResultsError(f"{run.folder}: a run of {run.record.suite.name} in {suite.name}")
    board = aggregate(suite, runs)
    companions = check_board(board, path)
    published = is_shipped(path, suite)
    if published:
        for run in runs:
            if reason := find_unfit(run.record):
                raise ResultsError(f"{run.folder}: {reason}")
    audit_results(
        path,
        suite,
        runs,
        load_registry(registries),
        boards=[(board, beside) for beside in companions],
        data_folders=data_folders,
        published=published,
    )
    return f"{len(runs)} runs of {suite.name}@{suite.version}"


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, type=FILE_OR_FOLDER, metavar="PATH ...")
@json_option
@registry_option
@data_option
def validate_command(
    paths: tuple[Path, ...],
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Check registry entries, suites, data folders and result folders without running a model.

    Results are compared with the suite's manifest and protocol, with the registry's entries, and
    with each other. Results of a shipped suite must also be fit to be published, unless they are
    below results/local.
    """
    bad = 0
    report: list[dict[str, object]] = []
    for path in paths:
        try:
            told = validate_path(path, registries=registries, data_folders=data_folders)
            report.append({"path": str(path), "ok": True, "what": told})
            if not as_json:
                click.echo(f"{show_text(str(path))}: ok ({told})")
        except VtbenchError as error:
            report.append({"path": str(path), "ok": False, "problems": list(map(str, error.args))})
            if not as_json:
                complain(*error.args)
            bad += 1
    if as_json:
        print_json(report)
    if bad:
        raise click.exceptions.Exit(2)
