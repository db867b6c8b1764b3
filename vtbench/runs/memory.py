"""Peak memory of a piece of work on the accelerator, as its allocator counts it."""

from __future__ import annotations

import torch


class PeakMemory:
    """Highest memory allocated on the device between `start` and `stop`, in MiB.

    CUDA's allocator counts it, the tokenizer's own weights among it. Elsewhere `stop` returns None: not
    measured, not zero. What is resident in this process says nothing of one network: it holds what
    earlier tokenizers and the metrics left, and what the system's allocator keeps. `vtbench run --task
    efficiency` counts it in a process of its own.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def start(self) -> None:
        """Forget earlier peaks."""
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)

    def stop(self) -> float | None:
        """Return the peak since `start` in MiB, or None where it is not counted."""
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return None
