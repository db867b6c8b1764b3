"""A table in plain text."""

from __future__ import annotations

from collections.abc import Sequence

from vtbench.base.text import show_text

Rows = Sequence[Sequence[str]]


def format_table(rows: Rows) -> str:
    """Return left-aligned columns two spaces apart; hidden characters and line breaks as escapes."""
    rows = [[show_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)
