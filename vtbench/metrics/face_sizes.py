"""TokBench's sizes of faces. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

BUCKETS: Mapping[int, tuple[float, float, float, float]] = {
    256: (0.0, 0.1, 0.2, 1.0),
    512: (0.0, 0.05, 0.1, 1.0),
    1024: (0.0, 0.05, 0.1, 1.0),
}
"""Of each side of the square: the bounds of TokBench's three half-open buckets of a face's size over the
picture's longer side, small to large."""


def find_bucket(ratio: float, side: int) -> int | None:
    """Return TokBench's bucket of a face, 0 to 2 from small to large; None for none or another side."""
    bounds = itertools.pairwise(BUCKETS.get(side, ()))
    return next((n for n, (low, high) in enumerate(bounds) if low <= ratio < high), None)
