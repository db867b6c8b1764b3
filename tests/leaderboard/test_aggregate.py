"""Rows → numbers: every expected value is worked out by hand from conftest.make_rows."""

from __future__ import annotations

import math

import pytest

from vtbench.errors import ResultsError
from vtbench.leaderboard.aggregate import Cell, read_board


def _cells(folder):
    (line,) = read_board(folder).lines
    return line.cells


def test_numbers_are_those_worked_out_by_hand(write_suite, write_run):
    folder = write_suite()
    write_run(folder, "a")
    cells = _cells(folder)
    expected = {
        "rate.tokens": (16.0, 2),
        "rate.bits": (1000.0, 2),
        "reconstruction.bpp": (4000 / 40000, 3),
        "reconstruction.psnr_db": (32.0, 3),
        "reconstruction.ms_ssim": (0.8125, 2),  # the third is too small
        "reconstruction.crop256.psnr_db": (31.0, 2),
        "reconstruction.whole.bpp": (0.1, 1),
        "detail.psnr_db": (25.0, 2),
        "detail.contrast_transfer": (2 / 3, 3),
        "detail.contrast_transfer.0.25": (0.75, 1),
        "detail.mtf50_cpp": (0.375, 3),
        "text.bpp": (0.1, 2),
        "text.cer": (60 / 400, 2),
        "text.wer": (5 / 20, 1),
        "text.ned": ((0.75 * 4 + 0.5 * 12) / 16, 2),  # 16 lines, each with the same weight
        "text.chinese.cer": (50 / 300, 1),
        "text.glyph.8px.cer": (10 / 100, 1),
        "text.script.latin.wer": (5 / 20, 1),
        "cost.encode_images_per_s": (4.0, 2),
        "cost.decode_images_per_s": (2.0, 2),
        "cost.peak_memory_mib": (300.0, 7),
    }
    assert {key: (cells[key].value, cells[key].n) for key in expected} == {
        key: (pytest.approx(value, rel=1e-15), n) for key, (value, n) in expected.items()
    }
    assert cells["text.script.chinese.wer"] == Cell(None, 0, "not-applicable")
    assert cells["detail.ms_ssim"] == Cell(None, 0, "not-applicable")


def test_the_engines_own_error_is_one_line(write_suite, write_run):
    folder = write_suite()
    write_run(folder, "a")
    write_run(folder, "b")
    (line,) = read_board(folder).originals
    assert line.name == "originals (OCR alone)"
    assert line.cells["text.cer"].value == 4 / 400
    assert line.cells["text.wer"].value == 1 / 20
    assert line.cells["text.ned"].value == 0.96875


def test_engines_that_read_the_originals_differently_are_told_apart(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "a")
    write_run(folder, "b", [row | {"original_char_edits": 9} for row in rows()])
    names = [line.name for line in read_board(folder).originals]
    assert names == ["originals (OCR alone) beside a", "originals (OCR alone) beside b"]


def test_an_incomplete_run_says_nothing_of_the_originals(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "a")
    own = [row | {"original_char_edits": 9} for row in rows()]
    write_run(folder, "b", own, protocol__limit=7)
    (line,) = read_board(folder).originals
    assert line.cells["text.cer"].value == 4 / 400


@pytest.mark.parametrize(
    ("transfers", "value", "bound"), [([1, 1, 1], 0.5, ">="), ([0.25, 0.25, 0.25], 0.125, "<")]
)
def test_mtf50_outside_the_charts_is_a_bound(write_suite, write_run, rows, transfers, value, bound):
    folder = write_suite()
    own = [
        row | ({"contrast_transfer": [float(t) for t in transfers]} if row["patch_cpp"] else {})
        for row in rows()
    ]
    write_run(folder, "a", own)
    cell = _cells(folder)["detail.mtf50_cpp"]
    assert (cell.value, cell.bound) == (value, bound)


def test_a_failed_image_takes_every_number(write_suite, write_run, rows):
    folder = write_suite()
    own = rows()
    own[0] = dict.fromkeys(own[0]) | {
        key: own[0][key] for key in ("id", "task", "subset", "width", "height")
    }
    own[0]["error"] = "RuntimeError: broke"
    write_run(folder, "a", own)
    (line,) = read_board(folder).lines
    assert line.block == "incomplete"
    assert line.problem == "1 of 7 images failed"
    assert all(cell.value is None for cell in line.cells.values())
    assert line.cells["reconstruction.psnr_db"] == Cell(None, 2, "failed", "1 of 3")
    assert line.cells["text.cer"] == Cell(None, 0, "missing", "incomplete run")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"protocol__limit": 2}, "--limit 2"),
        ({"suite__sha256": "6" * 64}, "measured under tiny@1 (666666666666), not this suite"),
        ({"suite__version": 2}, "measured under tiny@2 (555555555555), not this suite"),
    ],
)
def test_a_run_of_another_protocol_has_no_numbers(write_suite, write_run, changes, problem):
    folder = write_suite()
    write_run(folder, "a", **changes)
    (line,) = read_board(folder).lines
    assert line.problem == problem
    assert all(cell.value is None for cell in line.cells.values())


def test_a_run_of_some_tasks_has_no_numbers(write_suite, write_run, rows):
    folder = write_suite()
    own = [row for row in rows() if row["task"] != "text"]
    write_run(folder, "a", own, protocol__tasks=("reconstruction", "detail"))
    (line,) = read_board(folder).lines
    assert line.problem == "0 of 2 text images"
    assert all(cell.value is None for cell in line.cells.values())


def test_lines_go_by_block_and_then_by_rate_and_incomplete_ones_last(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "high", rows(bits=500, psnr=20))
    write_run(folder, "low")
    write_run(folder, "bytes", tokenizer__kind="codec", tokenizer__family="codec")
    write_run(folder, "same", tokenizer__kind="pixels", tokenizer__family="sanity")
    write_run(folder, "best", rows(psnr=60, bits=-900), protocol__limit=7)
    lines = read_board(folder).lines
    assert [(line.block, line.name) for line in lines] == [
        ("tokenizers", "low"),
        ("tokenizers", "high"),
        ("codecs", "bytes"),
        ("sanity", "same"),
        ("incomplete", "best"),
    ]
    assert lines[2].cells["rate.tokens"].state == "measured"  # the bytes of its file


def test_missing_says_why_and_is_not_zero(write_suite, write_run):
    folder = write_suite()
    write_run(folder, "a", missing={"lpips_vgg": "no file", "cer": "no engine"})
    cells = _cells(folder)
    assert cells["reconstruction.lpips_vgg"] == Cell(None, 0, "missing", "no file")
    assert cells["text.cer"] == Cell(None, 0, "missing", "no engine")


def test_capped_psnrs_are_counted_and_averaged(write_suite, write_run, rows):
    folder = write_suite()
    own = rows()
    own[0]["psnr_db"] = 100.0
    write_run(folder, "a", own)
    (line,) = read_board(folder).lines
    assert line.capped == 1
    assert line.cells["reconstruction.psnr_db"].value == 166 / 3


def test_a_suite_without_a_cost_subset_has_no_speed(write_suite, write_run):
    folder = write_suite(cost_subset=None)
    write_run(folder, "a")
    cells = _cells(folder)
    assert cells["cost.encode_images_per_s"] == Cell(None, 0, "not-applicable")
    assert cells["rate.tokens"] == Cell(None, 0, "not-applicable")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_no_number(write_suite, write_run, rows, value):
    folder = write_suite()
    own = rows()
    own[3]["contrast_transfer"] = [1.0, value, 0.0]
    write_run(folder, "a", own)
    with pytest.raises(ResultsError, match="contrast_transfer of c-1 is not finite"):
        read_board(folder)
