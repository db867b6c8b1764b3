"""The rows of an unfinished run, which survive a kill."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.base.errors import OutputError
from vtbench.base.files import write_atomic
from vtbench.results.folder import tabulate
from vtbench.results.rows import ROW_COLUMNS, Row

if TYPE_CHECKING:
    import pyarrow as pa


@functools.cache
def _columns() -> frozenset[str]:
    """Return what a row of the file may have: a row's columns, and the packed counts of its tokens."""
    return frozenset(ROW_COLUMNS) | set(_EXTRA)


_EXTRA = ("codes",)


class PartialRows:
    """Rows of an unfinished run, appended to a JSON Lines file: a line a batch.

    The first line holds the run's key; a file of another key (another protocol, other code) is
    started anew. Batches are kept up to the first line that no run of this key can have written there: a
    line that a kill or a full disk cut, one that is no UTF-8 or no rows, an image that was there
    before (of two writers) or is none of this run's. What follows it is measured again. A batch is kept
    whole or not at all, so that what is left falls into the same batches as before.

    Args:
        path: the file.
        key: the run's key.
        ids: the run's images; None takes any.

    Rows stay in the file: of each image the process holds its name alone.

    Attributes:
        done: images that were kept and have numbers, then those that were appended, in that order.
        failed: images that failed before the kill, to be tried again.
    """

    def __init__(self, path: Path, key: str, *, ids: Collection[str] | None = None) -> None:
        self.path = path
        self.key = key
        self.done: dict[str, None] = {}
        self.failed: frozenset[str] = frozenset()
        lines = self._read(ids)
        write_atomic(path, b"".join([self._head(), *lines]), durable=True)

    def _head(self) -> bytes:
        return json.dumps({"key": self.key}).encode() + b"\n"

    def _read(self, ids: Collection[str] | None) -> list[bytes]:
        """Take the rows of the file, and return the lines that hold them."""
        if not self.path.is_file():
            return []
        try:
            first, *lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror or error}") from error
        if _parse(first) != {"key": self.key}:
            return []
        done: dict[str, None] = {}
        failed: set[str] = set()
        kept = []
        for line in lines[:-1]:  # what follows the last newline was cut
            batch = _parse(line)
            if not isinstance(batch, list) or not batch or not all(map(_is_row, batch)):
                break
            names = [row["id"] for row in batch]
            known = ids is None or all(name in ids for name in names)
            if not known or len(set(names)) < len(names) or not done.keys().isdisjoint(names):
                break
            kept.append(line + b"\n")
            for row in batch:
                if row["error"] is None:
                    done[row["id"]] = None
                    failed.discard(row["id"])
                else:
                    failed.add(row["id"])
        self.done, self.failed = done, frozenset(failed)
        return kept

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch's rows; they survive a kill, and a machine that stops, from here on."""
        line = json.dumps(list(rows), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(line) < len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.done |= dict.fromkeys(row["id"] for row in rows)

    @property
    def rows(self) -> list[Row]:
        """The rows of `done`, in its order, read from the file."""
        with self.path.open("rb") as file:
            rows = {
                row["id"]: row for line in itertools.islice(file, 1, None) for row in _parse(line)
            }
        return [rows[name] for name in self.done]

    def read_table(self, order: Sequence[str]) -> pa.Table:
        """Return the rows of these images in this order, with the packed counts of tokens in a column
        `codes` where there are any. What failed and was tried again has the row of the last try."""
        with self.path.open("rb") as file:
            lines = itertools.islice(file, 1, None)
            table = tabulate((row for line in lines for row in json.loads(line)), extra=_EXTRA)
        place = {name: index for index, name in enumerate(table["id"].to_pylist())}  # the last
        return table.take([place[name] for name in order])

    def restart(self) -> None:
        """Forget the rows that were kept: what belongs to them is gone."""
        write_atomic(self.path, self._head(), durable=True)
        self.done, self.failed = {}, frozenset()

    def discard(self) -> None:
        """Remove the file: its rows stand in images.parquet now."""
        self.path.unlink(missing_ok=True)


def count_rows(path: Path, key: str, *, ids: Collection[str]) -> int:
    """Return how many images a killed run of this key has done, without writing anything."""
    partial = PartialRows.__new__(PartialRows)
    partial.path, partial.key, partial.done, partial.failed = path, key, {}, frozenset()
    partial._read(ids)
    return len(partial.done)


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
