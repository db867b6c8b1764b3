"""Numbers of charts and of pictures' detail on a board: from rows by hand, in tables, in the plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board, Cell
from vtbench.leaderboard.detail_numbers import NUMBERS, choose_numbers
from vtbench.leaderboard.plots import draw_plots, plan_plots
from vtbench.metrics.catalogue import METRIC_LISTS, METRICS
from vtbench.results.rows import ROW_COLUMNS, Row

MEASURED = {
    key: {"version": 1, "state": "measured", "reason": None}
    for name in ("charts@1", "pictures@2")
    for key in METRIC_LISTS[name]
}


def row(name: str, task: str, subset: str, **columns: Any) -> Row:
    facts = {"id": name, "task": task, "subset": subset, "width": 256, "height": 256}
    common = {"sha256": "0" * 64, "fit": "none", "tokens": 256, "bits": 4096.0, "batch_size": 1}
    seconds = {"encode_s": 0.25, "decode_s": 0.5}
    return dict.fromkeys(ROW_COLUMNS) | common | seconds | facts | columns


def wave(name: str, subset: str, frequency: float, gain: float, **columns: Any) -> Row:
    gains = {"wave_gain": [gain] * 4, "wave_alias": [0.25] * 4, "wave_contrast": 0.5}
    waves = {"wave_x": [frequency] * 2 + [0.0] * 2, "wave_y": [0.0] * 2 + [frequency] * 2}
    return row(name, "detail", subset, **{"wave_direction": "gray", **gains, **waves, **columns})


def rows_of_a_blind_tokenizer() -> list[Row]:
    """Return rows of stride 16: 1 up to 0.25, falling to 0 at 0.45, and a hole at 1/16."""
    curve = [(n / 96, min(1.0, max(0.0, (0.45 - n / 96) / 0.2))) for n in (2, 5, 7, 20, 30, 40, 44)]
    rows = [wave(f"curve-{f:.3f}", "curve", f, gain) for f, gain in curve]
    for k in range(1, 8):
        for step in (-1, 0, 1):
            f = k / 16 + step / 96
            gain = 0.25 if (k, step) == (1, 0) else 1.0 if k < 4 else 0.1
            if not any(abs(f - own) < 1e-9 for own, _ in curve):
                rows.append(wave(f"grid-{f:.4f}", "grid", f, gain))
    red = {"wave_direction": "red"}
    rows += [
        wave("color-5", "color", 5 / 96, 0.5, **red),
        wave("color-20", "color", 20 / 96, 0.5, **red),
    ]
    elements = {"element_px": [1.0, 2.0], "elements_kept": [3, 16], "elements": [16, 16]}
    rows.append(row("elements", "detail", "elements", element_kind="line", **elements))
    pattern = {"pattern_px": [1.0, 1.0, 2.0], "pattern_delta_e": [30.0, 10.0, 4.0]}
    rows.append(row("stripes", "detail", "chart", **pattern))
    for place in range(2):
        columns: dict[str, Any] = {
            "band_original": [100.0, 50.0, 20.0, 10.0],
            "band_lost": [0.0, 5.0 * place, 10.0, 10.0],
            "band_invented": [0.0, 0.0, 1.0, 2.0],
            "band_error": [0.0, 5.0, 11.0, 12.0],
            "blur_px": 1.0 + place,
            "gmsd": 0.125,
            "edges_original": 100,
            "edges_found": 50,
            "edges_drawn": 100,
            "edges_true": 100,
            "color_shift": 0.5,
            "mse_border": 6.0,
            "mse_corners": 12.0,
            "mse_middle": 4.0 * (1 - place),
            "grid_stride": [8.0, 16.0],
            "grid_pattern": [9.0, 1.0 + place],
            "grid_steps": [9.0, 0.5],
            "psnr_db": 30.0 - place,
            "seam_step": 0.5 * place,
            "seam_tone": None,
            "psnr_db_worst": 20.0,
            "psnr_db_patch05": 22.0,
        }
        rows.append(row(f"photo-{place}", "reconstruction", "photo", **columns))
    return rows


@pytest.fixture
def board(write_suite: Callable[..., Path], write_run: Callable[..., Path]) -> Board:
    rows = rows_of_a_blind_tokenizer()
    images = {task: sum(r["task"] == task for r in rows) for task in ("reconstruction", "detail")}
    folder = write_suite(images=images, cost_subset="photo")
    changes = {"protocol__metrics": MEASURED, "protocol__tasks": tuple(images)}
    write_run(folder, "blind", rows, **changes)
    write_run(folder, "lossless", rows, **changes, **{"tokenizer__downsample": None})
    return read_board(folder)


def cells_of(board: Board, name: str) -> dict[str, Cell]:
    return dict(next(line for line in board.lines if line.name == name).cells)


def test_every_number_by_hand(board: Board) -> None:
    cells = cells_of(board, "blind")
    expected = {
        "detail.mtf50_fit_cpp": 0.35,
        "detail.mtf50_fit_cpt": 0.35 * 16,
        "detail.mtf10_fit_cpp": (40 + 0.4 * 4) / 96,  # from 1/6 at 40/96 to 0 at 44/96
        "detail.mtf10_fit_cpt": (40 + 0.4 * 4) / 96 * 16,
        "detail.grid_blindness": 0.75,
        "detail.grid_blindness.1": 0.75,
        "detail.grid_blindness.2": 0.0,
        "detail.aliasing": 0.25,
        "detail.orientation_spread": 0.0,
        "detail.color_spread": 0.5,
        "detail.elements_kept": 19 / 32,
        "detail.elements_kept.line-1px": 3 / 16,
        "detail.pattern_delta_e.1px": 20.0,
        "reconstruction.band_lost.1": 0.0,
        "reconstruction.band_lost.2": 0.05,
        "reconstruction.band_lost.3": 0.5,
        "reconstruction.band_invented.4": 0.2,
        "reconstruction.blur_px": 1.5,
        "reconstruction.gmsd": 0.125,
        "reconstruction.edge_agreement": 2 * 0.5 * 1 / 1.5,
        "reconstruction.border_error": 12 / 4,
        "reconstruction.corner_error": 24 / 4,
        "reconstruction.grid_pattern": 1.5,
        "reconstruction.grid_steps": 0.5,
        "reconstruction.psnr_db_worst": 20.0,
        "reconstruction.psnr_db_images05": 29.0,
        "reconstruction.seam_step": 0.25,
    }
    found = {key: cells[key].value for key in expected}
    assert found == pytest.approx(expected, abs=1e-9)
    limit = cells["detail.mtf50_fit_cpp"]
    # All gratings of a frequency agree.
    assert (limit.low, limit.high) == (pytest.approx(limit.value), pytest.approx(limit.value))
    assert limit.n == 28 and limit.bound == "="


def test_what_does_not_apply_is_no_number(board: Board) -> None:
    without_stride = cells_of(board, "lossless")
    for key in ("detail.grid_blindness", "reconstruction.grid_pattern", "detail.gmsd"):
        assert without_stride[key].state == "not-applicable", key
    assert cells_of(board, "blind")["detail.elements_kept.dot-1px"].state == "not-applicable"
    assert cells_of(board, "blind")["reconstruction.ssim_worst"].state == "not-applicable"
    assert cells_of(board, "blind")["reconstruction.seam_tone"].state == "not-applicable"
    assert cells_of(board, "blind")["reconstruction.ssim_images05"].state == "not-applicable"


@pytest.mark.slow
def test_the_tables_and_the_plot_stand_where_there_are_numbers(board: Board) -> None:
    titles = [table.title for table in board.tables]
    assert "Detail: transfer of gratings" in titles
    assert "Reconstruction: energy lost and invented, by octave in cycles per pixel" in titles
    assert "Detail: worst patches and worst images" not in titles
    plot = next(plot for plot in plan_plots(board) if plot.kind == "transfer")
    drawn = draw_plots(board)[plot.file].decode()
    assert "transfer (1: kept)" in drawn and ">blind<" in drawn


def test_a_board_without_these_metrics_keeps_its_columns(
    write_suite: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    folder = write_suite()
    write_run(folder, "plain")
    old = read_board(folder)
    suffixes = {number.key for number in NUMBERS}
    keys = {column.key.partition(".")[2] for column in old.columns}
    assert "psnr_db" in keys and not suffixes & keys
    assert choose_numbers(["psnr_db"]) == ()
    assert {number.metric for number in NUMBERS} <= set(METRICS)
