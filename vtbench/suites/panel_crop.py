"""The part of an image that the panel shows."""

from __future__ import annotations

from vtbench.images import RGB8, crop_rgb8
from vtbench.suites.suite_file import PanelPick

PANEL_SIDE = 384
"""A panel picture without a crop of its own is cut to this many pixels a side, from the middle."""


def crop_panel(pick: PanelPick, image: RGB8) -> RGB8:
    """Return the part of an image that the panel shows."""
    if pick.crop is not None:
        return crop_rgb8(image, pick.crop)
    height, width = image.shape[:2]
    w, h = min(width, PANEL_SIDE), min(height, PANEL_SIDE)
    return crop_rgb8(image, ((width - w) // 2, (height - h) // 2, w, h))
