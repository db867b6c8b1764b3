"""What a file of weights says of itself, before it is hashed or opened by the library of its format.

A safetensors file begins with a header that lists its tensors, and a zip archive (torch.save,
torch.jit.save) ends with a directory of its members. Both are read within limits, without torch, so
that a command that opens no weights can say that a file is not whole.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

from vtbench.base.errors import WeightsMismatch

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".jit")

MAX_HEADER_BYTES = 32 << 20
"""Of a safetensors file. The format allows 100 MB."""

MAX_DIRECTORY_BYTES = 16 << 20
"""Of a zip archive's list of members."""

MAX_TENSORS = 50_000
"""Of a safetensors file. Opening many takes seconds."""

HOLES_FROM_BYTES = 1 << 30
MIN_SHARE_ON_DISK = 1 / 8
"""A larger file of which a smaller share takes room on the disk was not written whole: values of a
network are hardly compressible."""


def check_container(path: Path) -> None:
    """Raise WeightsMismatch for a file whose header or directory cannot be that of weights; a file of
    another ending, or one that is not there, passes."""
    suffix = path.suffix.lower()
    if suffix not in (*SAFETENSORS, *PICKLES) or not path.is_file():
        return
    try:
        facts = path.stat()
        check_holes(path, facts)
        if not facts.st_size:  # some files of /proc say so, and wait for what is to come
            raise ValueError("it is empty")
        with path.open("rb") as file:
            start = file.read(9)
            if is_header(start) or suffix in SAFETENSORS:
                _check_header(file, facts.st_size)
            elif start[:2] == b"PK":
                _check_directory(path, file, facts.st_size)
    except OSError as error:
        raise WeightsMismatch(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, struct.error, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsMismatch(
            f"{path} is damaged or not complete ({reason}); fetch it again"
        ) from None


def check_holes(path: Path, facts: os.stat_result) -> None:
    """Raise WeightsMismatch for a large file most of which was never written; it would be hashed for
    as long as its size says."""
    on_disk = getattr(facts, "st_blocks", 0) * 512
    if facts.st_size < HOLES_FROM_BYTES or on_disk >= facts.st_size * MIN_SHARE_ON_DISK:
        return
    # A file system that compresses, or that writes later, says as little, and has no hole there.
    if _find_hole(path, facts.st_size) < facts.st_size:
        raise WeightsMismatch(
            f"{path} is damaged or not complete ({on_disk:,} of its {facts.st_size:,} bytes are on the "
            "disk); fetch it again"
        )


def _find_hole(path: Path, size: int) -> int:
    """Return where the first hole of a file begins; its size where there is none, or none is known."""
    whence = getattr(os, "SEEK_HOLE", None)  # Windows has none
    if whence is None:
        return size
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, whence)


def is_header(start: bytes) -> bool:
    """Return whether 9 bytes begin a safetensors file: the length of a header, and its brace."""
    return len(start) == 9 and struct.unpack("<Q", start[:8])[0] < 1 << 32 and start[8:] == b"{"


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do."""
    with path.open("rb") as file:
        return is_header(file.read(9))


def is_torchscript(path: Path) -> bool:
    """Return whether the file is a TorchScript archive; only its list of members is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except _NO_ARCHIVE:
        return False  # no archive, or a damaged one, which is said where it is opened


def _check_header(file: IO[bytes], size: int) -> None:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"its header would be {length:,} of {size:,} bytes")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB")
    header = json.loads(file.read(length), object_pairs_hook=_take_pairs)
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")
    tensors = {key: value for key, value in header.items() if key != "__metadata__"}
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"it lists more than {MAX_TENSORS:,} tensors")
    end = 0
    for key, first, last in sorted(_read_places(tensors), key=lambda place: place[1:]):
        if first != end or last < first:
            raise ValueError(f"{key[:80]!r} does not begin where the tensor before it ends")
        end = last
    if end != size - 8 - length:
        raise ValueError(f"its tensors take {end:,} bytes, and {size - 8 - length:,} are there")
    from safetensors import SafetensorError, safe_open

    try:  # types, shapes and metadata are the library's to know; it reads no tensor here
        with safe_open(file.name, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _read_places(tensors: dict[str, Any]) -> list[tuple[str, int, int]]:
    places = []
    for key, value in tensors.items():
        offsets = value.get("data_offsets") if isinstance(value, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and _are_counts(offsets)):
            raise ValueError(f"{key[:80]!r} has no place in the file")
        places.append((key, offsets[0], offsets[1]))
    return places


def _are_counts(numbers: list[Any]) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"its header has {key[:80]!r} twice")
        content[key] = value
    return content


_NO_ARCHIVE = (zipfile.BadZipFile, NotImplementedError, ValueError, LookupError, struct.error)
"""What `zipfile` raises for a damaged directory."""


def _check_directory(path: Path, file: IO[bytes], size: int) -> None:
    """Refuse compressed members: torch writes them as they are, and would inflate a few megabytes to
    gigabytes. Refuse two of one name, of which two programs may take different ones."""
    if _size_directory(file, size) > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its list of members is larger than {MAX_DIRECTORY_BYTES >> 20} MiB")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except _NO_ARCHIVE as error:
        raise ValueError(str(error)) from None
    # torch.jit compresses its program, which nobody reads here.
    script = any(member.filename.endswith("/constants.pkl") for member in members)
    read = [member for member in members if not (script and "/code/" in member.filename)]
    if any(member.compress_type != zipfile.ZIP_STORED for member in read):
        raise WeightsMismatch(f"{path} is a compressed archive, which torch does not write")
    if sum(member.file_size for member in read) > size:
        raise WeightsMismatch(f"{path} says that its members are larger than itself")
    seen: set[str] = set()
    for member in members:
        if member.filename in seen:
            raise ValueError(f"it has two members {member.filename[:80]!r}")
        if member.flag_bits & 1:
            raise ValueError(f"its member {member.filename[:80]!r} is encrypted")
        seen.add(member.filename)


def _size_directory(file: IO[bytes], size: int) -> int:
    """Return the bytes of an archive's list of members, as its end says; 0 for one without an end."""
    file.seek(max(0, size - _MAX_END))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        return 0
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = tail.rfind(b"PK\6\6", 0, at)
    if large >= 0:
        length = max(length % 0xFFFFFFFF, int.from_bytes(tail[large + 40 : large + 48], "little"))
    return length


_MAX_END = 65535 + 22 + 20 + 56
"""The end of an archive with its comment, and the two records before it of a large one."""
