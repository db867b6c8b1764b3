"""The sha256 of files that people brought, without reading again what cannot have changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from vtbench.base.errors import OutputError, VtbenchError
from vtbench.base.files import find_place, read_bounded, sha256_file, write_atomic
from vtbench.base.locations import cache_dir
from vtbench.base.picture_file import MAX_FILE_BYTES

SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read may have changed again within the same tick
of its file system's clock."""

MAX_KEPT_BYTES = 2**30


def sha256_content(path: Path) -> str | None:
    """Return the sha256 of a regular file; None for what cannot be read, which fails by its name
    where it is used."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
            return None
        return sha256_file(path)
    except OSError:
        return None


def take_stamp(path: Path) -> int | None:
    """Return a number that is another one when a file has changed; None where there is no file.

    Of size, time of writing and time of change: an inode's number is not kept by every network file
    system.
    """
    try:
        facts = path.stat()
    except OSError:
        return None
    return hash((facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return the digest of the files' names below `root` and of their contents.

    A file is read once. Later its digest is taken from the cache as long as device, inode, size,
    time of writing and time of change are the same: programs that keep sizes and times of writing
    (tar, rsync -t, cp -p) cannot set the time of change. Where there is no such time (Windows), files
    are read each time.
    """
    kept_at = cache_dir() / "contents" / f"{_digest_path(root)}.json"
    kept = _read_kept(kept_at)
    now: dict[str, list[object]] = {}
    digest = hashlib.sha256()
    for path in files:
        name = os.fsdecode(path.relative_to(root))
        facts = _take_facts(path)
        known = kept.get(name)
        if facts is not None and known is not None and known[:-1] == facts:
            content = str(known[-1])
        else:
            settled = time.time_ns() - SETTLED_NS
            content = _sha256_any(path)
            # What changed while it was read, or just before, is read again the next time.
            if facts is not None and (facts != _take_facts(path) or max(facts[3:]) > settled):
                facts = None
        if facts is not None:
            now[name] = [*facts, content]
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    if now != kept:
        with contextlib.suppress(OutputError):  # the cache saves time, no more
            write_atomic(kept_at, json.dumps(now).encode())
    else:
        with contextlib.suppress(OSError):  # the time of writing says when it was last of use
            os.utime(kept_at)
    return digest.hexdigest()


def _digest_path(root: Path) -> str:
    return hashlib.sha256(os.fsencode(find_place(root))).hexdigest()[:20]


def _read_kept(path: Path) -> dict[str, list[object]]:
    try:
        kept = json.loads(read_bounded(path, max_bytes=MAX_KEPT_BYTES))
        return kept if isinstance(kept, dict) and all(map(_is_kept, kept.values())) else {}
    except (VtbenchError, OSError, ValueError, RecursionError):
        return {}


def _is_kept(value: object) -> bool:
    return isinstance(value, list) and len(value) == 6


def _take_facts(path: Path) -> list[int] | None:
    """Return what changes with a file's content; None where the system does not tell."""
    try:
        facts = path.stat()
    except OSError:
        return None
    if os.name != "posix" or not stat.S_ISREG(facts.st_mode):
        return None
    times = facts.st_mtime_ns, facts.st_ctime_ns
    return [facts.st_dev, facts.st_ino, facts.st_size, *times]


def _sha256_any(path: Path) -> str:
    """Return the sha256 of a data set's file, of whatever size: an archive may have many GiB."""
    try:
        return sha256_file(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
