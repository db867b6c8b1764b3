"""The rows of an unfinished run, which survive a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import OutputError
from vtbench.base.files import write_atomic
from vtbench.results.rows import Row


class PartialRows:
    """Rows of an unfinished run, appended batch by batch to a JSON Lines file.

    The first line holds the run's key; a file of another key (another protocol, other code) is
    started anew. A torn last line, left by a kill, is dropped.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.rows: list[Row] = []
        kept = self._read(key)
        if kept is None:
            write_atomic(path, (json.dumps({"key": key}) + "\n").encode())
        else:
            self.rows = kept
            lines = [json.dumps({"key": key}), *(json.dumps(row) for row in kept)]
            write_atomic(path, ("\n".join(lines) + "\n").encode())

    def _read(self, key: str) -> list[Row] | None:
        if not self.path.is_file():
            return None
        rows: list[Row] = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines()):
            try:
                data = json.loads(line)
            except ValueError:
                break
            if number == 0:
                if data != {"key": key}:
                    return None
            elif data.get("error") is None:  # what failed is tried again
                rows.append(data)
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch's rows; they survive a kill from here on."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
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
