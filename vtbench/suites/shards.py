"""Which batches belong to which of several processes, known before a picture is decoded if it can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from vtbench.base.records import Sample
from vtbench.suites.batches import Batch, BatchSize, PixelCache, count_that_fit, make_batches


def find_shape(sample: Sample) -> tuple[int, int] | None:
    """Return the height and width that a sample's picture will have; None where only decoding tells."""
    if sample.preprocess.size is not None:
        return sample.preprocess.size, sample.preprocess.size
    return (sample.height, sample.width) if sample.height and sample.width else None


def number_batches(samples: Iterable[Sample], batch_size: int) -> dict[str, int] | None:
    """Return the number of the batch that `make_batches` puts each sample into, where every picture can
    be read; None where the shape of one is not known before.

    A batch of which some cannot be read, or were measured already, keeps the others: none moves to
    another batch.
    """
    numbers: dict[str, int] = {}
    last, number, size = None, -1, 0
    for sample in samples:
        shape = find_shape(sample)
        if shape is None:
            return None
        kind = sample.task, sample.subset, shape
        if kind != last or size >= count_that_fit((*shape, 3), batch_size):
            number, size = number + 1, 0
        numbers[sample.id] = number
        last, size = kind, size + 1
    return numbers


def deal_batches(
    samples: Sequence[Sample],
    cache: PixelCache,
    *,
    numbers: Mapping[str, int] | None,
    batch_size: int | BatchSize,
    rank: int,
    world: int,
    workers: int = 0,
) -> Iterator[list[Batch]]:
    """Yield what a rank measures in each step, as many steps on every rank.

    In a step each rank has one numbered batch, in their order, or none at the end; one whose pictures
    cannot all be read is several. The rank that measures a picture alone decodes it. Without numbers
    every rank decodes all and takes its own.
    """
    if numbers is None:
        window: list[Batch] = []
        for batch in make_batches(samples, cache, batch_size=batch_size, workers=workers):
            window.append(batch)
            if len(window) == world:
                yield [window[rank]]
                window = []
        if window:
            yield window[rank : rank + 1]
        return
    turns = {n: turn for turn, n in enumerate(dict.fromkeys(numbers[s.id] for s in samples))}
    own = [sample for sample in samples if turns[numbers[sample.id]] % world == rank]
    batches = make_batches(own, cache, batch_size=batch_size, workers=workers, apart=numbers)
    grouped = groupby(batches, key=lambda batch: numbers[batch.samples[0].id])
    for first in range(0, len(turns), world):
        yield list(next(grouped)[1]) if first + rank < len(turns) else []
