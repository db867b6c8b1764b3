"""The worst patch of an image: a metric on patches, its minimum and its 5 % quantile.

A mean over a picture hides a blob in one corner. Patches are PATCH px squares, half overlapping; the
last row and column of them end at the picture's edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vtbench.metrics.perceptual import Lpips
from vtbench.metrics.pixel import psnr_db, require_pair, ssim

PATCH = 64
"""Side of a patch, px; also the smallest image side."""

WORST_SHARE = 0.05
"""The share of the patches that the quantile leaves below it."""

_AT_ONCE = 64  # patches of a batch

PatchMetric = Callable[[Tensor, Tensor], Tensor | None]
"""`pixel.psnr_db`, `pixel.ssim`, an `Lpips`: two uint8 N×3×H×W batches to N values."""


@dataclass(frozen=True)
class Worst:
    """The worst patch of an image, and the patch that WORST_SHARE of all are as bad as or worse."""

    patch: float
    quantile: float


def find_worst(
    measure: PatchMetric, reference: Tensor, image: Tensor, *, better: Literal["higher", "lower"]
) -> list[Worst] | None:
    """Return the worst of each image's patches, every patch measured as an image of its own.

    The quantile is the value of the patch of that rank, not interpolated.

    Args:
        measure: the metric; it sees PATCH×PATCH images.
        reference: The originals, uint8 N×3×H×W.
        image: The reconstructions, likewise.
        better: which values of the metric are good.

    Returns:
        One `Worst` an image; None, not applicable, below PATCH px a side or for a metric that does
        not apply to images of PATCH px.

    Raises:
        ValueError: other dtypes or shapes.
    """
    require_pair(reference, image)
    if min(reference.shape[-2:]) < PATCH:
        return None
    worst = []
    for pair in zip(reference, image, strict=True):
        x, y = (cut_patches(side) for side in pair)
        values = []
        for start in range(0, len(x), _AT_ONCE):
            part = measure(x[start : start + _AT_ONCE], y[start : start + _AT_ONCE])
            if part is None:
                return None
            values.append(part)
        ordered = torch.cat(values).sort(descending=better == "lower").values
        rank = max(1, round(WORST_SHARE * len(ordered)))
        worst.append(Worst(float(ordered[0]), float(ordered[rank - 1])))
    return worst


def cut_patches(image: Tensor) -> Tensor:
    """Return the patches of a 3×H×W image, K×3×PATCH×PATCH, row by row."""
    tops, lefts = (
        [
            min(step * PATCH // 2, side - PATCH)
            for step in range(-(-(side - PATCH) * 2 // PATCH) + 1)
        ]
        for side in image.shape[-2:]
    )
    return torch.stack(
        [image[:, top : top + PATCH, left : left + PATCH] for top in tops for left in lefts]
    )


def worst_psnr(original: Tensor, image: Tensor) -> Mapping[str, Tensor | None]:
    """Return the PSNR of the worst patch and of the 5 % quantile, by row column."""
    return _columns("psnr_db", find_worst(psnr_db, original, image, better="higher"))


def worst_ssim(original: Tensor, image: Tensor) -> Mapping[str, Tensor | None]:
    """Return the SSIM of the worst patch and of the 5 % quantile, by row column."""
    return _columns("ssim", find_worst(ssim, original, image, better="higher"))


Worsts = Callable[[Tensor, Tensor], Mapping[str, Tensor | None]]
"""Two uint8 N×3×H×W batches to the row columns of the worst patch and of the 5 % quantile."""


def open_worst_alex(backbone: Path, *, device: torch.device | str) -> Worsts:
    """Return the measure of the worst patch's LPIPS (Alex) with torchvision's checkpoint."""
    return _measure_worst("lpips_alex", Lpips("alex", backbone, device=device))


def open_worst_vgg(backbone: Path, *, device: torch.device | str) -> Worsts:
    """Return the measure of the worst patch's LPIPS (VGG) with torchvision's checkpoint."""
    return _measure_worst("lpips_vgg", Lpips("vgg", backbone, device=device))


def _measure_worst(name: str, network: Lpips) -> Worsts:
    return lambda original, image: _columns(
        name, find_worst(network, original, image, better="lower")
    )


def _columns(name: str, worst: list[Worst] | None) -> Mapping[str, Tensor | None]:
    if worst is None:
        return {f"{name}_worst": None, f"{name}_patch05": None}
    return {
        f"{name}_worst": torch.tensor([own.patch for own in worst], dtype=torch.float64),
        f"{name}_patch05": torch.tensor([own.quantile for own in worst], dtype=torch.float64),
    }
