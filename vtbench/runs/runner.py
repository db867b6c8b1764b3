"""The pass over the data: every image is decoded once, goes through the tokenizer once, and every
metric reads the same two 8-bit tensors.

    samples ─► batches of one task, subset and shape ─► encode ─► decode ─► 8 bit ─► Meter ─► rows

Rows are appended to a partial file after each batch; a finished run is written whole. Nothing here
prints: progress goes to a `Listener`.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

from vtbench.base.errors import (
    CellFailed,
    RegistryError,
    SuiteError,
    WeightsError,
)
from vtbench.metrics.rate import Histogram
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run, write_run
from vtbench.results.parquet_file import MAX_ROWS
from vtbench.results.schema import BatchRecord, RunRecord
from vtbench.results.writer import hold_run
from vtbench.runs.added_metrics import Addition, Differs, add_metrics
from vtbench.runs.arithmetic import exact_arithmetic
from vtbench.runs.background import Background
from vtbench.runs.batch_search import make_batch_size, settle_batch_size
from vtbench.runs.compiled_form import compile_tokenizer, require_compiler
from vtbench.runs.device_copies import CudaCopier, copy_ahead
from vtbench.runs.kept_originals import open_crops
from vtbench.runs.kept_reconstructions import drop_reconstructions
from vtbench.runs.measuring import BatchFailed, BatchMeter, Measured
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter
from vtbench.runs.outcome import Listener, Outcome
from vtbench.runs.pooled_codes import pool_codes
from vtbench.runs.provenance import describe_measures, draft_record, list_dependencies
from vtbench.runs.ranks import ALONE, Ranks
from vtbench.runs.reconstruction import (
    LiveReconstructor,
    Reconstructor,
    find_network_device,
    open_reconstructor,
)
from vtbench.runs.request import Request
from vtbench.runs.reuse import find_current, list_failures
from vtbench.runs.shared_pass import measure_shared
from vtbench.runs.spools import Spools, resume_spools
from vtbench.runs.steady_memory import SteadyMemory
from vtbench.runs.suite_folder import write_suite_folder
from vtbench.suites.batches import CACHE_BYTES, Batch, PixelCache, make_batches
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.shards import number_batches
from vtbench.tokenizers import resolve_device
from vtbench.weights.entries import WeightFiles, find_weights

_LOG = logging.getLogger("vtbench")


def run_suite(
    request: Request, listener: Listener, *, steady: bool = False, ranks: Ranks = ALONE
) -> tuple[Outcome, ...]:
    """Measure every requested tokenizer on the suite, write its results, return how each ended.

    A tokenizer that fails is reported and the others go on. What was complete and current is
    reused unless `request.fresh`.

    Args:
        request: What to run.
        listener: Receives the progress.
        steady: Whether the process is vtbench's own, so that its allocator may be set
            (`SteadyMemory`).
        ranks: This process among those that measure each run together, all of which call this.

    Raises:
        OutputError: Results cannot be written.
        SuiteError: An image is not the pinned one.
    """
    if request.keep and ranks.world > 1:
        raise SuiteError("--keep-reconstructions: not with several processes")
    n_images = len(request.samples())
    if n_images > MAX_ROWS:
        raise SuiteError(
            f"{request.suite.name}: {n_images:,} images; a run has at most {MAX_ROWS:,}: take a part "
            "(--task, --limit, fewer pictures)"
        )
    device = resolve_device(request.device)
    request = replace(request, device=device)
    if request.compiled:
        require_compiler(device)
    meter = Meter(
        request.suite,
        request.tasks,
        device=device,
        ocr=request.ocr or request.suite.protocol.ocr,
        limit=request.limit,
        extra=request.metrics,
    )
    cells = request.cells()
    cache = PixelCache(
        source=open_crops(request.samples()), limit=CACHE_BYTES if len(cells) > 1 else 0
    )
    with ranks.united():
        if ranks.first:
            write_suite_folder(request, cache)
    outcomes = []
    found: dict[str, WeightFiles | None] = {}
    for index, (entry, seed) in enumerate(cells):
        name = request.run_name(entry, seed)
        listener.started(name, index, len(cells), n_images)
        try:
            with exact_arithmetic():
                with ranks.united():
                    if entry.name not in found:
                        own = (request.weights or {}).get(entry.name)
                        found[entry.name] = find_weights(entry, own)
                weights = found[entry.name]
                outcome = run_tokenizer(
                    request,
                    entry,
                    meter,
                    cache,
                    listener,
                    seed=seed,
                    found=weights,
                    steady=steady,
                    ranks=ranks,
                )
        except (CellFailed, RegistryError, WeightsError) as error:  # of this tokenizer alone
            outcome = Outcome(name, "failed", str(error), error=error)
        if outcome.reason is not None and outcome.status != "failed":
            _LOG.info("%s: %s", name, outcome.reason)
        listener.finished(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


def run_tokenizer(
    request: Request,
    entry: Entry,
    meter: Meter,
    cache: PixelCache,
    listener: Listener,
    *,
    seed: int,
    found: WeightFiles | None,
    steady: bool = False,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Measure one tokenizer, or reuse its complete and current run; write what was measured.

    found: its weights; they are hashed once, however many seeds there are."""
    name = request.run_name(entry, seed)
    with ranks.united():
        draft = draft_record(request, entry, describe_measures(request, meter), found, seed=seed)
    if ranks.world > 1:
        ranks.require_equal(f"what {name} depends on", list_dependencies(draft))
        draft = ranks.share(draft)  # a model that was given has another key in each process
    current: Outcome | str | None = None
    with ranks.united():
        if ranks.first and not request.fresh:
            current = _reuse(request, entry, meter, cache, listener, draft=draft, found=found)
    current = ranks.share(current)
    if isinstance(current, Outcome):
        listener.advanced(draft.n_expected if current.status == "reused" else 0)
        return current
    with ExitStack() as stack:
        with ranks.united():
            if ranks.first:
                stack.enter_context(hold_run(request.out, name))
        return _measure_run(
            request,
            entry,
            meter,
            cache,
            listener,
            draft=draft,
            found=found,
            stale=current,
            steady=steady,
            ranks=ranks,
        )


def _reuse(
    request: Request,
    entry: Entry,
    meter: Meter,
    cache: PixelCache,
    listener: Listener,
    *,
    draft: RunRecord,
    found: WeightFiles | None,
) -> Outcome | str | None:
    """Return the outcome of a current run, completed by what it lacked; else why; None for none."""
    current = find_current(request, entry, meter, cache, draft=draft, found=found)
    if isinstance(current, Run):
        unreadable = list_failures(current.rows, unreadable=True)
        return Outcome(draft.run, "reused", record=current.record, unreadable=unreadable)
    if not isinstance(current, Addition):
        return current
    try:
        with hold_run(request.out, draft.run):
            record, how = add_metrics(
                request,
                meter,
                cache,
                current,
                open_live=lambda: _open(request, entry, draft, found, cache),
                report=listener.advanced,
            )
    except Differs as error:
        return f"measured again: {error}"
    unreadable = list_failures(current.run.rows, unreadable=True)
    return Outcome(draft.run, "measured", how, record, unreadable)


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
    steady: bool,
    ranks: Ranks,
) -> Outcome:
    """Measure a run, from where a killed one was on, and write it. stale: why it is measured again."""
    started, clock = datetime.now(UTC), time.perf_counter()
    spools: Spools | None = None
    with ranks.united():
        if ranks.first:
            spools = resume_spools(request, draft.run, draft.key, meter, cache)
        reconstructor = _open(request, entry, draft, found, cache)
    sizes: BatchRecord | None = None
    with ranks.united():
        if spools is not None:
            sizes = settle_batch_size(request, reconstructor, cache, spools.batches, steady=steady)
    sizes = ranks.share(sizes)
    assert sizes is not None
    batch_size = make_batch_size(sizes, spools.batches if spools is not None else None)
    measuring = BatchMeter(reconstructor, meter, PeakMemory(request.device), batch_size)
    if spools is not None:
        listener.advanced(len(spools.partial.done))
    if ranks.world > 1:
        measure_shared(request, measuring, spools, cache, listener, ranks, images=sizes.size)
    else:
        assert spools is not None
        _measure_all(request, measuring, spools, cache, listener, steady=steady, images=sizes.size)
    outcome: Outcome | None = None
    with ranks.united():
        if spools is not None:
            facts = {
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - clock, 3),
                "compilation": getattr(reconstructor, "compilation", None),
            }
            outcome = _write_measured(request, draft.model_copy(update=facts), spools, stale)
    outcome = ranks.share(outcome)
    assert outcome is not None
    return outcome


def _write_measured(
    request: Request, draft: RunRecord, spools: Spools, stale: str | None
) -> Outcome:
    """Write a run whose images are all measured, and return how it ended."""
    name = draft.run
    folder = request.out / name
    table = spools.partial.read_table([sample.id for sample in request.samples()])
    codes: tuple[Histogram, ...] = ()
    if "codes" in table.column_names:
        table, codes = pool_codes(table)
    rows = table.select(["id", "task", "sha256", "error"]).to_pylist()
    failures = list_failures(rows)
    facts = {
        "n_done": len(rows) - len(failures),
        "failures": failures,
        "sets": spools.sets.finish(rows),
        "batches": spools.batches.record,
    }
    spools.panel.finish(folder, {row["id"] for row in rows if row["error"] is None})
    drop_reconstructions(folder)  # of an earlier run
    if spools.kept is not None:
        spools.kept.finish(folder)
    record = write_run(folder, draft.model_copy(update=facts), table, codes=codes)
    spools.discard()
    unreadable = list_failures(rows, unreadable=True)
    own = [failure for failure in failures if failure not in unreadable]
    if own or len(unreadable) == len(rows):
        first, n = (own or failures)[0], len(own or failures)
        reason = f"{n} of {len(rows)} images failed; {first.id}: {first.error}"
        return Outcome(name, "failed", reason, record, unreadable)
    return Outcome(name, "measured", stale, record, unreadable)


def _measure_all(
    request: Request,
    measuring: BatchMeter,
    spools: Spools,
    cache: PixelCache,
    listener: Listener,
    *,
    steady: bool,
    images: int,
) -> None:
    """Measure the images that the partial file lacks. Images that failed before an interruption are
    retried one by one, so that the others keep their batches.

    While a batch is reconstructed, the one before it is read and written, and the images of the next
    are decoded. images: of the run's first batches, by which all are numbered."""
    done = spools.partial.done
    everything = sort_for_reading(request.samples())
    apart = number_batches(everything, images)
    todo = [sample for sample in everything if sample.id not in done]
    again = [sample for sample in todo if sample.id in spools.partial.failed]
    others = [sample for sample in todo if sample.id not in spools.partial.failed]
    workers = request.decoders
    batches: Iterator[Batch] = chain(
        make_batches(again, cache, batch_size=1, workers=workers),
        make_batches(
            others,
            cache,
            batch_size=measuring.batch_size,
            workers=workers,
            apart=apart,
        ),
    )
    cost = request.suite.protocol.cost
    warm = cost is None

    def is_timed(batch: Batch) -> bool:
        return cost is not None and batch.samples[0].subset == cost.subset

    if (device := find_network_device(measuring.reconstructor)).type == "cuda":
        batches = copy_ahead(batches, CudaCopier(device), alone=is_timed)
    with SteadyMemory(request.device if steady else "") as memory, Background() as background:
        for batch in batches:
            memory.prepare(None if batch.pixels is None else tuple(batch.pixels.shape))
            timed = is_timed(batch)
            if timed:  # nothing beside it
                background.wait()
            if not warm and batch.pixels is not None and timed:
                # What it raises, the measured call raises again, and there it is reported.
                with suppress(Exception):
                    measuring.reconstructor.warm_up(batch)
                warm = True
            finish = measuring.begin(batch)
            background.start(
                functools.partial(_complete, spools, batch, finish),
                again=functools.partial(
                    _complete_apart, spools=spools, batch=batch, measuring=measuring
                ),
                on=BatchFailed,
                report=listener.advanced,
            )
        background.wait()


def _complete(spools: Spools, batch: Batch, finish: Callable[[], Measured]) -> int:
    return spools.append(batch, finish())


def _complete_apart(
    error: Exception, *, spools: Spools, batch: Batch, measuring: BatchMeter
) -> int:
    assert isinstance(error, BatchFailed)
    return spools.append(batch, measuring.measure_apart(batch, short=error.short))


def _open(
    request: Request,
    entry: Entry,
    draft: RunRecord,
    found: WeightFiles | None,
    cache: PixelCache,
) -> Reconstructor:
    """Return what makes a run's reconstructions, compiled where that is asked for."""
    given = request.given.get(entry.name)
    opened = open_reconstructor(given, entry, draft.protocol, device=request.device, found=found)
    if request.compiled and isinstance(opened, LiveReconstructor):
        samples = sort_for_reading(request.samples())
        batches = make_batches(samples, cache, batch_size=request.images_per_batch)
        first = next((batch for batch in batches if batch.pixels is not None), None)
        if first is None:
            raise CellFailed("--compile: no image can be read")
        opened.compilation = compile_tokenizer(opened.tokenizer, first)
    return opened
