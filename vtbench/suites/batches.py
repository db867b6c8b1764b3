"""From samples to batches: decode once, keep what fits, group what has one task, subset and shape."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
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
from vtbench.suites.contents import take_stamp
from vtbench.suites.copies import open_sample

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_PIXELS = 256 * 256
"""Batch sizes are stated for images of this size; larger ones go in proportionally fewer."""

CACHE_BYTES = 512 * 2**20
"""Decoded originals kept for the next tokenizer; what does not fit is decoded again."""


WAITING_BATCHES = 4
"""Images that wait for others of their shape have at most the pixels of so many batches."""


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
    check_unchanged(sample)
    return pixels


def check_unchanged(sample: Sample) -> None:
    """Ask after reading whether a sample's file is that of the suite's digest, where no manifest pins
    its pixels. Raises ImageError where it has changed."""
    if (
        sample.stamp is not None
        and sample.sha256 is None
        and take_stamp(sample.path) != sample.stamp
    ):
        raise ImageError(f"{sample.path}: changed after the run had begun; run it again")


def find_fault(sample: Sample, pixels: RGB8) -> str | None:
    """Return what is wrong with pixels that are not those that the manifest pins."""
    if sample.sha256 is None or pixel_sha256(pixels) == sample.sha256:
        return None
    return f"image {sample.id}: the pixels of {sample.path} are not the ones that the manifest pins"


@dataclass(frozen=True)
class DevicePixels:
    """A batch's pixels on an accelerator, copied ahead (`runs.device_copies`).

    Attributes:
        pixels: uint8 N×3×H×W; to be read after `wait`.
        wait: Lets the stream of the thread that calls it wait for the copy.
    """

    pixels: Tensor
    wait: Callable[[], None]

    def take(self) -> Tensor:
        """Return the pixels; what is computed of them from here on sees the whole copy."""
        self.wait()
        return self.pixels


@dataclass(frozen=True)
class Batch:
    """Samples of one task, subset and shape, with their pixels as uint8 N×3×H×W, or the reason why a
    sample's image cannot be used (then it is alone and pixels is None). there: a copy of the pixels on
    the device, where one was made ahead."""

    samples: tuple[Sample, ...]
    pixels: Tensor | None
    size: int
    error: str | None = None
    there: DevicePixels | None = None

    @property
    def images(self) -> Tensor | None:
        """The pixels as float32 in [0, 1]; made anew each time, so that nobody keeps them."""
        return None if self.pixels is None else to_float(self.pixels)


class BatchSize:
    """How many images of REFERENCE_PIXELS are a batch: a number that gets smaller where memory does not
    suffice. Several threads may ask; one halves.

    Args:
        images: the number to begin with.
        heard: is called with the number each time it got smaller.
    """

    def __init__(self, images: int, heard: Callable[[int], None] | None = None) -> None:
        self.images = images
        self._heard = heard

    def count(self, shape: tuple[int, ...]) -> int:
        """Return how many images of (height, width, 3) are a batch."""
        return count_that_fit(shape, self.images)

    def halve(self, batch: Batch) -> None:
        """Let no later batch have more than half of the images of one that was too large."""
        assert batch.pixels is not None
        height, width = batch.pixels.shape[-2:]
        fewer = count_references(max(1, batch.size // 2), height, width)
        if fewer < self.images:
            self.images = fewer
            if self._heard is not None:
                self._heard(fewer)


_Part = tuple[str, str, int | None]
"""Task, subset and number of a batch (`apart`): what goes into no batch together."""

_Waiting = dict[tuple[_Part, tuple[int, ...]], list[tuple[Sample, RGB8]]]
"""Images that wait for others of their part and shape, the oldest first."""


def _count_pixels(shape: tuple[int, ...]) -> int:
    """Return the pixels that an image of (height, width, 3) counts as."""
    return max(shape[0] * shape[1], REFERENCE_PIXELS)


def _find_due(
    waiting: _Waiting, size: BatchSize, part: _Part | None
) -> Iterator[tuple[_Part, tuple[int, ...]]]:
    """Yield the keys of what waits no longer, each until it is taken: of another part, or a full batch,
    or the oldest where too many wait."""
    for key in list(waiting):
        least = size.count(key[1]) if key[0] == part else 1
        while len(waiting.get(key, ())) >= least:
            yield key
            least = size.count(key[1]) if key[0] == part else 1
    while WAITING_BATCHES * size.images * REFERENCE_PIXELS < sum(
        len(images) * _count_pixels(shape) for (_, shape), images in waiting.items()
    ):
        yield next(iter(waiting))


def make_batches(
    samples: Iterable[Sample],
    cache: PixelCache,
    *,
    batch_size: int | BatchSize,
    workers: int = 0,
    apart: Mapping[str, int] | None = None,
) -> Iterator[Batch]:
    """Yield the samples in batches of at most `batch_size` images of REFERENCE_PIXELS.

    Images of one task and subset wait for others of their shape, so that a folder of mixed sizes has
    full batches too. Those that wait have at most the pixels of WAITING_BATCHES batches; then the
    oldest go. Where the samples are sorted by shape, batches come in their order.

    workers: threads that decode the next batch's images meanwhile; with 0 each is decoded when it is
    its turn. Batches are the same with any number.
    apart: a number by sample id; those of other numbers are in no batch together (`suites.shards`).
    """
    size = batch_size if isinstance(batch_size, BatchSize) else BatchSize(batch_size)
    waiting: _Waiting = {}
    loads = _load_ahead(samples, cache, batch_size=size, workers=workers)
    for sample, load in chain(loads, ((None, None),)):
        part, image, error = None, None, None
        if sample is not None and load is not None:
            part = (sample.task, sample.subset, None if apart is None else apart[sample.id])
            try:
                image = load()
            except ImageError as problem:
                error = str(problem)
            else:
                waiting.setdefault((part, image.shape), []).append((sample, image))
        for key in _find_due(waiting, size, part):
            of_shape, count = waiting.pop(key), size.count(key[1])
            if of_shape[count:]:  # batches have become smaller since they wait
                waiting[key] = of_shape[count:]
            names, pixels = zip(*of_shape[:count], strict=True)
            yield Batch(names, to_batch8(pixels), len(names))
        if sample is not None and image is None:
            yield Batch((sample,), None, 1, error)


def _load_ahead(
    samples: Iterable[Sample], cache: PixelCache, *, batch_size: BatchSize, workers: int
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
                    most = max(workers, batch_size.count(future.result().shape))
                del future
            ahead.append((sample, pool.submit(cache.load, sample)))
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_that_fit(shape: tuple[int, ...], batch_size: int) -> int:
    """Return how many images of (height, width, 3) are a batch of `batch_size` REFERENCE_PIXELS."""
    return max(1, batch_size * REFERENCE_PIXELS // _count_pixels(shape))


def count_references(images: int, height: int, width: int) -> int:
    """Return the batch size, in images of REFERENCE_PIXELS, of which so many of height × width are a
    batch (`count_that_fit`)."""
    return max(1, -(-images * _count_pixels((height, width)) // REFERENCE_PIXELS))
