"""Contrast transfer of gratings, and the frequency at which half of the contrast is left.

numpy alone, so that tables can be made again without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vtbench.base.records import Sample
from vtbench.images import RGB8, crop_rgb8, to_rgb8

if TYPE_CHECKING:
    from torch import Tensor

Bound = Literal["=", ">=", "<"]
"""Whether a curve crosses 0.5 at the frequency given, beyond it, or before it."""

_REC601 = np.array([0.299, 0.587, 0.114])


def contrast_transfer(
    reference: RGB8, image: RGB8, patches: Sequence[Mapping[str, Any]]
) -> list[float]:
    """Return the coherent gain of each patch: ⟨y−ȳ, x−x̄⟩ / ⟨x−x̄, x−x̄⟩ on Rec. 601 luma.

    reference x and image y are uint8 H×W×3 of one size. A patch has `box` = [left, top, width,
    height] in pixels. 1: the grating is as it was; 0: gone; below 0: inverted; above 1: sharpened.
    Where y is x through a linear filter, this is the filter's modulation transfer at the grating's
    frequency (ISO 12233; real part of the optical transfer function).

    Coherent, that is with the original as the phase reference, because the plain contrast of y
    would also count a grating that came back at another place, period or direction, or as noise of
    the same strength: a decoder that invents stripes has not kept these.

    Raises ValueError for other shapes or dtypes and for a patch that is flat in the reference,
    ImageError for a box that leaves the image.
    """
    if reference.dtype != np.uint8 or image.dtype != np.uint8:
        raise ValueError(f"uint8 is needed, not {reference.dtype} and {image.dtype}")
    if reference.shape != image.shape or reference.ndim != 3 or reference.shape[2] != 3:
        raise ValueError(
            f"reference {reference.shape} and image {image.shape} must be H×W×3 of one size"
        )
    gains = []
    for patch in patches:
        left, top, width, height = (int(value) for value in patch["box"])
        box = (left, top, width, height)
        x = _centred_luma(crop_rgb8(reference, box))
        y = _centred_luma(crop_rgb8(image, box))
        energy = float(np.vdot(x, x))
        # Half a level of standard deviation is below what 8 bits can carry as a grating.
        if energy < 0.25 * x.size:
            raise ValueError(f"patch {box} is flat in the reference: it has no contrast to keep")
        gains.append(float(np.vdot(y, x)) / energy)
    return gains


def measure_gratings(
    samples: Sequence[Sample], original: Tensor, image: Tensor
) -> list[dict[str, Any]]:
    """Return the contrast transfer and frequency of each grating patch; {} for other images."""
    rows: list[dict[str, Any]] = []
    for sample, x, y in zip(samples, to_rgb8(original), to_rgb8(image), strict=True):
        if sample.meta.get("chart") != "grating":
            rows.append({})
            continue
        patches = sample.meta["patches"]
        rows.append(
            {
                "contrast_transfer": contrast_transfer(x, y, patches),
                "patch_cpp": [1.0 / patch["period_px"] for patch in patches],
            }
        )
    return rows


def _centred_luma(pixels: RGB8) -> NDArray[np.float64]:
    # As images.luma, which takes torch batches.
    luma: NDArray[np.float64] = pixels.astype(np.float64) @ _REC601
    luma -= luma.mean()
    return luma


def transfer_curve(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return (frequency, mean transfer) by ascending frequency from (frequency, transfer) points.

    Frequencies in cycles per pixel; points of exactly one frequency are averaged.
    """
    by_frequency: dict[float, list[float]] = {}
    for frequency, transfer in points:
        by_frequency.setdefault(frequency, []).append(transfer)
    return [
        (frequency, math.fsum(values) / len(values))
        for frequency, values in sorted(by_frequency.items())
    ]


def mtf50(curve: Sequence[tuple[float, float]]) -> tuple[float, Bound]:
    """Return the frequency (cycles per pixel) at which the curve first falls below 0.5.

    Linear between the two measured frequencies around it, going from low to high. A curve that
    never does gives its highest frequency and ">=", one that starts below 0.5 its lowest and "<".
    What rises again above is not counted: it is aliasing or invention. Raises ValueError for an
    empty or unordered curve and for values that are not finite.
    """
    if not curve:
        raise ValueError("no curve: no grating was measured")
    frequencies = [frequency for frequency, _ in curve]
    if any(b <= a for a, b in pairwise(frequencies)):
        raise ValueError(f"frequencies must ascend: {frequencies}")
    if not all(math.isfinite(value) for point in curve for value in point):
        raise ValueError(f"the curve holds values that are not finite: {curve}")
    if curve[0][1] < 0.5:
        return frequencies[0], "<"
    for (f0, t0), (f1, t1) in pairwise(curve):
        if t1 < 0.5:
            return f0 + (t0 - 0.5) / (t0 - t1) * (f1 - f0), "="
    return frequencies[-1], ">="
