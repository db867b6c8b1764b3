"""Luma of 8-bit images, in numpy, and of batches, in torch; and the check of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtbench.images import RGB8

if TYPE_CHECKING:
    from torch import Tensor

REC601 = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B."""


def to_luma(pixels: RGB8) -> NDArray[np.float64]:
    """Return Rec. 601 luma of uint8 H×W×3, float64 H×W in levels."""
    luma: NDArray[np.float64] = pixels.astype(np.float64) @ REC601
    return luma


def luma(images: Tensor) -> Tensor:
    """Return Rec. 601 luma of an N×3×H×W batch as float64 N×H×W, in the batch's own scale."""
    import torch

    weights = images.new_tensor(REC601.tolist(), dtype=torch.float64)
    return (images.to(weights.dtype) * weights[:, None, None]).sum(dim=1)


def require_rgb8_pair(reference: RGB8, image: RGB8) -> None:
    """Raise ValueError unless both are uint8 H×W×3 of one size."""
    if reference.dtype != np.uint8 or image.dtype != np.uint8:
        raise ValueError(f"uint8 is needed, not {reference.dtype} and {image.dtype}")
    if reference.shape != image.shape or reference.ndim != 3 or reference.shape[2] != 3:
        raise ValueError(
            f"reference {reference.shape} and image {image.shape} must be H×W×3 of one size"
        )
