"""A suite's reconstructions as files, for other programs and for `vtbench score`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from vtbench.base.errors import ImageError, VtbenchError, describe_foreign
from vtbench.base.files import resolve_below, write_atomic
from vtbench.base.records import Sample
from vtbench.images import encode_png, to_rgb8, to_uint8
from vtbench.runs.reconstruction import LiveReconstructor
from vtbench.suites.batches import PixelCache, make_batches

Report = Callable[[int, int], None]


def export_reconstructions(
    reconstructor: LiveReconstructor,
    samples: Sequence[Sample],
    folder: Path,
    *,
    batch_size: int,
    report: Report,
) -> list[str]:
    """Write FOLDER/<image id>.png of every sample, in the batches that a run has; return what failed.

    Args:
        reconstructor: of one tokenizer.
        samples: in the order of `Request.samples`.
        folder: holds nothing else; an image id with slashes makes folders below it.
        batch_size: images of 256² at a time, as of the run.
        report: hears how many of all are done.

    Raises:
        VtbenchError: the folder has files already: reconstructions of two runs would be mixed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise VtbenchError(f"{folder} has files already: give another --out, or remove it")
    failures: list[str] = []
    done = 0
    for batch in make_batches(samples, PixelCache(), batch_size=batch_size):
        names = [sample.id for sample in batch.samples]
        try:
            if batch.pixels is None:
                raise ImageError(str(batch.error))
            images = reconstructor.reconstruct(batch, quantized=False).images
            if images.shape != batch.pixels.shape or not torch.isfinite(images).all():
                raise ImageError("of another size, or with NaN or infinite values")
        except Exception as error:
            said = str(error) if isinstance(error, VtbenchError) else describe_foreign(error)
            failures += [f"{name}: {said}" for name in names]
        else:
            for name, picture in zip(names, to_rgb8(to_uint8(images)), strict=True):
                write_atomic(resolve_below(folder, f"{name}.png"), encode_png(picture))
        done += len(names)
        report(done, len(samples))
    return failures
