"""The function behind `metrics.METRICS`."""

from __future__ import annotations

import torch
from torch import Tensor


def max_error(original: Tensor, image: Tensor) -> Tensor:
    """Return the largest error of each image, float64 (N,); both batches are uint8 N×3×H×W."""
    difference = original.to(torch.int16) - image.to(torch.int16)
    return difference.abs().flatten(1).amax(dim=1).to(torch.float64)
