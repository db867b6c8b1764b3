"""`vtbench doctor`: what this machine has, what it lacks, what each missing thing disables, and the
command that brings it. Reads versions from the packages' metadata; imports no torch.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from vtbench.base.errors import WeightsError, WeightsMissing
from vtbench.base.text_table import fit_table, format_table, screen_width
from vtbench.base.version import __version__
from vtbench.commands.fetch import suite_weights
from vtbench.commands.json_text import print_json
from vtbench.commands.options import data_option, json_option, registry_option
from vtbench.registry.entries import load_registry
from vtbench.registry.sources import HubWeights
from vtbench.runs.environment import cpu_count, library_versions, platform_name
from vtbench.suites.suites import Suite, load_suite, suite_paths
from vtbench.weights.entries import find_weights
from vtbench.weights.metrics import (
    MetricWeights,
    check_metric_weights,
    default_folder,
    find_metric_weights,
    metric_weights,
)

PACKAGES = {
    "torch": "every tokenizer and metric",
    "torchvision": "LPIPS",
    "diffusers": "VAEs and VQs of diffusers",
    "lpips": "LPIPS",
    "rapidocr": "cer, wer, ned",
    "onnxruntime": "cer, wer, ned",
    "huggingface-hub": "vtbench fetch, vtbench pin",
    "easyocr": "--ocr easyocr",
}
"""What is looked for, and what needs it."""


@dataclass(frozen=True)
class Examined:
    """An entry of the catalogue on this machine. place: where its files are, or what is wrong."""

    entry: MetricWeights
    state: Literal["here", "missing", "damaged"]
    place: str


def examine_weights(entries: Iterable[MetricWeights], *, verify: bool) -> list[Examined]:
    """Return the state of each entry; verify: read the files through and compare their digests."""
    examined = []
    for entry in entries:
        try:
            found = find_metric_weights(entry.key)
            if verify:
                check_metric_weights(entry.key, found)
        except WeightsMissing:
            examined.append(Examined(entry, "missing", entry.command))
        except WeightsError as error:
            examined.append(Examined(entry, "damaged", str(error)))
        else:
            examined.append(Examined(entry, "here", str(found.path)))
    return examined


def switched_off(suite: Suite, examined: Sequence[Examined]) -> dict[str, list[Examined]]:
    """Return the metrics of a suite that cannot be measured here, each with what it lacks."""
    needed = {entry.key for entry in suite_weights(suite)}
    off: dict[str, list[Examined]] = {}
    for task in suite.protocol.tasks.values():
        for metric in task.metrics:
            lacks = [
                one
                for one in examined
                if one.state != "here"
                and one.entry.key in needed
                and metric.partition("@")[0] in one.entry.metrics
            ]
            if lacks:
                off[metric] = lacks
    return off


def diagnose(
    suite_name: str | None,
    registries: Sequence[Path],
    data_folders: Sequence[Path],
    *,
    verify: bool = False,
) -> Diagnosis:
    """Return what is here: of one suite, or of every suite, tokenizer and weights file.

    Raises UnknownName, SuiteError, RegistryError.
    """
    names = [suite_name] if suite_name is not None else list(suite_paths(data_folders))
    suites = [load_suite(name, data_folders) for name in names]
    wanted = {entry.key for suite in suites for entry in suite_weights(suite)}
    catalogue = metric_weights()
    shown = [e for e in catalogue.values() if suite_name is None or e.key in wanted]
    examined = examine_weights(shown, verify=verify)
    return Diagnosis(
        examined,
        suites,
        _examine_tokenizers(registries) if suite_name is None else None,
        _examine_disk(),
    )


@dataclass(frozen=True)
class Room:
    """A folder where files will go, and how many bytes its disk has free."""

    name: str
    folder: Path
    free: int


@dataclass(frozen=True)
class Runnable:
    """Which tokenizers can run here.

    Attributes:
        total: How many entries there are.
        fetched: Those whose weights `vtbench fetch` brings; "(gated)" behind a name.
        local: Those whose own files are not here.
    """

    total: int
    fetched: tuple[str, ...]
    local: tuple[str, ...]

    @property
    def here(self) -> int:
        """How many can run."""
        return self.total - len(self.fetched) - len(self.local)


@dataclass(frozen=True)
class Diagnosis:
    """What a machine has and lacks. tokenizers: None where only a suite was asked for."""

    examined: Sequence[Examined]
    suites: Sequence[Suite]
    tokenizers: Runnable | None
    disk: Sequence[Room]

    def describe(self) -> str:
        """Return it as text."""
        parts = [_machine(), _packages(), _weights(self.examined)]
        parts += [_suite(suite, self.examined) for suite in self.suites]
        if self.tokenizers is not None:
            parts.append(_tokenizers(self.tokenizers))
        parts.append(_disk(self.disk, self.examined))
        return "\n\n".join(parts)

    def list_facts(self) -> dict[str, Any]:
        """Return it as a mapping, for programs."""
        versions = library_versions(PACKAGES)
        facts: dict[str, Any] = {
            "vtbench": __version__,
            "python": platform.python_version(),
            "platform": platform_name(),
            "cpus": cpu_count(),
            "accelerator": _accelerator(),
            "packages": [
                {"name": name, "version": versions[name], "needed_for": purpose}
                for name, purpose in PACKAGES.items()
            ],
            "metric_weights": [
                {
                    "name": one.entry.key,
                    "state": one.state,
                    "bytes": one.entry.bytes,
                    "metrics": list(one.entry.metrics),
                    "ocr": one.entry.ocr,
                    "place": one.place if one.state == "here" else None,
                    "problem": one.place if one.state == "damaged" else None,
                    "command": one.entry.command if one.state != "here" else None,
                }
                for one in self.examined
            ],
            "suites": [
                {
                    "name": suite.name,
                    "version": suite.protocol.version,
                    "off": {
                        metric: [one.entry.key for one in lacks]
                        for metric, lacks in switched_off(suite, self.examined).items()
                    },
                }
                for suite in self.suites
            ],
            "disk": [
                {"name": room.name, "folder": str(room.folder), "free_bytes": room.free}
                for room in self.disk
            ],
        }
        if self.tokenizers is not None:
            facts["tokenizers"] = asdict(self.tokenizers) | {"here": self.tokenizers.here}
        return facts


def _machine() -> str:
    return (
        f"vtbench {__version__} · Python {platform.python_version()} · {platform_name()} · "
        f"{cpu_count()} CPUs\naccelerator: {_accelerator()}"
    )


def _accelerator() -> str:
    """Return what the system says of one; whether torch can use it, only torch can say."""
    driver = Path("/proc/driver/nvidia/version")
    if driver.is_file():
        first = driver.read_text(encoding="utf-8").splitlines()[0]
        return f"cuda ({first.partition(':')[2].strip()})"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps (Apple silicon)"
    return "none found; --device cpu"


def _packages() -> str:
    rows = [("package", "version", "needed for")]
    versions: Mapping[str, str] = library_versions(PACKAGES)
    rows += [(name, versions[name], purpose) for name, purpose in PACKAGES.items()]
    return format_table(rows)


def _weights(examined: Sequence[Examined]) -> str:
    rows = [("metric weights", "state", "MB", "needed for", "where, or what brings it")]
    for one in examined:
        size = f"{max(one.entry.bytes / 1e6, 1):.0f}" if one.entry.bytes else "-"
        metrics = ", ".join(one.entry.metrics) or "-"
        if one.entry.ocr is not None:
            metrics += f" (--ocr {one.entry.ocr})"
        rows.append((one.entry.key, one.state, size, metrics, one.place))
    return fit_table(rows, screen_width())


def _suite(suite: Suite, examined: Sequence[Examined]) -> str:
    """Return which metrics of a suite are off, and what brings them all."""
    label = f"suite {suite.name}@{suite.protocol.version}"
    off = switched_off(suite, examined)
    if not off:
        return f"{label}: every metric can be measured"
    lacking = {one.entry.key: one.entry for lacks in off.values() for one in lacks}
    lines = [f"{label}: off: {', '.join(off)}"]
    fetched = [e for e in lacking.values() if e.fetched]
    if fetched:
        size = sum(entry.bytes or 0 for entry in fetched) / 1e6
        lines.append(f"  `vtbench fetch --suite {suite.name}` brings them ({size:.0f} MB)")
    for entry in lacking.values():
        if not entry.fetched:
            lines.append(f"  `{entry.command}` brings {entry.key}")
    return "\n".join(lines)


def _examine_tokenizers(registries: Sequence[Path]) -> Runnable:
    entries = load_registry(registries).values()
    fetched, local = [], []
    for entry in entries:
        try:
            find_weights(entry)
        except WeightsError:
            if isinstance(entry.weights, HubWeights):
                fetched.append(f"{entry.name} (gated)" if entry.weights.gated else entry.name)
            else:
                local.append(entry.name)
    return Runnable(len(entries), tuple(fetched), tuple(local))


def _tokenizers(found: Runnable) -> str:
    """Return how many entries can run here and the names of those whose weights are missing."""
    lines = [f"tokenizers: {found.here} of {found.total} can run here"]
    if found.fetched:
        lines.append(f"  `vtbench fetch NAME` brings: {', '.join(found.fetched)}")
    if found.local:
        lines.append(f"  their local files are not here: {', '.join(found.local)}")
    return "\n".join(lines)


def _examine_disk() -> list[Room]:
    """Return the room where weights and results go."""
    hub = next(e for e in metric_weights().values() if isinstance(e.weights, HubWeights))
    torch = next(e for e in metric_weights().values() if not isinstance(e.weights, HubWeights))
    folders = {"hub cache": default_folder(hub), "torch cache": default_folder(torch)}
    rooms = []
    for name, folder in {**folders, "results": Path("results")}.items():
        existing = next(
            path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
        )
        rooms.append(Room(name, folder, shutil.disk_usage(existing).free))
    return rooms


def _disk(rooms: Iterable[Room], examined: Sequence[Examined]) -> str:
    rows = [("disk", "GB free", "folder")]
    rows += [(room.name, f"{room.free / 1e9:.1f}", str(room.folder)) for room in rooms]
    missing = sum(one.entry.bytes or 0 for one in examined if one.state != "here") / 1e9
    return format_table(rows) + (f"\nmissing metric weights: {missing:.2f} GB" if missing else "")


@click.command("doctor")
@click.option("--suite", "suite_name", metavar="NAME", help="List only what this suite needs.")
@click.option("--verify", is_flag=True, help="Also compare the sha256 of weight files.")
@click.option(
    "--self-test",
    is_flag=True,
    help="Measure four images and compare them with published rows.",
)
@json_option
@registry_option
@data_option
def doctor_command(
    suite_name: str | None,
    verify: bool,
    self_test: bool,
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """List what is missing on this machine, which metrics that disables, and how to get it.

    --self-test measures four images instead and compares them with published rows. Exit 1: this
    machine computes other numbers. Exit 2: it computes none.
    """
    if self_test:
        from vtbench.commands.self_test import measure_again, report

        compared = measure_again()
        if as_json:
            print_json([asdict(each) | {"agrees": each.agrees} for each in compared])
        else:
            click.echo(report(compared))
        if not all(each.agrees for each in compared):
            # As `run`: 2 where nothing could be measured.
            nothing = all(each.fault is not None for each in compared)
            raise click.exceptions.Exit(2 if nothing else 1)
        return
    diagnosis = diagnose(suite_name, registries, data_folders, verify=verify)
    if as_json:
        print_json(diagnosis.list_facts())
    else:
        click.echo(diagnosis.describe())
