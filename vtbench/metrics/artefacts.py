"""Named artefacts: grid patterns, borders, seams between tiles. numpy alone.

All look at the error of Rec. 601 luma, in 8-bit levels, so that a picture's own edges and patterns
count for nothing. Every function takes uint8 H×W×3 images of one size and raises ValueError for
others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vtbench.images import RGB8
from vtbench.metrics.luma import REC601, require_rgb8_pair, to_luma

Floats = NDArray[np.float64]

BORDER_PX = 16
"""Width of the border, and half the side of a corner."""

TONE_PX = 8
"""Reach at either side of a seam over which its tone is averaged."""


def find_error(reference: RGB8, image: RGB8) -> Floats:
    """Return image − reference of luma, float64 H×W, in levels."""
    require_rgb8_pair(reference, image)
    error: Floats = (image.astype(np.float64) - reference) @ REC601
    return error


@dataclass(frozen=True)
class Grid:
    """Energy at the frequencies k ÷ stride, in levels (root mean square); 0 for none.

    pattern: of the error itself, the same tile printed over the picture (a checkerboard of
    transposed convolutions). steps: of the absolute differences of neighbouring pixels against the
    original's, larger or smaller at the edges of cells whatever their sign (blocking; Wang, Bovik
    and Evans, ICIP 2000, who take the same spectral lines of one picture without its original).
    """

    pattern: float
    steps: float


def measure_grid(reference: RGB8, image: RGB8, *, stride: int) -> Grid | None:
    """Return the grid scores for cells of stride×stride px that start at the top left pixel.

    What errors without a grid would have by chance at these frequencies is taken off. None, not
    applicable, for a stride below 2 and for images of fewer than four cells a side.
    """
    error = find_error(reference, image)
    rows, columns = (side // stride * stride if stride > 1 else 0 for side in error.shape)
    if min(rows, columns) < 4 * stride or stride < 2:
        return None
    error = error[:rows, :columns] - error[:rows, :columns].mean()
    cells = error.reshape(rows // stride, stride, columns // stride, stride)
    pattern = _excess(cells.transpose(0, 2, 1, 3).reshape(-1, stride * stride))
    steps = 0.0
    for axis in (0, 1):
        x, y = (np.abs(np.diff(to_luma(side), axis=axis)) for side in (reference, image))
        profile = (y - x).mean(axis=1 - axis)
        whole = len(profile) // stride * stride
        steps += _excess((profile[:whole] - profile[:whole].mean()).reshape(-1, stride))
    return Grid(math.sqrt(max(pattern, 0.0)), math.sqrt(max(steps, 0.0)))


def _excess(cells: Floats) -> float:
    """Return the variance of the mean cell, of zero-mean cells×places, less what chance gives it."""
    between = float(cells.mean(axis=0).var())
    within = float((cells - cells.mean(axis=0)).var())
    return between - within / (len(cells) - 1)


@dataclass(frozen=True)
class Regions:
    """Mean squared error in squared levels: of the border, its corners, and the middle."""

    border: float
    corners: float
    middle: float


def measure_regions(reference: RGB8, image: RGB8) -> Regions | None:
    """Return the error by region; None, not applicable, below 6·BORDER_PX a side.

    Border: the outer BORDER_PX on each side. Corners: the four squares of 2·BORDER_PX. Middle: what
    is in neither. Ratios are of sums over pictures, since one picture's middle may be plain.
    """
    square = find_error(reference, image) ** 2
    if min(square.shape) < 6 * BORDER_PX:
        return None
    border, corners = np.ones(square.shape, dtype=bool), np.zeros(square.shape, dtype=bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    for rows in (slice(2 * BORDER_PX), slice(-2 * BORDER_PX, None)):
        for columns in (slice(2 * BORDER_PX), slice(-2 * BORDER_PX, None)):
            corners[rows, columns] = True
    parts = (square[border], square[corners], square[~border & ~corners])
    return Regions(*(float(part.mean()) for part in parts))


@dataclass(frozen=True)
class Seams:
    """What stands out where tiles meet, in levels.

    step: mean absolute jump of the error across a seam less that between all other neighbours.
    tone: mean absolute difference of the error's means TONE_PX wide on both sides of a seam, less
    that at places half a tile away from every seam.
    """

    step: float
    tone: float


def measure_seams(
    reference: RGB8, image: RGB8, *, rows: Sequence[int], columns: Sequence[int]
) -> Seams | None:
    """Return how visible the seams of tiles are.

    rows, columns: the first row or column of every tile but the first, as `images.Fit` gives them.
    None, not applicable, where there is no seam or tiles are below 2·TONE_PX a side.
    """
    error = find_error(reference, image)
    at: list[Floats] = []
    beside: list[Floats] = []
    tones: list[Floats] = []
    plain: list[Floats] = []
    for places, lines in ((rows, error), (columns, error.T)):
        inside = [place for place in places if TONE_PX <= place <= len(lines) - TONE_PX]
        if not inside:
            continue
        jumps = np.abs(np.diff(lines, axis=0))
        seam = np.zeros(len(jumps), dtype=bool)
        seam[np.array(inside) - 1] = True
        at.append(jumps[seam].ravel())
        beside.append(jumps[~seam].ravel())
        ends = [0, *inside, len(lines)]
        middles = [(a + b) // 2 for a, b in pairwise(ends)]
        tones += [_tone(lines, place) for place in inside]
        plain += [_tone(lines, m) for m in middles if TONE_PX <= m <= len(lines) - TONE_PX]
    if not at or not plain:
        return None
    means = [float(np.concatenate(group).mean()) for group in (at, beside, tones, plain)]
    return Seams(means[0] - means[1], means[2] - means[3])


def _tone(lines: Floats, place: int) -> Floats:
    before, after = lines[place - TONE_PX : place], lines[place : place + TONE_PX]
    tone: Floats = np.abs(after.mean(axis=0) - before.mean(axis=0))
    return tone
