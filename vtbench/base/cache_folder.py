"""The user's cache: what is in it by kind, and its removal. Nothing outside is touched, and no link is
followed."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vtbench.base.locations import cache_dir

KINDS: dict[str, str] = {
    "references": "features of a suite's originals, for metrics of whole sets",
    "features": "features of single originals, for cosines",
    "readings": "what OCR engines read on originals",
    "crops": "pictures of data sets, decoded and cropped",
    "contents": "digests of a data set's files",
}
"""Folders of the cache, and what is in each. All of it can be computed again."""

YOUNG_S = 3600
"""A hidden file that was written more recently may be one that a process is writing now."""


@dataclass(frozen=True)
class Kept:
    """What the cache holds of one kind. used: newest time of use, seconds since 1970; None for none."""

    kind: str
    files: int
    bytes: int
    used: float | None


def list_kept(kinds: Collection[str] = tuple(KINDS)) -> list[Kept]:
    """Return what the cache holds of each kind."""
    found = []
    for kind in (kind for kind in KINDS if kind in kinds):
        facts = [facts for _, facts in walk_files(cache_dir() / kind)]
        used = max((own.st_mtime for own in facts), default=None)
        found.append(Kept(kind, len(facts), sum(own.st_size for own in facts), used))
    return found


def prune(kinds: Collection[str], *, older_than_s: float = 0.0) -> list[Kept]:
    """Remove files of these kinds that were not of use for so long; return what was removed.

    Args:
        kinds: of KINDS.
        older_than_s: seconds; 0 removes all.
    """
    removed = []
    now = time.time()
    for kind in (kind for kind in KINDS if kind in kinds):
        root = cache_dir() / kind
        gone: list[os.stat_result] = []
        for path, facts in list(walk_files(root)):
            age = now - facts.st_mtime
            least = max(older_than_s, YOUNG_S) if path.name.startswith(".") else older_than_s
            if age >= least:
                with contextlib.suppress(OSError):
                    path.unlink()
                    gone.append(facts)
        _remove_empty(root)
        used = max((own.st_mtime for own in gone), default=None)
        removed.append(Kept(kind, len(gone), sum(own.st_size for own in gone), used))
    return removed


def walk_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files below a folder that is no link, with their facts. Links are passed over,
    and so is what vanishes meanwhile."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder.is_symlink():
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(facts.st_mode):
                        waiting.append(Path(entry.path))
                    elif stat.S_ISREG(facts.st_mode):
                        yield Path(entry.path), facts


def _remove_empty(root: Path) -> None:
    """Remove the folders below a root that have nothing in them, and the root."""
    if root.is_symlink() or not root.is_dir():
        return
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
