"""Pixels on a CUDA device before their turn: while one batch is measured, the next one is copied.

    batches ─► a thread: pinned memory ─► the copy stream ─► Batch.there ─► the pass

What is copied are the 8-bit pixels, once: the network's images (`look_up_floats`) and the
metrics' originals are both made of them there. Elsewhere nothing is copied ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from vtbench.images import to_float
from vtbench.runs.memory import is_memory_short
from vtbench.suites.batches import Batch, DevicePixels


class CudaCopier:
    """Copies batches to a CUDA device, on a stream of its own.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its pixels on their way to the device. Where they do not fit it is as it
        was, and the pass meets that itself."""
        if batch.pixels is None:
            return batch
        try:
            # A thread's own: its current device is the first one, whatever the pass's is.
            with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
                # Its allocator keeps pinned memory until the stream has read it.
                pixels = batch.pixels.pin_memory().to(self.device, non_blocking=True)
                done = self.stream.record_event()
        except RuntimeError as error:
            if not is_memory_short(error):
                raise
            return batch

        def wait() -> None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(done)
            pixels.record_stream(stream)

        return replace(batch, there=DevicePixels(pixels, wait))


def look_up_floats(pixels: Tensor) -> Tensor:
    """Return a uint8 batch on any device as float32 in [0, 1] there: the values of `to_float`, each
    looked up among the 256, so that no device divides in its own way."""
    levels = to_float(torch.arange(256, dtype=torch.uint8)).to(pixels.device)
    return levels.index_select(0, pixels.flatten().int()).reshape(pixels.shape)


def copy_ahead(
    batches: Iterator[Batch],
    copy: Callable[[Batch], Batch],
    *,
    alone: Callable[[Batch], bool],
) -> Iterator[Batch]:
    """Yield batches in their order, copied by a thread that is one batch ahead.

    Args:
        batches: Asked for in that thread, one at a time; what they raise is raised here, in its place.
        copy: Returns the batch with its copy.
        alone: Whether nothing may be copied while a batch is measured, since its time is a column.
    """

    def take() -> Batch | None:
        batch = next(batches, None)
        return None if batch is None else copy(batch)

    with ThreadPoolExecutor(1, "copy") as pool:
        coming = pool.submit(take)
        while (batch := coming.result()) is not None:
            if alone(batch):
                yield batch
                coming = pool.submit(take)
            else:
                coming = pool.submit(take)
                yield batch
            del batch
