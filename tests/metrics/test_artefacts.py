"""Grids, borders and seams: put in by hand, and found again at the strength they were given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn import add_noise, blur, jpeg, texture, to_levels

from vtbench.images import RGB8, Fit
from vtbench.metrics import pictures
from vtbench.metrics.artefacts import (
    BORDER_PX,
    Grid,
    measure_grid,
    measure_regions,
    measure_seams,
)


def grid_of(reference: RGB8, image: RGB8, stride: int = 8) -> Grid:
    grid = measure_grid(reference, image, stride=stride)
    assert grid is not None
    return grid


@pytest.mark.parametrize("stride", [2, 8, 14])
def test_a_printed_grid_is_found_at_its_strength(stride: int) -> None:
    pixels = texture("coffee")
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    for amplitude in (3.0, 6.0):
        wave = (
            amplitude * np.cos(2 * math.pi * columns / stride) * np.cos(2 * math.pi * rows / stride)
        )
        wave = wave.round(9)  # or a half would be rounded either way
        printed = to_levels(pixels + wave[..., None])
        grid = grid_of(pixels, printed, stride)
        expected = np.floor(wave[: 4 * stride, : 4 * stride] + 0.5).std()  # levels are whole
        assert grid.pattern == pytest.approx(expected, rel=0.03)  # and clip at white
    # With another stride there is no grid, though the error is the same.
    assert grid_of(pixels, printed, stride + 3).pattern < 0.1 * grid.pattern


def test_no_grid_in_blur_noise_or_nothing() -> None:
    pixels = texture("grass")
    assert grid_of(pixels, pixels) == Grid(0.0, 0.0)
    for image in (add_noise(pixels, 8), blur(pixels, 1.5)):
        grid = grid_of(pixels, image)
        # Chance is taken off; what is left of an rms error of 8 to 30 levels is its own spread.
        assert grid.pattern < 0.5 and grid.steps < 0.5


def test_blocking_shows_in_the_steps_and_grows_as_quality_falls() -> None:
    pixels = texture("coffee")
    steps = [grid_of(pixels, jpeg(pixels, quality)).steps for quality in (90, 50, 20, 5)]
    assert steps == sorted(steps) and steps[-1] > 5 * steps[0]
    # A blockwise offset of random sign has no mean pattern, and edges all the same.
    random = np.random.default_rng(0)
    offsets = np.kron(random.choice([-4.0, 4.0], (50, 75)), np.ones((8, 8)))
    gray = np.full((400, 600, 3), 128, dtype=np.uint8)
    grid = grid_of(gray, to_levels(gray + offsets[..., None]))
    assert grid.pattern < 0.3
    # A step of 8 at every other seam, 4 on the mean, in one of 8 places: 4·√(1/8·7/8) each axis.
    assert grid.steps == pytest.approx(math.sqrt(2) * 4 * math.sqrt(7 / 64), rel=0.05)


def test_grids_that_do_not_apply() -> None:
    small = texture("brick")[:31, :31]
    assert measure_grid(small, small, stride=8) is None
    assert measure_grid(small, small, stride=1) is None
    with pytest.raises(ValueError, match="one size"):
        measure_grid(small, small[:-1], stride=2)


def test_seams_are_read_from_how_a_batch_was_cut() -> None:
    pixels = texture("coffee")[:200, :300]
    darker = pixels.copy()
    darker[128:] = np.clip(darker[128:].astype(int) - 6, 0, 255)
    pair = [torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in (pixels, darker)]
    # 200×300 filled up to 2×3 tiles of 128: of the row of seams at 128 and the columns at 128 and 256
    # the row alone has a step, of six levels where nothing was clipped.
    fit = Fit((200, 300), (256, 384), "tile", (2, 3))
    (found,) = pictures.measure_seams(*pair, fit)
    assert 1.5 < found["seam_step"] < 6 and found["seam_tone"] > 1.5
    (same,) = pictures.measure_seams(pair[0], pair[0], fit)
    assert same == {"seam_step": 0.0, "seam_tone": 0.0}
    (whole,) = pictures.measure_seams(*pair, Fit((200, 300), (256, 384), "tile", (1, 1)))
    assert whole == {"seam_step": None, "seam_tone": None}


def test_regions_are_where_the_errors_were_put() -> None:
    gray = np.full((128, 160, 3), 100, dtype=np.uint8)
    image = gray.astype(np.float64)
    image[:, :] += 2
    image[:BORDER_PX] += 2
    image[-BORDER_PX:] += 2
    image[BORDER_PX:-BORDER_PX, :BORDER_PX] += 2
    image[BORDER_PX:-BORDER_PX, -BORDER_PX:] += 2
    regions = measure_regions(gray, to_levels(image))
    assert regions is not None
    assert regions.border == pytest.approx(16.0)
    assert regions.middle == pytest.approx(4.0)
    assert regions.corners == pytest.approx((16 * 768 + 4 * 256) / 1024)
    hurt = gray.copy()
    hurt[:4, -4:] = 110
    corner = measure_regions(gray, hurt)
    assert corner is not None and corner.middle == 0.0 and corner.corners > corner.border > 0
    tiny = gray[: 6 * BORDER_PX - 1]
    assert measure_regions(tiny, tiny) is None


def test_seams_are_seen_where_tiles_meet_and_nowhere_else() -> None:
    pixels = texture("coffee")
    assert measure_seams(pixels, pixels, rows=[], columns=[]) is None
    same = measure_seams(pixels, pixels, rows=[200], columns=[200, 400])
    assert same is not None and same.step == 0.0 and same.tone == 0.0
    tones = []
    for offset in (2.0, 4.0):
        image = pixels.astype(np.float64)
        image[:, 200:400] += offset  # one tile brighter than its neighbours
        seams = measure_seams(pixels, to_levels(image), rows=[], columns=[200, 400])
        assert seams is not None
        assert seams.step == pytest.approx(offset, rel=0.05)  # white clips
        assert seams.tone == pytest.approx(offset, rel=0.05)
        tones.append(seams.tone)
        elsewhere = measure_seams(pixels, to_levels(image), rows=[], columns=[100, 300])
        assert elsewhere is not None and abs(elsewhere.step) < 0.1
    noisy = measure_seams(pixels, add_noise(pixels, 6), rows=[128, 256], columns=[128, 256])
    assert noisy is not None and abs(noisy.step) < 0.3 and abs(noisy.tone) < 0.3
    assert measure_seams(pixels, pixels, rows=[8], columns=[]) is not None
    assert measure_seams(pixels[:20], pixels[:20], rows=[10], columns=[]) is None
