"""What decoders that turn noise into an image share: noise, time, rotary positions, integration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

EPSILON = 1e-6
"""Of every norm of these decoders."""


def normalize(x: Tensor) -> Tensor:
    """Return the layer norm of the last axis, without scale and shift."""
    return functional.layer_norm(x, x.shape[-1:], eps=EPSILON)


def draw_noise(
    n: int, side: int, seed: int, *, width: int | None = None, channels: int = 3
) -> Tensor:
    """Return the standard normal float32 N×channels×side×side, or side×width, on the CPU that decoders
    start from.

    Each image has a generator of its own, by the seed, so that a result does not depend on the batch;
    on the CPU and in float32, so that it depends neither on device nor dtype.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    shape = (1, channels, side, width or side)
    return torch.randn(shape, generator=generator).expand(n, -1, -1, -1)


def integrate(
    velocity: Callable[[int, Tensor, Tensor], Tensor],
    start: Tensor,
    times: Tensor,
    *,
    adams: bool = False,
) -> Tensor:
    """Return the solution of x' = velocity(step, time, x) at the last of the times.

    By Euler's method, or by Adams and Bashforth's of second order as for equal steps, whose first
    step is Euler's. times: float32 on the CPU, steps + 1 of them, rising or falling.
    """
    x, before = start, None
    for step, (time, width) in enumerate(zip(times[:-1], times.diff(), strict=True)):
        slope = velocity(step, time, x)
        mean = slope if before is None else 1.5 * slope - 0.5 * before
        x = x + float(width) * mean
        before = slope if adams else None
    return x


class ProjectedGuidance:
    """Guidance by what a condition adds to a flow, N×C×H×W, without its part along the flow itself
    (adaptive projected guidance, https://arxiv.org/abs/2410.02416).

    A step's difference has `momentum` times the one before added, and its norm over an image bounded
    by `longest`. One instance is for the steps of one sampling, in order.
    """

    def __init__(self, scale: float, *, momentum: float = -0.5, longest: float = 2.5) -> None:
        self.scale, self.momentum, self.longest = scale, momentum, longest
        self._before: Tensor | float = 0.0

    def guide(self, flow: Tensor, without: Tensor) -> Tensor:
        """Return the guided flow. without: the flow of the same step without the condition."""
        axes = (1, 2, 3)
        added = flow - without + self.momentum * self._before
        self._before = added
        norm = torch.linalg.vector_norm(added, dim=axes, keepdim=True)
        bounded = added * (self.longest / norm).clamp(max=1.0)
        # Metal has no float64.
        place = torch.device("cpu") if flow.device.type == "mps" else flow.device
        exact, direction = (v.to(place).double() for v in (bounded, flow))
        along = functional.normalize(direction.flatten(1), dim=1).reshape(flow.shape)
        across = exact - (exact * along).sum(dim=axes, keepdim=True) * along
        guided: Tensor = flow + (self.scale - 1) * across.to(flow)
        return guided


def embed_time(
    time: Tensor, width: int, *, factor: float = 1000.0, period: float = 10000.0
) -> Tensor:
    """Return float32 cosines and sines N×width of N times (or one, N = 1) in [0, 1] times the factor,
    with periods that grow from 2π to that many times it (https://arxiv.org/abs/2112.10741)."""
    half = width // 2
    rates = torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float32) / half)
    angles = (factor * time.reshape(-1, 1)) * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Sequential):
    """N times, or one → N×width: a perceptron over its `embed_time` of `inputs` values."""

    def __init__(
        self, inputs: int, width: int, *, factor: float = 1000.0, period: float = 10000.0
    ) -> None:
        super().__init__(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        self.inputs, self.factor, self.period = inputs, factor, period

    def forward(self, time: Tensor) -> Tensor:
        x = embed_time(time, self.inputs, factor=self.factor, period=self.period)
        x = x.to(next(self.parameters()))
        for layer in self:
            x = layer(x)
        return x


def make_rotations(places: Tensor, widths: Sequence[int], *, period: float = 10000.0) -> Tensor:
    """Return float32 cosines and sines, 2×L×(sum of widths)/2, that `rotate` takes.

    places: L×A coordinates of L tokens; widths: how many channels of a head turn with each of the A
    coordinates, with rates from 1 down to 1/period (FLUX, https://arxiv.org/abs/2104.09864).
    """
    angles = [
        place[:, None] * period ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        for place, width in zip(places.double().unbind(dim=1), widths, strict=True)
    ]
    together = torch.cat(angles, dim=1)
    return torch.stack([together.cos(), together.sin()]).float()


def make_grid(rows: int, columns: int) -> Tensor:
    """Return row and column of each place of a grid, row by row: (rows·columns)×2."""
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def rotate(x: Tensor, rotations: Tensor, *, halves: bool = False) -> Tensor:
    """Return heads …×L×D with each pair of channels turned by its token's angle, in the rotations'
    dtype.

    Args:
        x: queries or keys.
        rotations: cosines and sines, 2×M×D/2, of the last M tokens; those before them stay. Or
            4×M×D/2: the second channel of a pair has cosines and sines of its own (l-DeTok).
        halves: the pairs are channels i and i + D/2, and not neighbours.
    """
    ahead = x.shape[-2] - rotations.shape[-2]
    if ahead:
        turned = rotate(x[..., ahead:, :], rotations, halves=halves)
        return torch.cat([x[..., :ahead, :], turned], dim=-2)
    cosines, sines = rotations[:2]
    others = rotations[2:] if len(rotations) == 4 else rotations
    shape, axis = ((2, -1), -2) if halves else ((-1, 2), -1)
    first, second = x.to(rotations.dtype).reshape(*x.shape[:-1], *shape).unbind(dim=axis)
    pair = (cosines * first - sines * second, others[1] * first + others[0] * second)
    return torch.stack(pair, dim=axis).flatten(-2).to(x.dtype)
