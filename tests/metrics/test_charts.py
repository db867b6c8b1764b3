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


def test_pictures_give_a_value_an_image_or_none() -> None:
    reference = texture("coffee")[:256, :256]
    originals, images = as_batch(reference, reference), as_batch(blur(reference, 1.0), reference)
    functions = (
        *(pictures.measure_bands, pictures.measure_structure, pictures.measure_artefacts),
        *(pictures.measure_worst_psnr, pictures.measure_worst_ssim),
    )
    for function in functions:
        columns = function(originals, images)
        assert columns and all(len(values) == 2 for values in columns.values())
        alone = function(originals[:1], images[:1])
        assert {key: values[0] for key, values in columns.items()} == {
            key: values[0] for key, values in alone.items()
        }
    tiny = originals[..., :40, :40]
    for function in functions:
        for key, (value, _) in function(tiny, tiny).items():
            # Edges, GMSD, colour and the grids of small strides are there at any size.
            if key.startswith(("band_", "blur", "mse_", "psnr_db_", "ssim_")):
                assert value is None, key
    assert pictures.measure_artefacts(tiny, tiny)["grid_steps"][0] == [0.0] * 3 + [None] * 3


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
