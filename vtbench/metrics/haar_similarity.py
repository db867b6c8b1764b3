"""HaarPSI of 8-bit RGB batches: a perceptual similarity that needs no weights.

Reisenhofer, Bosse, Kutyniok and Wiegand 2018, with the constants, the YIQ matrix, the halving and
the zero borders of the authors' own code (rgcda/haarpsi, commit 2c27931), whose values it gives.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vtbench.metrics.pixel import one_thread, require_pair

MIN_SIDE = 16
"""Below it the widest filter (8 px, on the halved image) does not fit."""

C, ALPHA = 30.0, 4.2
"""The authors' constants, fitted to four databases of human scores; for levels of 0 to 255."""

_YIQ = (
    (0.299, 0.587, 0.114),
    (0.596, -0.274, -0.322),
    (0.211, -0.523, 0.312),
)
_SCALES = 3


def haarpsi(reference: Tensor, image: Tensor) -> Tensor | None:
    """Return the Haar wavelet-based perceptual similarity, float64 (N,) in [0, 1], on the CPU; 1 for
    identical images; None below MIN_SIDE.

    Both are uint8 N×3×H×W. Each image is computed alone and in float64: RGB → YIQ; every channel
    halved by 2×2 means (an odd last row or column is averaged with zeros, as the authors do); Haar
    coefficients of luma at scales 1 and 2 compared, those of scale 3 as weights; 2×2 means of |I| and
    |Q| compared with the mean of both weights. The halving is part of the definition: it stands for
    the viewing distance. piq has more digits in its YIQ matrix (values differ by up to 1e-4), and
    pads both sides where one of them is odd.
    """
    require_pair(reference, image)
    if min(reference.shape[-2:]) < MIN_SIDE:
        return None
    with one_thread():
        pairs = zip(reference.cpu(), image.cpu(), strict=True)
        return torch.stack([_of_image(x, y) for x, y in pairs])


def _of_image(x: Tensor, y: Tensor) -> Tensor:
    """Return the similarity of two 3×H×W images."""
    if torch.equal(x, y):  # also two black ones, where every weight is 0
        return torch.ones((), dtype=torch.float64)
    # One stack of both: the filters run over leading dimensions.
    yiq = _halved_yiq(torch.stack((x, y)))
    luma, chroma = yiq[:, 0], yiq[:, 1:]
    numerator = torch.zeros((), dtype=torch.float64)
    denominator = torch.zeros((), dtype=torch.float64)
    finest: dict[int, Tensor] = {}
    similarities: dict[int, Tensor] = {}
    weights: dict[int, Tensor] = {}
    for scale, orientation, band in _haar(luma):
        band.abs_()
        if scale == 1:
            finest[orientation] = _similarity(*band)
        elif scale == 2:
            similarities[orientation] = (finest.pop(orientation) + _similarity(*band)) / 2
        else:
            weights[orientation] = torch.maximum(*band)
    for orientation, similarity in similarities.items():
        numerator += (_squash(similarity) * weights[orientation]).sum()
        denominator += weights[orientation].sum()
    del similarities
    means = _pair_sums(_pair_sums(_pad(chroma, 0, 1), -1), -2).abs_() / 4
    similarity = _similarity(*means).mean(dim=0)
    weight = (weights[0] + weights[1]) / 2
    numerator += (_squash(similarity) * weight).sum()
    denominator += weight.sum()
    share = numerator / denominator
    return (torch.log(share / (1 - share)) / ALPHA).square().clamp(max=1.0)


def _halved_yiq(images: Tensor) -> Tensor:
    """Return 2×2 means of the YIQ channels of N×3×H×W levels, N×3×⌈H/2⌉×⌈W/2⌉ float64."""
    height, width = images.shape[-2:]
    # The mean first, on integers: a quarter of the products.
    padded = torch.nn.functional.pad(images, (0, width % 2, 0, height % 2)).to(torch.int16)
    sums = padded[..., ::2, ::2] + padded[..., 1::2, ::2]
    sums += padded[..., ::2, 1::2] + padded[..., 1::2, 1::2]
    matrix = torch.tensor(_YIQ, dtype=torch.float64) / 4
    return torch.einsum("ij,njhw->nihw", matrix, sums.to(torch.float64))


def _haar(x: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (scale, orientation, coefficients) of N×H×W at scales 1 to 3, in two orientations, each of
    x's size; one at a time, for all of a large image at once are gigabytes.

    A filter of scale s is 2^s × 2^s of ±2^−s, its window begins 2^(s−1) − 1 before a pixel, and
    outside is 0: MATLAB's conv2(·, "same"). By sums of sums: no product, and each box once.
    """
    height, width = x.shape[-2:]
    before = 2 ** (_SCALES - 1) - 1
    box = _pad(x, before, before + 1)
    for scale in range(1, _SCALES + 1):
        half = 2 ** (scale - 1)
        wide, high = _pair_sums(box, -1, half), _pair_sums(box, -2, half)
        start = before + 1 - half
        for orientation, band, axis in ((0, wide, -2), (1, high, -1)):
            band = _take(band, axis, half) - band.narrow(axis, 0, band.shape[axis] - half)
            yield (
                scale,
                orientation,
                band[..., start : start + height, start : start + width] / 2**scale,
            )
        box = _pair_sums(wide, -2, half)


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    return torch.nn.functional.pad(x, (before, after, before, after))


def _take(x: Tensor, axis: int, start: int) -> Tensor:
    return x.narrow(axis, start, x.shape[axis] - start)


def _pair_sums(x: Tensor, axis: int, distance: int = 1) -> Tensor:
    """Return x[i] + x[i + distance] along an axis, which gets shorter by `distance`."""
    return _take(x, axis, distance) + x.narrow(axis, 0, x.shape[axis] - distance)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a * b + C) / (a.square() + b.square() + C)


def _squash(similarity: Tensor) -> Tensor:
    return torch.sigmoid(ALPHA * similarity)
