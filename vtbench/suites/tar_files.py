"""Pictures in tars: listed by their headers, read where they lie. Imports no torch."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vtbench.base.errors import ImageError, SuiteError
from vtbench.base.names import printable
from vtbench.base.records import TarPlace
from vtbench.images import SUFFIXES

MAX_ENCODED_BYTES = 2**30
"""A picture in an archive that claims more bytes than this is not read."""

MAX_HEADER_BYTES = 2**20
"""Of a long name, or what else stands before a member of a tar."""


def require_content(path: Path) -> None:
    """Raise SuiteError for what is no file with something in it: a pipe would be waited for."""
    try:
        facts = path.stat()
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
        raise SuiteError(f"{path}: not a regular file, or an empty one")


class _Headers(io.BufferedReader):
    """A tar of which headers alone are read: they say how long they are."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes. Raises ReadError for more than a header has."""
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header that is too long")
        return super().read(size)


_OF_HEADERS = (ValueError, LookupError, ArithmeticError, RecursionError, struct.error)
"""What `tarfile` raises for headers that say what cannot be: text for numbers, chains without end."""


def list_tar(path: Path) -> Iterator[tuple[Path, str, TarPlace]]:
    """Yield (file, name, place) of each picture, as they lie there.

    Raises:
        SuiteError: no tar that can be read in place.
    """
    end = 0
    try:
        # "r:" refuses a compressed tar, in which nothing can be found without unpacking all of it.
        with _Headers(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                # It would keep every header, about a kilobyte each.
                tar.members = []  # type: ignore[attr-defined]
                if member.size < 0:  # the next header would be this one again, for ever
                    raise SuiteError(f"{path}: {printable(member.name)}: of negative size")
                end = member.offset_data + member.size
                regular = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                base = PurePosixPath(member.name).name
                if regular and not base.startswith(".") and _has_image_ending(base):
                    place = TarPlace(member.name, member.offset_data, member.size)
                    yield path, member.name, place
    except (tarfile.TarError, OSError, *_OF_HEADERS) as error:
        # A picture that claims more than the file has fails by its name when it is read.
        if end <= path.stat().st_size:
            why = str(error)[:200] or type(error).__name__
            raise SuiteError(f"{path}: not a tar that can be read in place ({why})") from None


def _has_image_ending(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def read_tar(path: Path, place: TarPlace, label: str) -> bytes:
    """Return the bytes of a picture. Raises ImageError, with the label, for bytes that cannot be had."""
    inner = PurePosixPath(place.name)
    if inner.is_absolute() or ".." in inner.parts:  # never unpacked, and still no honest picture
        raise ImageError(f"{label}: its name leaves the archive")
    if place.length > MAX_ENCODED_BYTES:
        raise ImageError(f"{label}: more than {MAX_ENCODED_BYTES >> 30} GiB")
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.length)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) < place.length:
        raise ImageError(f"{label}: the archive ends within it")
    return content
