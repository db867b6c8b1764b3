"""One batch: reconstruct it, make it 8 bit once, measure, and say it in rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vtbench.base.errors import OutputError, describe_foreign
from vtbench.images import RGB8, pixel_sha256, to_rgb8, to_uint8
from vtbench.results.rows import Row
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter
from vtbench.runs.reconstruction import Reconstruction, Reconstructor
from vtbench.runs.set_features import SetRun
from vtbench.suites.batches import Batch

Measured = tuple[list[Row], list[RGB8 | None]]
"""Rows of a batch, and its reconstructions as pictures (None where there is none)."""


class _Rounded:
    """A batch's reconstructions as 8 bit. The floats of a large image are gone when it is measured.

    Args:
        result: what the tokenizer made.
    """

    def __init__(self, result: Reconstruction) -> None:
        self.image8 = to_uint8(torch.nan_to_num(result.images))
        self.finite: list[bool] = torch.isfinite(result.images).flatten(1).all(dim=1).tolist()
        self.facts = result.facts
        self.quantized = result.quantized
        self.fit = result.fit


@dataclass(frozen=True)
class BatchMeter:
    """What measures the batches of one tokenizer's run."""

    reconstructor: Reconstructor
    meter: Meter
    memory: PeakMemory
    sets: SetRun

    def measure(self, batch: Batch) -> Measured:
        """Return the batch's rows and reconstructions.

        Whatever the tokenizer or a metric raises fails the image that it is about, by name: the
        images of a batch are then tried one by one.
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
        if batch.images is None:
            # Without a hash of its pixels: the original is at fault, and leaves the set for all.
            return _fail([{**row, "sha256": None} for row in rows], str(batch.error))
        original = to_uint8(batch.images)
        for row, image in zip(rows, to_rgb8(original), strict=True):
            row["height"], row["width"] = image.shape[:2]
            row["sha256"] = pixel_sha256(image)
        quantized = self.meter.wants_quantized(batch.samples[0].task)
        self.memory.start()
        try:
            result = self.reconstructor.reconstruct(batch, quantized=quantized)
            peak = self.memory.stop()
            if result.images.shape != batch.images.shape:
                shapes = (
                    f"{tuple(batch.images.shape)} went in, {tuple(result.images.shape)} came back"
                )
                return _fail(rows, f"wrong size: {shapes}")
            rounded = _Rounded(result)
            del result
            return self._fill(batch, rows, rounded, peak)
        except OutputError:  # the disk, and no image
            raise
        except Exception as error:
            # A network or a metric of strangers may raise anything; the run goes on.
            if batch.size > 1:
                if isinstance(error, torch.OutOfMemoryError):
                    torch.cuda.empty_cache()
                return self._measure_singly(batch)
            return _fail(rows, describe_foreign(error))

    def _fill(
        self, batch: Batch, rows: list[Row], rounded: _Rounded, peak: float | None
    ) -> Measured:
        assert batch.images is not None
        image8 = rounded.image8
        original = to_uint8(batch.images).to(image8.device)
        task = batch.samples[0].task
        features = self.meter.sets.encode(task, batch.samples, original, image8)
        measured = self.meter.measure(
            task, batch.samples, original, image8, features, fit=rounded.fit
        )
        if rounded.quantized is not None:
            coarse, bits = rounded.quantized
            coarse8 = to_uint8(torch.nan_to_num(coarse))
            of_coarse = self.meter.measure_quantized(original, coarse8, bits)
            for values, more, image in zip(measured, of_coarse, coarse, strict=True):
                # NaN fails the image by name: see `_refuse_non_finite`.
                values.update(more if torch.isfinite(image).all() else {"psnr_q8_db": math.nan})
        pictures: list[RGB8 | None] = []
        for index, (row, facts, values) in enumerate(
            zip(rows, rounded.facts, measured, strict=True)
        ):
            if not rounded.finite[index]:
                row["error"] = "the reconstruction has NaN or infinite values"
                pictures.append(None)
                continue
            picture = to_rgb8(image8[index : index + 1])[0]
            row["reconstruction_sha256"] = pixel_sha256(picture)
            row.update(facts, batch_size=batch.size, peak_memory_mib=peak, **values)
            _refuse_non_finite(row)
            pictures.append(picture)
        if features:
            self.sets.append(
                task, batch.samples, features, rows
            )  # first: a kill leaves no row alone
        return rows, pictures

    def _measure_singly(self, batch: Batch) -> Measured:
        assert batch.images is not None
        rows: list[Row] = []
        pictures: list[RGB8 | None] = []
        for index, sample in enumerate(batch.samples):
            row, picture = self.measure(Batch((sample,), batch.images[index : index + 1], 1))
            rows += row
            pictures += picture
        return rows, pictures


def _fail(rows: list[Row], reason: str) -> Measured:
    return [{**row, "error": reason} for row in rows], [None] * len(rows)


def _refuse_non_finite(row: Row) -> None:
    """Fail a row that has a NaN or infinity, and take it out: neither is a number, nor a state."""
    for key, value in row.items():
        values = value if isinstance(value, list) else [value]
        if not all(math.isfinite(v) for v in values if isinstance(v, float)):
            row["error"] = row["error"] or f"{key} is {value}"
            row[key] = None
