"""Error by octave band with energy lost and energy invented apart, and the blur that would explain
the loss. numpy alone.

A decoder that hallucinates grain and one that blurs can have the same error. They differ in
coherence: what is left of the original is a filtered copy of it, what is invented is not
(Bendat & Piersol, Random Data, 4th ed. 2010, 6.1: coherent and noise output power).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vtbench.images import RGB8
from vtbench.metrics.luma import require_rgb8_pair, to_luma

Floats = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

SEGMENT = 128
"""Side of the windows whose spectra are compared, px; also the smallest image side."""

OCTAVES = ((1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, math.inf))
"""The bands in cycles per pixel, radial; the last holds the corners beyond 1/2 too."""

_RING = 1 / 16  # cycles per pixel; a blur of σ 1 px changes by less than a quarter across one
_SECTORS = 4


@dataclass(frozen=True)
class Bands:
    """Energies in squared 8-bit levels per pixel, one value an octave.

    Attributes:
        original: Of the original image.
        lost: What the reconstruction has not of it.
        invented: What the reconstruction has and no filter makes of the original.
        error: Of the difference.

    Output energy is original − lost + invented, exactly.
    """

    original: Floats
    lost: Floats
    invented: Floats
    error: Floats


def measure_bands(reference: RGB8, image: RGB8) -> Bands | None:
    """Return the energies of luma by octave; None, not applicable, below SEGMENT px a side.

    Hann windows of SEGMENT px, half overlapping. In each window, cells of the frequency plane (rings
    1/16 cycles per pixel wide at most, four directions) get one complex gain g = ⟨Y, X⟩ ÷ ⟨X, X⟩, so
    that a blur may differ from place to place, by direction and by frequency. |g|² of the energy is
    kept, the residual |Y − gX|² is invented. Kept is summed over the windows; where it is more than
    there was (sharpening), the rest is invented too. A cell's own coefficients fit its g, which
    moves about 3 % of added noise from invented to kept.

    Both are uint8 H×W×3 of one size. Raises ValueError for other shapes or dtypes.
    """
    require_rgb8_pair(reference, image)
    if min(reference.shape[:2]) < SEGMENT:
        return None
    cells, octave_of_cell = _cells()
    sums = np.zeros((4, len(octave_of_cell)))
    windows = 0
    for x, y in _transform_rows(reference, image):
        sums += _sum_cells(x, y - x, cells, len(octave_of_cell))
        windows += len(x)
    energy, gained, residual, error = sums / (windows * _window_energy())
    parts = (energy, np.maximum(-gained, 0), residual + np.maximum(gained, 0), error)
    octaves = len(OCTAVES)
    return Bands(*(_add_up(octave_of_cell, part, octaves) for part in parts))


def _sum_cells(x: Spectrum, error: Spectrum, cells: NDArray[np.intp], count: int) -> Floats:
    """Return of each cell, summed over windows, 4×count: original energy, energy gained, residual
    energy, error energy."""
    inside = cells.ravel() < count

    def add(values: Floats) -> Floats:
        flat = values.reshape(len(values), -1)[:, inside]
        place = cells.ravel()[inside] + count * np.arange(len(values))[:, None]
        sums = _add_up(place.ravel(), flat.ravel(), count * len(values))
        return sums.reshape(len(values), count)

    # g = 1 + ⟨E, X⟩ ÷ ⟨X, X⟩ with E = Y − X: exactly 1 for equal pictures.
    cross = x.conj() * error
    real, imaginary = add(cross.real), add(cross.imag)
    energy, whole = add(_power(x)), add(_power(error))
    explained = np.divide(
        real**2 + imaginary**2, energy, out=np.zeros_like(energy), where=energy > 0
    )
    # (|g|² − 1)·⟨X, X⟩ = 2·Re⟨E, X⟩ + |⟨E, X⟩|² ÷ ⟨X, X⟩
    parts = (energy, 2 * real + explained, whole - explained, whole)
    return np.stack([part.sum(axis=0) for part in parts])


def measure_blur(reference: RGB8, image: RGB8) -> float | None:
    """Return σ in pixels of the Gaussian blur whose transfer fits best what is kept of the luma.

    Of rings 1/64 cycles per pixel wide, the real gain over the whole picture is compared with
    exp(−2π²σ²f²), each ring with the energy of the original in it times f², which makes octaves of
    natural pictures equal. 0 where nothing is lost or it is sharpened. None below SEGMENT px a side.
    """
    require_rgb8_pair(reference, image)
    if min(reference.shape[:2]) < SEGMENT:
        return None
    radius = _radius().ravel()
    ring = (radius * 64).astype(np.intp)
    energy, cross = np.zeros(ring.size), np.zeros(ring.size)
    for x, y in _transform_rows(reference, image):
        energy += _power(x).sum(axis=0).ravel()
        cross += (x.conj() * y).real.sum(axis=0).ravel()
    rings = slice(2, 32)
    frequency = (_add_up(ring, radius) / np.bincount(ring))[rings]
    energy, cross = _add_up(ring, energy)[rings], _add_up(ring, cross)[rings]
    if not energy.sum():
        return 0.0
    gain = np.divide(cross, energy, out=np.ones_like(cross), where=energy > 0)
    weight = energy * frequency**2

    def misfit(sigma: Floats) -> Floats:
        model = np.exp(-2 * (math.pi * sigma[:, None] * frequency) ** 2)
        misfits: Floats = (model - gain) ** 2 @ weight
        return misfits

    low, high = 0.0, 16.0
    for _ in range(12):  # the misfit has one valley: ever finer grids around its lowest point
        grid = np.linspace(low, high, 33)
        best = int(np.argmin(misfit(grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 32)]
    return float((low + high) / 2) if high - low < high else 0.0


def _transform_rows(reference: RGB8, image: RGB8) -> Iterator[tuple[Spectrum, Spectrum]]:
    """Yield the Fourier coefficients of both, windows×SEGMENT×(SEGMENT/2 + 1), row by row of windows:
    those of a whole large picture would not fit into memory."""
    sides = [sliding_window_view(to_luma(side), (SEGMENT, SEGMENT)) for side in (reference, image)]
    tops, lefts = (
        np.linspace(0, last, -(-last * 2 // SEGMENT) + 1).astype(int)
        for last in (places - 1 for places in sides[0].shape[:2])
    )
    for top in tops:
        x, y = (side[top, lefts] for side in sides)
        yield _transform(x), _transform(y)


def _transform(windows: Floats) -> Spectrum:
    level = windows.mean(axis=(1, 2), keepdims=True)
    return np.fft.rfft2((windows - level) * _hann())


def _add_up(places: NDArray[np.intp], values: Floats, count: int = 0) -> Floats:
    return np.bincount(places, values, minlength=count).astype(np.float64)


def _power(spectrum: Spectrum) -> Floats:
    power: Floats = spectrum.real**2 + spectrum.imag**2
    return power


@functools.cache
def _hann() -> Floats:
    line = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(SEGMENT) + 0.5) / SEGMENT)
    return np.outer(line, line)


def _window_energy() -> float:
    """Return what the coefficients' energies, halved by rfft2, sum to for a variance of 1."""
    return float((_hann() ** 2).sum()) * SEGMENT**2 / 2


@functools.cache
def _radius() -> Floats:
    radius: Floats = np.hypot(np.fft.fftfreq(SEGMENT)[:, None], np.fft.rfftfreq(SEGMENT)[None])
    return radius


@functools.cache
def _cells() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the cell of each coefficient, one past the last for those of no band, and each cell's
    octave. The column of frequency 0 along x is in rfft2 twice: its lower half is left out."""
    rows, columns = np.fft.fftfreq(SEGMENT)[:, None], np.fft.rfftfreq(SEGMENT)[None]
    radius = _radius()
    sector = np.floor((np.arctan2(rows, columns) / np.pi + 0.5) * _SECTORS).clip(0, _SECTORS - 1)
    twice = (columns == 0) & (rows < 0)
    cells = np.full(radius.shape, -1, dtype=np.intp)
    octaves: list[int] = []
    for octave, (low, high) in enumerate(OCTAVES):
        width = min(_RING, low)
        rings = 1 if math.isinf(high) else round((high - low) / width)
        rings = round((0.5 - low) / width) if math.isinf(high) else rings
        ring = np.minimum((radius - low) // width, rings - 1)
        inside = (radius >= low) & (radius < high) & ~twice
        cells[inside] = (ring * _SECTORS + sector)[inside].astype(np.intp) + len(octaves)
        octaves += [octave] * (rings * _SECTORS)
    cells[cells < 0] = len(octaves)
    return cells, np.array(octaves)
