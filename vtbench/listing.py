"""What there is, in words: tokenizers, suites, metrics, tasks. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vtbench.errors import UnknownName, WeightsMissing
from vtbench.metrics.catalogue import METRICS
from vtbench.registry import Entry, load_registry
from vtbench.suites import TASKS, load_suite, suite_paths
from vtbench.weights import find_weights, is_pinned

Rows = Sequence[Sequence[str]]


def list_tokenizers(registries: Sequence[Path]) -> Rows:
    """Return a header and one row a tokenizer, with whether its weights are here."""
    rows = [("name", "family", "kind", "f", "codebook/channels", "weights", "title")]
    for entry in load_registry(registries).values():
        size = entry.codebook_size or entry.latent_channels
        rows.append(
            (
                entry.name,
                entry.family,
                entry.kind,
                str(entry.downsample or "-"),
                str(size or "-"),
                weights_state(entry),
                entry.title,
            )
        )
    return rows


def weights_state(entry: Entry) -> str:
    """Return "none needed", "here", "here, unpinned", or the command that brings the weights."""
    if entry.weights is None:
        return "none needed"
    try:
        find_weights(entry)
    except WeightsMissing:
        if entry.weights.source == "hub":
            gated = " (gated)" if entry.weights.gated else ""
            return f"missing: vtbench fetch {entry.name}{gated}"
        if entry.weights.source == "page":
            return f"missing: {entry.weights.url}"
        return "missing"
    return "here" if is_pinned(entry) else "here, unpinned"


def list_suites(folders: Sequence[Path]) -> Rows:
    """Return a header and one row a suite."""
    rows = [("name", "version", "images", "title")]
    for name in suite_paths(folders):
        suite = load_suite(name, folders)
        counts = ", ".join(f"{n} {task}" for task, n in suite.images_per_task().items())
        rows.append((name, str(suite.protocol.version), counts, suite.protocol.title))
    return rows


def list_metrics() -> Rows:
    """Return a header and one row a metric."""
    arrows = {"higher": "↑", "lower": "↓", None: ""}
    rows = [("key", "label", "unit", "better", "definition")]
    for metric in METRICS.values():
        better = arrows[metric.better]
        rows.append((metric.key, metric.label, metric.unit, better, metric.definition))
    return rows


def list_tasks() -> Rows:
    """Return a header and one row a task."""
    return [("name", "asks"), *TASKS.items()]


def format_table(rows: Rows) -> str:
    """Return left-aligned columns two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def describe(name: str, registries: Sequence[Path], folders: Sequence[Path]) -> str:
    """Return everything known of a tokenizer, suite or metric, as `key: value` lines."""
    registry = load_registry(registries)
    if name in registry:
        return _describe_tokenizer(registry[name])
    if name in suite_paths(folders):
        return _describe_suite(name, folders)
    if name in METRICS:
        metric = METRICS[name]
        return "\n".join(f"{key}: {value}" for key, value in vars(metric).items())
    known = [*registry, *suite_paths(folders), *METRICS]
    raise UnknownName("tokenizer, suite or metric", name, known)


def _describe_tokenizer(entry: Entry) -> str:
    import yaml

    fields = entry.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    fields = {"name": entry.name, **{k: v for k, v in fields.items() if k != "name"}}
    fields["weights_here"] = weights_state(entry)
    fields["entry_sha256"] = entry.sha256
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100).rstrip()


COST_TOLERANCE = 0.005
"""Largest relative difference between a stored cost and a counted one: other versions of a library
count a few operations more or less, another architecture many."""


def compare_cost(name: str, registries: Sequence[Path]) -> tuple[str, bool]:
    """Return a table of the entry's cost as stored and as counted, and whether the two agree within
    `COST_TOLERANCE`; what only one of them has is no disagreement. Builds the network on torch's
    meta device. Raises RegistryError where the architecture is not in the entry."""
    from vtbench.tokenizers.cost import SIZE, measure_cost

    entry = load_registry(registries)[name]
    cost = measure_cost(entry)
    stored = entry.gmac
    rows: list[tuple[str, ...]] = [("one image", "counted", "stored", "difference")]
    agrees = True
    for what, counted, kept, digits in (
        ("parameters", cost.parameters, entry.parameters, 0),
        (f"encode GMAC at {SIZE}×{SIZE}", cost.encode_gmac, stored and stored.encode, 2),
        (f"decode GMAC at {SIZE}×{SIZE}", cost.decode_gmac, stored and stored.decode, 2),
    ):
        cells = [f"{value:,.{digits}f}" if value is not None else "-" for value in (counted, kept)]
        difference = "-"
        if counted is not None and kept:
            relative = counted / kept - 1
            agrees &= abs(relative) <= COST_TOLERANCE
            difference = f"{relative:+.2%}"
        rows.append((what, *cells, difference))
    table = format_table(rows)
    return table + (f"\nnot counted: {cost.why}" if cost.why else ""), agrees


def _describe_suite(name: str, folders: Sequence[Path]) -> str:
    import yaml

    suite = load_suite(name, folders)
    fields = {
        "name": f"{name}@{suite.protocol.version}",
        **suite.protocol.model_dump(mode="json", exclude={"version"}),
        "images": suite.images_per_task(),
        "sha256": suite.sha256,
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100).rstrip()
