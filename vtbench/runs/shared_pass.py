"""The pass of several ranks: each measures its own batches, rank 0 writes them all in their order.

What is written is what one process writes, row for row, so a run that was killed goes on with any number
of ranks, or with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from vtbench.base.errors import CellFailed, VtbenchError, describe_foreign
from vtbench.runs.measuring import BatchMeter, Measured
from vtbench.runs.ranks import Ranks
from vtbench.runs.request import Request
from vtbench.runs.spools import Spools
from vtbench.suites.batches import Batch, PixelCache
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.shards import deal_batches, number_batches

if TYPE_CHECKING:
    from vtbench.runs.outcome import Listener

Parcel = tuple[list[tuple[Batch, Measured]], Exception | None]
"""What a rank sends of a step: its batches with their measurements, or what it met."""


def measure_shared(
    request: Request,
    measuring: BatchMeter,
    spools: Spools | None,
    cache: PixelCache,
    listener: Listener,
    ranks: Ranks,
    *,
    images: int,
) -> None:
    """Measure what the partial file lacks. What failed before a kill is tried again by itself.

    Args:
        request: What to run.
        measuring: Of this rank.
        spools: What is written; None on every rank but 0.
        cache: Of the originals.
        listener: Receives rank 0's progress.
        ranks: This process among them.
        images: Of 256² in the run's first batches, by which all are numbered.

    Raises:
        VtbenchError: What any rank met, on every rank.
    """
    left: tuple[list[str], list[str]] | None = None
    everything = sort_for_reading(request.samples())
    if spools is not None:
        done, failed = spools.partial.done, spools.partial.failed
        todo = [sample.id for sample in everything if sample.id not in done]
        left = [i for i in todo if i in failed], [i for i in todo if i not in failed]
    left = ranks.share(left)
    assert left is not None
    again, others = left
    samples = {sample.id: sample for sample in everything}
    whole = number_batches(everything, images)
    # Without numbers all ranks must make the same batches, whichever of them had too little memory.
    own = measuring.batch_size if whole is not None else measuring.batch_size.images
    alone = {name: number for number, name in enumerate(again)}
    steps = chain(
        *(
            deal_batches(
                [samples[name] for name in names],
                cache,
                numbers=numbers,
                batch_size=size,
                rank=ranks.rank,
                world=ranks.world,
                workers=request.decoders,
            )
            for names, numbers, size in (
                (again, alone, 1),
                (others, whole, own),
            )
        )
    )
    shown = {pick.id for pick in request.suite.protocol.panel}
    for parcel in _measure_steps(request, measuring, steps, shown):
        gathered = ranks.gather(parcel)
        error = None
        if gathered is not None:
            assert spools is not None
            error = next((met for _, met in gathered if met is not None), None)
            if error is None:
                error = _write(spools, gathered, listener)
        if (met := ranks.share(error)) is not None:
            raise met


def _write(spools: Spools, gathered: list[Parcel], listener: Listener) -> Exception | None:
    """Write a step's batches in their order; return what writing met."""
    try:
        for parts, _ in gathered:
            for batch, measured in parts:
                listener.advanced(spools.append(batch, measured))
    except VtbenchError as error:  # the disk: every rank ends
        return error
    return None


def _measure_steps(
    request: Request, measuring: BatchMeter, steps: Iterator[list[Batch]], shown: set[str]
) -> Iterator[Parcel]:
    """Yield a parcel a step. After one with an error there is no other."""
    cost = request.suite.protocol.cost
    warm = cost is None
    while True:
        parts: list[tuple[Batch, Measured]] = []
        try:
            batches = next(steps, None)
            if batches is None:
                return
            for batch in batches:
                timed = cost is not None and batch.samples[0].subset == cost.subset
                if not warm and timed and batch.pixels is not None:
                    # What it raises, the measured call raises again, and there it is reported.
                    with suppress(Exception):
                        measuring.reconstructor.warm_up(batch)
                    warm = True
                parts.append(_lighten(batch, measuring.measure(batch), shown))
        except VtbenchError as error:
            yield [], error
            return
        except Exception as error:  # what is nobody's fault ends every rank, not this one alone
            yield [], CellFailed(describe_foreign(error))
            return
        yield parts, None


def _lighten(batch: Batch, measured: Measured, shown: set[str]) -> tuple[Batch, Measured]:
    """Return a batch and its measurement without pixels that no panel shows: they would be sent for
    nothing."""
    pictures = [
        picture if row["id"] in shown else None
        for row, picture in zip(measured.rows, measured.pictures, strict=True)
    ]
    parts = [_lighten(alone, own, shown) for alone, own in measured.parts]
    kept = any(picture is not None for picture in pictures)
    light = batch if kept else replace(batch, pixels=None)
    return light, replace(measured, pictures=pictures, parts=parts)
