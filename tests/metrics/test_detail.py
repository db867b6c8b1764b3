"""Contrast transfer of gratings against the modulation transfer of a gaussian; MTF50 by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from vtbench.base.errors import ImageError
from vtbench.images import RGB8
from vtbench.metrics.detail import contrast_transfer, mtf50, transfer_curve
from vtbench.metrics.luma import luma

SIDE = 96
PERIODS = (2, 3, 4, 6, 8, 12, 24)
# Rounding to 8 bits moves a pixel by at most half a level, against an amplitude of 100.
ROUNDING = 0.5 / 100


def wave(period: float, *, amplitude: float = 100.0, phase: float = 0.0) -> NDArray[np.float64]:
    x = np.arange(4 * SIDE) - 2 * SIDE
    return 127.5 + amplitude * np.cos(2 * math.pi * x / period + phase)


def chart(row: NDArray[np.float64]) -> RGB8:
    """Return the row, rounded half up, as a gray SIDE×(4·SIDE)×3 picture."""
    gray = np.floor(np.clip(row, 0, 255) + 0.5).astype(np.uint8)
    return np.repeat(np.tile(gray, (SIDE, 1))[:, :, None], 3, axis=2)


def patch(period: float) -> dict[str, object]:
    return {"box": [SIDE, 0, SIDE, SIDE], "period_px": period}


@pytest.mark.parametrize("period", PERIODS)
def test_a_gaussian_blur_has_its_analytic_transfer(period: int) -> None:
    sigma = 1.0
    original = wave(period)
    reference, image = chart(original), chart(gaussian_filter1d(original, sigma, truncate=8))
    # The blur is sampled once a pixel, so its transfer repeats every cycle per pixel: at 0.5 it is
    # twice that of the continuous gaussian, exp(−2π²σ²f²), by 0.25 the same to 1e-5.
    expected = sum(
        math.exp(-2 * math.pi**2 * sigma**2 * (1 / period - alias) ** 2) for alias in (-1, 0, 1)
    )
    assert contrast_transfer(reference, image, [patch(period)])[0] == pytest.approx(
        expected, abs=ROUNDING
    )


def test_gains_that_are_known() -> None:
    reference = chart(wave(4))
    assert contrast_transfer(reference, reference, [patch(4)]) == [1.0]
    gray = np.full_like(reference, 128)
    assert contrast_transfer(reference, gray, [patch(4)]) == [pytest.approx(0.0, abs=1e-12)]
    inverted = contrast_transfer(reference, 255 - reference, [patch(4)])
    assert inverted == [pytest.approx(-1.0, abs=1e-12)]
    faint = chart(wave(4, amplitude=40))
    brighter = contrast_transfer(faint, faint + np.uint8(50), [patch(4)])
    assert brighter == [pytest.approx(1.0, abs=1e-12)]
    assert contrast_transfer(reference, reference, []) == []


def plain_contrast(reference: RGB8, image: RGB8, period: float) -> float:
    """The mutant: ratio of standard deviations, blind to phase and period."""
    del period
    return float(image[:, SIDE : 2 * SIDE].std() / reference[:, SIDE : 2 * SIDE].std())


@pytest.mark.parametrize(
    "other",
    [wave(8, phase=math.pi / 2), wave(6), wave(8, phase=math.pi)],
    ids=["phase", "period", "inverted"],
)
def test_a_wrong_grating_is_not_kept(other: NDArray[np.float64]) -> None:
    reference, image = chart(wave(8)), chart(other)
    assert contrast_transfer(reference, image, [patch(8)])[0] < 0.05
    assert plain_contrast(reference, image, 8) > 0.9


def test_luma_is_that_of_batches() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    y = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    a, b = (luma(torch.from_numpy(array).permute(2, 0, 1)[None])[0].numpy() for array in (x, y))
    a, b = a - a.mean(), b - b.mean()
    box = {"box": [0, 0, SIDE, SIDE], "period_px": 2}
    assert contrast_transfer(x, y, [box])[0] == pytest.approx((a * b).sum() / (a * a).sum())


def test_what_cannot_be_measured_is_refused() -> None:
    reference = chart(wave(4))
    with pytest.raises(ValueError, match="flat"):
        contrast_transfer(np.full_like(reference, 9), reference, [patch(4)])
    with pytest.raises(ValueError, match="one size"):
        contrast_transfer(reference, reference[:, :-1], [patch(4)])
    with pytest.raises(ValueError, match="uint8"):
        contrast_transfer(reference, reference / 255, [patch(4)])  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="leaves"):
        contrast_transfer(reference, reference, [{"box": [4 * SIDE - 5, 0, 10, 10]}])


def test_the_curve_averages_and_ascends() -> None:
    points = [(0.5, 0.2), (0.125, 1.0), (0.5, 0.4), (0.25, 0.8)]
    assert transfer_curve(points) == [(0.125, 1.0), (0.25, 0.8), (0.5, pytest.approx(0.3))]
    assert transfer_curve([]) == []


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(0.1, 1.0), (0.2, 0.75), (0.4, 0.25)], (0.3, "=")),
        ([(0.1, 1.0), (0.2, 0.5), (0.4, 0.25)], (0.2, "=")),
        ([(0.1, 1.0), (0.5, 0.5)], (0.5, ">=")),
        ([(0.1, 0.4), (0.2, 0.9)], (0.1, "<")),
        ([(0.1, 0.5)], (0.1, ">=")),
        # Aliasing at the end does not count: the first fall does.
        ([(0.1, 1.0), (0.2, 0.0), (0.3, 1.0), (0.5, 0.0)], (0.15, "=")),
    ],
)
def test_mtf50_by_hand(curve: list[tuple[float, float]], expected: tuple[float, str]) -> None:
    frequency, bound = mtf50(curve)
    assert (frequency, bound) == (pytest.approx(expected[0]), expected[1])


def last_crossing(curve: list[tuple[float, float]]) -> float:
    """The mutant: the last frequency with half the contrast."""
    return max(frequency for frequency, transfer in curve if transfer >= 0.5)


def test_mtf50_is_the_first_fall_and_not_the_last() -> None:
    curve = [(0.1, 1.0), (0.2, 0.0), (0.3, 1.0), (0.5, 0.0)]
    assert last_crossing(curve) == 0.3
    assert mtf50(curve)[0] == pytest.approx(0.15)


def test_mtf50_of_a_gaussian_blur() -> None:
    sigma = 1.0
    frequencies = np.linspace(0.01, 0.5, 400)
    curve = [(f, math.exp(-2 * math.pi**2 * sigma**2 * f**2)) for f in frequencies]
    expected = math.sqrt(math.log(2) / 2) / (math.pi * sigma)
    # Linear between points 0.0012 apart: the error is of second order.
    assert mtf50(curve)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("curve", [[], [(0.2, 1.0), (0.1, 0.0)], [(0.1, math.nan)]])
def test_mtf50_refuses_what_is_no_curve(curve: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError):
        mtf50(curve)
