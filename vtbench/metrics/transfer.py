"""Contrast transfer of single gratings: gain, aliasing, MTF50 and MTF10, grid blindness.

numpy alone, so that tables can be made again without torch. A grating is a plane wave of known
frequency, phase, contrast and colour direction (data/detail/make_charts.py). What a tokenizer makes
of it is compared with the original's own wave, so the original's rounding to 8 bits cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vtbench.base.statistics import LEVEL, Bootstrap
from vtbench.images import RGB8, crop_rgb8
from vtbench.metrics.detail import Bound
from vtbench.metrics.luma import require_rgb8_pair

Floats = NDArray[np.float64]
Point = tuple[float, float]
"""Frequency in cycles per pixel, and the transfer there."""

SIDESTEP_CPP = 1 / 96
"""Distance of a blind period's two neighbours from it, cycles per pixel."""

MIN_PERIOD_PX = 2.2
"""Shorter periods are left out of grid blindness: their upper neighbour is beyond Nyquist."""

MIN_NEIGHBOURS = 0.2
"""A tokenizer that loses the neighbours too is not blind there, but blurred."""

DIRECTIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = (
    MappingProxyType(
        {
            "gray": ((1.0, 1.0, 1.0), (0.299, 0.587, 0.114)),
            "red": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)),
            "green": ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0)),
            "blue": ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)),
            "cb": ((0.0, -0.344136, 1.772), (-0.168736, -0.331264, 0.5)),
            "cr": ((1.402, -0.714136, 0.0), (0.5, -0.418688, -0.081312)),
        }
    )
)
"""By name: the RGB vector that a grating is drawn along, and the weights that read it back (their
product is 1). gray is read as Rec. 601 luma; cb and cr are those of JFIF, of constant luma."""

RESAMPLES = 999
"""Draws of the bootstrap behind a limit's interval."""

_BAND = np.array([0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)])


@dataclass(frozen=True)
class Response:
    """What became of one grating.

    gain: real part of the complex transfer at its frequency; 1 as it was, 0 gone, below 0 inverted.
    alias: energy of the error at all other frequencies but 0, over the grating's energy.
    """

    gain: float
    alias: float


def measure_grating(
    reference: RGB8,
    image: RGB8,
    *,
    box: tuple[int, int, int, int],
    wave: tuple[float, float],
    direction: str = "gray",
) -> Response:
    """Return the transfer of the grating inside a box.

    A constant, a cosine and a sine of the wave are fitted to both sides by least squares. The ratio
    of the two complex amplitudes is the transfer (ISO 12233 for a linear filter, exact for any whole
    or broken number of cycles). The error's residual from the same fit is aliasing and invention.

    Args:
        reference: The original, uint8 H×W×3.
        image: The reconstruction, of the same size.
        box: left, top, width, height of the scored part, px.
        wave: cycles per pixel along x and y.
        direction: a key of DIRECTIONS.

    Raises:
        ValueError: other dtypes or shapes, or a reference without this grating in the box.
        ImageError: the box leaves the image.
    """
    require_rgb8_pair(reference, image)
    weights = np.array(DIRECTIONS[direction][1])
    x, y = (crop_rgb8(side, box).astype(np.float64) @ weights for side in (reference, image))
    along_x, along_y = (
        np.exp(2j * math.pi * f * np.arange(side))
        for f, side in zip(wave, (box[2], box[3]), strict=True)
    )
    turns = np.outer(along_y, along_x).ravel()
    basis = np.stack([np.ones(turns.size), turns.real, turns.imag])
    fits = np.linalg.pinv(basis @ basis.T, hermitian=True, rcond=1e-9) @ (
        basis @ np.stack([x.ravel(), y.ravel()], axis=1)
    )
    own, back = fits[1] - 1j * fits[2]
    parts = fits[1:, 0] @ basis[1:]
    energy = float(parts @ parts)
    # Half a level of standard deviation is below what 8 bits can carry as a grating.
    if energy < 0.25 * x.size:
        raise ValueError(f"no grating of {wave} cycles per pixel in box {box} of the reference")
    error = (y - x).ravel() - (fits[:, 1] - fits[:, 0]) @ basis
    return Response(float((back / own).real), float(error @ error) / energy)


def average_points(points: Iterable[Point]) -> dict[float, list[float]]:
    """Return the transfers at each frequency, ascending; frequencies 1e-9 apart are one."""
    found: dict[float, list[float]] = {}
    for frequency, transfer in sorted(points):
        last = next(reversed(found), -1.0)
        found.setdefault(last if frequency - last < 1e-9 else frequency, []).append(transfer)
    return found


def fit_monotone(values: Floats, weights: Floats) -> Floats:
    """Return the non-increasing sequences nearest to `values` (…×F) in weighted least squares.

    The min-max formula: the i-th is the smallest over j ≤ i of the largest over k ≥ i of the weighted
    mean from j to k (Robertson, Wright & Dykstra, Order Restricted Statistical Inference, 1988, 1.4).
    """
    shape = (*values.shape[:-1], 1)
    sums = np.concatenate([np.zeros(shape), np.cumsum(values * weights, axis=-1)], axis=-1)
    totals = np.concatenate([[0.0], np.cumsum(weights)])
    first, last = np.triu_indices(values.shape[-1])
    means = np.full((*values.shape, values.shape[-1]), -np.inf)
    means[..., first, last] = (sums[..., last + 1] - sums[..., first]) / (
        totals[last + 1] - totals[first]
    )
    largest = np.maximum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    smallest = np.minimum.accumulate(largest, axis=-2)
    fitted: Floats = np.diagonal(smallest, axis1=-2, axis2=-1)
    return fitted


def find_crossing(frequencies: Floats, curves: Floats, level: float) -> tuple[Floats, Floats]:
    """Return where non-increasing curves (…×F) fall below `level`, linear between their points, and
    the place of the first point below (F: none).

    A curve that never does gives the highest frequency, one that starts below the lowest.
    """
    below = curves < level
    place = np.where(below.any(axis=-1), below.argmax(axis=-1), len(frequencies))
    after = np.clip(place, 1, len(frequencies) - 1)
    before = after - 1
    high, low = (np.take_along_axis(curves, at[..., None], -1)[..., 0] for at in (before, after))
    step = np.divide(high - level, high - low, out=np.zeros_like(high), where=high > low)
    inside = frequencies[before] + step * (frequencies[after] - frequencies[before])
    ends = np.where(place == 0, frequencies[0], frequencies[-1])
    return np.where((place > 0) & (place < len(frequencies)), inside, ends), place


@dataclass(frozen=True)
class Limit:
    """A frequency limit in cycles per pixel, its 95 % interval, and on which side it is open."""

    value: float
    low: float
    high: float
    bound: Bound


def find_limit(
    points: Sequence[Point], *, level: float, seed: int = 0, resamples: int = RESAMPLES
) -> Limit:
    """Return the frequency where the monotone fit of all gratings falls below `level`.

    MTF50 has level 0.5, MTF10 level 0.1. A single dip or rise does not decide, unlike at a first
    crossing. The interval is the percentile interval of a bootstrap over the gratings of each
    frequency (`statistics.Bootstrap`): it has no width where phases and orientations agree, and none
    with 0 resamples.

    Raises:
        ValueError: no points, or fewer than two gratings at each frequency on average.
    """
    found = average_points(points)
    if not found or len(points) < 2 * len(found):
        raise ValueError(f"{len(points)} gratings of {len(found)} frequencies: two of each needed")
    counts = np.array([len(own) for own in found.values()], dtype=np.float64)
    owner = np.repeat(np.arange(len(found)), counts.astype(np.intp))
    units = np.zeros((len(points), len(found)))
    units[np.arange(len(points)), owner] = np.concatenate(list(found.values()))
    frequencies = np.array(list(found))
    means = units.sum(axis=0) / counts
    value, place = find_crossing(frequencies, fit_monotone(means, counts), level)
    bound: Bound = "<" if place == 0 else ">=" if place == len(frequencies) else "="
    if not resamples:
        return Limit(float(value), float(value), float(value), bound)
    strata = [f"{frequency:.9f}" for frequency in frequencies[owner]]
    draws = Bootstrap(strata, seed=seed, resamples=resamples).totals(units) / counts
    drawn, _ = find_crossing(frequencies, fit_monotone(draws, counts), level)
    low, high = np.quantile(drawn, _BAND, method="nearest")
    return Limit(float(value), min(float(low), float(value)), max(float(high), float(value)), bound)


def list_grid_frequencies(stride: float) -> list[float]:
    """Return k ÷ stride, k = 1, 2, …, in cycles per pixel, while the period is > MIN_PERIOD_PX."""
    return [k / stride for k in range(1, math.ceil(stride)) if stride / k > MIN_PERIOD_PX]


def measure_grid_blindness(points: Iterable[Point], *, stride: float) -> dict[float, float | None]:
    """Return the grid blindness at each period stride ÷ k, by period in pixels.

    1 − transfer at the period ÷ mean transfer of its two neighbours at ± SIDESTEP_CPP: 0 for a
    filter that is smooth in frequency, 1 for a tokenizer that erases what repeats with its grid of
    latent cells. None, not applicable, where the neighbours' mean is below MIN_NEIGHBOURS. A strong
    blur is convex in frequency and reaches 0.02 at σ 2 px, 0.04 at σ 3 px just above that limit.

    Raises:
        LookupError: the charts have no grating at one of these frequencies.
    """
    means = {frequency: math.fsum(t) / len(t) for frequency, t in average_points(points).items()}

    def read(frequency: float) -> float:
        near = min(means, key=lambda own: abs(own - frequency), default=math.inf)
        if abs(near - frequency) > 1e-6:
            raise LookupError(f"no grating of {frequency:.5f} cycles per pixel (stride {stride:g})")
        return means[near]

    blindness: dict[float, float | None] = {}
    for frequency in list_grid_frequencies(stride):
        beside = (read(frequency - SIDESTEP_CPP) + read(frequency + SIDESTEP_CPP)) / 2
        seen = beside >= MIN_NEIGHBOURS
        blindness[1 / frequency] = 1 - read(frequency) / beside if seen else None
    return blindness


def measure_spread(groups: Mapping[str, Iterable[Point]]) -> float:
    """Return the largest minus the smallest mean transfer of the groups (orientations, colours).

    Only frequencies that all groups have are compared. Raises ValueError where there are none.
    """
    curves = [
        {round(f, 9): math.fsum(t) / len(t) for f, t in average_points(own).items()}
        for own in groups.values()
    ]
    shared = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not shared:
        raise ValueError(f"no frequency is common to {', '.join(groups)}")
    means = [math.fsum(curve[f] for f in shared) / len(shared) for curve in curves]
    return max(means) - min(means)
