"""Peak memory between two points in time: the accelerator's, or this process's."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): "reset the peak resident set size to the current value"


class PeakMemory:
    """Highest memory in use between `start` and `stop`, in MiB above `baseline`.

    CUDA: the allocator's peak, absolute (the tokenizer's own weights are in it). Otherwise, on
    Linux: peak resident set of the process less its resident set when the meter was made, so make
    it before the tokenizer is built; an MPS device's own allocations are not in it. Elsewhere the
    peak cannot be reset, and `stop` returns None: not measured, not zero.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.baseline = psutil.Process().memory_info().rss
        self.available = device.startswith("cuda") or self._reset()

    def _reset(self) -> bool:
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Forget earlier peaks."""
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.available:
            self._reset()

    def stop(self) -> float | None:
        """Return the peak since `start` in MiB, or None where it cannot be measured."""
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        if not self.available:
            return None
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return max(0.0, int(line.split()[1]) / 2**10 - self.baseline / 2**20)
        return None
