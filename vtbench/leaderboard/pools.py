"""How the rows of a run become one number: means, ratios, pooled errors, speeds, MTF50."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vtbench.leaderboard.board import Bound, Shares
from vtbench.metrics.detail import mtf50, transfer_curve
from vtbench.metrics.text_protocols import BUCKETS, pool_words
from vtbench.results.rows import Row

PSNR_CAP_DB = 100.0
"""The PSNR of an identical image; such values are in the mean, and counted."""

Pool = Callable[[Sequence[Row]], tuple[float, int, Bound]]
"""Rows without errors → value, how many images or patches made it (0: not applicable), bound."""

_NONE: tuple[float, int, Bound] = (0.0, 0, "=")


@dataclass(frozen=True)
class Sampled:
    """The pool Σ top ÷ Σ bottom over images, of which other images could have been drawn.

    share: an image's top and bottom, None where it has none.
    """

    share: Callable[[Row], tuple[float, float] | None]

    def __call__(self, rows: Sequence[Row]) -> tuple[float, int, Bound]:
        pairs = [pair for row in rows if (pair := self.share(row)) is not None]
        total = math.fsum(bottom for _, bottom in pairs)
        return (math.fsum(top for top, _ in pairs) / total, len(pairs), "=") if total else _NONE

    def shares(self, rows: Sequence[Row], cut_from: Mapping[str, str]) -> Shares:
        """Return what each row gives to the number."""
        given = sorted(
            (row["id"], row["subset"], *pair)
            for row in rows
            if (pair := self.share(row)) is not None
        )
        ids, subsets, tops, bottoms = zip(*given, strict=True)
        return Shares(ids, tuple(cut_from.get(own, own) for own in ids), subsets, tops, bottoms)


def pool_mean(column: str) -> Pool:
    return Sampled(lambda row: None if row[column] is None else (row[column], 1.0))


def _average(values: Sequence[float]) -> tuple[float, int, Bound]:
    return math.fsum(values) / max(len(values), 1), len(values), "="


def pool_ratio(top: str, bottom: str) -> Pool:
    """Return Σ top ÷ Σ bottom over the rows that have both."""
    return Sampled(lambda row: None if None in (row[top], row[bottom]) else (row[top], row[bottom]))


def pool_weighted(column: str, weight: str) -> Pool:
    """Return the mean of a column, each row as often as its weight says."""
    return Sampled(
        lambda row: (
            (row[column] * row[weight], row[weight])
            if row[column] is not None and row[weight]
            else None
        )
    )


def pool_bits_per_pixel(column: str) -> Pool:
    return Sampled(
        lambda row: None if row[column] is None else (row[column], row["width"] * row["height"])
    )


def pool_psnr(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    """Return the PSNR of all images as if they were one."""
    own = [(row["mse"], row["width"] * row["height"]) for row in rows if row["mse"] is not None]
    pixels = sum(size for _, size in own)
    if not pixels:
        return _NONE
    mse = math.fsum(error * size for error, size in own) / pixels
    psnr = 10 * math.log10(255**2 / mse) if mse else PSNR_CAP_DB
    return min(psnr, PSNR_CAP_DB), len(own), "="


pool_quantization = Sampled(
    lambda row: (
        None
        if None in (row["psnr_db"], row["psnr_q8_db"])
        else (row["psnr_db"] - row["psnr_q8_db"], 1.0)
    )
)
"""The mean PSNR that 8-bit latents cost."""


def pool_tokbench(column: str) -> Pool:
    """Return TokBench's mean of its buckets, of squares of one side; not applicable to others."""

    def pool(rows: Sequence[Row]) -> tuple[float, int, Bound]:
        own = [row for row in rows if row[column]]
        sides = {row["width"] for row in own}
        if len(sides) != 1 or not sides <= BUCKETS.keys():
            return _NONE
        values, ratios = (
            [value for row in own for value in row[name]] for name in (column, "word_ratio")
        )
        mean = pool_words(values, values, ratios, side=sides.pop()).t_acc
        return _NONE if mean is None else (mean, len(own), "=")

    return pool


def pool_speed(column: str) -> Pool:
    def pool(rows: Sequence[Row]) -> tuple[float, int, Bound]:
        seconds = [row[column] for row in rows if row[column] is not None]
        total = math.fsum(seconds)
        return (len(seconds) / total, len(seconds), "=") if total > 0 else _NONE

    return pool


def pool_peak(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    peaks = [row["peak_memory_mib"] for row in rows if row["peak_memory_mib"] is not None]
    return max(peaks, default=0.0), len(peaks), "="


def list_points(row: Row) -> list[tuple[float, float]]:
    """Return the (cycles per pixel, contrast transfer) of a row's grating patches."""
    return list(zip(row["patch_cpp"] or (), row["contrast_transfer"] or (), strict=True))


def pool_contrast(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    return _average([transfer for row in rows for _, transfer in list_points(row)])


def pool_contrast_at(cpp: float) -> Pool:
    def pool(rows: Sequence[Row]) -> tuple[float, int, Bound]:
        points = [point for row in rows for point in list_points(row) if cpp_key(point[0]) == key]
        return _average([transfer for _, transfer in points])

    key = cpp_key(cpp)
    return pool


def pool_mtf50(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    points = [point for row in rows for point in list_points(row)]
    if not points:
        return _NONE
    value, bound = mtf50(transfer_curve(points))
    return value, len(points), bound


def cpp_key(cpp: float) -> str:
    """Return the key of the contrast transfer at a frequency in cycles per pixel."""
    return f"detail.contrast_transfer.{cpp:.4g}"
