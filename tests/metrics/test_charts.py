"""Columns of charts and pictures, and the numbers that a run's rows of them pool to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from drawn import blur, detail_rows, jpeg, pixels_of, texture, to_levels
from scipy.ndimage import gaussian_filter1d

from vtbench.base.locations import data_dir
from vtbench.base.records import Sample
from vtbench.images import RGB8
from vtbench.leaderboard import detail_pools as pools
from vtbench.metrics import charts, pictures
from vtbench.metrics.catalogue import METRIC_LISTS
from vtbench.metrics.patches import worst_psnr, worst_ssim
from vtbench.results.rows import ROW_COLUMNS
from vtbench.runs.meter import Meter
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite

Row = dict[str, Any]


def sample_of(row: Row) -> Sample:
    facts = {key: row[key] for key in ("id", "task", "subset", "width", "height", "meta")}
    return Sample(path=data_dir() / row["file"], **facts)


def as_batch(*pixels: RGB8) -> torch.Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def measure(how: Callable[[RGB8], RGB8], *subsets: str, every: int = 1) -> list[Row]:
    """Return the rows that a tokenizer of one token an 8×8 cell would have."""
    rows = []
    for subset in subsets:
        for row in detail_rows(subset)[::every]:
            pixels = pixels_of(row)
            (columns,) = charts.measure_waves(
                [sample_of(row)], as_batch(pixels), as_batch(how(pixels))
            )
            facts = {key: row[key] for key in ("id", "subset", "width", "height")}
            rows.append({**facts, "tokens": row["width"] * row["height"] // 64, **columns})
    return rows


def test_columns_come_from_their_own_charts_alone() -> None:
    rows = [detail_rows(subset)[0] for subset in ("color", "elements")]
    rows += [row for row in detail_rows("chart") if row["meta"]["chart"] == "color-stripes"]
    found = []
    for function in (charts.measure_waves, charts.measure_elements, charts.measure_color_patterns):
        for row in rows:
            batch = as_batch(pixels_of(row))
            found.append(function([sample_of(row)], batch, batch)[0])
    own, others = found[::4], [row for place, row in enumerate(found) if place % 4]
    assert others == [{}] * 6
    wave, elements, pattern = own
    assert wave["wave_gain"] == pytest.approx([1.0] * 4) and wave["wave_alias"] == [0.0] * 4
    assert elements["elements_kept"] == elements["elements"] == [16] * 4
    assert set(pattern["pattern_delta_e"]) == {0.0} and set(pattern["pattern_px"]) == {
        1.0,
        2.0,
        4.0,
    }


def test_pictures_give_a_row_an_image_and_charts_none() -> None:
    reference = texture("coffee")[:256, :256]
    originals, images = as_batch(reference, reference), as_batch(blur(reference, 1.0), reference)
    photo, chart = Sample("a", "reconstruction", "photo", data_dir(), 256, 256), detail_rows("grid")
    for function in (
        *(pictures.measure_bands, pictures.measure_structure, pictures.measure_artefacts),
    ):
        both = function([photo, photo], originals, images)
        assert both[:1] == function([photo], originals[:1], images[:1])
        assert function([photo, sample_of(chart[0])], originals, images) == [both[0], {}]
        assert both[0] != both[1]
    tiny = originals[:1, :, :40, :40]
    (bands,) = pictures.measure_bands([photo], tiny, tiny)
    assert set(bands.values()) == {None}
    (artefacts,) = pictures.measure_artefacts([photo], tiny, tiny)
    assert artefacts["mse_middle"] is None and artefacts["color_shift"] == 0.0
    assert artefacts["grid_stride"] == [2.0, 4.0, 8.0] and artefacts["grid_steps"] == [0.0] * 3


def test_the_worst_patches_fill_two_columns() -> None:
    reference = texture("coffee")[:128, :128]
    originals, images = as_batch(reference, reference), as_batch(blur(reference, 1.0), reference)
    for function, name, best in ((worst_psnr, "psnr_db", 100.0), (worst_ssim, "ssim", 1.0)):
        columns = function(originals, images)
        assert set(columns) == {f"{name}_worst", f"{name}_patch05"}
        for values in columns.values():
            assert values is not None and values[0] < values[1] == best
        tiny = function(originals[..., :40, :40], images[..., :40, :40])
        assert set(tiny.values()) == {None}


@pytest.mark.slow
def test_a_runs_rows_pool_to_limits_per_pixel_and_token() -> None:
    rows = measure(lambda x: blur(x, 1.0), "curve")
    limit = pools.find_transfer_limit(rows, level=pools.MTF50)
    assert limit is not None and limit.value == pytest.approx(0.1874, rel=0.03)
    assert pools.pixels_per_token_side(rows) == 8.0
    assert pools.find_aliasing(rows) == pytest.approx(0, abs=1e-3)
    spread = pools.find_orientation_spread(rows)
    assert spread == pytest.approx(0, abs=0.01)
    assert pools.find_transfer_limit([], level=pools.MTF50) is None
    assert pools.find_blindness(rows, stride=None) == {}
    with pytest.raises(LookupError):
        pools.find_blindness(rows, stride=8)  # the curve alone has no k ÷ 8


@pytest.mark.slow
def test_spreads_name_what_differs() -> None:
    def smear(pixels: RGB8) -> RGB8:
        return to_levels(gaussian_filter1d(pixels.astype(np.float64), 1.5, axis=1))

    along_x = pools.find_orientation_spread(measure(smear, "curve", "oblique"))
    turned = pools.find_orientation_spread(measure(lambda x: blur(x, 1.0), "oblique"))
    assert along_x is not None and along_x > 0.3
    assert turned == pytest.approx(0, abs=0.01)
    colors = pools.find_color_spread(measure(lambda x: jpeg(x, 90), "curve", "color"))
    assert colors is not None and colors > 0.3
    same = pools.find_color_spread(measure(lambda x: x, "curve", "color"))
    assert same == pytest.approx(0, abs=1e-9)
    assert pools.find_color_spread([]) is None and pools.find_orientation_spread([]) is None


@pytest.mark.slow
def test_the_suite_measures_them_by_its_lists() -> None:
    suite = load_suite("detail")
    meter = Meter(suite, ["reconstruction", "detail"], device="cpu", ocr="rapidocr")
    assert set(METRIC_LISTS["charts@1"]) == set(suite.protocol.tasks["detail"].metrics)
    by_id = {sample.id: sample for sample in suite.samples}
    for task, name, column in (
        ("detail", "curve-31-x", "wave_gain"),
        ("detail", "elements-dot-dark", "elements_kept"),
        ("detail", "chart-color-stripes", "pattern_delta_e"),
        ("reconstruction", "photo-coffee-r0c0", "band_lost"),
    ):
        batch = as_batch(load_pixels(by_id[name]))
        (row,) = meter.measure(task, [by_id[name]], batch, batch, {})
        assert row[column] and set(row) <= set(ROW_COLUMNS)
    assert row["psnr_db_worst"] == 100.0 and row["grid_steps"] == [0.0] * 6
    assert {s.subset for s in suite.samples if s.task == "reconstruction"} == {"photo", "texture"}
