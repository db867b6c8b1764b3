"""The suite sizes: the same content at every size, and its table and plot."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vtbench.base.locations import data_dir
from vtbench.cli import main
from vtbench.images import RGB8
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.plots import draw_plots, list_sizes, plan_plots
from vtbench.results.rows import ROW_COLUMNS
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(data_dir() / "sizes"))
    yield importlib.import_module("make_drawings")
    monkeypatch.delitem(sys.modules, "make_drawings")


@pytest.fixture(scope="module")
def pictures() -> dict[str, RGB8]:
    chosen = ("0256", "0512", "1024")
    samples = [s for s in load_suite("sizes").samples if s.id.endswith(chosen)]
    return {sample.id: load_pixels(sample) for sample in samples}


def halve(pixels: RGB8) -> np.ndarray[Any, np.dtype[np.float64]]:
    side = len(pixels) // 2
    return pixels.reshape(side, 2, side, 2, 3).astype(np.float64).mean(axis=(1, 3))


@pytest.mark.parametrize("scene", ["leaves", "strokes"])
def test_a_scene_is_the_same_at_every_size(scene: str, pictures: dict[str, RGB8]) -> None:
    for small, large in (("0256", "0512"), ("0512", "1024")):
        error = halve(pictures[f"{scene}-{large}"]) - pictures[f"{scene}-{small}"]
        # Both antialias by distance, which differs from an area most in lines thinner than a pixel:
        # those of the smallest "strokes" are .75 px wide.
        assert np.sqrt((error**2).mean()) < 6
        assert abs(error.mean()) < 0.6
        # Not one picture resized: what is a pixel wide in the small one has edges in the large one.
        doubled = pictures[f"{scene}-{small}"].repeat(2, axis=0).repeat(2, axis=1)
        other = doubled.astype(np.float64) - pictures[f"{scene}-{large}"]
        assert np.sqrt((other**2).mean()) > 1.5 * np.sqrt((error**2).mean())


def test_the_smallest_drawing_comes_out_again(maker: ModuleType) -> None:
    samples = {sample.id: sample for sample in load_suite("sizes").samples}
    drawn = maker.to_pixels(maker.draw_strokes(256))
    assert np.array_equal(drawn, load_pixels(samples["strokes-0256"]))
    assert {(s.width, s.height, s.subset) for s in samples.values()} == {
        (side, side, f"px{side:04d}") for side in maker.SIZES
    }
    assert maker.make_row("strokes", 256)["sha256"] == samples["strokes-0256"].sha256


@pytest.mark.slow
def test_numbers_by_size_stand_in_tables_and_a_plot(
    write_suite: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    rows = [
        dict.fromkeys(ROW_COLUMNS)
        | {"id": f"a-{side}", "task": "reconstruction", "subset": f"px{side:04d}"}
        | {"width": side, "height": side, "sha256": "0" * 64, "fit": "none", "batch_size": 1}
        | {"tokens": 4, "bits": 8.0, "encode_s": 1.0, "decode_s": 1.0, "mse": 1.0}
        | {"psnr_db": 20.0 + place, "ssim": 0.5}
        for place, side in enumerate((256, 1024, 2048))
    ]
    folder = write_suite(images={"reconstruction": 3}, cost_subset="px0256")
    write_run(folder, "net", rows, protocol__tasks=("reconstruction",))
    board = read_board(folder)
    plot = next(plot for plot in plan_plots(board) if plot.kind == "size")
    sizes = list_sizes(board, plot.column)
    line = board.complete[0]
    values = [(side, line.cells[column.key].value) for side, column in sizes]
    assert values == [(256, 20.0), (1024, 21.0), (2048, 22.0)]
    svg = draw_plots(board)[plot.file].decode()
    assert ">1024<" in svg and "side of the image (pixels)" in svg and ">net<" in svg


@pytest.mark.slow
def test_codecs_run_over_all_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "sizes")
    assert main(["run", "--suite", "sizes", "-t", "jpeg-q50,resize-2x", "--out", out]) == 0
    board = read_board(Path(out))
    plot = next(plot for plot in plan_plots(board) if plot.kind == "size")
    for line in board.complete:
        values = [line.cells[column.key].value for _, column in list_sizes(board, plot.column)]
        # The same content at more pixels is smoother, and easier for whatever works on pixels.
        assert len(values) == 7 and values == sorted(values)  # type: ignore[type-var]
    capsys.readouterr()
    columns = ",".join(f"reconstruction.px{side}.psnr_db" for side in ("0256", "1024", "2048"))
    assert main(["table", "--results", out, "--columns", columns]) == 0
    assert "jpeg-q50" in capsys.readouterr().out
