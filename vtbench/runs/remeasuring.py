"""A few images of a run, measured once more in the batches that made their rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vtbench.images import to_batch8
from vtbench.metrics.catalogue import METRICS, SET_METRICS
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run
from vtbench.results.rows import Row
from vtbench.results.schema import Environment, MetricRecord
from vtbench.runs import environment
from vtbench.runs.arithmetic import exact_arithmetic
from vtbench.runs.compiled_form import compile_tokenizer
from vtbench.runs.measuring import BatchMeter
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter
from vtbench.runs.reconstruction import LiveReconstructor, open_tokenizer
from vtbench.suites.batches import Batch, BatchSize, load_pixels
from vtbench.suites.suites import Suite
from vtbench.weights.entries import WeightFiles

_ANY = 2**40
"""Images of 256² in a batch: it has as many as the rows state."""


@dataclass(frozen=True)
class Remeasured:
    """Rows that were measured again.

    Attributes:
        rows: By image; `codes` holds the packed counts of its tokens.
        in_batch: Images that were in a batch of the same size as in the run.
        states: Of the metrics on this machine.
        ocr: The engine on this machine.
    """

    rows: Mapping[str, Row]
    in_batch: frozenset[str]
    states: Mapping[str, MetricRecord]
    ocr: Mapping[str, str]


def measure_again(
    run: Run,
    suite: Suite,
    entry: Entry,
    images: Collection[str],
    *,
    found: WeightFiles | None,
    device: str,
) -> Remeasured:
    """Return the rows of some images of a run, measured on this machine.

    Args:
        run: whose protocol is followed.
        suite: with its images attached, cropped as the run says.
        entry: the tokenizer, as the run's name says that it was changed.
        images: the ids to measure; the others of their batches go through the tokenizer with them.
        found: the entry's weights.
        device: where.

    Raises:
        CellFailed: the tokenizer cannot be built.
    """
    protocol = run.record.protocol
    asked = {key for task in protocol.tasks for key in suite.protocol.tasks[task].metrics}
    extra = [
        k for k in protocol.metrics if k in METRICS and k not in asked and k not in SET_METRICS
    ]
    ocr = protocol.ocr.get("engine") or suite.protocol.ocr
    meter = Meter(suite, protocol.tasks, device=device, ocr=ocr, limit=protocol.limit, extra=extra)
    tokenizer = open_tokenizer(
        entry, device=device, dtype=protocol.dtype, seed=protocol.seed, found=found
    )
    batch_size = BatchSize(_ANY)
    measuring = BatchMeter(LiveReconstructor(tokenizer), meter, PeakMemory(device), batch_size)
    samples = {sample.id: sample for sample in suite.samples}
    rows: dict[str, Row] = {}
    in_batch: set[str] = set()
    with exact_arithmetic():
        for ids, size in _find_batches(run.rows, images):
            own = tuple(samples[image] for image in ids)
            batch = Batch(own, to_batch8([load_pixels(sample) for sample in own]), len(own))
            if protocol.compiled and not rows:
                compile_tokenizer(tokenizer, batch)
            for row in measuring.measure(batch).rows:
                if row["id"] in images:
                    rows[row["id"]] = row
                    in_batch |= {row["id"]} if len(ids) == size else set()
    return Remeasured(rows, frozenset(in_batch), meter.states, meter.ocr)


def _find_batches(rows: Sequence[Row], images: Collection[str]) -> list[tuple[list[str], int]]:
    """Return the batches that hold the images, each with the size that their rows state: rows stand
    in the order of the pass, in which one batch has one task, subset and shape."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row["error"] is None:
            key = (row["task"], row["subset"], row["width"], row["height"])
            groups.setdefault(key, []).append(row)
    batches = []
    for group in groups.values():
        start = 0
        while start < len(group):
            size = group[start]["batch_size"] or 1
            part = group[start : start + size]
            start += len(part)
            if any(row["id"] in images for row in part):
                batches.append(([row["id"] for row in part], size))
    return batches


def name_differences(then: Environment, device: str) -> tuple[str, ...]:
    """Return what of this machine can change a number and is not as in a run: libraries, processor,
    device, threads."""
    import torch

    here = {
        "device": environment.device_name(device),
        "processor": environment.processor(),
        "threads": str(torch.get_num_threads()),
        **environment.library_versions(),
    }
    told = {
        "device": then.device,
        "processor": then.processor,
        "threads": str(then.threads),
        **then.versions,
    }
    return tuple(
        f"{key} {here[key]}, then {told.get(key, 'unknown')}"
        for key in here
        if here[key] != told.get(key)
    )
