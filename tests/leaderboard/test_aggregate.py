"""Rows → numbers: every expected value is worked out by hand from conftest.make_rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Cell
from vtbench.leaderboard.markdown import render_markdown
from vtbench.metrics.rate import add_histograms, code_length, count_tokens


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
        key: own[0][key] for key in ("id", "task", "subset", "width", "height", "sha256")
    }
    own[0]["error"] = "RuntimeError: broke"
    write_run(folder, "a", own)
    (line,) = read_board(folder).lines
    assert line.block == "incomplete"
    assert line.problem == "1 of 7 images failed"
    assert all(cell.value is None for cell in line.cells.values())
    assert line.cells["reconstruction.psnr_db"] == Cell(None, 2, "failed", "1 of 3", failures=1)
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


@pytest.mark.slow
def test_pooled_psnr_weighs_pixels_and_not_images(write_suite, write_run, rows):
    from torchmetrics.image import PeakSignalNoiseRatio  # seconds

    folder = write_suite()
    own = rows()
    generator = torch.Generator().manual_seed(0)
    pooled = PeakSignalNoiseRatio(data_range=255.0)  # over everything that it was updated with
    for row, spread in zip(own[:3], (4, 40, 2), strict=True):
        shape = (1, 3, row["height"], row["width"])
        x = torch.randint(0, 256, shape, generator=generator).float()
        y = (x + torch.randint(-spread, spread + 1, shape, generator=generator)).clamp(0, 255)
        pooled.update(y, x)
        row["mse"] = float((x.double() - y.double()).square().mean())
        row["mae"] = float((x - y).abs().mean())
    write_run(folder, "a", own)
    cells = _cells(folder)
    # torchmetrics adds up in float32
    expected = pytest.approx(float(pooled.compute()), abs=1e-4)
    assert cells["reconstruction.psnr_pooled_db"].value == expected
    assert cells["reconstruction.psnr_pooled_db"].n == 3
    assert cells["reconstruction.mae"].value == math.fsum(row["mae"] for row in own[:3]) / 3
    # Mutants: images with the same weight, and the mean of PSNRs.
    psnrs = [10 * math.log10(255**2 / row["mse"]) for row in own[:3]]
    by_image = 10 * math.log10(255**2 / (sum(row["mse"] for row in own[:3]) / 3))
    for wrong in (by_image, sum(psnrs) / 3):
        assert abs(cells["reconstruction.psnr_pooled_db"].value - wrong) > 0.5
    # One subset alone, identical images, and a run without PSNR.
    assert cells["reconstruction.whole.psnr_pooled_db"].value == pytest.approx(psnrs[2])
    for row in own[:3]:
        row["mse"] = 0.0
    write_run(folder, "a", own)
    assert _cells(folder)["reconstruction.psnr_pooled_db"].value == 100.0
    write_run(folder, "a", own, missing={"psnr_db": "why"})
    cell = Cell(None, 0, "missing", "why")
    assert _cells(folder)["reconstruction.psnr_pooled_db"] == cell


def _counted(rows, *sizes):
    """Return rows with the code lengths of random tokens of these codebooks, and the histograms."""
    random = np.random.default_rng(0)
    images = [
        [count_tokens(random.integers(0, size // 2, 16), size) for size in sizes] for _ in rows
    ]
    codes = add_histograms(images)
    for row, image in zip(rows, images, strict=True):
        row["entropy_bits"] = math.fsum(map(code_length, image, codes))
    return rows, codes


def test_what_is_counted_of_tokens(write_suite, write_run, rows):
    folder = write_suite()
    own, codes = _counted(rows(), 1024)
    write_run(folder, "a", own, codes=codes)
    cells = _cells(folder)
    counts = codes[0].counts / 112  # 7 images of 16 tokens
    entropy = -sum(p * math.log2(p) for p in counts)
    expected = {
        "rate.tokens_counted": 112,
        "rate.codebooks": 1,
        "rate.codewords": 1024,
        "rate.token_bits": 10.0,
        "rate.token_entropy_bits": pytest.approx(entropy, rel=1e-12),
        "rate.codebook_usage": len(codes[0].symbols) / 1024,
        "rate.codebook_perplexity": pytest.approx(2**entropy, rel=1e-12),
    }
    assert {key: cells[key].value for key in expected} == expected
    assert {cells[key].n for key in expected} == {112}
    assert cells["reconstruction.entropy_bpp"].value == pytest.approx(
        math.fsum(row["entropy_bits"] for row in own[:3]) / 40000, rel=1e-15
    )
    # Over all tasks and pixels it is the entropy of the tokens, and below the nominal rate.
    total = math.fsum(row["entropy_bits"] for row in own)
    assert total == pytest.approx(112 * entropy, rel=1e-12) and entropy < 10


def test_sub_codebooks_have_numbers_of_their_own(write_suite, write_run, rows):
    folder = write_suite()
    own, codes = _counted(rows(), 256, 16, 2**30)
    write_run(folder, "three", own, codes=codes)
    own, two = _counted(rows(), 64, 64)
    write_run(folder, "two", own, codes=two)
    board = read_board(folder)
    three, other = ({line.name: line.cells for line in board.lines}[n] for n in ("three", "two"))
    assert three["rate.token_bits"].value == 42.0  # a token is a word of each
    # Counted bit by bit: no words to count, and so no mean over the codebooks.
    assert three["rate.codebook_usage"].state == "not-applicable"
    assert three["rate.codebook-3.codebook_usage"].state == "not-applicable"
    assert three["rate.codebook-2.codebook_usage"].value == len(codes[1].symbols) / 16
    assert three["rate.codebook-3.token_entropy_bits"].value > 20
    assert other["rate.codebook_usage"].value == sum(len(c.symbols) for c in two) / 128
    assert other["rate.codebook-3.codebook_usage"].state == "not-applicable"
    entropies = [other[f"rate.codebook-{place}.token_entropy_bits"].value for place in (1, 2)]
    assert other["rate.token_entropy_bits"].value == pytest.approx(sum(entropies), rel=1e-15)
    mean = pytest.approx(2 ** (sum(entropies) / 2), rel=1e-12)
    assert other["rate.codebook_perplexity"].value == mean
    titles = [table.title for table in board.tables]
    assert "Codebook: usage of each" in titles and "Codebook: entropy of each" in titles


def test_tokens_that_were_not_counted_are_missing_or_not_applicable(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "uncounted")
    write_run(folder, "latents", tokenizer__kind="continuous")
    own, codes = _counted(rows(), 8)
    write_run(folder, "short", own, codes=codes, protocol__limit=7)
    board = read_board(folder)
    cells = {line.name: line.cells["rate.codebook_usage"] for line in board.lines}
    assert cells["uncounted"].state == "missing" and "codebooks" in (
        cells["uncounted"].reason or ""
    )
    assert cells["latents"] == Cell(None, 0, "not-applicable")
    assert cells["short"].value is None
    assert "Codebook" not in [table.title for table in board.tables]


def test_what_8_bit_latents_cost_and_lose(write_suite, write_run, rows):
    folder = write_suite()
    own = rows()
    for row, lost in zip(own[:3], (0.5, 0.25, 1.5), strict=True):
        row |= {"q8_bits": 600.0, "psnr_q8_db": row["psnr_db"] - lost}
    write_run(folder, "a", own, tokenizer__kind="continuous")
    cells = _cells(folder)
    assert cells["reconstruction.bpp_q8"].value == 1800 / 40000
    assert cells["reconstruction.psnr_q8_db"].value == 31.25
    assert cells["reconstruction.psnr_q8_loss_db"].value == 0.75
    assert cells["text.psnr_q8_db"] == Cell(None, 0, "not-applicable")
    assert "Continuous latents in 8 bits" in [table.title for table in read_board(folder).tables]


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
    write_run(folder, "b")
    board = read_board(folder)
    assert [line.name for line in board.lines] == ["b"]
    (complaint,) = board.damaged
    assert "contrast_transfer of c-1 is not finite: measure it again" in complaint


def test_a_damaged_run_is_left_out_and_named(write_suite, write_run):
    folder = write_suite()
    for name in ("a", "b", "c", "d", "e"):
        write_run(folder, name)
    (folder / "a").rename(folder / "a (conflicted copy)")
    (folder / "b" / "run.json").write_bytes(b"")
    (folder / "c" / "images.parquet").write_bytes(b"PAR1 torn")
    (folder / "d" / "images.parquet").unlink()
    board = read_board(folder)
    assert [line.name for line in board.complete] == ["e"]
    assert len(board.damaged) == 4
    notes = render_markdown(board, None)
    assert notes.count("A run is left out: ") == 4
    assert "in folder 'a (conflicted copy)'" in notes


def test_an_original_that_cannot_be_read_leaves_the_set_for_all_rows(write_suite, write_run, rows):
    folder = write_suite()
    broken = {"error": "a-1.png: cannot be decoded", "sha256": None, "psnr_db": None, "bits": None}
    write_run(folder, "lost", [row | broken if row["id"] == "a-1" else row for row in rows()])
    write_run(folder, "had-it")  # measured before the file broke
    by_name = {line.name: line for line in read_board(folder).lines}
    for line in by_name.values():
        assert line.problem is None
        cell = line.cells["reconstruction.psnr_db"]
        assert (cell.value, cell.n) == (33.0, 2)  # of 30, 32 and 34 the first is gone
    text = render_markdown(read_board(folder), None)
    assert "left out for all rows alike" in text
    assert "a-1 (a-1.png: cannot be decoded)" in text


def test_a_tokenizer_that_fails_on_an_image_has_no_numbers_and_the_others_keep_theirs(
    write_suite, write_run, rows
):
    folder = write_suite()
    failed = {"error": "RuntimeError: too hard", "psnr_db": None}
    write_run(folder, "gave-up", [row | failed if row["id"] == "a-1" else row for row in rows()])
    write_run(folder, "tried")
    by_name = {line.name: line for line in read_board(folder).lines}
    assert by_name["gave-up"].problem == "1 of 7 images failed"
    assert by_name["gave-up"].cells["reconstruction.psnr_db"].value is None
    assert by_name["tried"].cells["reconstruction.psnr_db"].n == 3


def test_copies_of_a_picture_are_one_draw(write_suite, write_run, rows):
    own = rows()
    copies = [own[0] | {"id": f"a-1-{n}", "sha256": "7" * 64} for n in range(9)]
    images = {"reconstruction": 12, "detail": 2, "text": 2}
    folder = write_suite(images=images, cut_from={"a-2": "a-1-0"})
    write_run(folder, "a", [*own, *copies])
    (line,) = read_board(folder).lines
    shares = line.cells["reconstruction.psnr_db"].shares
    images = shares.images
    assert len(images.ids) == 12
    # Nine copies and, through the first of them, the crop of its file: one of three pictures.
    assert len(set(images.clusters)) == 3
    assert images.clusters[images.ids.index("a-2")] == images.clusters[images.ids.index("a-1-8")]
    assert "8 of these images are copies of others" in render_markdown(read_board(folder), None)


def test_a_new_task_needs_its_suite_alone(write_suite, write_run, rows):
    folder = write_suite(
        images={"signs": 3, "menus": 2},
        metrics={"signs": ("psnr_db", "ssim"), "menus": ("cer",)},
        cost_subset=None,
    )
    names = {"reconstruction": "signs", "text": "menus"}
    own = [row | {"task": names[row["task"]]} for row in rows() if row["task"] in names]
    write_run(folder, "a", own, protocol__tasks=("signs", "menus"))
    board = read_board(folder)
    (line,) = board.lines
    assert line.problem is None
    assert line.cells["signs.psnr_db"].value == 32.0
    assert line.cells["menus.cer"].value == 60 / 400
    keys = {column.key for column in board.columns}
    assert "signs.crop256.ssim" in keys and "menus.chinese.cer" in keys
    assert "signs.dists" not in keys  # neither the suite nor the run names it
    assert "signs.cer" not in keys and "menus.psnr_db" not in keys  # one is looked at, one is read
    titles = [table.title for table in board.tables]
    assert "Signs: crop256" in titles and "Menus: CER by condition" in titles
    assert [line.cells["menus.cer"].value for line in board.originals] == [4 / 400]


def test_a_subset_that_is_the_whole_task_has_its_very_number(write_suite, write_run, rows):
    own = [row | {"subset": "val"} for row in rows() if row["task"] == "reconstruction"]
    folder = write_suite(images={"reconstruction": 3}, cost_subset="val")
    write_run(folder, "a", own, protocol__tasks=("reconstruction",))
    cells = _cells(folder)
    assert cells["reconstruction.val.psnr_db"] is cells["reconstruction.psnr_db"]


def test_rows_in_any_order_are_the_same_images(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "a", rows()[::-1])
    write_run(folder, "b", rows(psnr=1))
    a, b = (line.cells["reconstruction.psnr_db"].shares for line in read_board(folder).lines)
    assert a.images is b.images
    assert a.images.ids == ("a-1", "a-2", "b-1")
    assert list(b.numerators - a.numerators) == [1, 1, 1]
