"""CIEDE2000 against the published pairs and skimage; shifts of colour that are known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import add_noise, blur, jpeg, texture, to_levels
from skimage.color import deltaE_ciede2000, rgb2lab

from vtbench.base.locations import data_dir
from vtbench.images import load_rgb8
from vtbench.metrics.color import delta_e2000, measure_color_shift, measure_pattern_colors, to_lab

# Sharma, Wu and Dalal 2005, table 1: pairs 1, 4, 7, 9, 10, 13, 16, 17, 19, 25, 33 and 34.
SHARMA = (
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0010), 7.1792),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0009, -2.4900), 4.8045),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (56.0, -27.0, -3.0), 31.9030),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
)


@pytest.mark.parametrize(("first", "second", "expected"), SHARMA)
def test_the_published_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    for pair in ((first, second), (second, first)):
        found = delta_e2000(*(np.array(color) for color in pair))
        assert float(found) == pytest.approx(expected, abs=5e-5)  # given to four digits


def test_lab_and_the_difference_are_skimages() -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (60, 50, 3), dtype=np.uint8) for _ in range(2))
    assert to_lab(first) == pytest.approx(rgb2lab(first), abs=1e-9)
    near = to_levels(first + random.normal(0, 3, first.shape))
    for other in (second, near):
        theirs = deltaE_ciede2000(rgb2lab(first), rgb2lab(other))
        assert delta_e2000(to_lab(first), to_lab(other)) == pytest.approx(theirs, abs=1e-6)
    gray = np.repeat(first[..., :1], 3, axis=2)
    assert to_lab(gray)[..., 1:] == pytest.approx(np.zeros((60, 50, 2)), abs=0.02)


@pytest.mark.slow
def test_a_cast_is_a_shift_and_blur_and_noise_are_not() -> None:
    pixels = texture("coffee")
    assert measure_color_shift(pixels, pixels) == 0.0
    casts = [
        measure_color_shift(pixels, to_levels(pixels + np.array([0.0, cast, 0.0])))
        for cast in (2, 5, 10)
    ]
    assert casts == sorted(casts) and casts[0] > 0.5
    assert measure_color_shift(pixels, blur(pixels, 2.0)) < 0.3
    assert measure_color_shift(pixels, add_noise(pixels, 5)) < 0.3


def test_fine_colours_fade_with_chroma_subsampling_where_luma_sees_nothing() -> None:
    import json

    lines = (data_dir() / "manifests" / "detail.jsonl").read_text(encoding="utf-8").splitlines()
    row = next(row for row in map(json.loads, lines) if row["id"] == "chart-color-stripes")
    pixels, patches = load_rgb8(data_dir() / row["file"]), row["meta"]["patches"]
    assert measure_pattern_colors(pixels, pixels, patches) == [0.0] * len(patches)
    faded = measure_pattern_colors(pixels, jpeg(pixels, 95), patches)
    by_size = {
        size: np.mean([d for d, p in zip(faded, patches, strict=True) if p["size_px"] == size])
        for size in (1, 2, 4)
    }
    assert by_size[1] > by_size[2] > by_size[4]
    assert by_size[1] > 20
