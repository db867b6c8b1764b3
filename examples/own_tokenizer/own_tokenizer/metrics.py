"""A metric of one's own: its record here, its function in `measures`, which alone imports torch."""

from __future__ import annotations

from vtbench.base.records import Metric

METRICS = (
    Metric(
        key="own_max_error",
        label="Max error",
        unit="level",
        better="lower",
        version=1,
        pooled="arithmetic mean over images, each image with the same weight",
        definition="Largest absolute error of an image in 8-bit levels, over pixels and channels.",
        source="numpy: abs(x - y).max()",
        decimals=1,
        takes="pair",
        function="own_tokenizer.measures:max_error",
        shown="breakdown",
    ),
)
