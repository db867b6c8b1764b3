"""Pooling of a run's rows to one number: means, ratios, pooled errors, speeds, MTF50."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vtbench.base.statistics import sum_exactly
from vtbench.leaderboard.board import Bound, Floats, Shares
from vtbench.leaderboard.selection import Selection
from vtbench.metrics.detail import mtf50, transfer_curve
from vtbench.metrics.text_protocols import BUCKETS, pool_words

PSNR_CAP_DB = 100.0
"""The PSNR of an identical image; such values are in the mean, and counted."""


@dataclass(frozen=True)
class Pooled:
    """A number, how many images or patches made it, what each image gave to it, and its own interval
    where it has one that is not over images."""

    value: float
    n: int
    bound: Bound = "="
    shares: Shares | None = None
    low: float | None = None
    high: float | None = None


Pool = Callable[[Selection], Pooled | None]
"""Rows without errors → their number, None where it does not apply to any of them."""


@dataclass(frozen=True)
class RatioPool:
    """The pool Σ numerator ÷ Σ denominator over images, of which others could have been drawn.

    share: each image's numerator and denominator, NaN in either where it has none.
    """

    share: Callable[[Selection], tuple[Floats, Floats]]

    def __call__(self, rows: Selection) -> Pooled | None:
        """Return the number of these rows, None where none has a share."""
        numerators, denominators = self.share(rows)
        known = ~np.isnan(numerators) & ~np.isnan(denominators)
        if not known.all():
            numerators, denominators = numerators[known], denominators[known]
        total = sum_exactly(denominators)
        if not total:
            return None
        shares = Shares(rows.images(known), numerators, denominators)
        return Pooled(sum_exactly(numerators) / total, len(numerators), shares=shares)


def _ones(rows: Selection) -> Floats:
    return np.broadcast_to(np.float64(1.0), len(rows))


def _pixels(rows: Selection) -> Floats:
    return rows.numbers("width") * rows.numbers("height")


def pool_mean(column: str) -> Pool:
    """Return the pool of a mean over images."""
    return RatioPool(lambda rows: (rows.numbers(column), _ones(rows)))


def pool_ratio(numerator: str, denominator: str) -> Pool:
    """Return Σ numerator ÷ Σ denominator over the rows that have both."""
    return RatioPool(lambda rows: (rows.numbers(numerator), rows.numbers(denominator)))


def pool_weighted(column: str, weight: str) -> Pool:
    """Return the mean of a column, each row as often as its weight says; of weight 0, not at all."""

    def share(rows: Selection) -> tuple[Floats, Floats]:
        weights = rows.numbers(weight)
        weights = np.where(weights == 0, np.nan, weights)
        return rows.numbers(column) * weights, weights

    return RatioPool(share)


def pool_bits_per_pixel(column: str) -> Pool:
    """Return the pool of all bits over all pixels."""
    return RatioPool(lambda rows: (rows.numbers(column), _pixels(rows)))


def pool_psnr(rows: Selection) -> Pooled | None:
    """Return the PSNR of all images as if they were one."""
    errors, pixels = rows.numbers("mse"), _pixels(rows)
    known = ~np.isnan(errors)
    total = float(pixels[known].sum())
    if not total:
        return None
    mse = sum_exactly((errors * pixels)[known]) / total
    psnr = 10 * math.log10(255**2 / mse) if mse else PSNR_CAP_DB
    return Pooled(min(psnr, PSNR_CAP_DB), int(known.sum()))


def pool_tokbench(column: str) -> Pool:
    """Return TokBench's mean of its buckets, of squares of one side; not applicable to others."""

    def pool(selection: Selection) -> Pooled | None:
        rows = [row for row in selection.rows if row[column]]
        sides = {row["width"] for row in rows}
        if len(sides) != 1 or not sides <= BUCKETS.keys():
            return None
        values, ratios = (
            [value for row in rows for value in row[name]] for name in (column, "word_ratio")
        )
        mean = pool_words(values, values, ratios, side=sides.pop()).t_acc
        return None if mean is None else Pooled(mean, len(rows))

    return pool


def pool_speed(column: str) -> Pool:
    """Return the pool of images per second."""

    def pool(rows: Selection) -> Pooled | None:
        seconds = _known(rows.numbers(column))
        total = sum_exactly(seconds)
        return Pooled(len(seconds) / total, len(seconds)) if total > 0 else None

    return pool


def pool_peak(rows: Selection) -> Pooled | None:
    """Return the largest peak of memory."""
    peaks = _known(rows.numbers("peak_memory_mib"))
    return Pooled(float(peaks.max()), len(peaks)) if len(peaks) else None


def pool_contrast(cpp: float | None) -> Pool:
    """Return the pool of the mean contrast transfer at a frequency, None for all patches."""

    def pool(rows: Selection) -> Pooled | None:
        transfers = rows.lists("contrast_transfer")
        if cpp is not None:
            frequencies = rows.lists("patch_cpp")
            transfers = transfers[[format_cpp(x) == format_cpp(cpp) for x in frequencies]]
        n = len(transfers)
        return Pooled(math.fsum(transfers.tolist()) / n, n) if n else None

    return pool


def pool_mtf50(rows: Selection) -> Pooled | None:
    """Return the frequency at which contrast transfer falls below one half."""
    frequencies, transfers = rows.lists("patch_cpp"), rows.lists("contrast_transfer")
    if not len(frequencies):
        return None
    curve = transfer_curve(zip(frequencies.tolist(), transfers.tolist(), strict=True))
    value, bound = mtf50(curve)
    return Pooled(value, len(frequencies), bound)


def _known(values: Floats) -> Floats:
    known: Floats = values[~np.isnan(values)]
    return known


def format_cpp(cpp: float) -> str:
    """Return a frequency in cycles per pixel as the columns tell it from others: 1/period of two
    charts may differ in the last bit."""
    return f"{cpp:.4g}"


_POOLS: Mapping[str, Pool] = {
    "bpp": pool_bits_per_pixel("bits"),
    "entropy_bpp": pool_bits_per_pixel("entropy_bits"),
    "bpp_q8": pool_bits_per_pixel("q8_bits"),
    "psnr_q8_loss_db": RatioPool(
        lambda rows: (rows.numbers("psnr_db") - rows.numbers("psnr_q8_db"), _ones(rows))
    ),
    "psnr_pooled_db": pool_psnr,
    "t_acc": pool_ratio("words_read", "words"),
    "exact_lines": pool_ratio("exact_lines", "lines"),
    "glyphs_lost": pool_ratio("glyphs_lost", "glyphs_readable"),
    "tokbench_t_acc": pool_tokbench("word_exact"),
    "tokbench_t_ned": pool_tokbench("word_similar"),
    "mtf50_cpp": pool_mtf50,
    "encode_images_per_s": pool_speed("encode_s"),
    "decode_images_per_s": pool_speed("decode_s"),
    "peak_memory_mib": pool_peak,
}
"""The numbers that are no mean of the row's column of their name."""


def find_pool(metric: str, *, cpp: float | None = None, originals: bool = False) -> Pool:
    """Return how rows become the number of a metric.

    Args:
        metric: Its key.
        cpp: Of contrast transfer, the frequency in cycles per pixel.
        originals: The reading errors of the originals in place of the reconstructions'.
    """
    prefix = "original_" if originals else ""
    if metric == "cer":
        return pool_ratio(f"{prefix}char_edits", "chars")
    if metric == "wer":
        return pool_ratio(f"{prefix}word_edits", "words")
    if metric == "ned":
        return pool_weighted(f"{prefix}ned", "lines")
    if metric == "contrast_transfer":
        return pool_contrast(cpp)
    return _POOLS.get(metric) or pool_mean(metric)
