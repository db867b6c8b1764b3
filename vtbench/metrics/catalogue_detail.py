"""The records of what is measured on charts and of what becomes of a picture's detail. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vtbench.base.records import Metric

_FLOATS = "list<float64>"
_MEAN = "arithmetic mean over images, each image with the same weight"
_CURVE = "all gratings of the charts `curve` (25 frequencies, both axes, four phases) together"
_RATIO = "sums over images, then the ratio"

_WAVES: Mapping[str, str] = {
    "wave_direction": "string",
    "wave_contrast": "float64",
    "wave_x": _FLOATS,  # cycles per pixel
    "wave_y": _FLOATS,
    "wave_gain": _FLOATS,
    "wave_alias": _FLOATS,
}
_ELEMENTS: Mapping[str, str] = {
    "element_kind": "string",
    "element_px": _FLOATS,
    "elements_kept": "list<int64>",
    "elements": "list<int64>",
}
_BANDS: Mapping[str, str] = {
    "band_original": _FLOATS,  # squared levels, one an octave
    "band_lost": _FLOATS,
    "band_invented": _FLOATS,
    "band_error": _FLOATS,
    "blur_px": "float64",
}
_STRUCTURE: Mapping[str, str] = {
    "gmsd": "float64",
    "edges_original": "int64",
    "edges_found": "int64",
    "edges_drawn": "int64",
    "edges_true": "int64",
}
_ARTEFACTS: Mapping[str, str] = {
    "color_shift": "float64",
    "mse_border": "float64",  # squared levels of luma
    "mse_corners": "float64",
    "mse_middle": "float64",
    "grid_stride": _FLOATS,  # px
    "grid_pattern": _FLOATS,  # levels
    "grid_steps": _FLOATS,
}

_ON_CHARTS = (
    Metric(
        key="wave_transfer",
        label="Transfer",
        unit="",
        better=None,
        version=1,
        pooled=f"mean gain of {_CURVE}",
        definition=(
            "Contrast transfer of a grating: real part of the ratio of the complex amplitudes of "
            "reconstruction and original at its frequency, by least squares. 1: kept. 0: gone. Below "
            "0: inverted. Above 1: sharpened."
        ),
        source="modulation transfer of ISO 12233:2017; vtbench.metrics.transfer",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.charts:measure_waves",
        columns=_WAVES,
    ),
    Metric(
        key="mtf50_fit_cpp",
        label="MTF50 (fit)",
        unit="cycles/px",
        better="higher",
        version=1,
        pooled=_CURVE,
        definition=(
            "Frequency at which the non-increasing least-squares fit of the transfer falls below 0.5. "
            "The frequencies are 0.7/96 cycles per pixel or more away from all that repeat with a "
            "grid of 2, 4, 8, 14, 16 or 32 px. Interval: bootstrap over the gratings of a frequency. "
            "'≥' where it never falls, '<' where it starts below."
        ),
        source="ISO 12233:2017 (MTF50); Ayer et al. 1955 (monotone fit)",
    ),
    Metric(
        key="mtf10_fit_cpp",
        label="MTF10 (fit)",
        unit="cycles/px",
        better="higher",
        version=1,
        pooled=_CURVE,
        definition="As MTF50 (fit), at a transfer of 0.1: the limit of what is seen at all.",
        source="ISO 12233:2017 (MTF10)",
    ),
    Metric(
        key="mtf50_fit_cpt",
        label="MTF50 (fit)",
        unit="cycles/token",
        better="higher",
        version=1,
        pooled=_CURVE,
        definition="MTF50 (fit) in cycles per token: times √(pixels ÷ tokens) of the gratings.",
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="mtf10_fit_cpt",
        label="MTF10 (fit)",
        unit="cycles/token",
        better="higher",
        version=1,
        pooled=_CURVE,
        definition="MTF10 (fit) in cycles per token: times √(pixels ÷ tokens) of the gratings.",
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="grid_blindness",
        label="Grid blindness",
        unit="",
        better="lower",
        version=1,
        pooled=f"{_CURVE}, and those of `grid`; the largest over periods, or one period",
        definition=(
            "1 − transfer at a period of stride ÷ k px ÷ mean transfer of its two neighbours at "
            "± 1/96 cycles per pixel, k = 1, 2, … while the period is above 2.2 px. 0: what repeats "
            "with the grid of latent cells is kept as well as what does not. 1: it is erased. Not "
            "applicable where the neighbours' mean is below 0.2, and without a stride."
        ),
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="aliasing",
        label="Aliasing",
        unit="",
        better="lower",
        version=1,
        pooled=f"mean over {_CURVE}",
        definition=(
            "Energy of a grating's error at all other frequencies but 0, over the grating's own "
            "energy: what was not there."
        ),
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="orientation_spread",
        label="Orientation spread",
        unit="",
        better="lower",
        version=1,
        pooled="charts `curve` and `oblique`",
        definition=(
            "Largest minus smallest mean transfer of orientations at the same frequencies: 0 and 90, "
            "45 and 135, and four of 27 degrees off an axis; the largest of the three."
        ),
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="color_spread",
        label="Colour spread",
        unit="",
        better="lower",
        version=1,
        pooled="charts `color`, and `curve` at their six frequencies",
        definition=(
            "Largest minus smallest mean transfer of gratings in gray, red, green, blue, Cb and Cr."
        ),
        source="vtbench.metrics.transfer",
    ),
    Metric(
        key="elements_kept",
        label="Elements kept",
        unit="",
        better="higher",
        version=1,
        pooled="kept over all elements of a kind and size; over all together",
        definition=(
            "Share of thin lines, dots and hatched squares, 1 to 4 px thick, whose box has a coherent "
            "gain of 0.5 or more."
        ),
        source="vtbench.metrics.structure.count_kept",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.charts:measure_elements",
        columns=_ELEMENTS,
    ),
    Metric(
        key="pattern_delta_e",
        label="ΔE of patterns",
        unit="",
        better="lower",
        version=1,
        pooled="mean over the patches of a size",
        definition=(
            "Mean CIEDE2000 of the pixels of stripes and checkers 1, 2 and 4 px wide whose two "
            "colours have equal luma."
        ),
        source="Sharma, Wu, Dalal, Color Research & Application 30(1) 2005",
        decimals=2,
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.charts:measure_color_patterns",
        columns={"pattern_px": _FLOATS, "pattern_delta_e": _FLOATS},
    ),
)

_BANDS_OF = (
    "Octaves of luma between 1/32 cycles per pixel and the corners, Hann windows of 128 px: kept is "
    "|g|² of the energy, g the complex gain of a cell of the spectrum"
)

_ON_PICTURES = (
    Metric(
        key="band_lost",
        label="Energy lost",
        unit="",
        better="lower",
        version=1,
        pooled=_RATIO,
        definition=f"{_BANDS_OF}; lost is the rest. Blur loses, noise does not.",
        source="Bendat, Piersol, Random Data, 4th ed. 2010, 6.1 (coherent output power)",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_bands",
        columns=_BANDS,
    ),
    Metric(
        key="band_invented",
        label="Energy invented",
        unit="",
        better="lower",
        version=1,
        pooled=_RATIO,
        definition=(
            f"{_BANDS_OF}; invented is what is not coherent with the original, and what is kept "
            "beyond 1, over the original's energy. Noise and grain invent, blur does not."
        ),
        source="Bendat, Piersol, Random Data, 4th ed. 2010, 6.1 (noise output power)",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_bands",
        columns=_BANDS,
    ),
    Metric(
        key="blur_px",
        label="Blur",
        unit="px",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition="σ of the Gaussian blur whose transfer fits best the real gain by frequency.",
        source="vtbench.metrics.bands.measure_blur",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_bands",
        columns=_BANDS,
    ),
    Metric(
        key="gmsd",
        label="GMSD",
        unit="",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Standard deviation of the similarity of gradient magnitudes (Prewitt, constant 170) of "
            "luma halved by 2×2 means."
        ),
        source="Xue, Zhang, Mou, Bovik, IEEE TIP 23(2) 2014",
        decimals=4,
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_structure",
        columns=_STRUCTURE,
    ),
    Metric(
        key="edge_agreement",
        label="Edges",
        unit="",
        better="higher",
        version=1,
        pooled="F1 of recall and precision, each of sums of edge pixels over images",
        definition=(
            "Canny edges of luma (thresholds 100 and 200, L2 gradient, 3×3 Sobel) found again within "
            "one pixel, and of the reconstruction's those that the original has."
        ),
        source="Canny, IEEE TPAMI 8(6) 1986; OpenCV",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_structure",
        columns=_STRUCTURE,
    ),
    Metric(
        key="color_shift",
        label="Colour shift",
        unit="ΔE",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition="CIEDE2000 of the mean CIELAB colours of original and reconstruction.",
        source="Sharma, Wu, Dalal, Color Research & Application 30(1) 2005",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_artefacts",
        columns=_ARTEFACTS,
    ),
    Metric(
        key="border_error",
        label="Border ÷ middle",
        unit="",
        better="lower",
        version=1,
        pooled=_RATIO,
        definition="Squared luma error of the outer 16 px over that of the middle.",
        source="vtbench.metrics.artefacts.measure_regions",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_artefacts",
        columns=_ARTEFACTS,
    ),
    Metric(
        key="corner_error",
        label="Corners ÷ middle",
        unit="",
        better="lower",
        version=1,
        pooled=_RATIO,
        definition="Squared luma error of the four corners of 32 px over that of the middle.",
        source="vtbench.metrics.artefacts.measure_regions",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_artefacts",
        columns=_ARTEFACTS,
    ),
    Metric(
        key="grid_pattern",
        label="Grid pattern",
        unit="level",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Root mean square of the mean cell of the luma error at the tokenizer's stride: energy at "
            "the stride's frequencies, less what chance gives. Not applicable without a stride."
        ),
        source="vtbench.metrics.artefacts.measure_grid",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_artefacts",
        columns=_ARTEFACTS,
    ),
    Metric(
        key="grid_steps",
        label="Grid steps",
        unit="level",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "The same of absolute differences of neighbouring pixels against the original's: edges "
            "of cells, whatever their sign."
        ),
        source="after Wang, Bovik, Evans, ICIP 2000",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_artefacts",
        columns=_ARTEFACTS,
    ),
)


def _worst(metric: str, label: str, **facts: Any) -> Iterator[Metric]:
    """Yield the records of a metric's worst patch and of its 5 % quantile over patches."""
    for kind, name, short in (
        ("worst", "Worst patch", "worst"),
        ("patch05", "5 % quantile of the patches", "5 %"),
    ):
        yield Metric(
            key=f"{metric}_{kind}",
            label=f"{label}, {short}",
            version=1,
            pooled=_MEAN,
            definition=(
                f"{name} of an image by {label}: squares of 64 px, half overlapping, each measured "
                "alone. Not applicable when a side is below 64 px."
            ),
            source="vtbench.metrics.patches",
            takes="pair",
            columns={f"{metric}_worst": "float64", f"{metric}_patch05": "float64"},
            **facts,
        )


_PATCHES = "vtbench.metrics.patches"

_SEAMS = tuple(
    Metric(
        key=key,
        label=label,
        unit="level",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            f"{what}, in levels of luma. Of rows of `--size-policy tile`; not applicable to an image "
            "that was not cut into tiles, or whose tiles are below 16 px."
        ),
        source="vtbench.metrics.artefacts.measure_seams",
        takes="tiles",
        tolerance=0.0,
        function="vtbench.metrics.pictures:measure_seams",
        columns={"seam_step": "float64", "seam_tone": "float64"},
    )
    for key, label, what in (
        (
            "seam_step",
            "Seam steps",
            "Mean absolute jump of the error across a seam less that between all other neighbours",
        ),
        (
            "seam_tone",
            "Seam tone",
            "Mean absolute difference of the error's means 8 px wide on both sides of a seam, less "
            "that at places half a tile away from every seam",
        ),
    )
)

DETAIL = (
    *_ON_CHARTS,
    *_ON_PICTURES,
    *_worst(
        *("psnr_db", "PSNR"),
        unit="dB",
        tolerance=0.0,
        better="higher",
        decimals=2,
        function=f"{_PATCHES}:worst_psnr",
    ),
    *_worst(
        *("ssim", "SSIM"),
        unit="",
        tolerance=1e-6,
        better="higher",
        decimals=4,
        function=f"{_PATCHES}:worst_ssim",
    ),
    *_worst(
        *("lpips_alex", "LPIPS (Alex)"),
        unit="",
        tolerance=1e-6,
        better="lower",
        decimals=4,
        function=f"{_PATCHES}:open_worst_alex",
        weights=("lpips-alex",),
    ),
    *_worst(
        *("lpips_vgg", "LPIPS (VGG)"),
        unit="",
        tolerance=1e-6,
        better="lower",
        decimals=4,
        function=f"{_PATCHES}:open_worst_vgg",
        weights=("lpips-vgg",),
    ),
    *_SEAMS,
)
"""Every record, in the order of the tables."""

CHARTS_1 = ("wave_transfer", "elements_kept", "pattern_delta_e")
PICTURES_1 = (
    *("band_lost", "band_invented", "blur_px", "gmsd", "edge_agreement", "color_shift"),
    *("border_error", "corner_error", "grid_pattern", "grid_steps"),
    *("psnr_db_worst", "psnr_db_patch05", "ssim_worst", "ssim_patch05"),
    *("lpips_alex_worst", "lpips_alex_patch05"),
)
"""The members of the lists `charts@1` and `pictures@1`."""

PICTURES_2 = (*PICTURES_1, "lpips_vgg_worst", "lpips_vgg_patch05", "seam_step", "seam_tone")
"""The members of `pictures@2`."""
