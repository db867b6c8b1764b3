"""The parts of a picture's file, counted before a decoder sees it: chunks, segments, scans, strips.

A decoder takes a few microseconds and a hundred bytes for each, so a file of some megabytes with nothing
else in it would take a minute or gigabytes; a scan of a JPEG goes over the whole picture.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_PARTS = 100_000
"""Chunks of a PNG, segments of a JPEG, strips or tiles of a TIFF. Writers of 24 megapixels make some
20,000 at most."""

MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; libjpeg-turbo's own advice is a limit of this order."""

MAX_PAGES = 64
"""Of a TIFF, as `picture_file` looks through them."""

LEAST_PART = 2
"""Bytes of the smallest part; a file too small for too many is not looked through."""

BLOCK = 1 << 22

PNG, JPEG, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def find_excess(source: Path | BinaryIO) -> str | None:
    """Return which parts of a PNG, JPEG or TIFF are too many; None for any other file.

    Args:
        source: the file; an open one is left at its start.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _find_excess(file)
    source.seek(0)
    try:
        return _find_excess(source)
    finally:
        source.seek(0)


def _find_excess(file: BinaryIO) -> str | None:
    start = file.read(8)
    size = file.seek(0, os.SEEK_END)
    if start.startswith(JPEG) and _count_scans(file) > MAX_SCANS:
        return f"more than {MAX_SCANS} scans"
    if size < LEAST_PART * MAX_PARTS:
        return None
    if start == PNG and _exceeds(_list_chunks(file, size)):
        return f"more than {MAX_PARTS:,} chunks"
    if start.startswith(JPEG) and _exceeds(_list_segments(file, size)):
        return f"more than {MAX_PARTS:,} segments"
    if start.startswith(TIFF) and max(_list_strips(file), default=0) > MAX_PARTS:
        return f"more than {MAX_PARTS:,} strips or tiles"
    return None


def _exceeds(parts: Iterator[int]) -> bool:
    return any(n >= MAX_PARTS for n, _ in enumerate(parts))


def _list_chunks(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where each chunk of a PNG begins."""
    at = len(PNG)
    while at + 12 <= size:
        yield at
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        at += 12 + length
        if kind == b"IEND":
            return


def _list_segments(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where each segment of a JPEG before its first scan begins; a fill byte is one."""
    at = 2
    while at + 4 <= size:
        yield at
        file.seek(at)
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or kind == 0xDA:
            return
        if kind == 0xFF:
            at += 1
        elif kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD9:
            at += 2
        else:
            at += 2 + max(length, 2)


def _count_scans(file: BinaryIO) -> int:
    """Return how often the mark of a scan stands in a JPEG; coded data never hold it."""
    file.seek(0)
    count, last = 0, b""
    while block := file.read(BLOCK):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:] if block[-1:] == b"\xff" else b""
    return count


def _list_strips(file: BinaryIO) -> Iterator[int]:
    """Yield how many strips or tiles each page of a TIFF says that it has."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    big = 43 in head[2:4]
    (at,) = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])
    count_of, entry, link = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    entry_size, seen = (20 if big else 12), set[int]()
    while at and at not in seen and len(seen) < MAX_PAGES:
        seen.add(at)
        file.seek(at)
        start = file.read(struct.calcsize(order + count_of))
        if len(start) < struct.calcsize(order + count_of):
            return
        (n,) = struct.unpack(order + count_of, start)
        entries = io.BytesIO(file.read(min(n, 0xFFFF) * entry_size))
        while len(one := entries.read(entry_size)) == entry_size:
            tag, _, count = struct.unpack_from(order + entry, one)
            if tag in (273, 324):
                yield count
        following = file.read(struct.calcsize(order + link))
        if len(following) < struct.calcsize(order + link):
            return
        (at,) = struct.unpack(order + link, following)
