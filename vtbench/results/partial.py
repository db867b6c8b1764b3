"""The rows of an unfinished run, which survive a kill."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from vtbench.base.errors import OutputError
from vtbench.base.files import write_atomic
from vtbench.results.rows import ROW_COLUMNS, Row


@functools.cache
def _columns() -> frozenset[str]:
    """Return what a line of the file may have: a row's columns, and the packed counts of its tokens."""
    return frozenset(ROW_COLUMNS) | {"codes"}


class PartialRows:
    """Rows of an unfinished run, appended batch by batch to a JSON Lines file.

    The first line holds the run's key; a file of another key (another protocol, other code) is
    started anew. Rows are kept up to the first line that no run of this key can have written there: a
    line that a kill or a full disk cut, one that is no UTF-8 or no row, an image that was there
    before (of two writers) or is none of this run's. What follows it is measured again.

    Args:
        path: the file.
        key: the run's key.
        ids: the run's images; None takes any.
    """

    def __init__(self, path: Path, key: str, *, ids: Collection[str] | None = None) -> None:
        self.path = path
        self.key = key
        self.rows: list[Row] = self._read(ids) or []
        first = json.dumps({"key": key})
        lines = [first, *(json.dumps(row, ensure_ascii=False) for row in self.rows)]
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())

    def _read(self, ids: Collection[str] | None) -> list[Row] | None:
        if not self.path.is_file():
            return None
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror or error}") from error
        if _parse(lines[0]) != {"key": self.key}:
            return None
        rows: dict[str, Row] = {}
        for line in lines[1:]:
            row = _parse(line)
            if not _is_row(row) or row["id"] in rows or (ids is not None and row["id"] not in ids):
                break
            if row["error"] is None:  # what failed is tried again
                rows[row["id"]] = row
        return list(rows.values())

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch's rows; they survive a kill from here on."""
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.rows.extend(rows)

    def restart(self) -> None:
        """Forget the rows that were kept: what belongs to them is gone."""
        write_atomic(self.path, (json.dumps({"key": self.key}) + "\n").encode())
        self.rows = []

    def discard(self) -> None:
        """Remove the file: its rows stand in images.parquet now."""
        self.path.unlink(missing_ok=True)


def _parse(line: bytes) -> Any:
    """Return the JSON value of a line, None for none; NaN and infinity are none."""
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _is_row(data: Any) -> bool:
    """Return whether a value is a row, with the columns that every row has."""
    if not isinstance(data, dict) or not data.keys() <= _columns():
        return False
    texts = [data.get(key) for key in ("id", "task", "subset")]
    numbers = [data.get(key) for key in ("width", "height")]
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and "error" in data
        and not any(isinstance(x, float) and not math.isfinite(x) for x in data.values())
    )
