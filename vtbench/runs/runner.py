"""The pass over the data: every image is decoded once, goes through the tokenizer once, and every
metric reads the same two 8-bit tensors.

    samples ─► batches of one task, subset and shape ─► encode ─► decode ─► 8 bit ─► Meter ─► rows

Rows are appended to a partial file after each batch; a finished run is written whole. Nothing here
prints: progress goes to a `Listener`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol

import torch

from vtbench.base.errors import (
    CellFailed,
    ImageError,
    RegistryError,
    ResultsError,
    SuiteError,
    VtbenchError,
    WeightsError,
    describe_foreign,
)
from vtbench.metrics import rate
from vtbench.metrics.rate import Histogram
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run, read_run, write_run
from vtbench.results.parquet_file import MAX_ROWS
from vtbench.results.partial import PartialRows
from vtbench.results.rows import Row, is_unreadable
from vtbench.results.schema import Failure, RunRecord
from vtbench.results.writer import hold_run
from vtbench.runs.kept_originals import open_crops
from vtbench.runs.measuring import BatchMeter
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter
from vtbench.runs.panel import PanelSpool
from vtbench.runs.provenance import draft_record
from vtbench.runs.reconstruction import LiveReconstructor, Reconstructor
from vtbench.runs.request import Request
from vtbench.runs.set_features import SetRun
from vtbench.runs.suite_folder import write_suite_folder
from vtbench.suites.batches import PixelCache, make_batches
from vtbench.suites.copies import sort_for_reading
from vtbench.tokenizers import build_tokenizer, resolve_device
from vtbench.weights.entries import WeightFiles, find_weights

_LOG = logging.getLogger("vtbench")


@dataclass(frozen=True)
class Outcome:
    """How one tokenizer's run ended.

    Args:
        run: its name.
        status: how.
        reason: why it failed, or why an old run was not reused.
        record: run.json, where it was written.
        unreadable: originals that cannot be read, which have left the set for every tokenizer.
        refused: whether it was never begun, since its entry or its weights cannot be.
    """

    run: str
    status: Literal["measured", "reused", "failed"]
    reason: str | None = None
    record: RunRecord | None = None
    unreadable: tuple[Failure, ...] = ()
    refused: bool = False


class Listener(Protocol):
    """Hears how a run goes on."""

    def started(self, run: str, index: int, total: int, images: int) -> None:
        """Hear that a run begins, which of how many, and of how many images."""

    def advanced(self, images: int) -> None:
        """Hear how many more images are done."""

    def finished(self, outcome: Outcome) -> None:
        """Hear how a run ended."""


def run_suite(request: Request, listener: Listener) -> tuple[Outcome, ...]:
    """Measure every requested tokenizer on the suite, write its results, return how each ended.

    A tokenizer that fails is reported and the others go on. What was complete and current is
    reused unless `request.fresh`. Raises OutputError when results cannot be written, SuiteError
    when an image is not the pinned one.
    """
    n_images = len(request.samples())
    if n_images > MAX_ROWS:
        raise SuiteError(
            f"{request.suite.name}: {n_images:,} images; a run has at most {MAX_ROWS:,}: take a part "
            "(--task, --limit, fewer pictures)"
        )
    device = resolve_device(request.device)
    request = replace(request, device=device)
    meter = Meter(
        request.suite,
        request.tasks,
        device=device,
        ocr=request.ocr or request.suite.protocol.ocr,
        limit=request.limit,
        extra=request.metrics,
    )
    cache = PixelCache(source=open_crops(request.samples()))
    write_suite_folder(request, cache)
    outcomes = []
    cells = request.cells()
    found: dict[str, WeightFiles | None] = {}
    for index, (entry, seed) in enumerate(cells):
        name = request.run_name(entry, seed)
        listener.started(name, index, len(cells), n_images)
        try:
            with exact_arithmetic():
                if entry.name not in found:
                    own = (request.weights or {}).get(entry.name)
                    found[entry.name] = find_weights(entry, own)
                weights = found[entry.name]
                outcome = run_tokenizer(
                    request, entry, meter, cache, listener, seed=seed, found=weights
                )
        except (CellFailed, RegistryError, WeightsError) as error:  # of this tokenizer alone
            outcome = Outcome(name, "failed", str(error), refused=error.exit_code == 2)
        if outcome.reason is not None and outcome.status != "failed":
            _LOG.info("%s: %s", name, outcome.reason)
        listener.finished(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Within it a GPU computes as the protocol says: no TF32 in products and convolutions (its
    10-bit mantissa moves a PSNR), and no convolution algorithm that is chosen by timing or whose sums
    come in another order each time. What was set before is set again after it."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = (
        False,
        False,
        True,
        False,
    )
    try:
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def run_tokenizer(
    request: Request,
    entry: Entry,
    meter: Meter,
    cache: PixelCache,
    listener: Listener,
    *,
    seed: int,
    found: WeightFiles | None,
) -> Outcome:
    """Measure one tokenizer, or reuse its complete and current run; write what was measured.

    found: its weights; they are hashed once, however many seeds there are."""
    name = request.run_name(entry, seed)
    folder = request.out / name
    draft = draft_record(request, entry, meter, found, seed=seed)
    stale = None
    if not request.fresh:
        current = _find_current(folder, draft.key, request, cache)
        if isinstance(current, Run):
            listener.advanced(draft.n_expected)
            unreadable = _list_failures(current.rows, unreadable=True)
            return Outcome(name, "reused", record=current.record, unreadable=unreadable)
        stale = current
    with hold_run(request.out, name):
        return _measure_run(
            request, entry, meter, cache, listener, draft=draft, found=found, stale=stale
        )


def _measure_run(
    request: Request,
    entry: Entry,
    meter: Meter,
    cache: PixelCache,
    listener: Listener,
    *,
    draft: RunRecord,
    found: WeightFiles | None,
    stale: str | None,
) -> Outcome:
    """Measure a run, from where a killed one was on, and write it. stale: why it is measured again."""
    name = draft.run
    folder = request.out / name
    started, clock = datetime.now(UTC), time.perf_counter()
    partial, sets, panel = _resume(request, draft, meter, cache)
    listener.advanced(len(partial.rows))
    memory = PeakMemory(request.device)
    reconstructor = _open_reconstructor(request, entry, draft, found)
    measuring = BatchMeter(reconstructor, meter, memory, sets)
    _measure_all(request, measuring, partial, panel, cache, listener)

    order = {sample.id: index for index, sample in enumerate(request.samples())}
    rows = sorted(partial.rows, key=lambda row: order[row["id"]])
    codes: tuple[Histogram, ...] = ()
    if any("codes" in row for row in rows):
        rows, codes = _pool_codes(rows)
    failures = _list_failures(rows)
    facts = {
        "n_done": len(rows) - len(failures),
        "failures": failures,
        "started": started.isoformat(timespec="seconds"),
        "sets": sets.finish(rows),
        "seconds": round(time.perf_counter() - clock, 3),
    }
    panel.finish(folder, {row["id"] for row in rows if row["error"] is None})
    record = write_run(folder, draft.model_copy(update=facts), rows, codes=codes)
    partial.discard()
    sets.discard()
    panel.discard()
    unreadable = _list_failures(rows, unreadable=True)
    own = [failure for failure in failures if failure not in unreadable]
    if own or len(unreadable) == len(rows):
        first, n = (own or failures)[0], len(own or failures)
        reason = f"{n} of {len(rows)} images failed; {first.id}: {first.error}"
        return Outcome(name, "failed", reason, record, unreadable)
    return Outcome(name, "measured", stale, record, unreadable)


def _list_failures(rows: Sequence[Row], *, unreadable: bool = False) -> tuple[Failure, ...]:
    """Return the failed images, or those alone whose originals cannot be read."""
    return tuple(
        Failure(id=row["id"], error=row["error"])
        for row in rows
        if row.get("error") and (is_unreadable(row) or not unreadable)
    )


def _resume(
    request: Request, draft: RunRecord, meter: Meter, cache: PixelCache
) -> tuple[PartialRows, SetRun, PanelSpool]:
    """Return the rows, features and pictures that a killed run of this key left; empty where there are
    none."""
    path = request.out / f".{draft.run}.partial.jsonl"
    if request.fresh:
        path.unlink(missing_ok=True)
    samples = {sample.id: sample for sample in request.samples()}
    partial = PartialRows(path, draft.key, ids=samples.keys())
    panel = PanelSpool(request.out / f".{draft.run}.panel", request.suite.protocol.panel)
    if not panel.resume(partial.rows, samples, cache):
        partial.restart()
    sets = SetRun(meter.sets, request.out / f".{draft.run}.features")
    if not sets.resume(partial.rows):
        partial.restart()
    return partial, sets, panel


def _open_reconstructor(
    request: Request, entry: Entry, draft: RunRecord, found: WeightFiles | None
) -> Reconstructor:
    if (given := request.given.get(entry.name)) is not None:
        return given
    try:
        tokenizer = build_tokenizer(
            entry,
            device=request.device,
            dtype=draft.protocol.dtype,
            seed=draft.protocol.seed,
            weights=found,
        )
    except VtbenchError:
        raise
    except Exception as error:  # a stranger's constructor: this tokenizer fails, the others go on
        raise CellFailed(describe_foreign(error)) from error
    return LiveReconstructor(tokenizer)


def _measure_all(
    request: Request,
    measuring: BatchMeter,
    partial: PartialRows,
    panel: PanelSpool,
    cache: PixelCache,
    listener: Listener,
) -> None:
    """Measure what the partial file lacks. What failed before a kill is tried again by itself: the
    others fall into the batches that they would have fallen into."""
    done = {row["id"] for row in partial.rows}
    todo = sort_for_reading(sample for sample in request.samples() if sample.id not in done)
    again = [sample for sample in todo if sample.id in partial.failed]
    others = [sample for sample in todo if sample.id not in partial.failed]
    batches = chain(
        make_batches(again, cache, batch_size=1),
        make_batches(others, cache, batch_size=request.images_per_batch),
    )
    cost = request.suite.protocol.cost
    warm = cost is None
    for batch in batches:
        timed = cost is not None and batch.samples[0].subset == cost.subset
        if not warm and batch.images is not None and timed:
            # What it raises, the measured call raises again, and there it is reported.
            with suppress(Exception):
                measuring.reconstructor.warm_up(batch)
            warm = True
        rows, images = measuring.measure(batch)
        for sample, row, picture in zip(batch.samples, rows, images, strict=True):
            if picture is not None and row["error"] is None and sample.id in panel.places:
                panel.append(sample.id, cache.load(sample), picture)
        partial.append(rows)  # last: a kill leaves no row without its picture
        listener.advanced(len(rows))


def _pool_codes(rows: Sequence[Row]) -> tuple[list[Row], tuple[Histogram, ...]]:
    """Return the rows with each image's ideal bits in place of its packed histograms, and the sums
    of these: what an image's tokens cost is known only when all have been counted.

    Raises CellFailed for a tokenizer whose codebooks are not the same for all images."""
    counted = [index for index, row in enumerate(rows) if row.get("codes") is not None]
    try:
        codes, bits = rate.pool_codes([rows[index]["codes"] for index in counted])
    except ValueError as error:
        raise CellFailed(f"tokens cannot be counted: {error}") from None
    pooled = [{key: row[key] for key in row if key != "codes"} for row in rows]
    for index, length in zip(counted, bits, strict=True):
        pooled[index]["entropy_bits"] = length
    return pooled, codes


def _find_current(folder: Path, key: str, request: Request, cache: PixelCache) -> Run | str | None:
    """Return the folder's run if it is complete and current; else why not; None if there is none.

    An original that could not be read is tried again, since it may have been mended."""
    if not (folder / "run.json").exists():
        return None
    try:
        run = read_run(folder)
    except ResultsError as error:
        return f"measured again: {error}"
    if run.record.key != key:
        return "measured again: the protocol, the weights, the code or a library has changed"
    failed = {row["id"] for row in run.rows if row["error"] is not None}
    if any(row["id"] in failed and not is_unreadable(row) for row in run.rows):
        return "measured again: some images had failed"
    for sample in request.samples():
        if sample.id in failed:
            with suppress(ImageError):
                cache.load(sample)
                return "measured again: an image that could not be read can be now"
    if any(found.state == "failed" for found in run.record.sets.values()):
        return "measured again: a metric of the whole set had failed"
    return run
