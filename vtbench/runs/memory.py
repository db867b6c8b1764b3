"""Memory of a piece of work: its peak on the accelerator, and what says that there is not enough."""

from __future__ import annotations

import torch

_SHORT = (
    "out of memory",  # CUDA, ROCm, Metal
    "defaultcpuallocator",  # torch's on a CPU: it can't allocate, or there is not enough
    "alloc_failed",  # cuDNN, cuBLAS
    "failed to allocate",
    "cannot allocate memory",
)
"""What an error says where memory did not suffice and its class does not."""


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


def is_memory_short(error: BaseException) -> bool:
    """Return whether an error, or what it was raised from, says that memory did not suffice: CUDA's, or
    what torch's allocator and libraries raise on a CPU."""
    seen: set[int] = set()
    met: BaseException | None = error
    while met is not None and id(met) not in seen:
        seen.add(id(met))
        if isinstance(met, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(met, RuntimeError | OSError) and any(
            said in str(met).lower() for said in _SHORT
        ):
            return True
        met = met.__cause__ or met.__context__
    return False


def give_back(device: str) -> None:
    """Give what an accelerator's allocator keeps for later back to it, so that other sizes fit."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
