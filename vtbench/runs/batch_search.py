"""The fastest batch size that fits (`--batch-size auto`), and what is kept of it for a resume.

A run's own first images go through the tokenizer in batches of 1, 2, 4, ... images of one shape: once to
warm up, then timed with the device synchronized. The search ends where memory does not suffice, where
twice the batch is not faster, where there are no more images of that shape, or where it has taken its
share of the run's time. Sizes of other shapes follow by area, as everywhere (`batches.count_that_fit`).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vtbench.base.errors import ImageError, OutputError
from vtbench.base.files import read_bounded, write_atomic
from vtbench.base.records import Sample
from vtbench.images import RGB8, to_batch8
from vtbench.results.schema import BatchRecord, BatchTrial
from vtbench.runs.memory import give_back, is_memory_short
from vtbench.runs.reconstruction import Reconstructor
from vtbench.runs.request import Request
from vtbench.runs.steady_memory import SteadyMemory
from vtbench.suites.batches import (
    Batch,
    BatchSize,
    PixelCache,
    count_references,
    count_that_fit,
)
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.shards import find_shape

GAIN = 1.05
"""Twice the batch must give this many times the images a second, or the search ends."""

SHARE = 0.03
"""Of the time that the run's images take one by one; the search takes no more."""

LEAST_SECONDS = {"cpu": 0.5}
"""That the search may take whatever its share is, by kind of device."""

LEAST_ELSEWHERE = 10.0
"""The same on an accelerator, whose first calls choose and load kernels."""

MOST_IMAGES = 512
"""Of 256², in the largest batch that is tried."""

REPEATS = 3
"""Timed calls of a batch at most, of which the shortest counts; one where a call takes long."""

LONG_SECONDS = 0.2


def settle_batch_size(
    request: Request,
    reconstructor: Reconstructor,
    cache: PixelCache,
    kept: KeptBatches,
    *,
    steady: bool,
) -> BatchRecord:
    """Return the batch sizes of a run: those that a killed one left, else the one that is asked for,
    which is looked for where that is "auto".

    Args:
        request: What to run.
        reconstructor: Gives the reconstructions.
        cache: Of the originals.
        kept: Beside the run's partial file.
        steady: Whether the process is vtbench's own, as the pass will have it.
    """
    if kept.record is not None:
        return kept.record
    if request.batch_size != "auto":
        return BatchRecord(size=request.images_per_batch, last=request.images_per_batch)
    search = _Search(request, reconstructor, cache)
    with SteadyMemory(request.device if steady else "") as memory:
        found = search.run(memory)
    kept.keep(found)
    return found


def make_batch_size(record: BatchRecord, kept: KeptBatches | None) -> BatchSize:
    """Return what a pass takes its batches by; where it becomes smaller, that is kept for a resume.

    Args:
        record: The run's sizes.
        kept: Beside the run's partial file; None where another process writes it.
    """

    def hear(images: int) -> None:
        if kept is not None:
            kept.keep(record.model_copy(update={"last": images}))

    return BatchSize(record.last, hear)


@dataclass
class KeptBatches:
    """The batch sizes of an unfinished run, in a hidden file beside its partial one.

    Attributes:
        path: The file.
        key: Of the run; what one of another key left is not taken.
        record: What was found or became smaller; None where neither.
    """

    path: Path
    key: str
    record: BatchRecord | None = None

    def resume(self) -> None:
        """Take what a killed run of this key left."""
        try:
            content = read_bounded(self.path, max_bytes=2**16, raise_as=OutputError)
            data = json.loads(content)
            if data.pop("key") == self.key:
                self.record = BatchRecord.model_validate(data)
        except (FileNotFoundError, OutputError, ValueError, KeyError, AttributeError, TypeError):
            self.record = None  # torn or another's: looked for again

    def keep(self, record: BatchRecord) -> None:
        """Keep the sizes; they survive a kill from here on."""
        self.record = record
        content = {"key": self.key, **record.model_dump(mode="json")}
        write_atomic(self.path, json.dumps(content).encode(), durable=True)

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        self.record = None


@dataclass
class _Search:
    """One search. spent: seconds so far; allowed: the most, known from the first trial on."""

    request: Request
    reconstructor: Reconstructor
    cache: PixelCache
    trials: list[BatchTrial] = field(default_factory=list)
    spent: float = 0.0
    allowed: float = 0.0

    def run(self, memory: SteadyMemory) -> BatchRecord:
        samples = iter(choose_samples(sort_for_reading(self.request.samples())))
        images: list[RGB8] = []
        taken: list[Sample] = []
        count = 1
        while True:
            begun = time.perf_counter()
            self._load(samples, taken, images, count)
            self.spent += time.perf_counter() - begun
            if len(images) < count:
                ended = f"the run has {len(images)} images of one shape"
                break
            if count > count_that_fit(images[0].shape, MOST_IMAGES):
                ended = "no larger batch is tried"
                break
            if self.trials and self._foresee(count) > self.allowed:
                ended = f"{SHARE:.0%} of the run's time was used"
                break
            batch = Batch(tuple(taken[:count]), to_batch8(images[:count]), count)
            memory.prepare((count, 3, *images[0].shape[:2]))
            if why := self._try(batch):
                ended = why
                break
            count *= 2
        return self._choose(images, ended)

    def _load(
        self, samples: Iterator[Sample], taken: list[Sample], images: list[RGB8], count: int
    ) -> None:
        """Take further images of the first one's shape, until there are `count`."""
        while len(images) < count and (sample := next(samples, None)) is not None:
            try:
                image = self.cache.load(sample)
            except ImageError:  # of which the pass says more
                continue
            if not images or image.shape == images[0].shape:
                images.append(image)
                taken.append(sample)

    def _foresee(self, count: int) -> float:
        """Return the seconds that the search will have taken after a batch of `count` images."""
        rate = self.trials[-1].images_per_second or 1e-9
        return self.spent + 2 * count / rate

    def _try(self, batch: Batch) -> str:
        """Time a batch; return why no larger one is to be tried, or nothing."""
        begun = time.perf_counter()
        try:
            seconds = self._time(batch)
        except Exception as error:
            short = is_memory_short(error)
        else:
            self.spent += time.perf_counter() - begun
            rate = batch.size / max(seconds, 1e-9)
            before = self.trials[-1].images_per_second if self.trials else None
            self.trials.append(BatchTrial(images=batch.size, images_per_second=round(rate, 4)))
            if before is None:
                kind = self.request.device.partition(":")[0]
                least = LEAST_SECONDS.get(kind, LEAST_ELSEWHERE)
                self.allowed = max(SHARE * len(self.request.samples()) * seconds, least)
            return "" if before is None or rate >= GAIN * before else "twice the batch is no faster"
        self.spent += time.perf_counter() - begun
        if not short:  # the pass meets it too, and names the image
            return "the tokenizer failed"
        give_back(self.request.device)
        self.trials.append(BatchTrial(images=batch.size, images_per_second=None))
        return "memory does not suffice for more"

    def _time(self, batch: Batch) -> float:
        """Return the seconds of a batch after one to warm up; a reconstructor waits for its device."""
        self.reconstructor.reconstruct(batch, quantized=False)
        shortest = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            self.reconstructor.reconstruct(batch, quantized=False)
            shortest = min(shortest, time.perf_counter() - start)
            if shortest > LONG_SECONDS:
                break
        return shortest

    def _choose(self, images: Sequence[RGB8], ended: str) -> BatchRecord:
        """Return the fastest size; the suite's own where there was nothing to compare."""
        rates = {t.images: t.images_per_second for t in self.trials if t.images_per_second}
        size = self.request.images_per_batch
        height, width = images[0].shape[:2] if images else (0, 0)
        if len(self.trials) > 1 and rates:
            size = count_references(max(rates, key=lambda n: (rates[n], -n)), height, width)
        else:
            ended = f"nothing to compare ({ended}): the suite's own"
        return BatchRecord(
            size=size,
            last=size,
            shape=(height, width) if images else None,
            trials=tuple(self.trials),
            ended=ended,
            seconds=round(self.spent, 3),
        )


def choose_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of the shape, task and subset that most have, as far as shapes are known before
    decoding."""
    kinds = [(sample.task, sample.subset, find_shape(sample)) for sample in samples]
    if not kinds:
        return []
    ((most, _),) = Counter(kinds).most_common(1)
    return [sample for sample, kind in zip(samples, kinds, strict=True) if kind == most]
