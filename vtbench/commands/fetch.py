"""`vtbench fetch`: downloads weights, and collects them in a folder.

One that fails does not keep the others from coming.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from vtbench.base.errors import OutputError, RegistryError, UnknownName, WeightsError
from vtbench.commands.complaints import complain
from vtbench.commands.options import FOLDER, data_option, registry_option
from vtbench.registry.entries import Entry, load_registry
from vtbench.registry.sources import HubWeights
from vtbench.suites.suites import Suite, load_suite
from vtbench.weights.downloads import (
    Report,
    fetch_metric_weights,
    fetch_weights,
    hub_endpoint,
    ignore,
)
from vtbench.weights.entries import WeightFiles, check_hashes
from vtbench.weights.folder import pack_weights
from vtbench.weights.metrics import (
    MetricWeights,
    SystemWeights,
    UrlWeights,
    WheelWeights,
    check_metric_weights,
    metric_weights,
    needed_weights,
)


@dataclass(frozen=True)
class Fetched:
    """What became of one name: where its files are (or why there are none to fetch), or the failure."""

    name: str
    place: str = ""
    failure: str | None = None


def suite_weights(suite: Suite) -> list[MetricWeights]:
    """Return what the metrics of a suite need, wheels included."""
    keys = {key for task in suite.protocol.tasks.values() for key in task.metrics}
    return needed_weights(keys, suite.protocol.ocr)


def choose_weights(
    names: Sequence[str],
    suite_name: str | None,
    registries: Sequence[Path],
    data_folders: Sequence[Path],
) -> list[Entry | MetricWeights]:
    """Return what is to be fetched: the named tokenizers and metrics' weights, and of a suite what its
    metrics need and pip does not bring. Raises UnknownName, and RegistryError for a name of both."""
    registry, catalogue = load_registry(registries), metric_weights()
    if both := sorted(set(registry) & set(catalogue)):
        raise RegistryError(
            f"{registry[both[0]].path}: {both[0]} is the name of a metric's weights; rename the file"
        )
    chosen: dict[str, Entry | MetricWeights] = {}
    for name in names:
        if name not in catalogue and name not in registry and name not in registry.unreleased:
            raise UnknownName("tokenizer", name, [*registry, *catalogue])
        chosen[name] = catalogue[name] if name in catalogue else registry[name]
    if suite_name is not None:
        for entry in suite_weights(load_suite(suite_name, data_folders)):
            if entry.fetched:
                chosen[entry.key] = entry
    return list(chosen.values())


def fetch_chosen(
    chosen: Sequence[Entry | MetricWeights], folder: Path | None, report: Report = ignore
) -> Iterator[Fetched]:
    """Fetch one after the other and yield what became of each; folder: put them in there as well.

    Raises OutputError when nothing can be written: that ends it for all of them.
    """
    for entry in chosen:
        name = entry.name if isinstance(entry, Entry) else entry.key
        try:
            yield Fetched(name, _fetch(name, entry, folder, report))
        except OutputError:
            raise
        except WeightsError as error:
            yield Fetched(name, failure=str(error))


def _fetch(name: str, entry: Entry | MetricWeights, folder: Path | None, report: Report) -> str:
    """Return where the files are now; without a folder where they are looked for, else in it."""
    if isinstance(entry, Entry):
        if not isinstance(entry.weights, HubWeights):
            return "nothing to fetch: " + (
                "needs no weights" if entry.weights is None else "is here"
            )
        found = fetch_weights(entry)
        hashes = check_hashes(entry, found)
    elif isinstance(entry.weights, WheelWeights | SystemWeights):
        check_metric_weights(name)
        return f"nothing to fetch: `{entry.command}` brought it"
    else:
        found = fetch_metric_weights(entry, report)
        hashes = check_metric_weights(name, found)
    if folder is None:
        return str(found.path)
    weights = entry.weights
    return str(
        pack_weights(
            folder,
            name,
            dict(zip(hashes, found.files, strict=True)),
            hashes=hashes,
            origin=_origin(weights, found),
            licence=weights.licence,
        )
    )


def _origin(weights: HubWeights | UrlWeights, found: WeightFiles) -> str:
    if isinstance(weights, UrlWeights):
        return " ".join(file.url for file in weights.files)
    # The cache keeps a repository's files below snapshots/<commit>/<subfolder>.
    parts = found.path.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else weights.revision
    return f"{hub_endpoint()}/{weights.repo} @ {commit}"


@click.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option(
    "--suite", "suite_name", metavar="NAME", help="Fetch all weights that a suite's metrics need."
)
@click.option(
    "--to",
    "folder",
    type=FOLDER,
    metavar="DIR",
    help="Also copy the files to a folder that can be carried away.",
)
@registry_option
@data_option
def fetch_command(
    names: tuple[str, ...],
    suite_name: str | None,
    folder: Path | None,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Download weights of tokenizers and metrics by name, or all that a suite's metrics need.

    An interrupted download resumes. For a machine without a network, --to DIR collects the files in
    a folder; VTBENCH_WEIGHTS=DIR reads them there.
    """
    chosen = choose_weights(names, suite_name, registries, data_folders)
    if not chosen and suite_name is None:
        raise click.UsageError("name a tokenizer, a metric's weights, or --suite NAME")
    if not chosen:
        click.echo(f"{suite_name}: nothing to fetch, its metrics need no downloaded weights")

    from vtbench.commands.progress import DownloadBars

    failed = 0
    with DownloadBars() as bars:
        for done in fetch_chosen(chosen, folder, bars.report):
            if done.failure is not None:
                complain(done.failure)
                failed += 1
            else:
                click.echo(f"{done.name}: {done.place}")
    if failed:
        raise click.exceptions.Exit(1)
