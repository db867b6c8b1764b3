"""From samples to batches: decode once, keep what fits, group what has one task, subset and shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vtbench.base.errors import ImageError, SuiteError
from vtbench.base.records import Sample
from vtbench.images import (
    MAX_PIXELS,
    RGB8,
    crop_rgb8,
    load_rgb8,
    pixel_sha256,
    preprocess_rgb8,
    to_float,
)
from vtbench.suites.copies import open_sample

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_PIXELS = 256 * 256
"""Batch sizes are stated for images of this size; larger ones go in proportionally fewer."""

CACHE_BYTES = 512 * 2**20
"""Decoded originals kept for the next tokenizer; what does not fit is decoded again."""


class PixelSource(Protocol):
    """What gives the pixels of samples as `load_pixels` does, perhaps without decoding them again."""

    def load(self, sample: Sample) -> RGB8:
        """Return the sample's pixels."""


class PixelCache:
    """Decoded originals by sample, up to `CACHE_BYTES`; shared by the tokenizers of a process.

    Args:
        source: where crops of data sets come from; None decodes each.
    """

    def __init__(self, *, source: PixelSource | None = None) -> None:
        self._source = source
        self._kept: dict[str, RGB8] = {}
        self._bytes = 0

    def load(self, sample: Sample) -> RGB8:
        """Return the sample's pixels. Raises ImageError or SuiteError as `load_pixels`."""
        if sample.id in self._kept:
            return self._kept[sample.id]
        kept = self._source if sample.preprocess.size is not None else None
        pixels = load_pixels(sample) if kept is None else kept.load(sample)
        if self._bytes + pixels.nbytes <= CACHE_BYTES:
            self._kept[sample.id] = pixels
            self._bytes += pixels.nbytes
        return pixels


def load_pixels(sample: Sample, source: BinaryIO | None = None) -> RGB8:
    """Return a sample's pixels, uint8 H×W×3, cropped as its manifest and its suite say. source: the
    content of its file, where it was read already.

    Raises ImageError where the file cannot be decoded, and SuiteError where its pixels are not the
    pinned ones: another image under the same name must not score under the suite's name.
    """
    pixels = load_rgb8(
        open_sample(sample) if source is None else source,
        max_pixels=sample.max_pixels or MAX_PIXELS,
        upright=sample.preprocess.upright,
    )
    if sample.crop is not None:
        try:
            pixels = crop_rgb8(pixels, sample.crop)
        except ImageError as error:
            raise SuiteError(f"image {sample.id}: {error}") from None
    pixels = preprocess_rgb8(pixels, sample.preprocess)
    require_pinned(sample, pixels)
    return pixels


def require_pinned(sample: Sample, pixels: RGB8) -> None:
    """Raise SuiteError for pixels that are not those that the manifest pins."""
    if sample.sha256 is not None and pixel_sha256(pixels) != sample.sha256:
        raise SuiteError(
            f"image {sample.id}: the pixels of {sample.path} are not the ones that the manifest pins"
        )


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
    for sample in samples:
        image, error = None, None
        try:
            image = cache.load(sample)
        except ImageError as problem:
            error = str(problem)
        if waiting and (
            image is None
            or (sample.task, sample.subset) != (waiting[0].task, waiting[0].subset)
            or image.shape != pixels[0].shape
            or len(waiting) >= _count_that_fit(pixels[0].shape, batch_size)
        ):
            yield Batch(tuple(waiting), to_float(pixels), len(waiting))
            waiting, pixels = [], []
        if image is None:
            yield Batch((sample,), None, 1, error)
        else:
            waiting.append(sample)
            pixels.append(image)
    if waiting:
        yield Batch(tuple(waiting), to_float(pixels), len(waiting))


def _count_that_fit(shape: tuple[int, ...], batch_size: int) -> int:
    """Return how many images of (height, width, 3) are a batch of `batch_size` REFERENCE_PIXELS."""
    return max(1, batch_size * REFERENCE_PIXELS // max(shape[0] * shape[1], REFERENCE_PIXELS))
