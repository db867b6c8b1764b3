"""The intervals of a board stand beside the right numbers, over the right draws, in every format;
and the traps of aggregation: partial sets, pooled PSNR, means of ranks, rows of other protocols."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest

from vtbench.base.statistics import Bootstrap, find_intervals, seed_of
from vtbench.leaderboard import tables
from vtbench.leaderboard.aggregate import aggregate, read_board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.markdown import render_markdown
from vtbench.leaderboard.tables import render_folder
from vtbench.leaderboard.words import find_front
from vtbench.results.folder import Run, read_runs

IMAGES = {"reconstruction": 12, "detail": 9, "text": 10}
NOISE = np.random.default_rng(5).gamma(2.0, 1.0, (12,)).round(3)
EDITS = (0, 9, 1, 0, 30, 2, 0, 5, 1, 14)


@pytest.fixture(autouse=True)
def no_shipped_results(monkeypatch, tmp_path):
    """A checkout may ship results of a suite named tiny one day; these tests do not read them."""
    monkeypatch.setattr(tables, "published_dir", lambda suite: tmp_path / "shipped" / suite)


@pytest.fixture
def many(rows):
    """Return a maker of rows of 12 photos (8 crops, 4 wholes), 9 charts and 10 pages."""

    def make(psnr=0.0, edits=1.0):
        crop, _, whole, grating, _, latin, _ = rows()
        own = []
        for i, noise in enumerate(NOISE):
            base = crop if i < 8 else whole
            own.append(base | {"id": f"p-{i:02}", "psnr_db": 30 + psnr + noise, "ssim": 0.9})
        for i in range(9):
            own.append(grating | {"id": f"c-{i}", "psnr_db": 25 + psnr + NOISE[i]})
        for i, wrong in enumerate(EDITS):
            made = {"char_edits": int(wrong * edits), "word_edits": 0, "original_char_edits": 0}
            own.append(latin | {"id": f"t-{i}", "chars": 100 + 10 * i, **made})
        return own

    return make


@pytest.fixture
def folder(write_suite, write_run, many):
    """Return three runs: b better than a by little, c the same as b with another name."""
    folder = write_suite(images=IMAGES)
    write_run(folder, "a", many())
    write_run(folder, "b", many(psnr=0.01, edits=0.5))
    write_run(folder, "c", many(psnr=0.01, edits=0.5), tokenizer__kind="codec")
    return folder


def _line(folder, name="a"):
    return next(line for line in read_board(folder).lines if line.name == name)


def test_an_interval_is_that_of_its_number(folder):
    cells = _line(folder).cells
    strata = ["crop256"] * 8 + ["whole"] * 4
    values = 30 + NOISE[:, None]
    seed = seed_of("5" * 64)
    ends = find_intervals(Bootstrap(strata, seed=seed), values, np.ones((12, 1)))
    cell = cells["reconstruction.psnr_db"]
    assert (cell.low, cell.high) == (ends[0][0], ends[1][0])
    assert cell.low < cell.value < cell.high
    edits = np.array(EDITS, dtype=np.float64)[:, None]
    chars = 100 + 10 * np.arange(10.0)[:, None]
    ends = find_intervals(Bootstrap(["plain"] * 10, seed=seed), edits, chars)
    cell = cells["text.cer"]
    assert (cell.low, cell.high) == (ends[0][0], ends[1][0])
    # The mutant: the mean of the pages' rates, another number with another interval.
    mutant = find_intervals(Bootstrap(["plain"] * 10, seed=seed), edits / chars, np.ones((10, 1)))
    assert abs(mutant[1][0] - cell.high) > 0.001


@pytest.mark.slow
def test_what_is_no_sample_and_what_is_too_small_has_no_interval(folder):
    cells = _line(folder).cells
    for key in (
        "detail.mtf50_cpp",  # charts are a fixed set
        "detail.contrast_transfer",
        "cost.encode_images_per_s",
        "cost.peak_memory_mib",
        "reconstruction.whole.psnr_db",  # four images
        "text.wer",  # ten pages without an error
    ):
        assert cells[key].state == "measured", key
        assert (cells[key].low, cells[key].high) == (None, None), key
    assert cells["reconstruction.crop256.psnr_db"].low is not None
    assert cells["reconstruction.ssim"].low == cells["reconstruction.ssim"].high == 0.9
    (own,) = read_board(folder).originals
    assert (own.cells["text.cer"].value, own.cells["text.cer"].low) == (0, None)
    assert own.cells["text.ned"].low is not None


@pytest.mark.slow
def test_parts_of_one_picture_are_drawn_together(write_suite, write_run, rows, many):
    # Pairs that are all alike: 12 images say what 6 do (of which there are too few), 24 what 12 do.
    own = many()
    twice = [row | {"id": f"{row['id']}-again"} for row in own if row["task"] == "reconstruction"]
    images = IMAGES | {"reconstruction": 24}
    cut_from = {f"{row['id']}{end}": row["id"] for row in own[:12] for end in ("", "-again")}
    once = write_suite("once", images=IMAGES)
    write_run(once, "a", own)
    together = write_suite("together", images=images, cut_from=cut_from)
    write_run(together, "a", own + twice)
    apart = write_suite("apart", images=images)
    write_run(apart, "a", own + twice)
    key = "reconstruction.psnr_db"
    widths = [_line(f).cells[key].high - _line(f).cells[key].low for f in (once, together, apart)]
    assert widths[1] == pytest.approx(widths[0], rel=1e-9)
    assert widths[2] < 0.8 * widths[0]  # the mutant: copies taken for evidence; 0.71 of the width
    text = render_markdown(read_board(together), None)
    assert "reconstruction 12 pictures, each with all of its parts among the 24 images" in text


@pytest.mark.slow
def test_every_format_has_them_beside_the_number(folder):
    board = read_board(folder)
    cell = _line(folder).cells["reconstruction.psnr_db"]
    ends = f"{cell.low:.2f}–{cell.high:.2f}"
    files = {name: content.decode() for name, content in render_folder(folder).items()}
    table = files["leaderboard.md"].partition("## Intervals and ranks\n")[2].partition("\n## ")[0]
    assert f"| a | {cell.value:.2f} ({ends}) | 3 |" in table
    assert re.search(r"\| c \| .* \| 1–2 \|", table)
    assert "0.9000 |" in table  # all images agree: no range
    run = next(x for x in json.loads(files["leaderboard.json"])["runs"] if x["run"] == "a")
    told = run["cells"]["reconstruction.psnr_db"]
    assert told["low"] == pytest.approx(cell.low) and told["rank"] == [3, 3]
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(files["leaderboard.csv"]))}
    key = "reconstruction.psnr_db"
    assert rows["a"][f"{key}.low"] == f"{cell.low:.10g}"
    assert rows["a"][f"{key}.high"] == f"{cell.high:.10g}"
    assert (rows["b"][f"{key}.rank_low"], rows["b"][f"{key}.rank_high"]) == ("1", "2")
    assert rows["a"]["text.wer.low"] == ""
    assert "cost.peak_memory_mib.low" not in rows["a"]
    assert rows["originals (OCR alone)"]["text.ned.low"] != ""
    assert "seed 5555555555555555, of the suite" in files["leaderboard.md"]
    assert len(board.originals) == 1


@pytest.mark.slow
def test_ranks_are_of_tokenizers_and_codecs_on_the_same_draws(write_suite, write_run, many):
    folder = write_suite(images=IMAGES)
    write_run(folder, "a", many())
    write_run(folder, "b", many(psnr=0.01))
    write_run(folder, "same", many(psnr=50), tokenizer__family="sanity")
    write_run(folder, "short", many(psnr=50), protocol__limit=12)
    ranks = {line.name: dict(line.ranks) for line in read_board(folder).lines}
    key = "reconstruction.psnr_db"
    # 0.01 dB on every image, where images vary by a decibel: drawn apart they could not be told.
    assert (ranks["a"][key], ranks["b"][key]) == ((2, 2), (1, 1))
    assert (ranks["a"]["text.cer"], ranks["b"]["text.cer"]) == ((1, 2), (1, 2))
    assert ranks["same"] == ranks["short"] == {}


@pytest.mark.slow
def test_a_board_of_few_images_has_no_intervals(write_suite, write_run):
    folder = write_suite()
    write_run(folder, "a")
    text = render_markdown(read_board(folder), None)
    assert "## Intervals" not in text
    assert b'"low"' not in render_folder(folder)["leaderboard.json"]


@pytest.mark.slow
def test_bytes_do_not_follow_the_order_of_rows_and_runs(folder):
    board = read_board(folder)
    backwards = [
        Run(run.record, run.table.take(np.arange(len(run.table))[::-1]), run.folder)
        for run in reversed(read_runs(folder))
    ]
    again = aggregate(board.suite, backwards)
    assert render_csv(again, None) == render_csv(board, None)
    assert render_markdown(again, None) == render_markdown(board, None)


# Traps of FIELD.md, 4b, that concern aggregation


@pytest.mark.slow
def test_trap_3_a_part_of_the_images_is_not_the_suite(write_suite, write_run, many):
    folder = write_suite(images=IMAGES)
    easy = sorted(many(), key=lambda row: -(row["psnr_db"] or 0))
    kept = [row for row in easy if row["task"] != "reconstruction"] + [
        row for row in easy if row["task"] == "reconstruction"
    ][:6]
    write_run(folder, "whole", many())
    write_run(folder, "part", kept)
    whole, part = _line(folder, "whole"), _line(folder, "part")
    assert part.problem == "6 of 12 reconstruction images"
    assert part.cells["reconstruction.psnr_db"].value is None
    # The mutant: the mean of what is there, which the easier half flatters.
    mutant = math.fsum(row["psnr_db"] for row in kept[-6:]) / 6
    assert mutant > whole.cells["reconstruction.psnr_db"].value + 0.5
    assert "reconstruction 12 (" in render_markdown(read_board(folder), None)  # n is always told


def test_trap_7_psnr_is_a_mean_over_images(folder):
    psnrs = 30 + NOISE
    value = _line(folder).cells["reconstruction.psnr_db"].value
    assert value == pytest.approx(math.fsum(psnrs) / 12, rel=1e-15)
    errors = 255**2 / 10 ** (psnrs / 10)

    def mutant(batch):  # PSNR of a batch's mean squared error, averaged over batches
        return np.mean([10 * np.log10(255**2 / e.mean()) for e in errors.reshape(-1, batch)])

    assert mutant(1) == pytest.approx(value)
    assert len({round(mutant(batch), 2) for batch in (1, 2, 3, 4)}) == 4  # it follows the batch
    assert value - mutant(12) > 0.05  # as does the pooled one, which has a name of its own


def test_trap_20_shards_are_neither_averaged_nor_padded(write_suite, write_run, many):
    folder = write_suite(images=IMAGES)
    own = many()
    write_run(folder, "a", own[5:] + own[:5])  # as merged from two ranks
    assert _line(folder).cells["reconstruction.psnr_db"].value == math.fsum(30 + NOISE) / 12
    # The mutants: a mean of the ranks' means; a sampler that pads with images it has had.
    shards = np.split(30 + NOISE, [5])
    assert abs(np.mean([s.mean() for s in shards]) - (30 + NOISE).mean()) > 0.005
    padded = [*own, own[0]]
    write_run(folder, "padded", padded)
    board = read_board(folder)
    assert [line.name for line in board.lines] == ["a"]
    assert "an image appears twice" in board.damaged[0]


@pytest.mark.slow
def test_trap_24_rows_of_another_protocol_are_not_ranked_among_these(write_suite, write_run, many):
    folder = write_suite(images=IMAGES)
    write_run(folder, "a", many())
    write_run(folder, "b", many(psnr=-1))
    before = read_board(folder)
    write_run(folder, "copied", many(psnr=20), suite__sha256="6" * 64)
    board = read_board(folder)
    column = next(c for c in board.columns if c.key == "reconstruction.psnr_db")
    for name in ("a", "b"):
        old, new = (next(x for x in b.lines if x.name == name) for b in (before, board))
        assert (old.cells, old.ranks) == (new.cells, new.ranks)
    copied = next(line for line in board.lines if line.name == "copied")
    assert copied.problem is not None and "not this suite" in copied.problem
    assert all(cell.value is None for cell in copied.cells.values())
    assert find_front(board.lines, column) == {"a"}
    # The mutant: the copied row under this suite's digest takes the first place and the bold.
    write_run(folder, "copied", many(psnr=20))
    assert find_front(read_board(folder).lines, column) == {"copied"}
    assert _line(folder, "a").ranks["reconstruction.psnr_db"] == (2, 2)
