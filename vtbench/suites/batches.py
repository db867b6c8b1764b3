"""From samples to batches: decode once, keep what fits, group what has one task, subset and shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from vtbench.base.errors import ImageError
from vtbench.base.records import Sample
from vtbench.images import RGB8, to_float
from vtbench.suites.suites import load_pixels

REFERENCE_PIXELS = 256 * 256
"""Batch sizes are stated for images of this size; larger ones go in proportionally fewer."""

CACHE_BYTES = 512 * 2**20
"""Decoded originals kept for the next tokenizer; what does not fit is decoded again."""


class PixelCache:
    """Decoded originals by sample, up to `CACHE_BYTES`; shared by the tokenizers of a process."""

    def __init__(self) -> None:
        self._kept: dict[str, RGB8] = {}
        self._bytes = 0

    def load(self, sample: Sample) -> RGB8:
        """Return the sample's pixels. Raises ImageError or SuiteError as `suites.load_pixels`."""
        if sample.id in self._kept:
            return self._kept[sample.id]
        pixels = load_pixels(sample)
        if self._bytes + pixels.nbytes <= CACHE_BYTES:
            self._kept[sample.id] = pixels
            self._bytes += pixels.nbytes
        return pixels


@dataclass(frozen=True)
class Batch:
    """Samples of one task, subset and shape, with their pixels as float32 N×3×H×W, or the reason
    why a sample's image cannot be used (then it is alone and images is None)."""

    samples: tuple[Sample, ...]
    images: Tensor | None
    size: int
    error: str | None = None


def make_batches(
    samples: Iterable[Sample], cache: PixelCache, *, batch_size: int
) -> Iterator[Batch]:
    """Yield the samples in batches of at most `batch_size` images of REFERENCE_PIXELS, in order."""
    waiting: list[Sample] = []
    pixels: list[RGB8] = []

    def flush() -> Iterator[Batch]:
        if waiting:
            yield Batch(tuple(waiting), to_float(pixels), len(waiting))
            waiting.clear()
            pixels.clear()

    for sample in samples:
        try:
            image = cache.load(sample)
        except ImageError as error:
            yield from flush()
            yield Batch((sample,), None, 1, str(error))
            continue
        if waiting and (
            (sample.task, sample.subset) != (waiting[0].task, waiting[0].subset)
            or image.shape != pixels[0].shape
        ):
            yield from flush()
        waiting.append(sample)
        pixels.append(image)
        area = image.shape[0] * image.shape[1]
        if len(waiting) >= max(1, batch_size * REFERENCE_PIXELS // max(area, REFERENCE_PIXELS)):
            yield from flush()
    yield from flush()
