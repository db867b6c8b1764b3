"""GMSD against piq; edges and thin elements that are drawn, moved, blurred and lost."""

from __future__ import annotations

import math

import cv2
import numpy as np
import piq
import pytest
import torch
from drawn import add_noise, blur, detail_generator, detail_rows, jpeg, pixels_of, texture

from vtbench.images import RGB8, pixel_sha256
from vtbench.metrics.structure import CANNY_THRESHOLDS, Edges, compare_edges, count_kept, gmsd


def as_batch(pixels: RGB8) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(torch.float64) / 255


@pytest.mark.parametrize("size", [(512, 512), (256, 384), (40, 62)])
def test_gmsd_is_piqs(size: tuple[int, int]) -> None:
    pixels = (
        texture("gravel")[: size[0], : size[1]]
        if size != (256, 384)
        else texture("coffee")[:256, :384]
    )
    for image in (jpeg(pixels, 20), blur(pixels, 1.0), add_noise(pixels, 10)):
        theirs = piq.gmsd(as_batch(pixels), as_batch(image), data_range=1.0)
        # piq's luma is of YIQ with 0.587 and 0.114 as ours; its eps is 1e-12 under the root.
        assert gmsd(pixels, image) == pytest.approx(float(theirs), abs=1e-6)
    assert gmsd(pixels, pixels) == 0.0


def test_gmsd_rises_with_what_it_names() -> None:
    pixels = texture("coffee")
    for series in (
        [blur(pixels, sigma) for sigma in (0.5, 1, 2, 4)],
        [jpeg(pixels, quality) for quality in (90, 50, 20, 5)],
    ):
        values = [gmsd(pixels, image) or 0.0 for image in series]
        assert values == sorted(values) and values[0] > 0
    assert gmsd(pixels[:5], pixels[:5]) is None


def square(left: int = 40, side: int = 100) -> RGB8:
    pixels = np.full((160, 200, 3), 60, dtype=np.uint8)
    pixels[30 : 30 + side, left : left + side] = 200
    return pixels


def test_edges_agree_within_a_pixel_and_no_further() -> None:
    same = compare_edges(square(), square())
    assert same.agreement == 1.0 and same.original == same.found > 300
    assert compare_edges(square(), square(41)).agreement == 1.0
    moved = compare_edges(square(), square(46)).agreement
    assert moved is not None and moved == pytest.approx(
        0.5, abs=0.06
    )  # the vertical sides are gone
    plain = np.full_like(square(), 60)
    assert compare_edges(plain, square()).agreement is None
    assert compare_edges(square(), plain).agreement == 0.0
    # What was not there costs precision, not recall.
    more = square()
    more[40:120:8, 50:130] = 60
    invented = compare_edges(square(), more)
    assert invented.found > 0.95 * invented.original and invented.true < 0.6 * invented.drawn
    assert Edges(10, 10, 40, 10).agreement == pytest.approx(2 * 1 * 0.25 / 1.25)


def test_the_map_is_opencvs_of_luma() -> None:
    pixels = texture("coffee")
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    # OpenCV's luma is rounded from 15-bit weights: a level off at a few pixels.
    theirs = cv2.Canny(luma, *CANNY_THRESHOLDS, L2gradient=True)
    edges = compare_edges(pixels, pixels)
    assert edges.original == pytest.approx(np.count_nonzero(theirs), rel=0.002)


def test_edges_are_lost_to_blur_and_to_jpeg() -> None:
    pixels = texture("coffee")
    for series in (
        [blur(pixels, sigma) for sigma in (0.5, 1, 2, 4)],
        [jpeg(pixels, quality) for quality in (95, 50, 20, 5)],
    ):
        values = [compare_edges(pixels, image).agreement or 0.0 for image in series]
        assert values == sorted(values, reverse=True)


def test_the_thinnest_elements_go_first() -> None:
    for row in detail_rows("elements"):
        pixels, patches = pixels_of(row), row["meta"]["patches"]
        assert count_kept(pixels, pixels, patches) == dict.fromkeys((1, 2, 3, 4), (16, 16))
        assert set(count_kept(pixels, 255 - pixels, patches).values()) == {(0, 16)}
        totals = []
        for sigma in (0.6, 1.0, 1.5, 2.5):
            kept = [own for own, _ in count_kept(pixels, blur(pixels, sigma), patches).values()]
            assert kept == sorted(kept)
            totals.append(sum(kept))
        assert totals == sorted(totals, reverse=True) and totals[0] > totals[-1]


def test_a_blurred_dot_is_kept_by_theory() -> None:
    """Of a disc of diameter d, gaussian blur of σ leaves ⟨g∗x, x⟩ ÷ ⟨x, x⟩ = 1 − e^{−a}(I₀(a) + I₁(a))
    with a = d² ÷ 4σ², but for the box's own mean."""
    (row,) = (r for r in detail_rows("elements") if r["id"] == "elements-dot-dark")
    pixels, patches = pixels_of(row), row["meta"]["patches"]
    for sigma in (0.6, 1.0, 1.6):
        kept = count_kept(pixels, blur(pixels, sigma), patches)
        for size in (2, 3, 4):
            # The drawing is averaged over the pixel, which blurs both sides: it lifts the gain.
            a = size**2 / (4 * sigma**2)
            gain = 1 - math.exp(-a) * float(np.i0(a) + bessel1(a))
            if abs(gain - 0.5) > 0.12:
                assert kept[size] == ((16, 16) if gain > 0.5 else (0, 16)), (sigma, size, gain)


def bessel1(a: float) -> float:
    return math.fsum(
        (a / 2) ** (2 * k + 1) / (math.factorial(k) * math.factorial(k + 1)) for k in range(40)
    )


def test_the_elements_are_what_the_generator_draws() -> None:
    module = detail_generator()
    rows = {row["id"]: row for row in detail_rows("elements")}
    pixels, meta = module.draw_elements("hatch", dark=False, seed=5)
    assert rows["elements-hatch-light"]["meta"] == meta
    assert rows["elements-hatch-light"]["sha256"] == pixel_sha256(pixels)
    assert len(rows) == 6
