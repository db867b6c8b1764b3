"""Rows of pictures: what the metrics of bands, artefacts, colour and structure give an image.

Every function is one of the catalogue's `samples` functions: f(samples, original, image), both
batches uint8 N×3×H×W, to a mapping of row columns an image. Drawn gratings and elements have charts'
metrics of their own (`charts`) and give empty rows here: they are no natural pictures. A column is
None where the metric does not apply at the size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vtbench.base.records import Sample
from vtbench.images import RGB8, Fit, to_rgb8
from vtbench.metrics import artefacts, bands, color, structure

Columns = Mapping[str, Any]

NO_PICTURES = frozenset({"wave", "elements", "grating"})
"""Charts that are no picture."""

GRID_STRIDES = (2, 4, 8, 14, 16, 32)
"""Strides whose grid scores a row holds; a table shows the tokenizer's own."""


def measure_bands(samples: Sequence[Sample], original: Tensor, image: Tensor) -> list[Columns]:
    """Return the energies by octave, a list each, and the blur in pixels (`bands`)."""
    return _each(_find_bands, samples, original, image)


def _find_bands(reference: RGB8, image: RGB8) -> Columns:
    found = bands.measure_bands(reference, image)
    names = ("original", "lost", "invented", "error")
    columns = {f"band_{name}": found and getattr(found, name).tolist() for name in names}
    return columns | {"blur_px": bands.measure_blur(reference, image)}


def measure_structure(samples: Sequence[Sample], original: Tensor, image: Tensor) -> list[Columns]:
    """Return GMSD and the counts of edge pixels (`structure`)."""
    return _each(_find_structure, samples, original, image)


def _find_structure(reference: RGB8, image: RGB8) -> Columns:
    edges = structure.compare_edges(reference, image)
    return {
        "gmsd": structure.gmsd(reference, image),
        "edges_original": edges.original,
        "edges_found": edges.found,
        "edges_drawn": edges.drawn,
        "edges_true": edges.true,
    }


def measure_artefacts(samples: Sequence[Sample], original: Tensor, image: Tensor) -> list[Columns]:
    """Return the colour shift, the errors by region, and the grid scores, a list over the strides of
    GRID_STRIDES that the size allows (`artefacts`, `color`)."""
    return _each(_find_artefacts, samples, original, image)


def _find_artefacts(reference: RGB8, image: RGB8) -> Columns:
    regions = artefacts.measure_regions(reference, image)
    grids = {
        stride: grid
        for stride in GRID_STRIDES
        if (grid := artefacts.measure_grid(reference, image, stride=stride)) is not None
    }
    return {
        "color_shift": color.measure_color_shift(reference, image),
        "mse_border": regions and regions.border,
        "mse_corners": regions and regions.corners,
        "mse_middle": regions and regions.middle,
        "grid_stride": [float(stride) for stride in grids],
        "grid_pattern": [grid.pattern for grid in grids.values()],
        "grid_steps": [grid.steps for grid in grids.values()],
    }


def measure_seams(original: Tensor, image: Tensor, fit: Fit) -> list[Columns]:
    """Return how visible the seams of tiles are, of images that were cut as `fit` says
    (`artefacts.measure_seams`); both None where there is no seam."""
    rows, columns = (
        [whole // count * place for place in range(1, count)]
        for whole, count in zip(fit.fitted, fit.tiles, strict=True)
    )
    found = [
        artefacts.measure_seams(before, after, rows=rows, columns=columns)
        for before, after in zip(to_rgb8(original), to_rgb8(image), strict=True)
    ]
    return [
        {"seam_step": seams and seams.step, "seam_tone": seams and seams.tone} for seams in found
    ]


def _each(
    find: Callable[[RGB8, RGB8], Columns],
    samples: Sequence[Sample],
    original: Tensor,
    image: Tensor,
) -> list[Columns]:
    pairs = zip(samples, to_rgb8(original), to_rgb8(image), strict=True)
    return [
        {} if sample.meta.get("chart") in NO_PICTURES else find(reference, reconstruction)
        for sample, reference, reconstruction in pairs
    ]
