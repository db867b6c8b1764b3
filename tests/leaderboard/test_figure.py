"""`vtbench plot`: two columns, a point a run, in the asked format."""

from __future__ import annotations

import pytest

from vtbench.base.errors import VtbenchError
from vtbench.base.locations import published_dir
from vtbench.cli import main
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.choice import find_column, find_lines
from vtbench.leaderboard.figure import draw_figure

STARTS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.fixture
def board(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "a")
    write_run(folder, "b", rows(bits=500), tokenizer__family="<i>$\\frac")
    return read_board(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STARTS)
def test_each_format_is_what_its_ending_says_and_the_same_again(board, kind):
    x, y = find_column(board, "bpp"), find_column(board, "ssim")
    content = draw_figure(board.lines, x, y, kind=kind)
    assert content.startswith(STARTS[kind])
    assert content == draw_figure(board.lines, x, y, kind=kind)


def test_what_cannot_be_drawn_is_said(board):
    x, y = find_column(board, "bpp"), find_column(board, "dists")
    with pytest.raises(VtbenchError, match=r"no run has numbers of both.*dists"):
        draw_figure(board.lines, x, y, kind="pdf")
    with pytest.raises(VtbenchError, match="pdf, svg, png"):
        draw_figure(board.lines, x, x, kind="jpg")


@pytest.mark.slow
def test_the_command_takes_the_rate_of_the_same_task(tmp_path, capsys):
    out = tmp_path / "fig.svg"
    where = ["--results", str(published_dir("embedded"))]
    assert (
        main(["plot", "--y", "cer", "--rows", "ref-kl-f8,jpeg-q50", "--out", str(out), *where]) == 0
    )
    assert out.read_bytes().startswith(b"<?xml")
    board = read_board(published_dir("embedded"))
    assert find_column(board, "bpp", task=find_column(board, "cer").task).key == "text.bpp"
    assert len(find_lines(board, ["ref-kl-f8", "jpeg-q50"])) == 2
    assert main(["plot", "--y", "cer", "--out", str(tmp_path / "fig.gif"), *where]) == 2
