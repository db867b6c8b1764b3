"""Batches through the metrics that look at one picture: columns of each picture's row.

Every function takes two uint8 N×3×H×W batches and returns, by column, one value an image; None where
it does not apply.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

from vtbench.images import RGB8, to_rgb8
from vtbench.metrics import artefacts, bands, color, patches, pixel, structure

Values = dict[str, list[Any]]

GRID_STRIDES = (2, 4, 8, 14, 16, 32)
"""Strides whose grid scores a row holds; a table shows the tokenizer's own."""


def measure_bands(original: Tensor, image: Tensor) -> Values:
    """Return the energies of `bands.measure_bands`, a list of octaves each, and the blur in pixels."""
    names = ("original", "lost", "invented", "error")
    found = _each(bands.measure_bands, original, image)
    values: Values = {
        f"band_{name}": [None if own is None else getattr(own, name).tolist() for own in found]
        for name in names
    }
    return values | {"blur_px": _each(bands.measure_blur, original, image)}


def measure_structure(original: Tensor, image: Tensor) -> Values:
    """Return GMSD and the counts of edge pixels (`structure.Edges`)."""
    edges = _each(structure.compare_edges, original, image)
    return {
        "gmsd": _each(structure.gmsd, original, image),
        "edges_original": [own.original for own in edges],
        "edges_found": [own.found for own in edges],
        "edges_drawn": [own.drawn for own in edges],
        "edges_true": [own.true for own in edges],
    }


def measure_artefacts(original: Tensor, image: Tensor) -> Values:
    """Return the colour shift, errors by region, and grid scores, a list over GRID_STRIDES each."""
    regions = _each(artefacts.measure_regions, original, image)
    values: Values = {
        f"mse_{name}": [None if own is None else getattr(own, name) for own in regions]
        for name in (field.name for field in dataclasses.fields(artefacts.Regions))
    }

    def find_grids(reference: RGB8, reconstruction: RGB8) -> list[artefacts.Grid | None]:
        strides = GRID_STRIDES
        return [artefacts.measure_grid(reference, reconstruction, stride=s) for s in strides]

    grids = _each(find_grids, original, image)
    for name in ("pattern", "steps"):
        values[f"grid_{name}"] = [
            [None if grid is None else getattr(grid, name) for grid in own] for own in grids
        ]
    return values | {"color_shift": _each(color.measure_color_shift, original, image)}


def measure_worst_psnr(original: Tensor, image: Tensor) -> Values:
    """Return the worst patch's PSNR and the 5 % quantile over patches."""
    return _worst(
        "psnr_db", patches.find_worst(pixel.psnr_db, original, image, better="higher"), image
    )


def measure_worst_ssim(original: Tensor, image: Tensor) -> Values:
    """Return the worst patch's SSIM and the 5 % quantile over patches."""
    return _worst("ssim", patches.find_worst(pixel.ssim, original, image, better="higher"), image)


def _worst(name: str, found: list[patches.Worst] | None, image: Tensor) -> Values:
    own: list[patches.Worst | None] = [None] * len(image) if found is None else [*found]
    return {
        f"{name}_worst": [None if one is None else one.patch for one in own],
        f"{name}_patch05": [None if one is None else one.quantile for one in own],
    }


def _each(measure: Callable[[RGB8, RGB8], Any], original: Tensor, image: Tensor) -> list[Any]:
    pairs = zip(to_rgb8(original), to_rgb8(image), strict=True)
    return [measure(reference, reconstruction) for reference, reconstruction in pairs]
