"""Wording that all formats share: titles, cells, columns and lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from vtbench.base.records import Kind
from vtbench.leaderboard.aggregate import INCOMPLETE
from vtbench.leaderboard.board import BLOCKS, Block, Board, Cell, Column, Line

BLOCK_TITLES: Mapping[Block, str] = {
    "tokenizers": "Tokenizers",
    "codecs": "Codecs",
    "curves": "Further points of codecs' curves, not ranked",
    "sanity": "Sanity rows",
    "incomplete": "Incomplete runs",
}


NO_CELL = Cell(None, 0, "not-applicable")
"""Of a column that a published board does not have."""


def blocks(
    lines: Sequence[Line], kind: Kind | None = None, *, curves: bool = False
) -> Iterator[tuple[str, list[Line]]]:
    """Yield each block's title and lines, without the empty ones.

    Args:
        lines: Of a board.
        kind: Of these tokenizers alone.
        curves: With the further points of codecs' curves; these are left out only where there are
            others.
    """
    left_out = not curves and any(line.competes for line in lines)
    for block in BLOCKS:
        if block == "curves" and left_out:
            continue
        if of_block := [x for x in lines if x.block == block and kind in (None, x.kind)]:
            yield BLOCK_TITLES[block], of_block


def format_cell(cell: Cell, column: Column, usual: int) -> str:
    """Return what a cell says. usual: the n that need not be told."""
    if cell.value is not None:
        bound = {"=": "", ">=": "≥", "<": "<"}[cell.bound]
        n = "" if cell.n == usual or column.task is None else f" (n={cell.n})"
        error = cell.standard_error if cell.spread is None else cell.spread
        spread = "" if error is None else f" ± {error:.{column.metric.decimals}f}"
        return f"{bound}{cell.value:.{column.metric.decimals}f}{spread}{n}"
    if cell.state == "failed":
        all_images = cell.n + cell.failures
        return f"failed ({cell.failures} of {all_images})" if cell.failures else "failed"
    if cell.reason == INCOMPLETE:
        return "–"
    return "n/a" if cell.state == "not-applicable" else "missing"


def format_interval(cell: Cell, column: Column) -> str:
    """Return the ends of a cell's interval, "" where it has none or all images agree."""
    if cell.low is None or cell.high is None or cell.low == cell.high:
        return ""
    return f"{cell.low:.{column.metric.decimals}f}–{cell.high:.{column.metric.decimals}f}"


def format_rank(line: Line, column: Column) -> str:
    """Return between which ranks a line stands by a column, "" where it is not ranked."""
    low, high = line.ranks.get(column.key, (0, 0))
    return "" if not low else str(low) if low == high else f"{low}–{high}"


def interval_columns(board: Board) -> tuple[Column, ...]:
    """Return the columns of the overview that are shown with intervals, where any line has one."""
    return tuple(
        column
        for column in board.overview.columns
        if column.interval and any(line.cells[column.key].low is not None for line in board.lines)
    )


def describe_column(column: Column) -> str:
    """Return a column's label with its direction and unit."""
    metric = column.metric
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[metric.better]
    if metric.heading and column.label == metric.label:
        return f"{metric.heading}{arrow}"
    return f"{column.label}{arrow}" + (f" ({metric.unit})" if metric.unit else "")


def describe_line(line: Line) -> str:
    """Return a line's name, with what is wrong with it."""
    if line.problem is not None:
        return f"{line.name} (incomplete: {line.problem})"
    return f"{line.name} ({len(line.records)} seeds)" if line.other_seeds else line.name


def find_front(lines: Iterable[Line], column: Column) -> frozenset[str]:
    """Return the names of the lines that no other beats in this column at their rate or less.

    Best at any rate would only name the highest rate. Sanity rows and incomplete runs take no part.
    """
    rate, better = column.rate, column.metric.better
    if rate is None or better is None:
        return frozenset()
    sign = 1.0 if better == "higher" else -1.0
    points = [
        (line.name, bits.value, sign * cell.value)
        for line in lines
        if line.competes
        and (cell := line.cells.get(column.key, NO_CELL)).value is not None
        and cell.bound != "<"  # below what was measured: no best of anything
        and (bits := line.cells[rate]).value is not None
    ]
    return frozenset(
        name
        for name, bits, value in points
        if not any(b <= bits and v >= value and (b < bits or v > value) for _, b, v in points)
    )


def split_code(text: str) -> list[tuple[bool, str]]:
    """Return the parts of a sentence, True for those between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0 or "" in parts[1::2]:
        return [(False, text)]
    return [(bool(i % 2), part) for i, part in enumerate(parts) if part]
