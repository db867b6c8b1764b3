"""Small results that can be computed again, kept in the user's cache by what they follow from.

    <cache>/<kind>/<name>.<digest>/<random>.kept

A process appends to a file of its own and reads those of all others, so that several may work at once
and a kill loses the record that was being written alone. Each record carries a checksum: what is
damaged is not found, and computed again. A cache that cannot be written saves nothing and fails nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import struct
from pathlib import Path

ENDING = ".kept"
MAX_RECORD_BYTES = 2**24

_Place = tuple[Path, int, int]

_HEAD = struct.Struct("<32sI16s8s")
"""Key, length of the value, checksum of key and value, checksum of what stands before it."""


class RecordStore:
    """Byte strings by key.

    Args:
        folder: one of the cache; it is named by a digest of all that the values follow from beside
            their keys.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[bytes, tuple[_Place, ...]] | None = None
        self._own: Path | None = None
        self._writable = True
        self._touched: set[Path] = set()

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, None where there is none or it is damaged."""
        digest = _digest_key(key)
        for place in self._index().get(digest, ()):
            if (value := self._read(digest, place)) is not None:
                return value
        return None

    def _read(self, digest: bytes, place: _Place) -> bytes | None:
        path, offset, length = place
        try:
            with path.open("rb") as file:
                file.seek(offset)
                head, value = file.read(_HEAD.size), file.read(length)
        except OSError:
            return None
        if head != _make_head(digest, value):
            return None
        if path not in self._touched:  # a file's time of writing says when it was last of use
            self._touched.add(path)
            with contextlib.suppress(OSError):
                os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        if not self._writable or len(value) > MAX_RECORD_BYTES:
            return
        index, digest = self._index(), _digest_key(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._own is None:
                self._own = self.folder / f"{secrets.token_hex(8)}{ENDING}"
            with self._own.open("ab", buffering=0) as file:
                offset = file.tell()
                content = _make_head(digest, value) + value
                if file.write(content) < len(content):
                    raise OSError("the disk is full")
        except OSError:
            self._writable = False
            return
        index[digest] = ((self._own, offset, len(value)),)

    def _index(self) -> dict[bytes, tuple[_Place, ...]]:
        if self._places is None:
            self._places = {}
            for path in sorted(self.folder.glob(f"*{ENDING}")):
                with contextlib.suppress(OSError):
                    self._scan(path, self._places)
        return self._places

    @staticmethod
    def _scan(path: Path, places: dict[bytes, tuple[_Place, ...]]) -> None:
        """Take the places of a file's records, up to the first that is cut or damaged."""
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            return
        size, offset = facts.st_size, 0
        with path.open("rb") as file:
            while offset + _HEAD.size <= size:
                file.seek(offset)
                head = file.read(_HEAD.size)
                key, length, _, check = _HEAD.unpack(head)
                end = offset + _HEAD.size + length
                if check != _check(head[:-8], 8) or length > MAX_RECORD_BYTES or end > size:
                    return
                # Two processes may have kept the same, and one of the two may be damaged.
                places[key] = (*places.get(key, ()), (path, offset, length))
                offset = end


def _digest_key(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _make_head(digest: bytes, value: bytes) -> bytes:
    front = digest + struct.pack("<I", len(value)) + _check(digest + value, 16)
    return front + _check(front, 8)


def _check(content: bytes, size: int) -> bytes:
    return hashlib.blake2b(content, digest_size=size).digest()
