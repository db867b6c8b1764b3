"""The seeds of a random tokenizer are one line: mean and standard deviation, and nothing hidden."""

from __future__ import annotations

import csv
import io
import statistics

import pytest

from vtbench.leaderboard import tables
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.markdown import render_markdown

SHIFTS = {0: 0.0, 1: 0.5, 2: -0.2}


@pytest.fixture(autouse=True)
def no_shipped_results(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "published_dir", lambda suite: tmp_path / "shipped" / suite)


@pytest.fixture
def folder(write_suite, write_run, rows):
    """Return runs of a random tokenizer with three seeds, in bf16 with two, and of another."""
    folder = write_suite()
    for seed, shift in SHIFTS.items():
        for name, dtype in (("dice", "fp32"), ("dice@bf16", "bf16")):
            if (seed, dtype) == (2, "bf16"):
                continue
            own = f"{name}{'@' if dtype == 'fp32' else '+'}seed{seed}" if seed else name
            own_rows = rows(psnr=shift, edits=seed)
            write_run(
                folder,
                own,
                own_rows,
                tokenizer__stochastic=True,
                tokenizer__name="dice",
                protocol__seed=seed,
                protocol__dtype=dtype,
            )
    write_run(folder, "stone")
    return folder


@pytest.mark.slow
def test_seeds_become_one_line_of_means(folder):
    lines = {line.name: line for line in read_board(folder).lines}
    assert sorted(lines) == ["dice", "dice@bf16", "stone"]
    cell = lines["dice"].cells["reconstruction.psnr_db"]
    values = [32.0 + shift for shift in SHIFTS.values()]
    assert cell.value == pytest.approx(statistics.mean(values), abs=1e-12)
    assert cell.spread == pytest.approx(statistics.stdev(values), abs=1e-12)
    # The mutant: the spread of the population, which is too small for three seeds.
    assert cell.spread != pytest.approx(statistics.pstdev(values))
    assert lines["dice@bf16"].cells["reconstruction.psnr_db"].value == pytest.approx(32.25)
    assert lines["stone"].cells["reconstruction.psnr_db"].spread is None
    assert [record.protocol.seed for record in lines["dice"].records] == [0, 1, 2]


@pytest.mark.slow
def test_a_ratio_keeps_its_images(folder):
    cell = next(x for x in read_board(folder).lines if x.name == "dice").cells["text.cer"]
    assert cell.shares is not None
    assert cell.value == pytest.approx(sum(cell.shares.numerators) / sum(cell.shares.denominators))
    assert cell.value == pytest.approx((60 + 62 + 64) / 3 / 400)


def test_time_has_no_spread_over_seeds(folder):
    cells = next(x for x in read_board(folder).lines if x.name == "dice").cells
    assert cells["cost.encode_images_per_s"].spread is None
    assert cells["rate.tokens"].spread is None


def test_an_incomplete_seed_stays_apart(write_suite, write_run, rows):
    folder = write_suite()
    common = {"tokenizer__stochastic": True, "tokenizer__name": "dice"}
    write_run(folder, "dice", **common)
    write_run(folder, "dice@seed1", rows(psnr=1), protocol__seed=1, **common)
    write_run(folder, "dice@seed2", rows()[:-1], protocol__seed=2, **common)
    lines = {line.name: line for line in read_board(folder).lines}
    assert sorted(lines) == ["dice", "dice@seed2"]
    assert lines["dice"].cells["reconstruction.psnr_db"].value == pytest.approx(32.5)
    assert lines["dice@seed2"].problem is not None


def test_runs_that_differ_in_more_are_not_averaged(write_suite, write_run, rows):
    folder = write_suite()
    common = {"tokenizer__stochastic": True, "tokenizer__name": "dice"}
    write_run(folder, "dice", **common, environment__code_sha256="9" * 64)
    for seed in (1, 2):
        write_run(folder, f"dice@seed{seed}", rows(psnr=seed), protocol__seed=seed, **common)
    lines = {line.name: line for line in read_board(folder).lines}
    assert sorted(lines) == ["dice", "dice@seed1"]
    assert lines["dice"].cells["reconstruction.psnr_db"].spread is None
    assert lines["dice@seed1"].cells["reconstruction.psnr_db"].value == pytest.approx(33.5)


@pytest.mark.slow
def test_tables_say_how_many_seeds_and_which(folder):
    board = read_board(folder)
    text = render_markdown(board, None)
    assert "| dice (3 seeds) |" in text and "32.10 ± 0.36" in text
    assert "Mean ± standard deviation over seeds: dice (0, 1, 2), dice@bf16 (0, 1)." in text
    table = {row["run"]: row for row in csv.DictReader(io.StringIO(render_csv(board, None)))}
    assert float(table["dice"]["reconstruction.psnr_db.sd"]) == pytest.approx(0.36055512)
    assert table["stone"]["reconstruction.psnr_db.sd"] == ""
