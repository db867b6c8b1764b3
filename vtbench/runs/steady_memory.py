"""Memory that stays with the process from batch to batch, on a CPU under glibc.

A network's activations are tens of megabytes each. glibc asks the kernel for each anew and gives it
back when it is freed; the kernel fills its pages with zeros every time, which can cost as much processor
time as the convolutions. Within `SteadyMemory` freed memory is kept for the next batch of the same
shape. What is kept is bounded: it is given back when the shape changes, and a batch of more than
`MAX_PIXELS` is measured with glibc's own behaviour, for blocks of many large sizes do not fit into each
other's places and would double the peak.

This is for a process of vtbench's own. `import vtbench` changes no setting of its caller's process.
"""

from __future__ import annotations

import ctypes
import functools
from types import TracebackType
from typing import Any

MAX_PIXELS = 16 * 256 * 256
"""Of all images of a batch: above it memory is given back at once."""

# malloc.h: parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4

_KEEP = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
"""No block by a mapping of its own, nothing given back from the heap's end, growth in large steps."""

_RETURN = (
    (_MMAP_MAX, 65536),
    (_MMAP_THRESHOLD, 32 * 2**20),
    (_TRIM_THRESHOLD, 64 * 2**20),
    (_TOP_PAD, 128 * 2**10),
)
"""What glibc comes to by itself after a few large blocks: its threshold grows to 32 MiB."""


class SteadyMemory:
    """Keeps freed memory between batches of one shape. It does nothing where there is no glibc.

    Args:
        device: Where networks are; only on a CPU are their activations glibc's.
    """

    def __init__(self, device: str) -> None:
        self._glibc = _find_glibc() if device == "cpu" else None
        self._shape: tuple[int, ...] | None = None
        self._keeps = False

    def __enter__(self) -> SteadyMemory:
        return self

    def prepare(self, shape: tuple[int, ...] | None) -> None:
        """Prepare for a batch of N×3×H×W; None for one without pixels."""
        if self._glibc is None or shape is None or shape == self._shape:
            return
        first, self._shape = self._shape is None, shape
        keeps = shape[0] * shape[2] * shape[3] <= MAX_PIXELS
        if keeps != self._keeps or first:
            self._set(_KEEP if keeps else _RETURN)
            self._keeps = keeps
        if not first:
            self._glibc.malloc_trim(0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._glibc is not None and self._shape is not None:
            self._set(_RETURN)
            self._glibc.malloc_trim(0)

    def _set(self, options: tuple[tuple[int, int], ...]) -> None:
        for parameter, value in options:
            self._glibc.mallopt(parameter, value)  # type: ignore[union-attr]


@functools.cache
def _find_glibc() -> Any | None:
    """Return the C library with both functions, None for another (musl, macOS, Windows)."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - its presence is the question
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (AttributeError, OSError, TypeError):
        return None
    return library
