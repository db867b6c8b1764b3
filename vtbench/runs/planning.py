"""From names and options to a `Request`: what a command line and a notebook both ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vtbench.base import locations
from vtbench.base.errors import RegistryError, UnknownName, VtbenchError
from vtbench.base.names import list_names
from vtbench.metrics.catalogue import METRIC_LISTS, METRICS
from vtbench.registry.entries import Entry, Registry
from vtbench.runs.request import (
    AskedBatchSize,
    Request,
    Variant,
    apply_variant,
    choose_entries,
    vary_entries,
)
from vtbench.suites.crops import change_crop, parse_crop
from vtbench.suites.image_folder import folder_suite, name_folder_suite
from vtbench.suites.suites import Suite, attach_data, load_suite

SEAMS = ("seam_step", "seam_tone")
"""Measured beside any suite's metrics of rows that see tiles (`--size-policy tile`)."""


def open_suite(
    suite: str | Path | Suite,
    *,
    data_folders: Sequence[Path] = (),
    sources: Mapping[str, Path] | None = None,
    out: Path | None = None,
    max_pixels: int | None = None,
) -> Suite:
    """Return a suite with its images: one by name, or an ad-hoc one of a folder of images.

    Args:
        suite: a suite's name, a folder of images, or a suite.
        data_folders: folders with suites of one's own.
        sources: where the data sets are, by name.
        out: where results will be; what lies there is no image, also where it is among the images.
        max_pixels: a picture of more is refused by its name; `images.MAX_PIXELS` by default.

    Raises:
        UnknownName: there is no such suite.
        SuiteError, DataMissing: it is malformed, or its data set is not here.
    """
    if isinstance(suite, Path):
        name = name_folder_suite(suite)
        usual = (locations.local_dir(name), locations.scratch_dir(name))
        opened = folder_suite(suite, without=(out,) if out else usual)
    else:
        found = load_suite(suite, data_folders) if isinstance(suite, str) else suite
        opened = attach_data(found, sources)
    if max_pixels is None:
        return opened
    samples = tuple(replace(sample, max_pixels=max_pixels) for sample in opened.samples)
    return replace(opened, samples=samples)


def choose_tasks(suite: Suite, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the named tasks in the suite's order; all of them where none is named."""
    known = list(suite.protocol.tasks)
    for task in tasks:
        if task not in known:
            raise UnknownName("task", task, known)
    return tuple(task for task in known if not tasks or task in tasks)


def choose_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics of these keys and lists. Raises UnknownName."""
    keys = dict.fromkeys(key for name in names for key in METRIC_LISTS.get(name, (name,)))
    for key in keys:
        if key not in METRICS or METRICS[key].takes in ("run", "rows"):
            measured = [k for k, m in METRICS.items() if m.takes not in ("run", "rows")]
            raise UnknownName("metric", key, [*measured, *METRIC_LISTS])
    return tuple(keys)


def require_network(entry: Entry) -> Entry:
    """Return the entry of a network as it is. Raises RegistryError for one that has none to compile."""
    if entry.weights is None:
        raise RegistryError(f"{entry.name}: --compile: it has no network")
    return entry


def plan_run(
    suite: Suite,
    registry: Registry,
    *,
    names: Sequence[str] = (),
    families: Sequence[str] = (),
    curves: bool = False,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    variant: Variant | None = None,
    weights: Mapping[str, Path] | None = None,
    crop: str | None = None,
    dtype: str | None = None,
    compiled: bool = False,
    ocr: str | None = None,
    device: str = "auto",
    batch_size: AskedBatchSize = None,
    limit: int | None = None,
    seed: int | None = None,
    fresh: bool = False,
    keep: bool = False,
    out: Path | None = None,
) -> Request:
    """Return the request that runs these tokenizers on a suite.

    Args:
        suite: The suite with its images attached.
        registry: Where the names are looked up.
        names: The tokenizers to run; with neither names nor families, every one whose weights are here.
        families: The families whose tokenizers are run.
        curves: Whether further points of the codecs' curves are among those that are not named.
        tasks: A part of the suite's tasks; all by default.
        metrics: Keys or lists measured beside the suite's own.
        variant: Changes of the entries that make other rows.
        weights: Files or folders in place of the entries' own sources, by name.
        crop: The crop in place of the suite's, as `--crop`.
        dtype: The dtype in place of the suite's.
        compiled: Whether torch compiles the networks, as `--compile`.
        ocr: The OCR engine in place of the suite's.
        device: Where networks and tensors are.
        batch_size: Images of 256² at a time, "auto" for the fastest that fits; None is the suite's.
        limit: The most images of each task.
        seed: The seed in place of the suite's.
        fresh: Measure again what is complete and current.
        keep: Keep the reconstructions beside the results.
        out: The folder of results; results/local/SUITE by default, results/scratch/SUITE where the
            request is partial.

    Raises:
        UnknownName, WeightsMissing, RegistryError, SuiteError: something named cannot be.
    """
    if limit is not None and limit < 1:
        raise VtbenchError(f"limit {limit}: expected one image or more")
    names, families, tasks, metrics = map(list_names, (names, families, tasks, metrics))
    tiled = variant is not None and variant.size_policy == "tile"
    known_tasks = choose_tasks(suite, tasks)
    chosen = choose_entries(registry, names, families, weights or {}, curves=curves)
    chosen = apply_variant(chosen, names, variant or Variant(), weights)
    if compiled:
        chosen = vary_entries(chosen, names, "compile", require_network)
    own = suite
    if crop is not None:
        suite = change_crop(own, parse_crop(crop))
    partial = limit is not None or set(known_tasks) != set(suite.protocol.tasks)
    default = locations.scratch_dir if partial else locations.local_dir
    return Request(
        suite=suite,
        entries=chosen.entries,
        out=out or default(suite.folder),
        tasks=known_tasks,
        device=device,
        dtype=dtype,
        compiled=compiled,
        ocr=ocr,
        crop=crop if suite is not own else None,
        batch_size=batch_size,
        limit=limit,
        fresh=fresh,
        keep=keep,
        weights=weights or {},
        skipped=chosen.skipped,
        selective=bool(names or families or compiled or (variant or Variant()).changes),
        metrics=choose_metrics((*metrics, *(SEAMS if tiled else ()))),
        seed=seed,
    )
