"""`vtbench verify`: measures a few images of runs again and compares every column."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base.errors import ResultsError, SuiteError
from vtbench.base.names import printable
from vtbench.commands.complaints import complain
from vtbench.commands.options import (
    FOLDER,
    data_option,
    device_option,
    registry_option,
    source_option,
    weights_option,
)

if TYPE_CHECKING:
    from vtbench.registry.entries import Registry
    from vtbench.results.folder import Run
    from vtbench.runs.remeasuring import Remeasured
    from vtbench.suites.suites import Suite


@click.command("verify")
@click.argument("folder", type=FOLDER, metavar="RESULTS")
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Images to measure in each run.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed that draws the images. Default: a new one."
)
@device_option
@registry_option
@data_option
@source_option
@weights_option
def verify_command(
    folder: Path,
    names: tuple[str, ...],
    sample: int,
    seed: int | None,
    device: str,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
    weights: tuple[str, ...],
) -> None:
    """Measure a few images of runs again and compare every column.

    RESULTS is a suite's folder of results, NAME a run in it. The images are drawn now, so nobody
    could prepare for them; the printed seed draws them again. Times and memory are not compared. On
    the processor and libraries of the run, pixels must be equal and numbers agree to six digits;
    elsewhere networks may differ a little. Exit 1: something differs.
    """
    from vtbench.registry.entries import load_registry
    from vtbench.results.folder import read_checked_run, read_suite_folder
    from vtbench.runs.request import parse_weights
    from vtbench.suites.copies import parse_sources

    suite = _open_suite(read_suite_folder(folder).name, data_folders, parse_sources(sources))
    registry = load_registry(registries)
    given = parse_weights(weights, registry)
    seed = secrets.randbelow(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    bad = 0
    runs = []
    for name in names:
        if not (folder / printable(name) / "run.json").is_file() or name != Path(name).name:
            raise ResultsError(f"{folder}: no run named {printable(name)}")
        runs.append(read_checked_run(folder / name))
    for run in runs:
        found = verify_run(
            run, suite, registry, weights=given, device=device, sample=sample, seed=seed
        )
        complain(*(f"{run.record.run}: {what}" for what in found))
        bad += bool(found)
    if bad:
        raise click.exceptions.Exit(1)


def _open_suite(
    name: str, data_folders: Sequence[Path], sources: Mapping[str, Path] | None
) -> Suite:
    from vtbench.suites.suites import attach_data, load_suite

    return attach_data(load_suite(name, data_folders), sources)


def verify_run(
    run: Run,
    suite: Suite,
    registry: Registry,
    *,
    weights: Mapping[str, Path],
    device: str,
    sample: int,
    seed: int,
) -> list[str]:
    """Print which images of a run were measured again, and return what differs.

    Raises:
        ResultsError, SuiteError: the run is not one that can be repeated here.
        WeightsMissing: the tokenizer is not on this machine.
    """
    from vtbench.commands.audit.folder import find_entry
    from vtbench.runs.remeasuring import measure_again, name_differences
    from vtbench.suites.crops import change_crop, parse_crop
    from vtbench.tokenizers import resolve_device
    from vtbench.weights.entries import find_weights

    record = run.record
    if (record.suite.name, record.suite.sha256) != (suite.name, suite.sha256):
        raise ResultsError(f"{run.folder}: of another version of {suite.name}: nothing to compare")
    if record.protocol.source != "pass":
        raise ResultsError(f"{run.folder}: its reconstructions were read from files")
    entry, fault = find_entry(record, registry)
    if entry is None or fault is not None:
        raise ResultsError(f"{run.folder}: {fault or 'its tokenizer is no entry of the registry'}")
    found = find_weights(entry, weights.get(entry.name))
    if record.protocol.crop is not None:
        suite = change_crop(suite, parse_crop(record.protocol.crop))
    done = sorted(str(row["id"]) for row in run.rows if row["error"] is None)
    if not done:
        raise ResultsError(f"{run.folder}: no image has numbers: nothing to compare")
    known = {one.id for one in suite.samples}
    if unknown := [image for image in done if image not in known]:
        raise SuiteError(f"{run.folder}: {unknown[0]!r} is no image of {suite.name}")
    drawn = sorted(random.Random(f"{seed}").sample(done, min(sample, len(done))))
    device = resolve_device(device)
    again = measure_again(run, suite, entry, drawn, found=found, device=device)
    other = name_differences(record.environment, device)
    differences, skipped = _compare(run, again, drawn, same_machine=not other)
    pixels = (
        "pixels and " if all(_row(run, image)["reconstruction_sha256"] for image in drawn) else ""
    )
    click.echo(
        f"{record.run}: {len(drawn)} of {len(done)} images: {', '.join(map(printable, drawn))}: "
        + (f"{len(differences)} differences" if differences else f"{pixels}numbers agree")
    )
    for what in (*other, *(f"{key}: not compared: {why}" for key, why in sorted(skipped.items()))):
        click.echo(f"  {what}")
    return differences


def _list_columns(again: Remeasured) -> set[str]:
    """Return the columns that have a value in a row that was measured again."""
    return {key for row in again.rows.values() for key, value in row.items() if value is not None}


def _is_empty(run: Run, column: str) -> bool:
    values = run.table[column]
    return bool(values.null_count == len(values))


def _row(run: Run, image: str) -> Mapping[str, object]:
    row = run.find_row(image)
    assert row is not None
    return row


def _compare(
    run: Run, again: Remeasured, drawn: Sequence[str], *, same_machine: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the differences, and the metrics that were not compared with the reason."""
    from vtbench.commands.audit.remeasured import READINGS, compare_rows
    from vtbench.metrics.catalogue import METRICS

    reasons: dict[str, str] = {}
    skipped: set[str] = set()
    then = run.record.protocol.metrics
    for key, here in again.states.items():
        if key not in then:
            reasons[key] = "the run has no record of it"
        elif then[key].state != "measured" or here.state != "measured":
            reasons[key] = f"{here.state} here, {then[key].state} in the run"
        elif then[key].version != here.version:
            reasons[key] = f"version {here.version} here, {then[key].version} in the run"
        else:
            continue
        skipped |= set(METRICS[key].row_columns)
    compared = set(again.states) - set(reasons)
    skipped -= {column for key in compared for column in METRICS[key].row_columns}
    of_all = {key for key in run.table.column_names if key in _list_columns(again)}
    if absent := sorted(key for key in of_all - skipped if _is_empty(run, key)):
        reasons[", ".join(absent)] = "the run has none"
        skipped |= set(absent)
    if dict(again.ocr) != run.record.protocol.ocr:
        reasons["reading"] = "read by another engine"
        skipped |= set(READINGS)
    differences = []
    for image in drawn:
        rows = compare_rows(
            dict(_row(run, image)),
            dict(again.rows[image]),
            codes=run.codes,
            same_machine=same_machine and image in again.in_batch,
            skipped=skipped,
        )
        differences += [f"{image}: {what}" for what in rows]
    return differences, reasons
