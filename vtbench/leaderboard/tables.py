"""A board as Markdown, CSV, LaTeX and JSON, rendered from a folder of results and from it alone.

The bytes of leaderboard.md, .csv, .tex and .json follow from the rows: rendering again, on another
machine or another day, gives the same. The plots are files of their own, because their bytes also
follow matplotlib's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vtbench.base.errors import OutputError, ResultsError
from vtbench.base.files import find_place, read_bounded, write_atomic
from vtbench.base.locations import published_dir
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.json_file import render_json
from vtbench.leaderboard.latex import render_latex
from vtbench.leaderboard.markdown import render_markdown

CHECKED = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.json")
"""The files whose bytes follow from the rows."""


MAX_TABLE_BYTES = 64 * 2**20


STALE = "edited by hand or stale; run `vtbench leaderboard`"


def render_board(
    board: Board, *, published: Board | None = None, plots: bool = True
) -> dict[str, bytes]:
    """Return the files of a suite's board by name: tables and plots.

    Args:
        board: The numbers of a folder.
        published: Of another folder of the same suite, told as differences and never merged.
        plots: Whether the plots are drawn too.
    """
    files = {
        "leaderboard.md": render_markdown(board, published).encode(),
        "leaderboard.csv": render_csv(board, published).encode(),
        "leaderboard.tex": render_latex(board, published).encode(),
        "leaderboard.json": render_json(board).encode(),
    }
    if plots:
        from vtbench.leaderboard.plots import draw_plots

        files |= draw_plots(board, published)
    return files


def render_folder(folder: Path, *, published: Path | None = None) -> dict[str, bytes]:
    """Return the files of a folder's board. Raises ResultsError for a malformed or edited run."""
    return render_board(read_board(folder), published=read_beside(folder, published))


def read_beside(folder: Path, published: Path | None) -> Board | None:
    """Return the published board, None where it is the folder itself or has no runs."""
    if published is None or find_place(published) == find_place(folder):
        return None
    board = read_board(published)
    return board if board.lines else None


def write_board(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a board's files into the folder, each whole or not at all. Plots of an earlier board that
    this one has no numbers for are removed. Raises OutputError where that cannot be."""
    from vtbench.leaderboard.plots import PLOT_FILES

    for name, content in files.items():
        write_atomic(folder / name, content)
    for name in PLOT_FILES - files.keys():
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {folder / name}: {error.strerror}") from None


def check_board(board: Board, folder: Path) -> list[Board | None]:
    """Return the published boards that the folder's tables may stand beside; None is for alone.

    They may have been rendered alone, or beside the suite's published results, as `vtbench run` does;
    where none of the rows is published, the tables are the same. Plots are not compared: they have the
    published rows too.

    Raises:
        ResultsError: a table of the folder is not what its rows give; names the file.
    """
    present = {
        name: read_bounded(folder / name, max_bytes=MAX_TABLE_BYTES, raise_as=ResultsError)
        for name in CHECKED
        if (folder / name).exists()
    }
    shipped = published_dir(board.suite.name)
    stale = next(iter(present), "")
    found: list[Board | None] = []
    for other in (None, shipped if (shipped / "suite.json").is_file() else None):
        beside = read_beside(folder, other)
        if other is not None and beside is None:
            continue
        rendered = render_board(board, published=beside, plots=False)
        wrong = [name for name, content in present.items() if rendered[name] != content]
        if wrong:
            stale = max(stale, wrong[0], key=CHECKED.index)
        else:
            found.append(beside)
    if found:
        return found
    raise ResultsError(f"{folder / stale}: not what the rows give: {STALE}")
