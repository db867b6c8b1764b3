"""`vtbench list`: tokenizers, suites, metrics, tasks. Tokenizers are listed without torch or numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from vtbench.base.errors import UnknownName, WeightsMissing
from vtbench.base.text_table import Rows, fit_table, screen_width
from vtbench.commands.efficiency import EFFICIENCY
from vtbench.commands.json_text import name_cells, print_json
from vtbench.commands.options import data_option, json_option, registry_option
from vtbench.registry.entries import Entry, Registry, load_registry
from vtbench.registry.licences import classify_licence
from vtbench.weights.entries import find_weights, is_pinned


def list_tokenizers(registry: Registry) -> Rows:
    """Return a header and one row a tokenizer: what its weights' licence allows, whether they are
    here, and which generators decode through it."""
    rows = [
        (
            *("name", "family", "kind", "f", "codebook/channels"),
            *("licence", "weights", "used by", "title"),
        )
    ]
    for entry in registry.values():
        size = entry.codebook_size or entry.latent_channels
        rows.append(
            (
                entry.name,
                entry.family,
                entry.kind,
                str(entry.downsample or "-"),
                str(size or "-"),
                classify_licence(entry),
                weights_state(entry),
                ", ".join(entry.used_by) or "-",
                entry.title,
            )
        )
    return rows


def list_unreleased(registry: Registry) -> Rows:
    """Return a header and one row for each tokenizer that is known and cannot be run."""
    rows = [("unreleased", "family", "title", "why it cannot be run")]
    for entry in registry.unreleased.values():
        rows.append((entry.name, entry.family, entry.title, " ".join(entry.why.split())))
    return rows


def weights_state(entry: Entry) -> str:
    """Return "none needed", "here", or "missing" with what brings the weights; and whether they are
    gated, and pinned by revision and sha256."""
    if entry.weights is None:
        absent = entry.needs is not None and find_spec(entry.needs) is None
        return f"missing: pip install {entry.needs}" if absent else "none needed"
    unpinned = () if is_pinned(entry) else ("unpinned",)
    try:
        find_weights(entry)
    except WeightsMissing:
        weights = entry.weights
        brings = {
            "hub": f": vtbench fetch {entry.name}",
            "page": f": {getattr(weights, 'url', '')}",
        }
        gated = ("gated",) if getattr(weights, "gated", False) else ()
        notes = ", ".join((*gated, *unpinned))
        return "missing" + brings.get(weights.source, "") + (f" ({notes})" if notes else "")
    return ", ".join(("here", *unpinned))


def list_suites(folders: Sequence[Path]) -> Rows:
    """Return a header and one row a suite."""
    from vtbench.suites.suites import load_suite, suite_paths

    rows = [("name", "version", "images", "pinned", "title")]
    for name in suite_paths(folders):
        suite = load_suite(name, folders)
        counts = ", ".join(f"{n} {task}" for task, n in suite.images_per_task().items())
        pinned = "yes" if suite.pinned else "no"
        rows.append(
            (name, str(suite.protocol.version), counts or "-", pinned, suite.protocol.title)
        )
    return rows


def list_metrics() -> Rows:
    """Return a header and one row a metric."""
    from vtbench.metrics.catalogue import METRICS

    arrows = {"higher": "↑", "lower": "↓", None: ""}
    rows = [("key", "label", "unit", "better", "definition")]
    for metric in METRICS.values():
        better = arrows[metric.better]
        rows.append((metric.key, metric.label, metric.unit, better, metric.definition))
    return rows


def list_tasks() -> Rows:
    """Return a header and one row a task."""
    from vtbench.suites.suite_file import TASKS

    return [("name", "asks"), *TASKS.items(), (EFFICIENCY, "what does it cost (of no suite)")]


_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "tokenizers": ("used by", "title", "codebook/channels", "family", "licence"),
    "suites": ("title",),
    "metrics": ("label", "unit"),
    "tasks": (),
}
"""Columns that a narrow terminal leaves out, the least wanted first."""


@click.command("list")
@click.argument("what", default="tokenizers", metavar="[tokenizers|suites|metrics|tasks]")
@click.option("--all", "everything", is_flag=True, help="Also list tokenizers that cannot be run.")
@json_option
@registry_option
@data_option
def list_command(
    what: str,
    everything: bool,
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """List tokenizers (the default), suites, metrics or tasks.

    --all adds a table of tokenizers that are known and cannot be run as published. --json prints
    one object for each row.
    """
    unreleased: Rows = []
    if what == "tokenizers":
        registry = load_registry(registries)
        rows = list_tokenizers(registry)
        unreleased = list_unreleased(registry)
    elif what == "suites":
        rows = list_suites(data_folders)
    elif what == "metrics":
        rows = list_metrics()
    elif what == "tasks":
        rows = list_tasks()
    else:
        raise UnknownName("list", what, ["tokenizers", "suites", "metrics", "tasks"])
    if as_json:
        print_json(name_cells(rows) + (name_cells(unreleased) if everything else []))
        return
    width = screen_width()
    click.echo(fit_table(rows, width, optional=_OPTIONAL[what]))
    if unreleased[1:] and everything:
        click.echo(f"\n{fit_table(unreleased, width, optional=('title', 'family'))}")
    elif unreleased[1:]:
        names = f"{len(unreleased) - 1} more are known and cannot be run"
        click.echo(f"\n{names}: `vtbench list --all`")
