"""`vtbench show`: everything known about a tokenizer, suite or metric."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from vtbench.base.errors import UnknownName
from vtbench.base.records import Preprocess
from vtbench.base.text_table import format_table
from vtbench.commands.json_text import print_json
from vtbench.commands.list import weights_state
from vtbench.commands.options import data_option, json_option, registry_option
from vtbench.images import CROPS
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import load_registry
from vtbench.suites.suites import Suite, load_suite, suite_paths


def describe(name: str, registries: Sequence[Path], folders: Sequence[Path]) -> str:
    """Return everything known of a tokenizer, suite or metric, as `key: value` lines."""
    fields = collect_facts(name, registries, folders)
    if name in suite_paths(folders) and "tasks" in fields:
        protocol = textwrap.fill(write_protocol(load_suite(name, folders)), 100)
        return f"{protocol}\n\n{_dump(fields)}"
    return _dump(fields)


def collect_facts(
    name: str, registries: Sequence[Path], folders: Sequence[Path]
) -> dict[str, object]:
    """Return everything known of a tokenizer, suite or metric, by key. Raises UnknownName."""
    registry = load_registry(registries)
    if name in registry:
        entry = registry[name]
        facts = entry.model_dump(mode="json", exclude={"path", "deviations"}, exclude_none=True)
        facts = {"name": entry.name, **{k: v for k, v in facts.items() if k != "name"}}
        return facts | {"weights_here": weights_state(entry), "entry_sha256": entry.sha256}
    if name in registry.unreleased:
        record = registry.unreleased[name]
        own = record.model_dump(mode="json", exclude_none=True, exclude={"name", "path"})
        return {"name": name, **own}
    if name in suite_paths(folders):
        suite = load_suite(name, folders)
        return {
            "name": f"{name}@{suite.protocol.version}",
            **suite.protocol.model_dump(mode="json", exclude={"version"}),
            "images": suite.images_per_task(),
            "sha256": suite.sha256,
        }
    if name in METRICS:
        metric = vars(METRICS[name])
        return {k: v for k, v in metric.items() if k != "columns"} | {
            "columns": dict(METRICS[name].row_columns),
            "weights": list(METRICS[name].weights),
        }
    known = [*registry, *registry.unreleased, *suite_paths(folders), *METRICS]
    raise UnknownName("tokenizer, suite or metric", name, known)


def _dump(fields: Mapping[str, object]) -> str:
    import yaml

    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=100).rstrip()


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


def write_protocol(suite: Suite) -> str:
    """Return the suite's protocol as a paragraph that can go into a paper."""
    protocol, source = suite.protocol, suite.protocol.source
    sentences = [f"{suite.name}@{protocol.version}."]
    counts = suite.images_per_task()
    of_tasks = ", ".join(f"{n:,} for {task}" for task, n in counts.items())
    if source is None:
        sentences.append(f"Images: {sum(counts.values()):,} that come with the suite ({of_tasks}).")
    else:
        count = "" if source.n is None else f"{source.n:,} "
        sentences.append(f"Images: all {count}of {source.title}, in order of name.")
    if suite.pinned:
        sentences.append(
            f"The sha256 of each image's pixels is in a manifest (sha256 "
            f"{str(protocol.manifest_sha256)[:12]}…); another image is refused."
        )
    else:
        sentences.append("No manifest pins their pixels yet.")
    preprocess = protocol.preprocess.record() if protocol.preprocess else Preprocess()
    size = f" to {preprocess.size}×{preprocess.size} px" if preprocess.size else ""
    turn = "EXIF orientation applied" if preprocess.upright else "EXIF orientation ignored"
    boxes = ", parts of some as the manifest says" if any(s.crop for s in suite.samples) else ""
    sentences.append(f"Crop: {CROPS[preprocess.crop]}{size}{boxes}; {turn}; 8-bit RGB.")
    seeds = ", ".join(map(str, protocol.seeds or (protocol.seed,)))
    several = "one run with each of the seeds" if protocol.seeds else "seed"
    sentences.append(
        f"Tokenizers run in {protocol.dtype}, TF32 off, with the posterior's mode as latent; "
        f"stochastic decoders: {several} {seeds}."
    )
    sentences.append(
        "Reconstructions are clamped and rounded to 8 bit and compared at the size of the original, "
        "in RGB, image by image."
    )
    for task, choice in protocol.tasks.items():
        named = ", ".join(f"{key} v{METRICS[key].version}" for key in choice.metrics)
        sentences.append(f"Metrics of {task}: {named}.")
    if {"cer", "wer", "ned"} & {key for task in protocol.tasks.values() for key in task.metrics}:
        sentences.append(f"Text is read by {protocol.ocr} and compared with the true text.")
    sentences.append(
        "The reference of any score of whole sets is these same originals after the same crop, never "
        "training images."
    )
    return " ".join(sentences)


@click.command("show")
@click.argument("name")
@click.option("--measure", is_flag=True, help="Count the parameters and GMAC of a tokenizer again.")
@json_option
@registry_option
@data_option
def show_command(
    name: str,
    measure: bool,
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Show everything known about a tokenizer, suite or metric.

    --measure builds the tokenizer's network without weights, counts parameters and GMAC, and
    compares them with the entry. A difference of more than half a percent is exit 1.
    """
    if as_json:
        print_json(collect_facts(name, registries, data_folders))
    else:
        click.echo(describe(name, registries, data_folders))
    if measure:
        table, agrees = compare_cost(name, registries)
        click.echo(f"\n{table}", err=as_json)
        if not agrees:
            raise click.exceptions.Exit(1)
