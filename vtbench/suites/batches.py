"""From samples to batches: decode once, keep what fits, group what has one task, subset and shape."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
    to_batch8,
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
        """Return the sample's pixels. Several threads may ask at once."""


class PixelCache:
    """Decoded originals by sample, up to a limit; shared by the tokenizers and threads of a process.

    Args:
        source: where crops of data sets come from; None decodes each.
        limit: bytes that are kept; 0 where nobody will ask twice.
    """

    def __init__(self, *, source: PixelSource | None = None, limit: int = CACHE_BYTES) -> None:
        self._source, self._limit = source, limit
        self._kept: dict[str, RGB8] = {}
        self._bytes = 0
        self._turn = threading.Lock()

    def load(self, sample: Sample) -> RGB8:
        """Return the sample's pixels. Raises ImageError or SuiteError as `load_pixels`."""
        if sample.id in self._kept:
            return self._kept[sample.id]
        kept = self._source if sample.preprocess.size is not None else None
        pixels = load_pixels(sample) if kept is None else kept.load(sample)
        with self._turn:
            if sample.id not in self._kept and self._bytes + pixels.nbytes <= self._limit:
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
    if fault := find_fault(sample, pixels):
        raise SuiteError(fault)
    return pixels


def find_fault(sample: Sample, pixels: RGB8) -> str | None:
    """Return what is wrong with pixels that are not those that the manifest pins."""
    if sample.sha256 is None or pixel_sha256(pixels) == sample.sha256:
        return None
    return f"image {sample.id}: the pixels of {sample.path} are not the ones that the manifest pins"


@dataclass(frozen=True)
class Batch:
    """Samples of one task, subset and shape, with their pixels as uint8 N×3×H×W, or the reason why a
    sample's image cannot be used (then it is alone and pixels is None)."""

    samples: tuple[Sample, ...]
    pixels: Tensor | None
    size: int
    error: str | None = None

    @property
    def images(self) -> Tensor | None:
        """The pixels as float32 in [0, 1]; made anew each time, so that nobody keeps them."""
        return None if self.pixels is None else to_float(self.pixels)


def make_batches(
    samples: Iterable[Sample],
    cache: PixelCache,
    *,
    batch_size: int,
    workers: int = 0,
    apart: Mapping[str, int] | None = None,
) -> Iterator[Batch]:
    """Yield the samples in batches of at most `batch_size` images of REFERENCE_PIXELS, in order.

    workers: threads that decode the next batch's images meanwhile; with 0 each is decoded when it is
    its turn. Batches are the same with any number.
    apart: a number by sample id; those of other numbers are in no batch together (`suites.shards`).
    """
    waiting: list[Sample] = []
    pixels: list[RGB8] = []
    for sample, load in _load_ahead(samples, cache, batch_size=batch_size, workers=workers):
        image, error = None, None
        try:
            image = load()
        except ImageError as problem:
            error = str(problem)
        if waiting and (
            image is None
            or (sample.task, sample.subset) != (waiting[0].task, waiting[0].subset)
            or (apart is not None and apart[sample.id] != apart[waiting[0].id])
            or image.shape != pixels[0].shape
            or len(waiting) >= count_that_fit(pixels[0].shape, batch_size)
        ):
            yield Batch(tuple(waiting), to_batch8(pixels), len(waiting))
            waiting, pixels = [], []
        if image is None:
            yield Batch((sample,), None, 1, error)
        else:
            waiting.append(sample)
            pixels.append(image)
    if waiting:
        yield Batch(tuple(waiting), to_batch8(pixels), len(waiting))


def _load_ahead(
    samples: Iterable[Sample], cache: PixelCache, *, batch_size: int, workers: int
) -> Iterator[tuple[Sample, Callable[[], RGB8]]]:
    """Yield each sample with what returns its pixels or raises what loading it raised. At most a batch
    of images of the last size is held ahead, at least one a worker."""
    if not workers:
        yield from ((sample, functools.partial(cache.load, sample)) for sample in samples)
        return
    ahead: deque[tuple[Sample, Future[RGB8]]] = deque()
    most = workers
    # Not in a `with`: what has not begun is dropped when the run ends early.
    pool = ThreadPoolExecutor(workers, "decode")
    try:
        for sample in samples:
            while len(ahead) >= most:
                first, future = ahead.popleft()
                yield first, future.result
                if future.exception() is None:
                    most = max(workers, count_that_fit(future.result().shape, batch_size))
                del future
            ahead.append((sample, pool.submit(cache.load, sample)))
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_that_fit(shape: tuple[int, ...], batch_size: int) -> int:
    """Return how many images of (height, width, 3) are a batch of `batch_size` REFERENCE_PIXELS."""
    return max(1, batch_size * REFERENCE_PIXELS // max(shape[0] * shape[1], REFERENCE_PIXELS))
