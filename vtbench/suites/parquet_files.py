"""Pictures in Parquet files, as the Hugging Face hub keeps them: listed by row, read by row group.

Another process reads them (`parquet_pictures`), one for all files: whatever they hold, they cannot end
this one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtbench.base.child_process import WALL_SECONDS, ChildFailed, ChildProcess
from vtbench.base.errors import ImageError, SuiteError
from vtbench.base.records import ParquetPlace, Sample

AHEAD_BYTES = 4 * 2**20
"""Pictures that follow the one that is asked for come with it while they are asked for in order."""

SLOW_BYTES_A_SECOND = 2 * 10**6
"""A disk or network that gives no more is waited for."""

_LENGTH_BYTES = 8

_READER = ChildProcess("vtbench.suites.parquet_pictures", memory_bytes=None)


def list_parquet(path: Path, column: str) -> Iterator[tuple[Path, str, ParquetPlace]]:
    """Yield (file, name or "", place) of each row.

    Raises:
        SuiteError: no pictures in that column, more rows or bytes than the limits, damage.
    """
    ROW_GROUP.forget(path)
    found = json.loads(_ask(path, SuiteError, column=column))
    for group, (n_rows, names) in enumerate(found["groups"]):
        for row in range(n_rows):
            name = (names[row] if names else None) or ""
            yield path, name, ParquetPlace(name, group, row, found["leaf"])


def _ask(path: Path, raise_as: type[SuiteError | ImageError], **asked: Any) -> bytearray:
    """Return what the process says of a file."""
    place = str(path.absolute())
    request = json.dumps({"path": place, **asked}).encode()
    try:
        patience = WALL_SECONDS + path.stat().st_size / SLOW_BYTES_A_SECOND
        good, answer = _READER.ask(request, wall_seconds=patience)
    except OSError as error:
        raise raise_as(f"{path}: cannot be read ({error.strerror})") from None
    except ChildFailed as failed:
        raise raise_as(f"{path}: not a Parquet file (reading it {failed})") from None
    if not good:  # named as it was given
        raise raise_as(answer.decode("utf-8", "replace").replace(place, str(path)))
    return answer


class RowGroup:
    """The pictures that came last, of one row group. Threads take turns."""

    def __init__(self) -> None:
        self._key: tuple[Path, int, str] | None = None
        self._pictures: dict[int, bytes | None] = {}
        self._next = -1
        self._failed: dict[tuple[Path, int, str], str] = {}
        self._turn = threading.Lock()

    def forget(self, path: Path) -> None:
        """Drop what is known of a file: it may be another one by now."""
        with self._turn:
            self._key = None
            self._failed = {key: why for key, why in self._failed.items() if key[0] != path}

    def read(self, sample: Sample) -> bytes | None:
        """Return the bytes of a sample's row, None where the row has none.

        Raises:
            ImageError: the row group cannot be read.
        """
        with self._turn:
            return self._read(sample)

    def _read(self, sample: Sample) -> bytes | None:
        place = sample.place
        assert isinstance(place, ParquetPlace)
        key = (sample.path, place.row_group, place.column)
        if key in self._failed:  # not once a picture: each would start a process
            raise ImageError(self._failed[key])
        if key != self._key:
            self._key, self._pictures, self._next = key, {}, 0
        if place.row not in self._pictures:
            more = AHEAD_BYTES if place.row == self._next else 0
            self._pictures = self._fetch(key, place.row, more)
        self._next = place.row + 1
        return self._pictures.pop(place.row)

    def _fetch(self, key: tuple[Path, int, str], row: int, more: int) -> dict[int, bytes | None]:
        path, group, leaf = key
        try:
            answer = _ask(path, ImageError, group=group, leaf=leaf, row=row, more=more)
        except ImageError as error:
            self._failed[key] = str(error)
            raise
        found: dict[int, bytes | None] = {}
        view, at = memoryview(answer), 0
        while at < len(view):
            n = int.from_bytes(view[at : at + _LENGTH_BYTES], "little", signed=True)
            at += _LENGTH_BYTES
            found[row] = bytes(view[at : at + n]) if n >= 0 else None
            at, row = at + max(n, 0), row + 1
        return found


ROW_GROUP = RowGroup()
