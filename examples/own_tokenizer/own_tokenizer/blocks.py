"""What the adapter is made of; changing it changes the numbers, and vtbench measures again."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def mean_blocks(images: Tensor, side: int) -> Tensor:
    """Return the mean of each block: N×C×H×W → N×C×H/side×W/side."""
    return functional.avg_pool2d(images, side)


def join_blocks(means: Tensor, side: int) -> Tensor:
    """Return each value as a flat block: N×C×h×w → N×C×h·side×w·side."""
    return means.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
