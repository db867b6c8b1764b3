"""JSON output of commands."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click


def print_json(data: object) -> None:
    """Print a value as JSON. Raises ValueError for NaN or infinity, which no result has."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def name_cells(rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return a table as a mapping a row; the first row has the keys."""
    if not rows:
        return []
    head, *lines = rows
    return [dict(zip(head, line, strict=True)) for line in lines]
