"""`vtbench table`: what was asked for, in a form that fits a paper."""

from __future__ import annotations

import csv
import io
import json

import pytest

from vtbench.base.errors import UnknownName, VtbenchError
from vtbench.cli import main
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.choice import find_column, find_lines, list_wanted
from vtbench.leaderboard.paper import MAX_COLUMNS, PaperTable


@pytest.fixture
def board(write_suite, write_run, rows):
    """Return two tokenizers and a codec; "b" is best, "a" best at its rate."""
    folder = write_suite(title="Tiny & small_er")
    write_run(folder, "a-1")
    write_run(folder, "b", rows(bits=500, psnr=1, edits=-2))
    codec = {"tokenizer__kind": "codec", "tokenizer__family": "codec"}
    write_run(folder, "jpeg", rows(bits=200, psnr=-2), **codec)
    write_run(folder, "same", rows(bits=-500, psnr=66), tokenizer__family="sanity")
    return read_board(folder)


def make(board, names=(), columns=("psnr_db", "text.cer"), **choices):
    chosen = [find_column(board, name) for name in columns]
    return PaperTable(board, find_lines(board, names), chosen, **choices)


def test_markdown_has_the_rows_and_columns_in_the_order_asked_for(board):
    text = make(board, ("jpeg", "a-1"), ("text.cer", "psnr_db"), best="bold").render("md")
    assert text.splitlines()[:4] == [
        "| tokenizer | text CER ↓ | recon. PSNR ↑ (dB) |",
        "| --- | ---: | ---: |",
        "| jpeg | **0.1500** | 30.00 |",
        "| a-1 | **0.1500** | **32.00** |",  # numbers that are printed alike are bold alike
    ]
    assert "tiny@1" in text and "reconstruction 3" in text and "fp32" in text


def test_sanity_rows_are_neither_shown_nor_best_unless_named(board):
    assert "same" not in make(board).render("md")
    named = make(board, ("a-1", "same"), best="bold").render("md")
    assert "| same | 98.00 |" in named and "**32.00**" in named


def test_bold_is_the_best_or_the_front(board):
    column = find_column(board, "psnr_db")
    assert make(board, best="bold").bold(column) == {"b"}
    assert make(board, best="front").bold(column) == {"a-1", "b"}
    assert make(board).bold(column) == frozenset()
    assert make(board, best="bold").bold(find_column(board, "bpp")) == frozenset()


def test_latex_is_a_table_that_states_its_width_and_protocol(board):
    text = make(board, best="bold").render("latex")
    assert r"\begin{table}[t]" in text and r"\toprule" in text
    assert "a-1 & 32.00 &" in text and r"\textbf{33.00}" in text
    assert r"\caption{Tiny \& small\_er: tiny@1" in text
    # What is wider than a column takes the page, and what is wider than a page is refused.
    eight = tuple(column.key for column in list_wanted(board)[:MAX_COLUMNS])
    assert r"\begin{table*}" in make(board, columns=eight).render("latex")
    every = tuple(column.key for column in board.columns)
    with pytest.raises(VtbenchError, match="fewer --columns"):
        make(board, columns=every).render("latex")


def test_a_terminal_is_shown_what_fits_with_every_name_and_digit(board):
    eight = tuple(column.key for column in list_wanted(board)[:MAX_COLUMNS])
    wide = make(board, columns=eight, best="front").render("text")
    assert "*32.00" in wide and "*: no other does as well" in wide and "not shown" not in wide
    for width in (24, 40, 60, 80):
        lines = make(board, columns=eight).render("text", width=width).splitlines()
        assert max(map(len, lines)) <= width
        (row,) = (line.split() for line in lines if line.startswith("a-1"))
        assert set(row) <= set(
            next(x for x in wide.splitlines() if x.startswith("a-1")).replace("*", "").split()
        )
    # The least wanted go first, and are named.
    narrow = make(board, columns=("text.cer", "psnr_db")).render("text", width=24)
    assert (
        "32.00" in narrow
        and "0.1500" not in narrow
        and "width: text CER)" in " ".join(narrow.split())
    )


def test_csv_and_json_hold_unrounded_numbers(board):
    (row, *_) = csv.DictReader(io.StringIO(make(board, ("b",), intervals=True).render("csv")))
    assert row["text.cer"] == f"{56 / 400:.10g}" and row["text.cer.low"] == ""
    record = json.loads(make(board, ("b",)).render("json"))
    cell = record["rows"][0]["cells"]["reconstruction.psnr_db"]
    assert (cell["value"], cell["n"], cell["state"]) == (33.0, 3, "measured")


def test_a_metric_alone_means_its_first_task_and_unknown_names_are_said(board):
    assert find_column(board, "psnr_db").key == "reconstruction.psnr_db"
    assert find_column(board, "psnr_db", task="detail").key == "detail.psnr_db"
    assert find_column(board, "tokens").key == "rate.tokens"
    with pytest.raises(UnknownName, match="psnr_db"):
        find_column(board, "psnr")
    with pytest.raises(UnknownName, match="jpeg"):
        find_lines(board, ["jpg"])


def test_a_folder_without_a_row_to_print_is_refused(capsys, write_suite):
    folder = write_suite()
    assert main(["table", "--results", str(folder), "--format", "latex"]) == 2
    assert "no tokenizer or codec to print" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_the_published_board(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no local results: the published ones
    assert main(["table", "--rows", "jpeg-q50", "--columns", "psnr_db", "--ci"]) == 0
    assert "| jpeg-q50 | 34.40 (32.10–38.22) |" in capsys.readouterr().out
    assert main(["table", "--columns", "psnr"]) == 2
    assert main(["table", "--format", "latex"]) == 0
    assert r"\begin{table*}[t]" in capsys.readouterr().out
