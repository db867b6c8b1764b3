"""Measures one batch: reconstruction, conversion to 8 bit (once), metrics, rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vtbench.base.errors import OutputError, describe_foreign
from vtbench.images import RGB8, pixel_sha256, to_rgb8, to_uint8
from vtbench.results.rows import Row
from vtbench.runs.memory import PeakMemory, give_back, is_memory_short
from vtbench.runs.meter import Meter
from vtbench.runs.reconstruction import Reconstruction, Reconstructor
from vtbench.runs.set_features import Pair
from vtbench.suites.batches import Batch, BatchSize


@dataclass
class Measured:
    """A batch that was measured.

    Attributes:
        rows: One an image.
        pictures: Its reconstructions, None where there is none.
        features: What feature networks made of it; empty where there are none, or where the images
            went one by one: then `parts` has them.
        parts: The images of a batch that failed as a whole, each measured by itself.
    """

    rows: list[Row]
    pictures: list[RGB8 | None]
    features: Mapping[str, Pair] = field(default_factory=dict)
    parts: list[tuple[Batch, Measured]] = field(default_factory=list)


class BatchFailed(Exception):
    """A batch of several images failed after its reconstruction: they are to be tried in smaller
    batches (`BatchMeter.measure_apart`).

    Args:
        short: Whether memory did not suffice.
    """

    def __init__(self, *, short: bool) -> None:
        super().__init__()
        self.short = short


class _Rounded:
    """A batch's reconstructions as 8 bit. The floats of a large image are gone when it is measured.

    Args:
        result: what the tokenizer made.
    """

    def __init__(self, result: Reconstruction) -> None:
        self.finite: list[bool] = torch.isfinite(result.images).flatten(1).all(dim=1).tolist()
        images = result.images if all(self.finite) else torch.nan_to_num(result.images)
        self.image8 = to_uint8(images).contiguous()
        self.facts = result.facts
        self.quantized = result.quantized
        self.fit = result.fit


@dataclass(frozen=True)
class BatchMeter:
    """Measures the batches of one tokenizer's run.

    Attributes:
        batch_size: Of later batches; halved where memory did not suffice for one.
    """

    reconstructor: Reconstructor
    meter: Meter
    memory: PeakMemory
    batch_size: BatchSize

    def measure(self, batch: Batch) -> Measured:
        """Return the batch's rows and reconstructions.

        Whatever the tokenizer or a metric raises fails the image that it is about, by name: the
        images of a batch are then tried one by one, or in halves where memory did not suffice.
        """
        try:
            return self.begin(batch)()
        except BatchFailed as failed:
            short = failed.short
        return self.measure_apart(batch, short=short)

    def begin(self, batch: Batch) -> Callable[[], Measured]:
        """Reconstruct a batch and take what needs the device; return what takes the rest.

        What is returned reads text, hashes pixels and makes rows: it may be called in another thread,
        while the next batch is reconstructed. It raises BatchFailed where a batch of several fails.
        """
        rows: list[Row] = [
            {
                "id": sample.id,
                "task": sample.task,
                "subset": sample.subset,
                "width": sample.width,
                "height": sample.height,
                "sha256": sample.sha256,
                "error": None,
            }
            for sample in batch.samples
        ]
        if batch.pixels is None:
            # Without a hash of its pixels: the original is at fault, and leaves the set for all.
            return _done(_fail([{**row, "sha256": None} for row in rows], str(batch.error)))
        if batch.size > 1 and batch.size > (most := self._count(batch)):
            return _done(self._measure_parts(batch, most))  # made before another was too large
        for row, image in zip(rows, to_rgb8(batch.pixels), strict=True):
            row["height"], row["width"] = image.shape[:2]
            row["sha256"] = pixel_sha256(image)
        quantized = self.meter.wants_quantized(batch.samples[0].task)
        self.memory.start()
        try:
            result = self.reconstructor.reconstruct(batch, quantized=quantized)
            peak = self.memory.stop()
            if (came := tuple(result.images.shape)) != (went := tuple(batch.pixels.shape)):
                return _done(_fail(rows, f"wrong size: {went} went in, {came} came back"))
            rounded = _Rounded(result)
            del result
            return self._take(batch, rows, rounded, peak)
        except OutputError:  # the disk, and no image
            raise
        except Exception as error:
            # A network or a metric of strangers may raise anything; the run goes on.
            short = is_memory_short(error)
            failed = _fail(rows, describe_foreign(error))
        # Behind the handler: the error holds the frames that it came through, and their tensors.
        if batch.size == 1:
            if short:
                give_back(self.memory.device)
            return _done(failed)
        return _done(self.measure_apart(batch, short=short))

    def _take(
        self, batch: Batch, rows: list[Row], rounded: _Rounded, peak: float | None
    ) -> Callable[[], Measured]:
        """Take what needs the device; return what takes the rest."""
        assert batch.pixels is not None
        original, task = batch.pixels, batch.samples[0].task
        device = rounded.image8.device
        if batch.there is not None and batch.there.pixels.device == device:
            there = batch.there.take()
        else:
            there = original.to(device)
        features = self.meter.sets.encode(task, batch.samples, there, rounded.image8)
        measured = self.meter.measure(
            task, batch.samples, there, rounded.image8, features, fit=rounded.fit
        )
        if rounded.quantized is not None:
            self._take_quantized(there, rounded.quantized, measured)
        del there
        image8 = rounded.image8.cpu()

        def finish() -> Measured:
            try:
                texts = self.meter.read(task, batch.samples, original, image8)
                for values, more in zip(measured, texts, strict=True):
                    values.update(more)
                pictures = [
                    picture if finite else None
                    for picture, finite in zip(to_rgb8(image8), rounded.finite, strict=True)
                ]
                _fill(rows, pictures, rounded.facts, measured, size=batch.size, peak=peak)
                return Measured(rows, pictures, features)
            except Exception as error:
                short, said = is_memory_short(error), describe_foreign(error)
            if batch.size > 1:  # behind the handler: the error holds the batch's tensors
                raise BatchFailed(short=short)
            return _fail(rows, said)

        return finish

    def _take_quantized(
        self,
        original: Tensor,
        quantized: tuple[Tensor, tuple[float, ...]],
        measured: list[Row],
    ) -> None:
        coarse, bits = quantized
        coarse8 = to_uint8(torch.nan_to_num(coarse))
        of_coarse = self.meter.measure_quantized(original, coarse8, bits)
        for values, more, image in zip(measured, of_coarse, coarse, strict=True):
            # NaN fails the image by name: see `_find_non_finite`.
            values.update(more if torch.isfinite(image).all() else {"psnr_q8_db": math.nan})

    def measure_apart(self, batch: Batch, *, short: bool) -> Measured:
        """Return a batch that failed, measured in smaller ones: image by image, or in halves where
        memory did not suffice, and so are later batches."""
        if not short:
            return self._measure_parts(batch, 1)
        give_back(self.memory.device)
        self.batch_size.halve(batch)
        return self._measure_parts(batch, min(self._count(batch), batch.size // 2))

    def _count(self, batch: Batch) -> int:
        """Return how many images of this shape a batch may have."""
        assert batch.pixels is not None
        return self.batch_size.count(tuple(batch.pixels.shape[-2:]))

    def _measure_parts(self, batch: Batch, size: int) -> Measured:
        assert batch.pixels is not None
        parts = []
        for start in range(0, batch.size, size):
            samples = batch.samples[start : start + size]
            part = Batch(samples, batch.pixels[start : start + size], len(samples))
            parts.append((part, self.measure(part)))
        rows = [row for _, part in parts for row in part.rows]
        pictures = [picture for _, part in parts for picture in part.pictures]
        return Measured(rows, pictures, parts=parts)


def _fill(
    rows: list[Row],
    pictures: list[RGB8 | None],
    facts: tuple[Row, ...],
    measured: list[Row],
    *,
    size: int,
    peak: float | None,
) -> None:
    """Put what was found into the rows."""
    for row, picture, own, values in zip(rows, pictures, facts, measured, strict=True):
        if picture is None:
            row["error"] = "the reconstruction has NaN or infinite values"
            continue
        row["reconstruction_sha256"] = pixel_sha256(picture)
        row.update(own, batch_size=size, peak_memory_mib=peak, **values)
        # Neither is a number, nor a state: the row fails, and has none of them.
        for key, said in _find_non_finite(row).items():
            row["error"] = row["error"] or said
            row[key] = None


def _done(measured: Measured) -> Callable[[], Measured]:
    return lambda: measured


def _fail(rows: list[Row], reason: str) -> Measured:
    return Measured([{**row, "error": reason} for row in rows], [None] * len(rows))


def _find_non_finite(row: Row) -> dict[str, str]:
    """Return what is said of each column of a row that has a NaN or infinity."""
    said = {}
    for key, value in row.items():
        values = value if isinstance(value, list) else [value]
        if not all(math.isfinite(v) for v in values if isinstance(v, float)):
            said[key] = f"{key} is {value}"
    return said
