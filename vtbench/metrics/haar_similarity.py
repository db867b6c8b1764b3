"""HaarPSI of 8-bit RGB batches: a perceptual similarity that needs no weights.

Reisenhofer, Bosse, Kutyniok and Wiegand 2018, with the constants, the YIQ matrix, the halving and
the zero borders of the authors' own code (rgcda/haarpsi, commit 2c27931), whose values it gives.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vtbench.metrics.device_arithmetic import Arithmetic, choose_arithmetic
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
_STRIP = 256  # rows of the halved images that are made at once
_PARTS = 4000
"""Of a level: the step of a channel's 2×2 means, of three decimals in the matrix and four pixels."""

_TOGETHER_PIXELS = 1 << 22
"""Of the images that are compared together on an accelerator."""


def haarpsi(reference: Tensor, image: Tensor) -> Tensor | None:
    """Return the Haar wavelet-based perceptual similarity, float64 (N,) in [0, 1], on the CPU; 1 for
    identical images; None below MIN_SIDE.

    Both are uint8 N×3×H×W. On a CPU each image is computed alone and in float64. On an accelerator
    they go side by side: coefficients are exact integers, and what follows is in the device's floats
    (`choose_arithmetic`).

    RGB → YIQ; every channel halved by 2×2 means (an odd last row or column is averaged with zeros, as
    the authors do); Haar coefficients of luma at scales 1 and 2 compared, those of scale 3 as weights;
    2×2 means of |I| and |Q| compared with the mean of both weights. The halving is part of the
    definition: it stands for the viewing distance. piq has more digits in its YIQ matrix (values differ
    by up to 1e-4), and pads both sides where one of them is odd.
    """
    require_pair(reference, image)
    if min(reference.shape[-2:]) < MIN_SIDE:
        return None
    device = reference.device
    with one_thread():
        if device.type == "cpu":
            pairs = zip(reference, image, strict=True)
            return torch.stack([_of_image(x, y) for x, y in pairs])
        most = max(1, _TOGETHER_PIXELS // reference[0, 0].numel())
        parts = zip(torch.split(reference, most), torch.split(image, most), strict=True)
        arithmetic = choose_arithmetic(device)
        return torch.cat([_of_images(x, y, arithmetic) for x, y in parts])


def _of_images(x: Tensor, y: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Return the similarities of two N×3×H×W batches, float64 (N,) on the CPU: as `_of_image`.

    Coefficients are whole parts of a level in int32. Of a similarity s, 1 − s is computed, and of
    sigmoid(α s), its complement: floats are fine near 0, and most of a good image is near s = 1.
    """
    luma, *chroma = _whole_yiq(torch.stack((x, y)))
    apart = [_find_difference(_sum_chroma(own), _PARTS * 4, arithmetic) for own in chroma]
    chroma_apart = (apart[0] + apart[1]) / 2
    apart, weights = [], []
    for scale, orientation, band in _haar([luma]):
        band.abs_()
        parts = _PARTS * 2**scale
        if scale == 1:
            apart.append(_find_difference(band, parts, arithmetic))
        elif scale == 2:
            apart[orientation] = (
                apart[orientation] + _find_difference(band, parts, arithmetic)
            ) / 2
        else:
            weights.append(torch.maximum(*band).to(arithmetic.real) / parts)
    apart.append(chroma_apart)
    weights.append((weights[0] + weights[1]) / 2)
    lost = torch.zeros(len(x), dtype=torch.float64)
    whole = torch.zeros(len(x), dtype=torch.float64)
    for own, weight in zip(apart, weights, strict=True):
        lost += arithmetic.average(torch.sigmoid(ALPHA * (own - 1)).mul_(weight))
        whole += arithmetic.average(weight)
    share = lost / whole
    values = (torch.log((1 - share) / share) / ALPHA).square().clamp(max=1.0)
    same = (x == y).flatten(1).all(dim=1).cpu()  # also two black ones, where every weight is 0
    return torch.where(same, torch.ones_like(values), values)


def _whole_yiq(images: Tensor) -> list[Tensor]:
    """Return 2×2 means of Y, I and Q of …×3×H×W levels, each …×⌈H/2⌉×⌈W/2⌉ int32 in parts of a level."""
    height, width = images.shape[-2:]
    padded = images.new_zeros((*images.shape[:-2], height + height % 2, width + width % 2))
    padded[..., :height, :width] = images
    padded = padded.to(torch.int32)
    rows = padded[..., ::2, :] + padded[..., 1::2, :]
    sums = (rows[..., ::2] + rows[..., 1::2]).unbind(dim=-3)
    factors = [[round(value * _PARTS / 4) for value in row] for row in _YIQ]
    return [r * sums[0] + g * sums[1] + b * sums[2] for r, g, b in factors]


def _find_difference(pair: Tensor, parts: int, arithmetic: Arithmetic) -> Tensor:
    """Return 1 − similarity of two int32 maps ≥ 0 in parts of a level."""
    one, other = pair
    difference = ((one - other).to(arithmetic.real) / parts).square_()
    one, other = ((v.to(arithmetic.real) / parts).square_() for v in (one, other))
    return torch.div(difference, one.add_(other).add_(C), out=difference)


def _of_image(x: Tensor, y: Tensor) -> Tensor:
    """Return the similarity of two 3×H×W images."""
    if torch.equal(x, y):  # also two black ones, where every weight is 0
        return torch.ones((), dtype=torch.float64)
    # One stack of both: the filters run over leading dimensions. What is not needed any more goes at
    # once: a map of a large image is 50 MB, and of both 100.
    channels = _halved_yiq(torch.stack((x, y)))
    chroma = [_compare_chroma(channels.pop()), _compare_chroma(channels.pop())]
    chroma_similarity = torch.stack(chroma[::-1]).mean(dim=0)
    del chroma
    numerator = torch.zeros((), dtype=torch.float64)
    denominator = torch.zeros((), dtype=torch.float64)
    similarities: dict[int, Tensor] = {}
    weights: dict[int, Tensor] = {}
    for scale, orientation, band in _haar(channels):
        band.div_(2.0**scale).abs_()
        if scale == 1:
            similarities[orientation] = _similarity(*band)
        elif scale == 2:
            similarities[orientation].add_(_similarity(*band)).div_(2)
        else:
            weights[orientation] = torch.maximum(*band)
        del band
    for orientation in list(similarities):
        similarity = _squash(similarities.pop(orientation))
        numerator += similarity.mul_(weights[orientation]).sum()
        denominator += weights[orientation].sum()
    weight = (weights[0] + weights[1]).div_(2)
    numerator += _squash(chroma_similarity).mul_(weight).sum()
    denominator += weight.sum()
    share = numerator / denominator
    return (torch.log(share / (1 - share)) / ALPHA).square().clamp(max=1.0)


def _compare_chroma(channel: Tensor) -> Tensor:
    """Return the similarity of I or Q of both images, 2×H×W, as H×W: of |2×2 means|."""
    return _similarity(*_sum_chroma(channel).div_(4))


def _sum_chroma(channel: Tensor) -> Tensor:
    """Return |sums over 2×2 places| of …×H×W, a zero row and column after the last."""
    return _pair_sums(_pair_sums(_pad(channel, 0, 1), -1), -2).abs_()


def _halved_yiq(images: Tensor) -> list[Tensor]:
    """Return 2×2 means of Y, I and Q of N×3×H×W levels, each N×⌈H/2⌉×⌈W/2⌉ float64."""
    height, width = images.shape[-2:]
    matrix = torch.tensor(_YIQ, dtype=torch.float64) / 4
    size = (len(images), (height + 1) // 2, (width + 1) // 2)
    channels = [torch.empty(size, dtype=torch.float64) for _ in _YIQ]
    for top in range(0, height, 2 * _STRIP):
        strip = images[..., top : top + 2 * _STRIP, :]
        # The mean first, on integers: a quarter of the products.
        padded = torch.nn.functional.pad(strip, (0, width % 2, 0, strip.shape[-2] % 2))
        padded = padded.to(torch.int16)
        sums = padded[..., ::2, ::2] + padded[..., 1::2, ::2]
        sums += padded[..., ::2, 1::2] + padded[..., 1::2, 1::2]
        halved = torch.einsum("ij,njhw->nihw", matrix, sums.to(torch.float64))
        for place, channel in enumerate(channels):
            channel[:, top // 2 : top // 2 + halved.shape[-2]] = halved[:, place]
    return channels


def _haar(given: list[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (scale, orientation, 2^s × coefficients) of …×H×W at scales 1 to 3, in two orientations,
    each of its size; one at a time, for all of a large image at once are gigabytes.

    A filter of scale s is 2^s × 2^s of ±2^−s, its window begins 2^(s−1) − 1 before a pixel, and
    outside is 0: MATLAB's conv2(·, "same"). By sums of sums: no product, and each box once.

    Args:
        given: what is filtered, alone; taken out.
    """
    before = 2 ** (_SCALES - 1) - 1
    height, width = given[0].shape[-2:]
    box = _pad(given.pop(), before, before + 1)
    for scale in range(1, _SCALES + 1):
        half = 2 ** (scale - 1)
        start = before + 1 - half

        def shape(sums: Tensor, axis: int, half: int = half, start: int = start) -> Tensor:
            band = _take(sums, axis, half) - sums.narrow(axis, 0, sums.shape[axis] - half)
            return band[..., start : start + height, start : start + width]

        high = _pair_sums(box, -2, half)
        box = _pair_sums(box, -1, half)
        yield scale, 0, shape(box, -2)
        box = _pair_sums(box, -2, half)
        yield scale, 1, shape(high, -1)


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """Return …×H×W with rows and columns of zeros before and after."""
    return torch.nn.functional.pad(x, (before, after, before, after))


def _take(x: Tensor, axis: int, start: int) -> Tensor:
    return x.narrow(axis, start, x.shape[axis] - start)


def _pair_sums(x: Tensor, axis: int, distance: int = 1) -> Tensor:
    """Return x[i] + x[i + distance] along an axis, which gets shorter by `distance`."""
    return _take(x, axis, distance) + x.narrow(axis, 0, x.shape[axis] - distance)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a).mul_(b).add_(C).div_(a.square().add_(b.square()).add_(C))


def _squash(similarity: Tensor) -> Tensor:
    return torch.sigmoid(ALPHA * similarity)
