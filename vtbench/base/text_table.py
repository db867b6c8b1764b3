"""A table in plain text."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from vtbench.base.text import show_text

Rows = Sequence[Sequence[str]]

_GAP = 2
_READABLE = 36
"""Characters of a wrapped column for which another column is left out rather than it is narrower."""
_LEAST = 10


def format_table(rows: Rows) -> str:
    """Return left-aligned columns two spaces apart; hidden characters and line breaks as escapes."""
    return _align([[show_text(cell) for cell in row] for row in rows])


def _align(rows: Rows) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def screen_width() -> int | None:
    """Return the width of the terminal in characters; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fit_table(rows: Rows, width: int | None, *, optional: Sequence[str] = ()) -> str:
    """Return the table no wider than a screen, as far as that goes.

    Columns that do not fit are left out and named below the table. Cells of the others are wrapped, but
    for those of the first column, which are names.

    Args:
        rows: A header and the rows.
        width: Of the screen, in characters; None for a table as wide as it is (`format_table`).
        optional: Headings of the columns that may be left out, the least wanted first.
    """
    rows = [[show_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is None or _total(widths) <= width:
        return _align(rows)
    kept = list(range(len(widths)))
    dropped = []
    for heading in optional:
        least = [own if place == 0 else min(own, _READABLE) for place, own in enumerate(widths)]
        if _total([least[place] for place in kept]) <= width:
            break
        kept.remove(rows[0].index(heading))
        dropped.append(heading)
    own = [widths[place] for place in kept]
    while _total(own) > width and max(own[1:], default=0) > _LEAST:
        own[own.index(max(own[1:]), 1)] -= 1
    lines: list[list[str]] = []
    for row in rows:
        cells = [_wrap(row[place], size) for place, size in zip(kept, own, strict=True)]
        lines += [
            [cell[line] if line < len(cell) else "" for cell in cells]
            for line in range(max(map(len, cells)))
        ]
    table = "\n".join(line.rstrip() for line in _align(lines).splitlines())
    return f"{table}\n(not shown at this width: {', '.join(dropped)})" if dropped else table


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _wrap(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def wrap_text(text: str, width: int | None) -> str:
    """Return a sentence in lines of a screen's width, words and names whole; a table as it is."""
    if width is None or len(text) <= width or "\n" in text:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
