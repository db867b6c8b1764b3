"""What a run would do (`run --dry-run`): which rows, what is reused, what is to be had first, how much
room and time it takes. No image is measured and no result is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from vtbench.base.errors import RegistryError, ResultsError, WeightsError, WeightsMissing
from vtbench.registry.entries import Entry, Registry
from vtbench.registry.sources import HubWeights
from vtbench.results.folder import Run, read_record
from vtbench.results.partial import count_rows
from vtbench.results.schema import RunRecord
from vtbench.runs.added_metrics import Addition
from vtbench.runs.kept_reconstructions import has_all
from vtbench.runs.meter import Meter
from vtbench.runs.provenance import describe_measures, draft_record
from vtbench.runs.request import Request
from vtbench.runs.reuse import find_current
from vtbench.suites.batches import REFERENCE_PIXELS, PixelCache
from vtbench.suites.suites import Suite
from vtbench.tokenizers import resolve_device
from vtbench.weights.entries import find_weights
from vtbench.weights.metrics import (
    MetricWeights,
    file_names,
    find_metric_weights,
    needed_weights,
)

ROW_BYTES = 4096
"""More than a row takes in the partial file and in images.parquet together."""


@dataclass(frozen=True)
class Planned:
    """One row of the table.

    Args:
        run: its name.
        work: What is done: nothing (reuse), some metrics (add), the rest of a killed run (resume), all
            (measure), or nothing since it cannot be (refuse).
        images: How many images are measured.
        reason: why it is not reused, or cannot be.
        metrics: those that are added.
        seconds: an estimate; None where nothing is known.
        basis: what the estimate is made of, or why there is none.
    """

    run: str
    work: Literal["reuse", "add", "resume", "measure", "refuse"]
    images: int
    reason: str | None = None
    metrics: tuple[str, ...] = ()
    seconds: float | None = None
    basis: str = ""


@dataclass(frozen=True)
class Download:
    """Files that are not here. bytes: None where nobody has stated it. disables: metrics that are not
    measured without them. command: what brings them."""

    name: str
    files: tuple[str, ...]
    bytes: int | None
    command: str
    disables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """What a request would do.

    Args:
        suite: its name.
        images: by task.
        rows: the runs.
        downloads: files that are missing here.
        disk: bytes at most that results take, by what they are.
    """

    suite: str
    images: dict[str, int]
    rows: tuple[Planned, ...]
    downloads: tuple[Download, ...]
    disk: dict[str, int]

    @property
    def seconds(self) -> float | None:
        """The estimates together; None where one is missing."""
        found = [row.seconds for row in self.rows if row.work not in ("reuse", "refuse")]
        return sum(s for s in found if s is not None) if None not in found else None


def forecast_run(request: Request, away: Sequence[Entry] = ()) -> Forecast:
    """Return what a request would do.

    Args:
        request: of tokenizers whose weights are here.
        away: entries that were asked for too and whose weights are not here.
    """
    device = resolve_device(request.device)
    request = replace(request, device=device)
    ocr = request.ocr or request.suite.protocol.ocr
    meter = Meter(
        *(request.suite, request.tasks),
        device=device,
        ocr=ocr,
        limit=request.limit,
        extra=request.metrics,
    )
    speed = _Speed(device)
    rows = tuple(
        _plan(request, entry, meter, seed=seed, speed=speed) for entry, seed in request.cells()
    )
    samples = request.samples()
    pixels = _count_pixels(request)
    todo = sum(row.work not in ("reuse", "refuse") for row in rows)
    disk = {"rows": ROW_BYTES * sum(row.images for row in rows)}
    if request.keep:
        disk["reconstructions"] = 3 * pixels * todo
    widths = [e.width * e.dtype.itemsize for e in meter.sets.set_encoders().values()]
    if widths:
        disk["features"] = 2 * sum(widths) * len(samples)
    missing = [key for key, state in meter.states.items() if state.state == "missing"]
    downloads = [_describe_entry(entry) for entry in away]
    downloads += _list_missing(missing, ocr)
    counts = {task: sum(sample.task == task for sample in samples) for task in request.tasks}
    return Forecast(request.suite.name, counts, rows, tuple(downloads), disk)


def split_away(
    registry: Registry, names: Sequence[str], weights: Mapping[str, Path]
) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """Return which of the named tokenizers can run here, and the entries of those whose weights are not
    here. Raises UnknownName."""
    here, away = [], []
    for entry in (registry[name] for name in dict.fromkeys(names)):
        try:
            find_weights(entry, weights.get(entry.name))
            here.append(entry.name)
        except WeightsMissing:
            away.append(entry)
    return tuple(here), tuple(away)


def forecast_away(suite: Suite, away: Sequence[Entry]) -> Forecast:
    """Return what a request does of whose tokenizers none has its weights here: nothing."""
    downloads = tuple(_describe_entry(entry) for entry in away)
    return Forecast(suite.name, suite.images_per_task(), (), downloads, {})


def _plan(request: Request, entry: Entry, meter: Meter, *, seed: int, speed: _Speed) -> Planned:
    name = request.run_name(entry, seed)
    try:
        found = find_weights(entry, (request.weights or {}).get(entry.name))
        draft = draft_record(request, entry, describe_measures(request, meter), found, seed=seed)
    except (WeightsError, RegistryError) as error:
        return Planned(name, "refuse", 0, str(error))
    current = None
    if not request.fresh:
        current = find_current(request, entry, meter, PixelCache(), draft=draft, found=found)
    total = draft.n_expected
    if isinstance(current, Run):
        return Planned(name, "reuse", 0, "complete and current")
    seconds, basis = _estimate(request, entry, draft, speed)
    if isinstance(current, Addition):
        if current.from_pixels and has_all(current.run.folder, current.run.rows):
            seconds, basis = None, "unknown: these metrics alone, on kept reconstructions"
        else:
            basis = f"at most: one more pass ({basis})"
        return Planned(name, "add", total, "it lacks some", current.names, seconds, basis)
    partial = request.out / f".{name}.partial.jsonl"
    ids = {sample.id for sample in request.samples()}
    done = 0 if request.fresh else count_rows(partial, draft.key, ids=ids)
    left = total - done
    share = None if seconds is None else seconds * left / max(total, 1)
    if done:
        return Planned(name, "resume", left, f"{done} images are done", (), share, basis)
    why = current or ("asked for" if request.fresh else "not measured yet")
    return Planned(name, "measure", total, why, (), seconds, basis)


def _estimate(
    request: Request, entry: Entry, draft: RunRecord, speed: _Speed
) -> tuple[float | None, str]:
    """Return the seconds of a whole run and what says so."""
    here = draft.environment
    for record in _list_earlier(request.out, draft):
        there = record.environment
        same = (there.device, there.processor, there.threads) == (
            *(here.device, here.processor, here.threads),
        )
        if same and record.n_done and record.seconds > 0 and record.suite.name == draft.suite.name:
            mean = record.seconds / record.n_done
            return mean * draft.n_expected, f"{mean:.3f} s an image in an earlier run here"
    each = entry.gmac
    if each is None or each.encode is None or each.decode is None:
        return None, "unknown: no earlier run here, and the entry states no GMAC"
    rate = speed.measure(draft.protocol.dtype)
    gmac = (each.encode + each.decode) * _count_pixels(request) / REFERENCE_PIXELS
    return gmac / rate, f"its GMAC at {rate:.0f} GMAC/s, measured now; the metrics are not in it"


def _list_earlier(out: Path, draft: RunRecord) -> Iterator[RunRecord]:
    """Yield the records of runs of this name, in this folder of results and those beside it."""
    for folder in (out, *(sorted(out.parent.glob("*")) if out.parent.is_dir() else ())):
        path = folder / draft.run
        if (path / "run.json").is_file():
            try:
                yield read_record(path)
            except ResultsError:
                continue


def _count_pixels(request: Request) -> int:
    """Return the pixels of all images; those whose size is known after decoding alone count 256²."""
    total = 0
    for sample in request.samples():
        side = sample.preprocess.size
        square = side * side if side is not None else REFERENCE_PIXELS
        total += sample.width * sample.height or square
    return total


class _Speed:
    """Multiply-accumulates a second of a convolution on a device, measured once a dtype."""

    SECONDS = 0.5

    def __init__(self, device: str) -> None:
        self.device = device
        self._known: dict[str, float] = {}

    def measure(self, dtype: str) -> float:
        """Return 10⁹ multiply-accumulates a second: 3×3 kernels, 128 channels, 64² positions."""
        if dtype not in self._known:
            kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
            layer = torch.nn.Conv2d(128, 128, 3, padding=1, device=self.device, dtype=kind)
            images = torch.ones(4, 128, 64, 64, device=self.device, dtype=kind)
            count, begun = 0, 0.0
            with torch.inference_mode():
                layer(images)
                begun = time.perf_counter()
                while count == 0 or time.perf_counter() - begun < self.SECONDS:
                    float(layer(images)[0, 0, 0, 0])  # waits for the device
                    count += 1
            spent = time.perf_counter() - begun
            self._known[dtype] = count * 4 * 64 * 64 * 128 * 128 * 9 / spent / 1e9
        return self._known[dtype]


def _describe_entry(entry: Entry) -> Download:
    files = entry.weights.files if isinstance(entry.weights, HubWeights) else ()
    return Download(entry.name, tuple(files), None, f"vtbench fetch {entry.name}")


def _list_missing(metrics: Sequence[str], ocr: str) -> list[Download]:
    """Return the files that the missing metrics need and that are not here."""
    found = []
    for weights in needed_weights(metrics, ocr):
        try:
            find_metric_weights(weights.key)
        except WeightsError:
            found.append(_describe_metric(weights, metrics))
    return found


def _describe_metric(weights: MetricWeights, missing: Sequence[str]) -> Download:
    disabled = tuple(key for key in missing if key.partition("@")[0] in weights.metrics)
    return Download(weights.key, file_names(weights), weights.bytes, weights.command, disabled)
