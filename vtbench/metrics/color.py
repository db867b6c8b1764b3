"""Colour differences as seen: CIELAB of sRGB and the CIEDE2000 formula. numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.images import RGB8, crop_rgb8
from vtbench.metrics.luma import require_rgb8_pair

Floats = NDArray[np.float64]

_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2° observer
_LINEAR = np.arange(256) / 255
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4)


def to_lab(pixels: RGB8) -> Floats:
    """Return CIELAB (L* 0 to 100) of uint8 sRGB …×3 under D65, as skimage.color.rgb2lab."""
    xyz = _LINEAR[pixels] @ _XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e2000(first: Floats, second: Floats) -> Floats:
    """Return the CIEDE2000 difference of two …×3 arrays of CIELAB, kL = kC = kH = 1.

    1 is about the smallest difference that is seen side by side. Sharma, Wu and Dalal, Color
    Research & Application 30(1), 2005, whose hue conventions are followed.
    """
    l1, a1, b1 = np.moveaxis(first, -1, 0)
    l2, a2, b2 = np.moveaxis(second, -1, 0)
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1 = np.degrees(np.arctan2(b1, stretch * a1)) % 360
    h2 = np.degrees(np.arctan2(b2, stretch * a2)) % 360
    gray = c1 * c2 == 0
    turn = np.where(gray, 0.0, (h2 - h1 + 180) % 360 - 180)
    turn = np.where((turn == -180) & (h2 > h1), 180.0, turn)
    hue = np.where(gray, h1 + h2, h1 + turn / 2) % 360
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    off = (lightness - 50) ** 2
    dl = (l2 - l1) / (1 + 0.015 * off / np.sqrt(20 + off))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    rotation = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rc = 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    total: Floats = dl**2 + dc**2 + dh**2 - np.sin(np.radians(rotation)) * rc * dc * dh
    return np.sqrt(np.maximum(total, 0))


def measure_color_shift(reference: RGB8, image: RGB8) -> float:
    """Return the CIEDE2000 difference of the mean colours, each the mean of CIELAB over the pixels.

    A cast over the whole picture, which noise and blur hardly move. Both are uint8 H×W×3.
    """
    require_rgb8_pair(reference, image)
    means = [to_lab(side).mean(axis=(0, 1)) for side in (reference, image)]
    return float(delta_e2000(means[0], means[1]))


def measure_pattern_colors(
    reference: RGB8, image: RGB8, patches: Sequence[Mapping[str, Any]]
) -> list[float]:
    """Return the mean CIEDE2000 difference of the pixels of each patch (`box`: left, top, width,
    height): what is left of colours that change within a few pixels, which luma does not show."""
    require_rgb8_pair(reference, image)
    differences = []
    for patch in patches:
        left, top, width, height = (int(value) for value in patch["box"])
        first, second = (
            to_lab(crop_rgb8(side, (left, top, width, height))) for side in (reference, image)
        )
        differences.append(float(delta_e2000(first, second).mean()))
    return differences
