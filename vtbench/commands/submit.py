"""`vtbench submit`: what a pull request with a tokenizer and its results needs, checked and packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from vtbench.base.errors import (
    CellFailed,
    OutputError,
    ResultsError,
    VtbenchError,
    WeightsError,
    WeightsMissing,
)
from vtbench.base.files import read_bounded, resolve_below, write_atomic
from vtbench.base.locations import package_dir
from vtbench.base.schema import MAX_YAML_BYTES
from vtbench.base.text import show_text
from vtbench.commands.audit.publishing import copy_results, find_target, find_unpublishable
from vtbench.commands.options import (
    FOLDER,
    data_option,
    device_option,
    registry_option,
    weights_option,
)
from vtbench.commands.validate import validate_path
from vtbench.leaderboard.aggregate import aggregate
from vtbench.leaderboard.words import describe_column
from vtbench.registry.entries import Entry, Registry, load_entry, load_registry
from vtbench.registry.licences import classify_licence
from vtbench.results.folder import Run, read_checked_run, read_suite_folder
from vtbench.results.schema import SuiteFolder
from vtbench.suites.suites import suite_paths
from vtbench.weights.entries import find_weights, is_pinned

LOCAL_RESULTS = Path("results") / "local"
SUMMARY = "SUMMARY.md"


@dataclass(frozen=True)
class Measured:
    """The runs of the tokenizer in one folder of results."""

    folder: Path
    suite: SuiteFolder
    runs: tuple[Run, ...]


@dataclass
class Findings:
    """problems: what keeps the submission from being packed. notes: what a reviewer should know."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine_entry(entry: Entry) -> Findings:
    """Return what is wrong with an entry as a submission: its file, licences, pins."""
    found = Findings()
    try:
        load_entry(entry.path, resolve=True)
    except VtbenchError as error:
        found.problems += map(str, error.args)
    weights = entry.weights
    if weights is not None:
        if weights.source == "local":
            found.problems.append(
                f"{entry.path}: weights.source: local: nobody else can get them; publish them and give "
                "source: hub or page"
            )
        if weights.licence is None:
            found.problems.append(f"{entry.path}: weights.licence: not stated")
        if not is_pinned(entry):
            found.problems.append(
                f"{entry.path}: weights are not pinned by revision and sha256: "
                f"`vtbench pin {entry.name}`"
            )
    if classify_licence(entry) == "unclear":
        stated = entry.licence if weights is None else weights.licence
        found.notes.append(
            f"the licence {stated!r} has no class in data/licences.yaml: say what it allows"
        )
    if entry.paper is None:
        found.notes.append("the entry names no paper")
    module = entry.adapter.partition(":")[0]
    if module.split(".")[0] != package_dir().name:
        found.notes.append(
            f"the adapter {entry.adapter} is of another package: say where reviewers get it"
        )
    return found


def find_results(name: str, folders: Sequence[Path]) -> list[Measured]:
    """Return the runs of a tokenizer in folders of results: those given, else all of results/local.

    Raises:
        ResultsError: a folder that was given has no run of it, or a run cannot be read.
    """
    given = bool(folders)
    if not given and LOCAL_RESULTS.is_dir():
        folders = [path.parent for path in sorted(LOCAL_RESULTS.glob("*/suite.json"))]
    found = []
    for folder in folders:
        suite = read_suite_folder(folder)
        places = sorted(path.parent for path in folder.glob("*/run.json"))
        own = [path for path in places if path.name == name or path.name.startswith(f"{name}@")]
        runs = tuple(read_checked_run(path) for path in own)
        if runs:
            found.append(Measured(folder, suite, runs))
        elif given:
            raise ResultsError(f"{folder}: no run of {name}: `vtbench run -t {name}` first")
    return found


def try_tokenizer(entry: Entry, *, device: str, weights: Path | None) -> str:
    """Return which clauses of the contract the tokenizer keeps, or that its weights are not here.

    Raises:
        CellFailed: it breaks one.
        RegistryError, WeightsError: it cannot be built.
    """
    try:
        find_weights(entry, weights)
    except WeightsMissing as error:
        return f"not tried: {error}"
    except WeightsError as error:
        raise type(error)(f"{entry.name}: {error}") from None
    from vtbench.commands.check import try_entry
    from vtbench.commands.progress import silence_libraries
    from vtbench.evaluation.checking import load_check_pictures

    silence_libraries()
    trial = try_entry(entry, load_check_pictures(), device=device, weights=weights)
    if trial.fault is not None:
        kind = WeightsError if trial.refused else CellFailed
        raise kind(f"{entry.name}: {trial.fault}; nothing was packed")
    return f"kept: {', '.join(trial.passed)}"


def pack(
    entry: Entry,
    measured: Sequence[Measured],
    registries: Sequence[Path],
    data_folders: Sequence[Path],
    out: Path,
) -> list[str]:
    """Write registry/NAME.yaml and results/SUITE/ below `out`; return what `validate` says of each."""
    content = read_bounded(entry.path, max_bytes=MAX_YAML_BYTES, raise_as=ResultsError)
    packed = resolve_below(out, f"registry/{entry.name}.yaml")
    write_atomic(packed, content)
    said = [f"registry/{packed.name}: {validate_path(packed)}"]
    for each in measured:
        folder = find_target(each.suite).name
        target = resolve_below(out, f"results/{folder}")
        copy_results(each.folder, each.suite, each.runs, target)
        told = validate_path(target, registries=registries, data_folders=data_folders)
        said.append(f"results/{folder}: {told}")
    return said


def summarize(
    entry: Entry,
    measured: Sequence[Measured],
    *,
    contract: str,
    notes: Sequence[str],
    validated: Sequence[str],
) -> str:
    """Return the summary of a submission in Markdown, to paste into a pull request."""
    weights = entry.weights
    licence = entry.licence if weights is None else f"{entry.licence}; weights: {weights.licence}"
    facts = {
        "tokenizer": entry.name,
        "title": entry.title,
        "kind": f"{entry.kind}, {entry.quantizer}",
        "licence": f"{licence} ({classify_licence(entry)})",
        "weights": "none" if weights is None else f"{weights.source}, pinned",
        "paper": str(entry.paper or "-"),
        "contract": contract,
    }
    parts = [f"## {_escape(entry.name)}\n", "| | |\n|---|---|"]
    parts += [f"| {key} | {_escape(value)} |" for key, value in facts.items()]
    for each in measured:
        parts.append(f"\n### {_escape(each.suite.name)}@{each.suite.version}\n")
        parts += _table(each)
    parts.append("\n### Checks\n")
    parts += [f"- [x] `vtbench validate`: {_escape(line)}" for line in validated]
    parts += [f"- [ ] {_escape(note)}" for note in notes]
    return "\n".join(parts) + "\n"


def _table(each: Measured) -> list[str]:
    """Return the rows of the overview's numbers, a run a column, with where they were made."""
    board = aggregate(each.suite, list(each.runs))
    names = [line.name for line in board.lines]
    rows = [f"| | {' | '.join(map(_escape, names))} |", "|---|" + "---:|" * len(names)]
    for column in board.tables[0].columns:
        cells = [line.cells[column.key] for line in board.lines]
        values = [c.state if c.value is None else f"{c.value:.4g}" for c in cells]
        rows.append(f"| {_escape(describe_column(column))} | {' | '.join(values)} |")
    record = each.runs[0].record
    commit = record.environment.commit or "unknown"
    rows.append(f"\n{record.n_done} images, commit {_escape(commit[:12])}.")
    return rows


def _escape(text: str) -> str:
    """Return text as it stands in a cell of Markdown: one line, no tags, bars or mentions."""
    plain = " ".join(show_text(text).split())
    for sign in ("\\", "|", "<", ">", "`", "[", "]", "*", "@"):
        plain = plain.replace(sign, f"&#{ord(sign)};")
    return plain


def _choose_out(out: Path) -> None:
    """Raise OutputError for a folder that holds something: only what is packed may be in it."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} is no folder")
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; a submission is written into a folder of its own")


def submit(
    entry: Entry,
    registry: Registry,
    *,
    results: Sequence[Path],
    registries: Sequence[Path],
    data_folders: Sequence[Path],
    device: str,
    weights: Path | None,
    out: Path,
) -> str:
    """Check an entry and its results, pack both below `out`, and return the summary.

    Raises:
        VtbenchError: it cannot be submitted, a line a problem.
        CellFailed: the tokenizer breaks the contract.
    """
    _choose_out(out)
    found = examine_entry(entry)
    measured: list[Measured] = []
    try:
        measured = find_results(entry.name, results)
    except ResultsError as error:
        found.problems += map(str, error.args)
    here = suite_paths(data_folders)
    for each in measured:
        if each.suite.name not in here:
            found.problems.append(
                f"{each.folder}: the suite {each.suite.name} is not here to be compared with: "
                "--data DIR says where it is"
            )
        found.problems += find_unpublishable(
            each.folder, each.suite, each.runs, registry, data_folders=data_folders
        )
    if found.problems:
        raise VtbenchError(*dict.fromkeys(found.problems))
    if not measured:
        found.notes.append(f"no results: `vtbench run -t {entry.name}`, then submit again")
    contract = try_tokenizer(entry, device=device, weights=weights)
    validated = pack(entry, measured, registries, data_folders, out)
    summary = summarize(entry, measured, contract=contract, notes=found.notes, validated=validated)
    write_atomic(resolve_below(out, SUMMARY), summary.encode())
    return summary


@click.command("submit")
@click.argument("name", metavar="NAME")
@click.option(
    "--results",
    type=FOLDER,
    multiple=True,
    metavar="DIR",
    help="Folder of results with runs of NAME. Default: all of results/local. Repeatable.",
)
@click.option(
    "--out", type=FOLDER, metavar="DIR", help="Folder to write. Default: submission-NAME."
)
@device_option
@registry_option
@data_option
@weights_option
def submit_command(
    name: str,
    results: tuple[Path, ...],
    out: Path | None,
    device: str,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Check a tokenizer's entry and results, and pack them for a pull request.

    The command checks the entry, its licences and pins, the runs as `publish` and `validate` do,
    and the encode/decode contract if the weights are on this machine. It writes registry/NAME.yaml,
    results/SUITE/ and SUMMARY.md. Exit 1: the contract is broken. Exit 2: something cannot be
    published; every reason is printed.
    """
    from vtbench.runs.request import parse_weights

    registry = load_registry(registries)
    entry = registry[name]
    out = out or Path(f"submission-{name}")
    summary = submit(
        entry,
        registry,
        results=results,
        registries=registries,
        data_folders=data_folders,
        device=device,
        weights=parse_weights(weights, registry).get(name),
        out=out,
    )
    click.echo(summary)
    click.echo(
        f"Packed in {show_text(str(out))}. Copy registry/ and results/ into your branch, run `vtbench "
        f"leaderboard --results results/SUITE` for each suite, commit, and paste {SUMMARY}."
    )
