"""The parts of a picture's file, counted before a decoder sees it: chunks, segments, scans, strips.

A decoder takes time and memory for each, however small it is, so a file with nothing else in it would
take much of both; a scan of a JPEG goes over the whole picture.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_PARTS = 100_000
"""Chunks of a PNG, segments of a JPEG, strips or tiles of a TIFF: more than rows of pixels."""

MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; libjpeg-turbo's own advice is a limit of this order."""

MAX_PAGES = 64
"""Of a TIFF, as `picture_file` looks through them."""

LEAST_PART = 2
"""Bytes of the smallest part; a file too small for too many is not looked through."""

BLOCK = 1 << 16

SCAN, END = 0xDA, 0xD9
"""Kinds of a JPEG's segments: ITU-T T.81, table B.1."""

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""What ends coded data, where 0xFF stands before 0x00 or the count of a restart."""

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
    if start.startswith(JPEG):
        return _find_jpeg_excess(file, size)
    if size < LEAST_PART * MAX_PARTS:
        return None
    if start == PNG and any(n >= MAX_PARTS for n, _ in enumerate(_list_chunks(file, size))):
        return f"more than {MAX_PARTS:,} chunks"
    if start.startswith(TIFF) and max(_list_strips(file), default=0) > MAX_PARTS:
        return f"more than {MAX_PARTS:,} strips or tiles"
    return None


def _find_jpeg_excess(file: BinaryIO, size: int) -> str | None:
    scans = 0
    for n, kind in enumerate(_list_segments(file, size)):
        scans += kind == SCAN
        if scans > MAX_SCANS:
            return f"more than {MAX_SCANS} scans"
        if n >= MAX_PARTS:
            return f"more than {MAX_PARTS:,} segments"
    return None


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
    """Yield the kind of each segment of a JPEG up to its end. What follows the end is another picture,
    or a phone's film; in a segment there may be a picture too."""
    at: int | None = 2
    while at is not None and at + 4 <= size:
        file.seek(at)
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or kind == END:
            return
        yield kind
        if kind == 0xFF:  # fills
            at += 1
        elif kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            at += 2
        else:
            at += 2 + max(length, 2)
            if kind == SCAN:
                at = _find_marker(file, at)


def _find_marker(file: BinaryIO, at: int) -> int | None:
    """Return where the first marker that is none of coded data stands, from a place on."""
    file.seek(at)
    last = b""
    while block := file.read(BLOCK):
        if found := MARKER.search(last + block):
            return at - len(last) + found.start()
        at += len(block)
        last = b"\xff" if block.endswith(b"\xff") else b""
    return None


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
