"""Columns of the rows of drawn charts, computed with their ground truth (`meta`).

A picture that is no chart of the kind gives an empty row: the question does not arise there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vtbench.base.records import Sample
from vtbench.images import RGB8, to_rgb8
from vtbench.metrics.color import measure_pattern_colors
from vtbench.metrics.structure import count_kept
from vtbench.metrics.transfer import measure_grating

Columns = dict[str, Any]


def measure_waves(
    samples: Sequence[Sample], original: Tensor, image: Tensor
) -> list[Mapping[str, Any]]:
    """Return of each `wave` chart the gain and aliasing of its gratings (`transfer.Response`), with
    their frequencies along x and y in cycles per pixel, contrast and colour direction."""

    def measure(meta: Mapping[str, Any], reference: RGB8, reconstruction: RGB8) -> Columns:
        direction = meta["direction"]
        responses = [
            measure_grating(
                reference,
                reconstruction,
                box=tuple(patch["box"]),
                wave=tuple(patch["wave"]),
                direction=direction,
            )
            for patch in meta["patches"]
        ]
        return {
            "wave_direction": direction,
            "wave_contrast": float(meta["contrast"]),
            "wave_x": [float(patch["wave"][0]) for patch in meta["patches"]],
            "wave_y": [float(patch["wave"][1]) for patch in meta["patches"]],
            "wave_gain": [response.gain for response in responses],
            "wave_alias": [response.alias for response in responses],
        }

    return _of_charts("wave", measure, samples, original, image)


def measure_elements(
    samples: Sequence[Sample], original: Tensor, image: Tensor
) -> list[Mapping[str, Any]]:
    """Return of each `elements` chart its kind and, by size in pixels, how many elements it has and
    how many were kept (`structure.count_kept`)."""

    def measure(meta: Mapping[str, Any], reference: RGB8, reconstruction: RGB8) -> Columns:
        counts = count_kept(reference, reconstruction, meta["patches"])
        return {
            "element_kind": meta["kind"],
            "element_px": [float(size) for size in counts],
            "elements_kept": [kept for kept, _ in counts.values()],
            "elements": [total for _, total in counts.values()],
        }

    return _of_charts("elements", measure, samples, original, image)


def measure_color_patterns(
    samples: Sequence[Sample], original: Tensor, image: Tensor
) -> list[Mapping[str, Any]]:
    """Return of each `color-stripes` chart the CIEDE2000 difference of its patches and their size in
    pixels (`color.measure_pattern_colors`)."""

    def measure(meta: Mapping[str, Any], reference: RGB8, reconstruction: RGB8) -> Columns:
        patches = meta["patches"]
        return {
            "pattern_px": [float(patch["size_px"]) for patch in patches],
            "pattern_delta_e": measure_pattern_colors(reference, reconstruction, patches),
        }

    return _of_charts("color-stripes", measure, samples, original, image)


def _of_charts(
    kind: str, measure: Any, samples: Sequence[Sample], original: Tensor, image: Tensor
) -> list[Mapping[str, Any]]:
    pairs = zip(samples, to_rgb8(original), to_rgb8(image), strict=True)
    return [
        measure(sample.meta, reference, reconstruction) if sample.meta.get("chart") == kind else {}
        for sample, reference, reconstruction in pairs
    ]
