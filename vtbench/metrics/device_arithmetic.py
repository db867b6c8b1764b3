"""In which floats a device measures, and what is stable in float32 where it has no float64.

A CPU computes in float64, and so does a GPU that does so at half of float32's rate. Consumer GPUs do so
at a thirty-second or less, and Metal not at all: there maps are float32, made so that nothing cancels
(`measure_windows`), and their sums are float64 or folded (`Arithmetic.average`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FAST_FLOAT64 = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})
"""Compute capabilities of NVIDIA's GPUs with float64 at half of float32's rate: P100, V100, A100, H100
and H200, B200. All others have a thirty-second or less."""

_FOLDS = 3


@dataclass(frozen=True)
class Arithmetic:
    """How a device measures.

    Attributes:
        real: Of maps.
        float64_sums: Whether the device can add float32 up in float64.
    """

    real: torch.dtype
    float64_sums: bool

    @property
    def exact(self) -> bool:
        """Whether maps are float64."""
        return self.real == torch.float64

    def average(self, maps: Tensor) -> Tensor:
        """Return the means over the last two dimensions of maps of `real`, float64 on the CPU.

        Without float64 there, eight values at a time are added in float32, in three steps, and the rest
        on the CPU: the result is off by at most 3·2⁻²⁴ of the mean magnitude.
        """
        places = maps.shape[-2] * maps.shape[-1]
        if not self.float64_sums:
            for _ in range(_FOLDS):
                maps = _fold(maps)
            maps = maps.cpu()
        total = maps.sum(dim=(-2, -1), dtype=torch.float64)
        return (total / places).cpu()


ON_CPU = Arithmetic(torch.float64, float64_sums=True)
WITH_SLOW_FLOAT64 = Arithmetic(torch.float32, float64_sums=True)
WITHOUT_FLOAT64 = Arithmetic(torch.float32, float64_sums=False)


def choose_arithmetic(device: torch.device) -> Arithmetic:
    """Return how a device measures: in float64 where that is fast."""
    if device.type == "cpu":
        return ON_CPU
    if device.type != "cuda":
        return WITHOUT_FLOAT64
    fast = torch.cuda.get_device_capability(device) in FAST_FLOAT64
    return ON_CPU if fast else WITH_SLOW_FLOAT64


def _fold(maps: Tensor) -> Tensor:
    """Return the sums of the columns of a left and a right half; an odd number's middle one stays."""
    columns = maps.shape[-1]
    half = (columns + 1) // 2
    folded = maps[..., :half].clone()
    folded[..., : columns - half] += maps[..., half:]
    return folded


def measure_windows(maps: Tensor, window: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return mean and variance under a separable window, at each place where it fits.

    Of maps …×H×W both are …×(H−k+1)×(W−k+1) of the same dtype. E[x²] − E[x]² would cancel in float32,
    most on a white page; here variances are sums of squares of differences, first along rows, then the
    mean variance of the rows and the variance of their means (law of total variance). An error of a mean
    enters by its square, so what is left are the roundings of 22 positive terms.

    Args:
        maps: Float.
        window: Its k weights along an axis; they sum to 1.
    """
    mean, variance = _measure_along(maps, None, window, -1)
    return _measure_along(mean, variance, window, -2)


def _measure_along(
    values: Tensor, within: Tensor | None, window: Sequence[float], axis: int
) -> tuple[Tensor, Tensor]:
    """Return the mean of values along an axis, and the mean of the variances `within` them plus their
    own variance."""
    length = values.shape[axis] - len(window) + 1
    taps = [(w, values.narrow(axis, place, length)) for place, w in enumerate(window)]
    mean = values.new_zeros(taps[0][1].shape)
    for weight, tap in taps:
        mean.add_(tap, alpha=weight)
    variance = torch.zeros_like(mean)
    if within is not None:
        for place, weight in enumerate(window):
            variance.add_(within.narrow(axis, place, length), alpha=weight)
    for weight, tap in taps:
        difference = tap - mean
        variance.addcmul_(difference, difference, value=weight)
    return mean, variance
