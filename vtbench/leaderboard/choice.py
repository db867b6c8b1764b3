"""Selection of lines and columns of a leaderboard by name."""

from __future__ import annotations

from collections.abc import Sequence

from vtbench.base.errors import UnknownName
from vtbench.leaderboard.board import Board, Column, Line

_OF_FIRST = ("bpp", "psnr_db", "lpips_alex", "rfid", "ssim")
_OF_OTHERS = ("cer", "psnr_db", "mtf50_cpp", "bpp")
_OF_CODE = ("tokens", "decode_images_per_s")
"""The most wanted of the overview's columns: of the first task, of the others, of code and cost."""


def list_wanted(board: Board) -> list[Column]:
    """Return the overview's columns for narrow tables, the most wanted first."""
    first = next((column.task for column in board.columns if column.task), None)

    def rank(column: Column) -> int | None:
        keys: tuple[str, ...]
        if column.task is None:
            keys, start = _OF_CODE, 12
        elif column.task == first:
            keys, start = _OF_FIRST, 0
        else:
            keys, start = _OF_OTHERS, 10
        key = column.metric.key
        return start + keys.index(key) if key in keys else None

    ranks = [(rank(column), column) for column in board.overview.columns]
    wanted = [(place, column) for place, column in ranks if place is not None]
    return [column for _, column in sorted(wanted, key=lambda pair: pair[0])]


def find_column(board: Board, name: str, *, task: str | None = None) -> Column:
    """Return a column by its key ("text.cer") or its metric's.

    A metric's key means the column of all images of `task`, else of the first task that has it.
    Raises UnknownName.
    """
    by_key = {column.key: column for column in board.columns}
    of_metric = [
        column
        for column in board.columns
        if column.metric.key == name
        and (column.whole or (column.task is None and column.codebook is None))
    ]
    if name in by_key:
        return by_key[name]
    if not of_metric:
        known = {column.metric.key for column in board.columns}
        raise UnknownName("column", name, sorted({*by_key, *known}))
    return next((column for column in of_metric if column.task == task), of_metric[0])


def find_lines(board: Board, names: Sequence[str], *, curves: bool = False) -> list[Line]:
    """Return the lines of these names in their order.

    Args:
        board: The numbers.
        names: Of runs; for none, the tokenizers and codecs.
        curves: With all points of the codecs' curves among these.

    Raises UnknownName.
    """
    by_name = {line.name: line for line in board.lines}
    for name in names:
        if name not in by_name:
            raise UnknownName("run", name, sorted(by_name))
    if names:
        return [by_name[name] for name in names]
    return [line for line in board.lines if line.competes or (curves and line.joined)]


def split_commas(text: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
