"""Metrics: what each is (`catalogue`), and the functions that measure.

`vtbench.metrics.psnr_db`, `ssim`, `lpips`, `Rfid`, … are those of `functional`: two batches in, a
value an image out. They are imported when they are first used.
"""

from __future__ import annotations

from typing import Any

_FUNCTIONS = ("Kid", "Rfid", "SetMetric", "haarpsi", "lpips", "mae", "ms_ssim", "psnr_db", "ssim")


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'vtbench.metrics' has no attribute {name!r}")
    from vtbench.metrics import functional

    return getattr(functional, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS})
