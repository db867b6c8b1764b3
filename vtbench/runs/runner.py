"""The pass over the data: every image is decoded once, goes through the tokenizer once, and every
metric reads the same two 8-bit tensors.

    samples ─► batches of one task, subset and shape ─► encode ─► decode ─► 8 bit ─► Meter ─► rows

Rows are appended to a partial file after each batch; a finished run is written whole. Nothing here
prints: progress goes to a `Listener`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from vtbench.base.errors import CellFailed, RegistryError, ResultsError, WeightsError
from vtbench.base.records import Sample
from vtbench.images import RGB8, pixel_sha256, to_float, to_rgb8, to_uint8
from vtbench.metrics import rate
from vtbench.metrics.rate import Histogram
from vtbench.registry.entries import Entry
from vtbench.results.folder import read_run, read_suite_folder, write_run, write_suite_folder
from vtbench.results.partial import PartialRows
from vtbench.results.rows import Row
from vtbench.results.schema import Failure, RunRecord, Skipped, SuiteFolder
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter
from vtbench.runs.panel import write_originals, write_panel
from vtbench.runs.provenance import draft_record
from vtbench.runs.request import Request
from vtbench.runs.set_features import SetRun
from vtbench.suites.batches import Batch, PixelCache, make_batches
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.suites import Suite
from vtbench.tokenizers import build_tokenizer, resolve_device
from vtbench.tokenizers.base import Code, Tokenizer

DEFAULT_BATCH_SIZE = 8


@dataclass(frozen=True)
class Outcome:
    """How one tokenizer's run ended. reason: why it failed, or why an old run was not reused."""

    run: str
    status: Literal["measured", "reused", "failed"]
    reason: str | None = None
    record: RunRecord | None = None


class Listener(Protocol):
    """Hears how a run goes on."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...


def run_suite(request: Request, listener: Listener) -> tuple[Outcome, ...]:
    """Measure every requested tokenizer on the suite, write its results, return how each ended.

    A tokenizer that fails is reported and the others go on. What was complete and current is
    reused unless `request.fresh`. Raises OutputError when results cannot be written, SuiteError
    when an image is not the pinned one.
    """
    device = resolve_device(request.device)
    request = replace(request, device=device)
    meter = Meter(
        request.suite,
        request.tasks,
        device=device,
        ocr=request.ocr or request.suite.protocol.ocr,
        limit=request.limit,
    )
    cache = PixelCache()
    _write_suite_folder(request, cache)
    outcomes = []
    n_images = len(request.samples())
    cells = request.cells()
    for index, (entry, seed) in enumerate(cells):
        name = request.run_name(entry, seed)
        listener.started(name, index, len(cells), n_images)
        try:
            with exact_arithmetic():
                outcome = run_tokenizer(request, entry, meter, cache, listener, seed=seed)
        except (CellFailed, RegistryError, WeightsError) as error:  # of this tokenizer alone
            outcome = Outcome(name, "failed", str(error))
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
) -> Outcome:
    """Measure one tokenizer, or reuse its complete and current run; write what was measured."""
    name = request.run_name(entry, seed)
    folder = request.out / name
    draft = draft_record(request, entry, meter, seed=seed)
    stale = None
    if not request.fresh:
        found = _find_current(folder, draft.key)
        if isinstance(found, RunRecord):
            listener.advanced(draft.n_expected)
            return Outcome(name, "reused", record=found)
        stale = found

    started, clock = datetime.now(UTC), time.perf_counter()
    partial_path = request.out / f".{name}.partial.jsonl"
    if request.fresh:
        partial_path.unlink(missing_ok=True)
    partial = PartialRows(partial_path, draft.key)
    sets = SetRun(meter.sets, request.out / f".{name}.features")
    if not sets.resume(partial.rows):
        partial.restart()
    listener.advanced(len(partial.rows))
    memory = PeakMemory(request.device)
    tokenizer = build_tokenizer(
        entry,
        device=request.device,
        dtype=draft.protocol.dtype,
        seed=draft.protocol.seed,
        weights=(request.weights or {}).get(entry.name),
    )
    panel = {pick.id: pick for pick in request.suite.protocol.panel}
    pictures: dict[str, tuple[RGB8, RGB8]] = {}
    done = {row["id"]: row["error"] for row in partial.rows}
    todo = sort_for_reading(sample for sample in request.samples() if sample.id not in done)
    warm = False
    for batch in make_batches(todo, cache, batch_size=_batch_size(request)):
        if not warm and batch.images is not None and _is_timed(batch, request.suite):
            # The first call pays for allocations and kernel choice; the clock starts after it.
            # What it raises, the measured call raises again, and there it is reported.
            with suppress(Exception):
                _reconstruct(tokenizer, batch)
            warm = True
        rows, images = _measure_batch(tokenizer, batch, meter, memory, sets)
        partial.append(rows)
        for sample, picture in zip(batch.samples, images, strict=True):
            if sample.id in panel and picture is not None:
                pictures[sample.id] = (cache.load(sample), picture)
        listener.advanced(len(rows))

    chosen = {sample.id: sample for sample in request.samples()}
    for pick in panel.values():
        if pick.id in chosen and done.get(pick.id, "not yet") is None:
            # Measured before a kill; its picture is gone.
            sample = chosen[pick.id]
            original = cache.load(sample)
            again = _reconstruct(tokenizer, Batch((sample,), to_float([original]), 1))
            pictures[pick.id] = (original, to_rgb8(to_uint8(again.images))[0])
    write_panel(folder, request.suite.protocol.panel, pictures)

    order = {sample.id: index for index, sample in enumerate(request.samples())}
    rows = sorted(partial.rows, key=lambda row: order[row["id"]])
    rows, codes = _pool_codes(rows)
    failures = tuple(Failure(id=r["id"], error=r["error"]) for r in rows if r.get("error"))
    record = write_run(
        folder,
        draft.model_copy(
            update={
                "n_done": len(rows) - len(failures),
                "failures": failures,
                "started": started.isoformat(timespec="seconds"),
                "sets": sets.finish(rows),
                "seconds": round(time.perf_counter() - clock, 3),
            }
        ),
        rows,
        codes=codes,
    )
    partial.discard()
    sets.discard()
    if failures:
        first = failures[0]
        reason = f"{len(failures)} of {len(rows)} images failed; {first.id}: {first.error}"
        return Outcome(name, "failed", reason, record)
    return Outcome(name, "measured", stale, record)


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


def _count_tokens(code: Code) -> list[str | None]:
    """Return each image's packed histograms; None for a code that has no codebooks."""
    if not code.codebooks:
        return [None] * len(code.tokens)
    return [
        rate.pack_histograms(
            [
                rate.count_tokens(words.numpy(), size)
                for words, size in zip(code.words(image), code.codebooks, strict=True)
            ]
        )
        for image in range(len(code.tokens))
    ]


def _find_current(folder: Path, key: str) -> RunRecord | str | None:
    """Return the folder's run if it is complete and current; else why not; None if there is none."""
    if not (folder / "run.json").exists():
        return None
    try:
        record = read_run(folder).record
    except ResultsError as error:
        return f"measured again: {error}"
    if record.key != key:
        return "measured again: the protocol, the weights, the code or a library has changed"
    if record.failures:
        return "measured again: some images had failed"
    if any(found.state == "failed" for found in record.sets.values()):
        return "measured again: a metric of the whole set had failed"
    return record


@dataclass(frozen=True)
class _Reconstruction:
    code: Code
    images: Tensor
    encode_s: float
    decode_s: float


def _reconstruct(tokenizer: Tokenizer, batch: Batch) -> _Reconstruction:
    """Encode and decode a batch, timed with the device synchronized on both sides."""
    assert batch.images is not None
    images = batch.images.to(tokenizer.device)
    _synchronize(tokenizer.device)
    t0 = time.perf_counter()
    code = tokenizer.encode(images)
    _synchronize(tokenizer.device)
    t1 = time.perf_counter()
    decoded = tokenizer.decode(code)
    _synchronize(tokenizer.device)
    t2 = time.perf_counter()
    return _Reconstruction(code, decoded, t1 - t0, t2 - t1)


def _decode_quantized(
    tokenizer: Tokenizer, batch: Batch, code: Code, meter: Meter
) -> _Reconstruction | None:
    """Decode the batch again from latents of 8 bits, where its task asks for that; not timed."""
    if tokenizer.spec.kind != "continuous" or not meter.wants_quantized(batch.samples[0].task):
        return None
    quantized = code.quantize8()
    return _Reconstruction(quantized, tokenizer.decode(quantized), 0.0, 0.0)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _measure_batch(
    tokenizer: Tokenizer, batch: Batch, meter: Meter, memory: PeakMemory, sets: SetRun
) -> tuple[list[Row], list[RGB8 | None]]:
    """Return the batch's rows, and its reconstructions (None where there is none)."""
    rows = [_new_row(sample, batch) for sample in batch.samples]
    nothing: list[RGB8 | None] = [None] * len(rows)
    if batch.images is None:
        return [{**row, "error": batch.error} for row in rows], nothing
    original = to_uint8(batch.images)
    for row, image in zip(rows, to_rgb8(original), strict=True):
        row["height"], row["width"] = image.shape[:2]
        row["sha256"] = pixel_sha256(image)
    memory.start()
    try:
        result = _reconstruct(tokenizer, batch)
        peak = memory.stop()
        codes = _count_tokens(result.code)
        coarse = _decode_quantized(tokenizer, batch, result.code, meter)
    except Exception as error:
        # A network of strangers may raise anything; the image fails by name and the run goes on.
        if batch.size > 1 and isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            return _measure_singly(tokenizer, batch, meter, memory, sets)
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return [{**row, "error": reason} for row in rows], nothing
    if result.images.shape != batch.images.shape:
        shapes = f"{tuple(batch.images.shape)} went in, {tuple(result.images.shape)} came back"
        return [{**row, "error": f"wrong size: {shapes}"} for row in rows], nothing
    finite = [bool(torch.isfinite(image).all()) for image in result.images]
    image8 = to_uint8(torch.nan_to_num(result.images))
    original = original.to(image8.device)
    task = batch.samples[0].task
    features = meter.sets.encode(task, batch.samples, original, image8)
    measured = meter.measure(task, batch.samples, original, image8, features)
    if coarse is not None:
        coarse8 = to_uint8(torch.nan_to_num(coarse.images))
        of_coarse = meter.measure_quantized(original, coarse8, coarse.code.bits)
        for values, more, image in zip(measured, of_coarse, coarse.images, strict=True):
            # NaN fails the image by name: see `_refuse_non_finite`.
            values.update(more if torch.isfinite(image).all() else {"psnr_q8_db": math.nan})
    pictures: list[RGB8 | None] = []
    for index, (row, values) in enumerate(zip(rows, measured, strict=True)):
        if not finite[index]:
            row["error"] = "the reconstruction has NaN or infinite values"
            pictures.append(None)
            continue
        assert result.code.fit is not None
        row.update(
            fit=result.code.fit.policy,
            tokens=result.code.tokens[index],
            bits=result.code.bits[index],
            codes=codes[index],
            batch_size=batch.size,
            encode_s=result.encode_s / batch.size,
            decode_s=result.decode_s / batch.size,
            peak_memory_mib=peak,
            **values,
        )
        _refuse_non_finite(row)
        pictures.append(to_rgb8(image8[index : index + 1])[0])
    sets.append(task, batch.samples, features, rows)  # before the rows: a kill leaves no row alone
    return rows, pictures


def _measure_singly(
    tokenizer: Tokenizer, batch: Batch, meter: Meter, memory: PeakMemory, sets: SetRun
) -> tuple[list[Row], list[RGB8 | None]]:
    assert batch.images is not None
    rows: list[Row] = []
    pictures: list[RGB8 | None] = []
    for index, sample in enumerate(batch.samples):
        single = Batch((sample,), batch.images[index : index + 1], 1)
        row, picture = _measure_batch(tokenizer, single, meter, memory, sets)
        rows += row
        pictures += picture
    return rows, pictures


def _new_row(sample: Sample, batch: Batch) -> Row:
    return {
        "id": sample.id,
        "task": sample.task,
        "subset": sample.subset,
        "width": sample.width,
        "height": sample.height,
        "sha256": sample.sha256,
        "error": None,
    }


def _refuse_non_finite(row: Row) -> None:
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            row["error"] = f"{key} is {value}"
            return


def _batch_size(request: Request) -> int:
    cost = request.suite.protocol.cost
    return request.batch_size or (cost.batch_size if cost else DEFAULT_BATCH_SIZE)


def _is_timed(batch: Batch, suite: Suite) -> bool:
    return batch.samples[0].subset == _cost_subset(suite)


def _cost_subset(suite: Suite) -> str | None:
    return suite.protocol.cost.subset if suite.protocol.cost else None


def _write_suite_folder(request: Request, cache: PixelCache) -> None:
    """Write suite.json and the panel's originals; the board is rendered from them and the runs."""
    suite, protocol = request.suite, request.suite.protocol
    by_id = {sample.id: sample for sample in request.samples()}
    panel = write_originals(request.out, protocol.panel, by_id, cache)
    counts = {task: sum(s.task == task for s in by_id.values()) for task in request.tasks}
    write_suite_folder(
        request.out,
        SuiteFolder(
            name=suite.name,
            version=protocol.version,
            title=protocol.title,
            description=protocol.description,
            sha256=suite.sha256,
            published=suite.published,
            pinned=suite.pinned,
            images=counts,
            cost_subset=_cost_subset(suite),
            panel=panel,
            skipped=_all_skipped(request),
            cut_from=suite.shared_files(),
        ),
    )


def _all_skipped(request: Request) -> tuple[Skipped, ...]:
    """Return what has no run in the folder for want of weights: a request for some names does not
    make an earlier one forget."""
    skipped = {}
    if request.selective and (request.out / "suite.json").exists():
        try:
            earlier = read_suite_folder(request.out).skipped
        except ResultsError:
            earlier = ()
        skipped = {entry.name: entry for entry in earlier}
    skipped |= {entry.name: entry for entry in request.skipped}
    for entry in request.entries:
        skipped.pop(entry.name, None)
    return tuple(skipped[name] for name in sorted(skipped))
