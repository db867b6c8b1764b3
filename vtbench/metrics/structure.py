"""Edges and small structure: gradient similarity, edge-map agreement, thin lines, dots and hatch.

Needs no weights. Every function takes uint8 H×W×3 images of one size and raises ValueError for
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.images import RGB8
from vtbench.metrics.detail import contrast_transfer
from vtbench.metrics.luma import require_rgb8_pair, to_luma

GMSD_C = 170.0
"""The authors' constant, for levels of 0 to 255."""

CANNY_THRESHOLDS = (100, 200)
"""Of the L2 norm of the 3×3 Sobel gradient of 8-bit luma, low and high."""

EDGE_TOLERANCE_PX = 1
"""How far an edge may move, in each direction, and still be the same edge."""

KEPT = 0.5
"""An element is kept that has at least half its contrast (coherent gain)."""


def gmsd(reference: RGB8, image: RGB8) -> float | None:
    """Return the gradient magnitude similarity deviation, ≥ 0, 0 for identical images.

    Xue, Zhang, Mou and Bovik, IEEE TIP 23(2), 2014: luma halved by 2×2 means (part of the
    definition), Prewitt gradients ÷ 3 with zero borders, similarity (2ab + 170) ÷ (a² + b² + 170),
    population standard deviation over the picture. An odd last row or column is left out. None, not
    applicable, below 6 px a side.
    """
    require_rgb8_pair(reference, image)
    if min(reference.shape[:2]) < 6:
        return None
    a, b = (_prewitt(to_luma(side)) for side in (reference, image))
    similarity = (2 * np.sqrt(a * b) + GMSD_C) / (a + b + GMSD_C)
    return float(similarity.std())


def _prewitt(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared gradient magnitude of the halved luma."""
    height, width = (side // 2 for side in luma.shape)
    halved = luma[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    padded = np.pad(halved, 1)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    columns = padded[:-2] + padded[1:-1] + padded[2:]
    squared: NDArray[np.float64] = (
        (columns[:, 2:] - columns[:, :-2]) ** 2 + (rows[2:] - rows[:-2]) ** 2
    ) / 9
    return squared


@dataclass(frozen=True)
class Edges:
    """Edge pixels of the original, how many of them were found again; those of the reconstruction,
    and how many of these the original has."""

    original: int
    found: int
    drawn: int
    true: int

    @property
    def agreement(self) -> float | None:
        """F1 of recall found ÷ original and precision true ÷ drawn; None where the original has no
        edge: then there is nothing to agree with."""
        if not self.original:
            return None
        if not self.found or not self.true:
            return 0.0
        recall, precision = self.found / self.original, self.true / self.drawn
        return 2 * recall * precision / (recall + precision)


def compare_edges(reference: RGB8, image: RGB8) -> Edges:
    """Return how the Canny edges of luma agree (Canny, IEEE TPAMI 8(6), 1986; OpenCV's).

    Thresholds are fixed and the same on both sides, so a blurred edge that falls below them is lost.
    An edge pixel counts as found with another within EDGE_TOLERANCE_PX on both axes.
    """
    import cv2

    require_rgb8_pair(reference, image)
    maps = [_find_edges(side) for side in (reference, image)]
    reach = np.ones((2 * EDGE_TOLERANCE_PX + 1,) * 2, dtype=np.uint8)
    original, drawn = (edges > 0 for edges in maps)
    near_original, near_drawn = (np.asarray(cv2.dilate(edges, reach)) > 0 for edges in maps)
    counts = (original, original & near_drawn, drawn, drawn & near_original)
    return Edges(*(int(count.sum()) for count in counts))


def _find_edges(pixels: RGB8) -> NDArray[np.uint8]:
    import cv2

    luma = np.floor(to_luma(pixels) + 0.5).astype(np.uint8)
    low, high = CANNY_THRESHOLDS
    return np.asarray(cv2.Canny(luma, low, high, apertureSize=3, L2gradient=True), dtype=np.uint8)


def count_kept(
    reference: RGB8, image: RGB8, patches: Sequence[Mapping[str, Any]]
) -> dict[int, tuple[int, int]]:
    """Return by size in pixels how many elements of a chart were kept, and how many there are.

    A patch holds one thin line, dot or hatched square in its `box`, `size_px` thick. It is kept if
    the coherent gain of its box (`detail.contrast_transfer`) is KEPT or more: a blob of the same ink
    that lies across the line is not the line.
    """
    gains = contrast_transfer(reference, image, patches)
    counts: dict[int, tuple[int, int]] = {}
    for patch, gain in zip(patches, gains, strict=True):
        kept, total = counts.get(patch["size_px"], (0, 0))
        counts[patch["size_px"]] = (kept + (gain >= KEPT), total + 1)
    return dict(sorted(counts.items()))
