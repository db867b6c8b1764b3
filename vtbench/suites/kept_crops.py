"""Pictures of data sets, decoded and cropped once: kept in the user's cache by the bytes that they were
decoded from, up to a number of bytes.

    <cache>/crops/<digest of the code and the machine>/ab/<key>.crop

A picture's bytes are read and digested each time, so that no changed file meets an old picture; what
is saved is to decode and to resize it. When the limit is reached, what was not of use for the longest
time is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vtbench.base.cache_folder import walk_files
from vtbench.base.errors import OutputError, SuiteError, VtbenchError
from vtbench.base.files import read_bounded, sha256_bytes, write_atomic
from vtbench.base.locations import cache_dir
from vtbench.base.picture_file import MAX_FILE_BYTES
from vtbench.base.records import Sample
from vtbench.images import MAX_PIXELS, RGB8
from vtbench.suites.batches import check_unchanged, find_fault, load_pixels
from vtbench.suites.copies import open_sample

LIMIT_VARIABLE = "VTBENCH_CACHE_GIB"
"""The environment variable with the most GiB of kept crops; 0 keeps none."""

DEFAULT_GIB = 20.0

ROOM = 0.9
"""To which share of the limit the cache is emptied when it is full."""

USED_S = 3600
"""A time of use is noted at most so often."""

_HEAD = struct.Struct("<4sII32s")
_MAGIC = b"VTC1"


def read_limit() -> int:
    """Return the most bytes of kept crops. Raises SuiteError for a limit that is no number."""
    text = os.environ.get(LIMIT_VARIABLE)
    try:
        gib = DEFAULT_GIB if not text else float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**20:
        raise SuiteError(f"{LIMIT_VARIABLE}={text}: expected a number of GiB")
    return int(gib * 2**30)


class KeptCrops:
    """Loads samples as `load_pixels` does, those whose preprocessing cuts a square out of the cache.

    Args:
        follows: what the pixels follow from beside a file's bytes and its sample: code, libraries,
            machine.
        limit: the most bytes of the whole cache of crops; None reads the variable.
    """

    def __init__(self, follows: Mapping[str, object], *, limit: int | None = None) -> None:
        digest = sha256_bytes(json.dumps(follows, sort_keys=True).encode())
        self.root = cache_dir() / "crops"
        self.folder = self.root / digest[:20]
        self.limit = read_limit() if limit is None else limit
        self._turn = threading.Lock()
        self._bytes: int | None = None
        self._writable = self.limit > 0

    def load(self, sample: Sample) -> RGB8:
        """Return the sample's pixels. Raises ImageError or SuiteError as `load_pixels`."""
        if sample.preprocess.size is None or not self._writable:
            return load_pixels(sample)
        source = open_sample(sample)
        content = _read_all(source)
        if content is None:  # it says by itself what is wrong with the file
            return load_pixels(sample)
        how = sample.preprocess
        facts = [
            sha256_bytes(content),
            sample.crop,
            [how.crop, how.size, how.upright],
            sample.max_pixels or MAX_PIXELS,
        ]
        key = sha256_bytes(json.dumps(facts).encode())
        path = self.folder / key[:2] / f"{key[2:]}.crop"
        kept = _read_crop(path, how.size)
        if kept is not None:
            if fault := find_fault(sample, kept):
                raise SuiteError(fault)
            check_unchanged(sample)
            return kept
        pixels = load_pixels(sample, _NamedContent(content, source))
        self._write(path, pixels)
        return pixels

    def _write(self, path: Path, pixels: RGB8) -> None:
        height, width = pixels.shape[:2]
        content = np.ascontiguousarray(pixels).tobytes()
        head = _HEAD.pack(_MAGIC, height, width, _digest(height, width, content))
        try:
            write_atomic(path, head + content)
        except OutputError:  # the cache saves time, no more
            self._writable = False
            return
        with self._turn:
            if self._bytes is None:
                self._bytes = sum(facts.st_size for _, facts in walk_files(self.root))
            else:
                self._bytes += _HEAD.size + len(content)
            if self._bytes > self.limit:
                self._bytes = make_room(self.root, int(self.limit * ROOM))


def make_room(root: Path, most: int) -> int:
    """Remove what was not of use for the longest time until a folder has at most so many bytes; return
    how many it has."""
    files = [(facts.st_mtime, facts.st_size, path) for path, facts in walk_files(root)]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
    return total


class _NamedContent(io.BytesIO):
    """A file's bytes with the name that messages call it by."""

    def __init__(self, content: bytes, source: Path | BinaryIO) -> None:
        super().__init__(content)
        self.name = str(source if isinstance(source, Path) else getattr(source, "name", "image"))


def _read_all(source: Path | BinaryIO) -> bytes | None:
    """Return the content of a picture's file, None for one that cannot be read."""
    if not isinstance(source, Path):
        return source.read()
    try:
        return read_bounded(source, max_bytes=MAX_FILE_BYTES, links=True)
    except (VtbenchError, OSError):
        return None


def _read_crop(path: Path, size: int | None) -> RGB8 | None:
    """Return the kept pixels of a square, None for none, or damaged ones."""
    try:
        used = path.lstat().st_mtime
        whole = read_bounded(path, max_bytes=_HEAD.size + 3 * (size or 0) ** 2)
    except (VtbenchError, OSError):
        return None
    head, content = whole[: _HEAD.size], whole[_HEAD.size :]
    if len(head) < _HEAD.size:
        return None
    magic, height, width, digest = _HEAD.unpack(head)
    if magic != _MAGIC or len(content) != height * width * 3:
        return None
    if digest != _digest(height, width, content):
        return None
    if time.time() - used > USED_S:  # the time of writing says when it was last of use
        with contextlib.suppress(OSError):
            os.utime(path)
    return np.frombuffer(content, np.uint8).reshape(height, width, 3).copy()


def _digest(height: int, width: int, content: bytes) -> bytes:
    start = hashlib.blake2b(struct.pack("<II", height, width), digest_size=32)
    start.update(content)
    return start.digest()
