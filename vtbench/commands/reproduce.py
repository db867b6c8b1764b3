"""`vtbench reproduce`: published numbers of a tokenizer beside measured ones, and which choices of the
two protocols differ. A difference of two numbers says something only where nothing else differs.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from vtbench.base.errors import SuiteError, UnknownName
from vtbench.base.locations import local_dir, published_dir
from vtbench.base.text_table import format_table
from vtbench.commands.json_text import print_json
from vtbench.commands.options import FOLDER, data_option, json_option, registry_option
from vtbench.leaderboard.aggregate import aggregate
from vtbench.leaderboard.board import Cell, Line
from vtbench.metrics import catalogue
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import Entry, load_registry
from vtbench.registry.published_protocols import PublishedProtocol, Reported, published_protocols
from vtbench.results.folder import read_checked_run, read_suite_folder
from vtbench.suites.suites import load_suite, suite_paths

SET_METRICS = frozenset(key.partition("@")[0] for key in catalogue.SET_METRICS)
"""Metrics of a set of images, which depend on what it is compared with."""

MEASURED_AS: Mapping[str, tuple[str, ...]] = {"lpips": ("lpips_alex", "lpips_vgg")}
"""Published keys that vtbench splits: the source does not say which network."""

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Choice:
    """One choice of a protocol, as published and as measured. verdict: "open" where the source does not
    say; then nobody can tell whether it differs."""

    name: str
    published: str
    measured: str
    verdict: Literal["same", "differs", "open"]


@dataclass(frozen=True)
class Measured:
    """A run's own protocol, in the words in which published ones are written."""

    suite: str
    run: str
    data: str
    size: int | Literal["native"]
    crop: str
    posterior: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Comparison:
    """One published number beside one measured. difference: measured − published; None where nothing
    was measured, and then `reason` says why."""

    metric: str
    published: float
    measured: float | None
    choices: tuple[Choice, ...]
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured is None else self.measured - self.published

    @property
    def protocol(self) -> Literal["same", "differs", "open"]:
        """Whether the two numbers were made in the same way: "same" only if every choice is."""
        verdicts = {choice.verdict for choice in self.choices}
        return "differs" if "differs" in verdicts else "open" if "open" in verdicts else "same"


def resolve_protocol(reported: Reported) -> PublishedProtocol:
    """Return the protocol of an entry's reported numbers, looked up where it is named."""
    protocol = reported.protocol
    return protocol if isinstance(protocol, PublishedProtocol) else published_protocols()[protocol]


def compare(entry: Entry, reported: Reported, measured: Measured) -> list[Comparison]:
    """Return every published number of one protocol beside what a run measured."""
    protocol = resolve_protocol(reported)
    comparisons = []
    for metric, value in reported.values.items():
        for key in MEASURED_AS.get(metric, (metric,)):
            cell = measured.cells.get(f"reconstruction.{key}")
            found = cell.value if cell is not None and cell.state == "measured" else None
            comparisons.append(
                Comparison(
                    metric=key,
                    published=value,
                    measured=found,
                    choices=tuple(_choices(entry, reported, protocol, metric, cell, measured)),
                    reason=None if found is not None else _reason(cell),
                )
            )
    return comparisons


def _reason(cell: Cell | None) -> str:
    if cell is None:
        return "not among the suite's metrics"
    return f"{cell.state}: {cell.reason}" if cell.reason else cell.state


def _choices(
    entry: Entry,
    reported: Reported,
    protocol: PublishedProtocol,
    metric: str,
    cell: Cell | None,
    measured: Measured,
) -> Iterable[Choice]:
    yield _choice("data", protocol.data, measured.data)
    yield _choice("n", protocol.n, cell.n if cell is not None else 0)
    yield _choice("size", protocol.size, measured.size)
    yield _choice("crop", protocol.crop, measured.crop)
    if metric.partition("@")[0] in SET_METRICS:
        yield _choice("reference", protocol.reference, "the same crops")
    if entry.quantizer == "kl":
        yield _choice("posterior", protocol.posterior, measured.posterior)
    if metric in protocol.departs:
        yield Choice("definition", protocol.departs[metric], f"vtbench's {metric}", "differs")
    if metric in MEASURED_AS:
        yield Choice("network", NOT_STATED, " and ".join(MEASURED_AS[metric]), "open")
    if reported.named is not None:
        yield Choice("checkpoint", f'named "{reported.named}"', entry.name, "open")
    if reported.decoder is not None:
        yield Choice("decoder", reported.decoder, str(entry.options or "default"), "open")
    elif entry.stochastic:
        yield Choice("decoder", f"steps and seed {NOT_STATED}", str(entry.options), "open")


def _choice(name: str, published: Any, measured: Any) -> Choice:
    if published is None:
        return Choice(name, NOT_STATED, str(measured), "open")
    verdict: Literal["same", "differs"] = "same" if published == measured else "differs"
    return Choice(name, str(published), str(measured), verdict)


def read_measured(folder: Path, name: str, data_folders: Sequence[Path]) -> list[Measured]:
    """Return the runs of a tokenizer in a suite's results, deviating ones (`name@bf16`) included.

    Raises ResultsError for a malformed folder; an incomplete run has no numbers.
    """
    suite = read_suite_folder(folder)
    runs = [
        read_checked_run(path.parent)
        for path in sorted(folder.glob("*/run.json"))
        if path.parent.name.partition("@")[0] == name
    ]
    facts = find_facts(suite.name, data_folders)
    return [
        measure_line(line, f"{suite.name}@{suite.version}", facts)
        for line in aggregate(suite, runs).lines
    ]


def find_facts(name: str, data_folders: Sequence[Path]) -> dict[str, Any]:
    """Return the suite's YAML as a mapping, or nothing where the suite is not on this machine."""
    try:
        return load_suite(name, data_folders).protocol.model_dump(mode="json")
    except (UnknownName, SuiteError):
        return {}


def measure_line(line: Line, suite: str, facts: Mapping[str, Any]) -> Measured:
    """Return a line with its own protocol. facts: what `find_facts` returns of its suite."""
    sizes = set(line.run.list_sizes("task", "reconstruction")) if line.run else set()
    side = next(iter(sizes))[0] if len(sizes) == 1 else 0
    deviating = getattr(line.record.protocol, "crop", None)
    return Measured(
        suite=suite,
        run=line.name,
        data=(facts.get("source") or {}).get("name", suite.partition("@")[0]),
        size=side if sizes == {(side, side)} else "native",
        crop=deviating or (facts.get("preprocess") or {}).get("crop", "none"),
        posterior=line.record.protocol.posterior or facts.get("posterior") or "mode",
        cells=line.cells,
    )


def find_results(results: Path | None) -> list[Path]:
    """Return the folders to look into: the given one, or the user's own and then the published ones."""
    if results is not None:
        return [results]
    local = local_dir("any").parent
    own = sorted(path.parent for path in local.glob("*/suite.json"))
    published = [published_dir(name) for name in suite_paths()]
    return [*own, *(path for path in published if (path / "suite.json").is_file())]


def find_measured(name: str, results: Path | None, data_folders: Sequence[Path]) -> list[Measured]:
    """Return what was measured of an entry, in one folder of results or wherever there are some."""
    return [
        measured
        for folder in find_results(results)
        for measured in read_measured(folder, name, data_folders)
    ]


def list_comparisons(entry: Entry, runs: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return a mapping a published protocol: its choices, its values, and every run beside them."""
    return [
        {
            "protocol": resolve_protocol(reported).model_dump(mode="json"),
            "reported": dict(reported.values),
            "measured": [
                asdict(comparison)
                | {"difference": comparison.difference, "verdict": comparison.protocol}
                | {"run": measured.run, "suite": measured.suite}
                for measured in runs
                for comparison in compare(entry, reported, measured)
            ],
        }
        for reported in entry.reported
    ]


def describe_reproduction(entry: Entry, runs: Sequence[Measured]) -> str:
    """Return the comparison as text."""
    head = f"{entry.name}: {entry.title}"
    if entry.trained_on:
        head += f"\ntrained on: {entry.trained_on}"
    if not entry.reported:
        return f"{head}\nno published numbers are known of it"
    blocks = [_block(entry, reported, runs) for reported in entry.reported]
    if not runs:
        blocks.append(f"nothing measured: `vtbench run --tokenizer {entry.name} --suite NAME`")
    return "\n\n".join([head, *blocks])


def describe_protocol(protocol: PublishedProtocol) -> str:
    """Return a protocol in a line: what it was measured on, and what the source leaves open."""
    size = protocol.size if isinstance(protocol.size, str) else f"{protocol.size} px"
    parts = [
        protocol.data,
        f"n {protocol.n if protocol.n is not None else NOT_STATED}",
        f"size {NOT_STATED}" if protocol.size is None else size,
        f"crop {protocol.crop or NOT_STATED}",
    ]
    if protocol.reference is not None:
        parts.append(f"reference: {protocol.reference}")
    return ", ".join(parts)


def _block(entry: Entry, reported: Reported, runs: Sequence[Measured]) -> str:
    protocol = resolve_protocol(reported)
    where = f", {protocol.url}" if protocol.url else ""
    lines = [
        f"{protocol.source} ({protocol.standing}{where})",
        f"  {describe_protocol(protocol)}",
    ]
    if protocol.note:
        lines.append(f"  note: {protocol.note}")
    rows = [("metric", "reported", "measured", "difference", "protocol", "run")]
    open_or_different: dict[str, None] = {}
    for measured in runs:
        label = f"{measured.run} on {measured.suite}"
        for comparison in compare(entry, reported, measured):
            rows.append(_row(comparison, label))
            for choice in comparison.choices:
                if choice.verdict != "same":
                    about = f" of {comparison.metric}" if choice.name == "definition" else ""
                    open_or_different[
                        f"  {choice.verdict}: {choice.name}{about}: {choice.published} | "
                        f"{choice.measured} ({measured.suite})"
                    ] = None
    if not runs:
        rows += [(m, f"{v:g}", "-", "-", "-", "-") for m, v in reported.values.items()]
    return "\n".join([*lines, format_table(rows), *open_or_different])


def _row(comparison: Comparison, label: str) -> tuple[str, str, str, str, str, str]:
    decimals = METRICS[comparison.metric].decimals if comparison.metric in METRICS else 3
    published = f"{comparison.published:g}"
    if comparison.measured is None or comparison.difference is None:
        return (comparison.metric, published, "-", "-", "-", f"{label} ({comparison.reason})")
    return (
        comparison.metric,
        published,
        f"{comparison.measured:.{decimals}f}",
        f"{comparison.difference:+.{decimals}f}",
        {"same": "same", "differs": "differs", "open": "not all stated"}[comparison.protocol],
        label,
    )


@click.command("reproduce")
@click.argument("name")
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Folder of results. Default: every suite measured here.",
)
@json_option
@registry_option
@data_option
def reproduce_command(
    name: str,
    results: Path | None,
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Print published numbers of a tokenizer beside measured ones, and how the two protocols
    differ.
    """
    entry = load_registry(registries)[name]
    runs = find_measured(name, results, data_folders)
    if as_json:
        print_json(
            {
                "name": entry.name,
                "title": entry.title,
                "trained_on": entry.trained_on,
                "published": list_comparisons(entry, runs),
            }
        )
    else:
        click.echo(describe_reproduction(entry, runs))
