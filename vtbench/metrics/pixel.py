"""PSNR, MSE, MAE, SSIM and MS-SSIM of 8-bit RGB batches: one float64 an image, on the CPU.

Sums of errors are of integers, so they are exact on any device. SSIM and MS-SSIM go image by image on a
CPU, in float64. On an accelerator images go side by side, in float64 where that is fast (less than 1e-12
from the CPU's), else in float32 without cancellation, within the 1e-6 that the catalogue states. Images
that MS-SSIM's exponents would magnify more go to the CPU.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from vtbench.metrics.device_arithmetic import Arithmetic, choose_arithmetic, measure_windows
from vtbench.metrics.luma import luma

PSNR_CAP_DB = 100.0
"""What identical images score; also the ceiling for all others."""

_PEAK = 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_TILE = 64  # rows of a slab, and rows or columns that one banded product gives
_STRIP = 1 << 21  # samples of a batch that are subtracted at once
_SLAB = 1 << 22  # samples of a map in float32 that exist at once
_LEAST_TERM = 0.1
"""Of a scale of MS-SSIM. Below it float32's error, magnified by exponent / term, is too near to 1e-6."""

_SEVERAL = 1 << 17  # pixels from which threads gain more than they cost
MAX_SLABS = 8
"""Of an image at once, where there are as many cores."""

_Map = TypeVar("_Map", Tensor, NDArray[np.float64])

SSIM_MIN_SIDE = _WINDOW
"""Below it no window fits."""

MS_SSIM_MIN_SIDE = (_WINDOW - 1) * 2 ** (len(_EXPONENTS) - 1) + 1
"""161: below it no window fits at the coarsest scale."""


def require_pair(reference: Tensor, image: Tensor) -> None:
    """Raise ValueError unless both are uint8 N×3×H×W of one shape, N ≥ 1."""
    for name, batch in (("reference", reference), ("image", image)):
        if batch.dtype != torch.uint8:
            raise ValueError(f"{name} is {batch.dtype}; metrics read uint8 (images.to_uint8)")
        if batch.ndim != 4 or batch.shape[1] != 3 or batch.numel() == 0:
            raise ValueError(f"{name} has shape {tuple(batch.shape)}; N×3×H×W is needed")
    if reference.shape != image.shape:
        raise ValueError(
            f"reference {tuple(reference.shape)} and image {tuple(image.shape)} differ in shape; "
            "metrics never resize"
        )


def mse(reference: Tensor, image: Tensor) -> Tensor:
    """Return the mean squared error in squared 8-bit levels, float64 (N,), per image over all of RGB.

    Both are uint8 N×3×H×W. The sum is taken in integers, so it is exact. Raises ValueError for other
    dtypes or shapes.
    """
    require_pair(reference, image)
    # int32 holds 255².
    return _sum_up(reference, image, lambda x, y: (x.to(torch.int32) - y).square_())


def psnr_of_mse(error: Tensor) -> Tensor:
    """Return 10·log10(255² / error) in dB for mean squared errors, at most PSNR_CAP_DB."""
    return (10.0 * torch.log10(_PEAK**2 / error)).clamp(max=PSNR_CAP_DB)


def psnr_db(reference: Tensor, image: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, float64 (N,), per image over all of RGB.

    Both are uint8 N×3×H×W. Peak 255, error as `mse`. Identical images score PSNR_CAP_DB, and nothing
    scores more. Raises ValueError for other dtypes or shapes.
    """
    return psnr_of_mse(mse(reference, image))


def psnr_y_db(reference: Tensor, image: Tensor) -> Tensor:
    """Return the PSNR of Rec. 601 luma in dB, float64 (N,); errors of colour alone are not seen.

    Both are uint8 N×3×H×W. Luma is 0.299 R + 0.587 G + 0.114 B of full-range levels, unrounded, peak
    255. Identical images score PSNR_CAP_DB. Raises ValueError for other dtypes or shapes.
    """
    require_pair(reference, image)
    if not choose_arithmetic(reference.device).float64_sums:  # a few products a pixel
        reference, image = reference.cpu(), image.cpu()
    error = (luma(reference) - luma(image)).square().flatten(1).mean(dim=1).cpu()
    return psnr_of_mse(error)


def measure_psnr(reference: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Return `mse` and `psnr_db`, float64 (N,) each."""
    error = mse(reference, image)
    return {"mse": error, "psnr_db": psnr_of_mse(error)}


def mae(reference: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute error in 8-bit levels, float64 (N,) in [0, 255], per image over RGB.

    Both are uint8 N×3×H×W. The sum is taken in integers, so it is exact. Raises ValueError for other
    dtypes or shapes.
    """
    require_pair(reference, image)
    return _sum_up(reference, image, lambda x, y: (x.to(torch.int16) - y).abs_())


def _sum_up(reference: Tensor, image: Tensor, error: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean over each image of an integer error a sample, float64 (N,), exact.

    Rows go through in strips: four bytes a sample of 24 megapixels are 288 MB. int64 holds the sum
    over 2⁴⁷ samples."""
    rows = max(1, _STRIP // reference[:, :, 0].numel())
    with one_thread():
        sums = []
        for top in range(0, reference.shape[2], rows):
            x, y = (images[:, :, top : top + rows] for images in (reference, image))
            sums.append(error(x, y).sum(dim=(1, 2, 3), dtype=torch.int64))
        total = torch.stack(sums).sum(dim=0).cpu().to(torch.float64)
    return total / reference[0].numel()


def ssim(reference: Tensor, image: Tensor) -> Tensor | None:
    """Return the mean structural similarity, float64 (N,) in [−1, 1]; None below SSIM_MIN_SIDE.

    Both are uint8 N×3×H×W. Wang, Bovik, Sheikh and Simoncelli 2004: gaussian window 11×11 of σ 1.5,
    K1 0.01, K2 0.03, L 255, gaussian-weighted population moments, valid region only, mean over
    positions and then over the channels; as skimage, piq (downsample=False) and pytorch-msssim, and
    as torchmetrics without the reflected border that its 1.9 averages in. Accurate to 1e-11 (skimage
    and piq in float64); pytorch-msssim's float32 window moves it by 1e-5, float32 images on flat
    areas by 1e-4.
    """
    return _similarity(reference, image, scales=1)[0]


def ms_ssim(reference: Tensor, image: Tensor) -> Tensor | None:
    """Return the multi-scale similarity, float64 (N,) in [0, 1]; None below MS_SSIM_MIN_SIDE.

    Both are uint8 N×3×H×W. Wang, Simoncelli and Bovik 2003 with pytorch-msssim's conventions: five
    scales, 2×2 means between them (a zero on either side of an odd length, counted in the mean),
    negative contrast-structure and SSIM terms set to 0, product per channel, then their mean.
    """
    return ssim_and_ms_ssim(reference, image)[1]


def ssim_and_ms_ssim(reference: Tensor, image: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return both in one pass: MS-SSIM's finest scale is SSIM. See `ssim` and `ms_ssim`."""
    scales = len(_EXPONENTS) if min(reference.shape[-2:]) >= MS_SSIM_MIN_SIDE else 1
    return _similarity(reference, image, scales=scales)


def measure_ssims(reference: Tensor, image: Tensor) -> dict[str, Tensor | None]:
    """Return `ssim` and `ms_ssim` from one pass, float64 (N,) each, or None where too small."""
    ssim_values, ms_ssim_values = ssim_and_ms_ssim(reference, image)
    return {"ssim": ssim_values, "ms_ssim": ms_ssim_values}


def _similarity(
    reference: Tensor, image: Tensor, *, scales: int
) -> tuple[Tensor | None, Tensor | None]:
    require_pair(reference, image)
    if min(reference.shape[-2:]) < SSIM_MIN_SIDE:
        return None, None
    arithmetic = choose_arithmetic(reference.device)
    with one_thread():
        if reference.device.type == "cpu":
            pairs = zip(reference, image, strict=True)
            values = torch.cat([_of_images(x[None], y[None], scales=scales) for x, y in pairs])
        elif arithmetic.exact:  # an image alone would be hundreds of launches
            values = _of_images(reference, image, scales=scales)
        else:
            values = _of_images_in_single(reference, image, arithmetic, scales=scales)
    ssim, ms_ssim = values.unbind(dim=1)
    return ssim, ms_ssim if scales > 1 else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch from splitting small products over cores: they gain little from it, and where other
    processes use these cores, each of a thousand barriers waits for them (3 to 40 s an image)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _of_images(x: Tensor, y: Tensor, *, scales: int) -> Tensor:
    """Return (SSIM, MS-SSIM) of each image of N×3×H×W batches, N×2, with the channels of all images side
    by side. With one scale the second is meaningless."""
    found = _of_channels(x.flatten(0, 1), y.flatten(0, 1), scales=scales)
    return torch.stack([values.reshape(-1, 3).mean(dim=1) for values in found], dim=1)


def _of_images_in_single(x: Tensor, y: Tensor, arithmetic: Arithmetic, *, scales: int) -> Tensor:
    """Return what `_of_images` returns, of maps in float32. Images of small terms go to the CPU."""
    channels = x.flatten(0, 1), y.flatten(0, 1)
    found = _terms_in_single(*channels, arithmetic, scales=scales)
    values = [found[0], _multiply(found[1:])]
    means = torch.stack([value.reshape(-1, 3).mean(dim=1) for value in values], dim=1)
    if scales > 1:
        least = found[1:].amin(dim=0).reshape(-1, 3).amin(dim=1)
        for place in torch.nonzero(least < _LEAST_TERM).flatten().tolist():
            alone = slice(place, place + 1)
            means[alone] = _of_images(x[alone].cpu(), y[alone].cpu(), scales=scales)
    return means


def _terms_in_single(x: Tensor, y: Tensor, arithmetic: Arithmetic, *, scales: int) -> Tensor:
    """Return SSIM, then MS-SSIM's terms from the finest scale on, of each channel of C×H×W images:
    float64 (1 + scales)×C."""
    # Of 8-bit levels and their means over 2×2 places, four times, float32 holds every digit.
    s, d = (v.to(torch.float32) for v in (x.to(torch.int16) + y, x.to(torch.int16) - y))
    whole, contrast = _means_in_single(s, d, arithmetic)
    terms = [whole, contrast]
    for _ in range(scales - 1):
        s, d = _halve(s, torch.float32), _halve(d, torch.float32)
        whole, contrast = _means_in_single(s, d, arithmetic)
        terms.append(contrast)
    terms[-1] = whole
    return torch.stack(terms)


def _means_in_single(s: Tensor, d: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, Tensor]:
    """Return what `_means` returns, of float32 C×H×W, by moments that do not cancel."""
    rows = s.shape[1] - _WINDOW + 1
    step = max(1, _SLAB // (s.shape[0] * s.shape[2]))
    totals = torch.zeros(2, s.shape[0], dtype=torch.float64)
    for top in range(0, rows, step):
        count = min(step, rows - top)
        slab = slice(top, top + count + _WINDOW - 1)
        means, variances = measure_windows(torch.stack((s[:, slab], d[:, slab])), _window())
        maps = torch.stack(_compare_moments(*means.square_(), *variances))
        totals += arithmetic.average(maps) * count
    whole, contrast = totals / rows
    return whole, contrast


def _of_channels(x: Tensor, y: Tensor, *, scales: int) -> tuple[Tensor, Tensor]:
    """Return SSIM and MS-SSIM of each channel of C×H×W images, float64 (C,)."""
    # The moments of sum and difference carry those of x and y: x²+y² = (s²+d²)/2 and
    # 2xy = (s²−d²)/2. Four blurs in place of five, and d = 0 gives exactly 1.
    s, d = x.to(torch.int16) + y, x.to(torch.int16) - y
    whole, contrast = _means(s, d)
    ssim = whole
    terms = [contrast]
    for _ in range(scales - 1):
        s, d = _halve(s, torch.float64), _halve(d, torch.float64)
        whole, contrast = _means(s, d)
        terms.append(contrast)
    terms[-1] = whole
    return ssim, _multiply(torch.stack(terms))


def _multiply(terms: Tensor) -> Tensor:
    """Return MS-SSIM of its terms, scales×C."""
    exponents = torch.tensor(_EXPONENTS[: len(terms)], dtype=torch.float64)[:, None]
    return (terms.relu() ** exponents).prod(dim=0)


def _halve(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 2×2 means of C×H×W, padded as pytorch-msssim pads. The sums are taken in the dtype of x, of
    levels without rounding."""
    odd = [side % 2 for side in x.shape[-2:]]
    if any(odd):
        x = functional.pad(x, (odd[1], 0, odd[0], 0))
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).to(dtype) / 4


def _means(s: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return the per-channel means of SSIM and of its contrast-structure factor, float64 (3,).

    s and d are sum and difference of the two images, 3×H×W. Rows go through in slabs, so the maps
    never exist whole: memory stays small and the slab in the cache. Of a large image on a CPU several
    go at once; their sums are added in the order of the rows.
    """
    on_cpu = s.device.type == "cpu"
    rows, columns = (side - _WINDOW + 1 for side in s.shape[1:])

    def add_up(top: int) -> Tensor:
        slab = slice(top, min(top + _TILE, rows) + _WINDOW - 1)
        a, b = s[:, slab].to(torch.float64), d[:, slab].to(torch.float64)
        return _sum_planes(a, b) if on_cpu else _sum_slab(a, b)

    tops = range(0, rows, _TILE)
    several = on_cpu and rows * columns >= _SEVERAL
    sums = _open_pool().map(add_up, tops) if several else map(add_up, tops)
    totals = sum(sums, torch.zeros(2, s.shape[0], dtype=torch.float64, device=s.device))
    whole, contrast = (totals / (rows * columns)).cpu()
    return whole, contrast


@functools.cache
def _open_pool() -> ThreadPoolExecutor:
    count = min(os.cpu_count() or 1, MAX_SLABS)
    return ThreadPoolExecutor(count, "slab", initializer=torch.set_num_threads, initargs=(1,))


def _sum_slab(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums of both maps over a slab of sum and difference, float64 2×3."""
    mean_s, mean_d, square_s, square_d = _blur(torch.stack((a, b, a * a, b * b)))
    mean_s, mean_d = mean_s.square_(), mean_d.square_()
    var_s, var_d = square_s.sub_(mean_s), square_d.sub_(mean_d)
    whole, contrast = _compare_moments(mean_s, mean_d, var_s, var_d)
    return torch.stack((whole.sum(dim=(1, 2)), contrast.sum(dim=(1, 2))))


def _sum_planes(a: Tensor, b: Tensor) -> Tensor:
    """Return what `_sum_slab` returns, on the CPU: a channel at a time, so that its maps stay in the
    cache, and by a filter that knows that the window is separable and even."""
    sums = torch.empty(2, len(a), dtype=torch.float64)
    for channel, (x, y) in enumerate(zip(a.numpy(), b.numpy(), strict=True)):
        mean_s, mean_d, square_s, square_d = map(_blur_plane, (x, y, x * x, y * y))
        for mean, square in ((mean_s, square_s), (mean_d, square_d)):
            mean *= mean
            square -= mean
        whole, contrast = _compare_moments(mean_s, mean_d, square_s, square_d)
        sums[0, channel], sums[1, channel] = float(whole.sum()), float(contrast.sum())
    return sums


def _compare_moments(square_s: _Map, square_d: _Map, var_s: _Map, var_d: _Map) -> tuple[_Map, _Map]:
    """Return SSIM and its contrast-structure factor at each place.

    Args:
        square_s: The squared means of the sum of both images.
        square_d: Those of their difference.
        var_s: The variances of the sum.
        var_d: Those of the difference. All four are overwritten.
    """
    contrast = var_s - var_d
    contrast += 2 * _C2
    var_s += var_d
    var_s += 2 * _C2
    contrast /= var_s
    whole = square_s - square_d
    whole += 2 * _C1
    square_s += square_d
    square_s += 2 * _C1
    whole /= square_s
    whole *= contrast
    return whole, contrast


@functools.cache
def _window() -> tuple[float, ...]:
    """Return the gaussian window along an axis."""
    offset = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    window = torch.exp(-offset.square() / (2 * _SIGMA**2))
    return tuple((window / window.sum()).tolist())


@functools.cache
def _band(device: torch.device) -> Tensor:
    """Return the window as a banded _TILE × (_TILE + 10) matrix: row i blurs inputs i … i + 10."""
    window = torch.tensor(_window(), dtype=torch.float64)
    band = torch.zeros(_TILE, _TILE + _WINDOW - 1, dtype=torch.float64)
    for row in range(_TILE):
        band[row, row : row + _WINDOW] = window
    return band.to(device)


def _blur_plane(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a map blurred along both axes, valid region."""
    import cv2

    window = np.array(_window())
    blurred = np.empty_like(plane)
    cv2.sepFilter2D(plane, cv2.CV_64F, window, window, blurred)
    edge = _WINDOW // 2  # what OpenCV made of a border
    return blurred[edge:-edge, edge:-edge]


def _blur(maps: Tensor) -> Tensor:
    """Return the maps blurred along both axes, valid region, for at most _TILE + 10 rows: by products
    with a banded matrix."""
    band = _band(maps.device)
    rows, columns = (side - _WINDOW + 1 for side in maps.shape[-2:])
    maps = torch.matmul(band[:rows, : rows + _WINDOW - 1], maps)
    blurred = maps.new_empty((*maps.shape[:-1], columns))
    for left in range(0, columns, _TILE):
        width = min(_TILE, columns - left)
        part = maps[..., left : left + width + _WINDOW - 1]
        blurred[..., left : left + width] = part @ band[:width, : width + _WINDOW - 1].T
    return blurred
