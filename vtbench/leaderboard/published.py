"""Published results of the same suite, told as differences (Δ) beside the numbers of a board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Cell, Column, Line
from vtbench.leaderboard.footnotes import describe_machine


def match_published(board: Board, published: Board | None) -> dict[str, Line]:
    """Return the published lines of the board's runs by name, none where the published suite is another
    version."""
    if published is None or published.suite.sha256 != board.suite.sha256:
        return {}
    here = {line.name for line in board.lines}
    return {line.name: line for line in published.complete if line.name in here}


def format_delta(cell: Cell, other: Cell, column: Column) -> str | None:
    """Return the difference to the published number as text, "" where both print alike, None where
    one of them is no number."""
    if cell.value is None or other.value is None:
        return None
    text = f"{cell.value - other.value:+.{column.metric.decimals}f}"
    return "" if float(text) == 0 else text


def find_delta(line: Line, column: Column, known: Mapping[str, Line]) -> str:
    """Return the text of a line's difference to its published number, "" where there is none."""
    other = known.get(line.name)
    if other is None:
        return ""
    return format_delta(line.cells[column.key], other.cells[column.key], column) or ""


def describe_published(board: Board, published: Board | None) -> Iterator[str]:
    """Yield what must be said of numbers that have a difference to published ones beside them."""
    if published is None:
        return
    if published.suite.sha256 != board.suite.sha256:
        label = suite_label(published.suite)
        yield f"Published results are of another version ({label}) and not compared."
        return
    known = match_published(board, published)
    here = [line for line in board.complete if line.name in known]
    if not here:
        return
    machine = " ".join(
        text
        for text in describe_machine([known[line.name] for line in here])
        if text.startswith(("Device", "Processor", "Commit"))
    )
    yield (
        f"Δ: difference to the published results of this suite, where a number prints differently; "
        f"{len(here)} of these runs are published. Speed and memory are of another machine. {machine}"
    )
