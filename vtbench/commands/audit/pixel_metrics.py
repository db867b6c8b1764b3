"""The audit of pixel metrics that follow from each other, or exclude each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from vtbench.commands.audit.case import Case, tell_first
from vtbench.leaderboard.pools import PSNR_CAP_DB
from vtbench.results.rows import Row

RANGES: Mapping[str, tuple[float, float]] = {
    "psnr_db": (0.0, PSNR_CAP_DB),
    "psnr_q8_db": (0.0, PSNR_CAP_DB),
    "mse": (0.0, 255.0**2),
    "mae": (0.0, 255.0),
    "ssim": (-1.0, 1.0),
    "ms_ssim": (0.0, 1.0),
    "haarpsi": (0.0, 1.0),
    "dists": (0.0, 1.5),
    "lpips_alex": (0.0, 4.0),
    "lpips_vgg": (0.0, 4.0),
    "ned": (0.0, 1.0),
    "original_ned": (0.0, 1.0),
    "contrast_transfer": (-13.0, 13.0),
    **dict.fromkeys(("dinov2_cos", "clip_cos", "siglip_cos", "face_cos"), (-1.0, 1.0)),
    **dict.fromkeys((f"face_identity{kind}" for kind in ("", "_jpeg", "_other")), (-1.0, 1.0)),
}
"""By definition, but lpips and dists, whose largest values known are half of these, and contrast
transfer, whose faintest chart has a tenth of the range."""

VISIBLE_MSE = 1.0

ROUNDING = 1e-6
"""Float32 networks and sums may pass a bound by so much."""


def audit_pixel_metrics(case: Case) -> Iterator[str]:
    """Yield what the rows say of pixels that arithmetic does not allow."""
    yield from tell_first(
        (row["id"], what)
        for row in case.done
        for what in (*_ranges(row), *_errors(row), *_worst(row), *_transfers(row))
    )


def _ranges(row: Row) -> Iterator[str]:
    for key, (low, high) in RANGES.items():
        values = row[key] if isinstance(row.get(key), list) else [row.get(key)]
        for value in values:
            if value is not None and not low - ROUNDING <= value <= high + ROUNDING:
                yield f"{key} is outside of [{low:g}, {high:g}]: {value:g}"


def _transfers(row: Row) -> Iterator[str]:
    """Patches of all frequencies do not keep the same share of their contrast, to the last digit, where
    something is lost that can be seen."""
    values: tuple[float, ...] = tuple(row.get("contrast_transfer") or ())
    same = len(values) > 2 and len(set(values)) == 1 and values[0] != 0
    if same and (row["mse"] or 0.0) > VISIBLE_MSE:
        yield f"contrast_transfer is {values[0]:g} in each of {len(values)} patches"


def _worst(row: Row) -> Iterator[str]:
    """The worst patch is not better than the 5 % quantile of the patches."""
    for key, sign in (("psnr_db", 1), ("ssim", 1), ("lpips_alex", -1), ("lpips_vgg", -1)):
        worst, quantile = row.get(f"{key}_worst"), row.get(f"{key}_patch05")
        if (worst is None) != (quantile is None):
            yield f"{key}_worst and {key}_patch05 are not both there"
        elif worst is not None and sign * (worst - quantile) > ROUNDING:
            yield f"{key}_worst is better than {key}_patch05: {worst:g}, {quantile:g}"


def _errors(row: Row) -> Iterator[str]:
    """Both sides are whole levels: the sums of |error| and of error² over all samples are integers, of
    which both or neither is odd, and the first is at most the second."""
    mse, mae = row["mse"], row["mae"]
    samples = row["width"] * row["height"] * 3
    if mse is None or mse < 0:
        return
    psnr = PSNR_CAP_DB if mse == 0 else min(PSNR_CAP_DB, 10 * math.log10(255.0**2 / mse))
    if row["psnr_db"] is not None and abs(row["psnr_db"] - psnr) > 1e-6:
        yield f"PSNR is not that of the mean squared error: {row['psnr_db']:.4f}, not {psnr:.4f}"
    squares = mse * samples
    slack = 1e-3 + squares * 1e-12
    if abs(squares - round(squares)) > slack:
        yield f"mse is no mean of squared whole levels: {mse}"
        return
    if mse == 0:
        for key in ("ssim", "ms_ssim", "haarpsi"):
            if row[key] is not None and row[key] < 1 - 1e-4:
                yield f"mse 0 and another picture: {key} {row[key]:g}"
    if mae is None:
        return
    sum_of_errors = mae * samples
    if abs(sum_of_errors - round(sum_of_errors)) > 1e-3 + sum_of_errors * 1e-12:
        yield f"mae is no mean of whole levels: {mae}"
    elif (round(squares) - round(sum_of_errors)) % 2 and slack < 0.4:
        yield "mse and mae are of no picture: their sums are one odd and one even"
    if not mae**2 <= mse * (1 + 1e-9) or not mae <= mse * (1 + 1e-9) <= 255 * mae * (1 + 2e-9):
        yield f"mae is not between mse ÷ 255 and √mse: mae {mae:g}, mse {mse:g}"
