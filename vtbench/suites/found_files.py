"""Listing of a user's folder: its files, and what is left out with the reason."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vtbench.base.errors import VtbenchError
from vtbench.base.files import find_place, read_bounded
from vtbench.base.names import printable

MARKERS = {"suite.json": "cost_subset", "run.json": "rows_sha256", "sheet.json": "tokenizers"}
"""Files that vtbench writes into its folders of results, each with a key of it: what lies there is no
input."""

MAX_MARKER_BYTES = 16 * 2**20

ENDING, HIDDEN, RESULTS = "other endings", "hidden", "results of vtbench"
MAX_DEPTH = 64
"""Folders inside each other. What costs a file system a step a folder costs it thousands in a chain."""

DEEP = f"folders more than {MAX_DEPTH} deep"
LINK, CLOSED = "links to folders that are listed already", "folders that cannot be listed"


@dataclass(frozen=True)
class Found:
    """The files below a folder, sorted by path. left_out: what was not taken, with the reason."""

    root: Path
    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()


def find_files(root: Path, *, without: Iterable[Path] = ()) -> Found:
    """Return a file, or a folder's files at any depth.

    Links to files and to folders are followed; a folder that is reached twice is listed once, where
    it lies if that is below the root. Hidden files and folders, which are some system's, and
    vtbench's own results are left out, file by file.

    Args:
        root: the folder, or a file.
        without: folders that hold vtbench's results, whatever is in them.
    """
    if root.is_file():
        return Found(root.parent, (root,))
    own = {find_place(path) for path in without}
    found: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    seen = set(find_place(root).parents)
    folders, links = [(root, "")], list[Path]()
    while folders or links:
        # Linked folders come last: what lies below the root is named by its place there.
        folder, reason = folders.pop() if folders else (links.pop(), "")
        if len(folder.parts) - len(root.parts) > MAX_DEPTH:
            left_out.append((folder, DEEP))
            continue
        place = find_place(folder)
        if place in seen:
            left_out.append((folder, LINK))
            continue
        seen.add(place)
        if not reason and (place in own or _holds_results(folder)):
            reason = RESULTS
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out.append((folder, CLOSED))
            continue
        inner = []
        for entry in entries:
            path = folder / entry.name
            why = reason or (HIDDEN if entry.name.startswith(".") else "")
            if not _is_folder(path):
                found += [] if why else [path]
                left_out += [(path, why)] if why else []
            elif not entry.is_symlink():
                inner.append((path, why))
            elif why:
                left_out.append((path, why))
            else:
                links.append(path)
        folders += reversed(inner)
        links.sort(reverse=True)
    found.sort(key=lambda path: path.relative_to(root).parts)
    return Found(root, tuple(found), tuple(left_out))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a loop of links, a name that the system takes for none
        return False


def _holds_results(folder: Path) -> bool:
    """Return whether the folder has a file that marks vtbench's results."""
    for name, key in MARKERS.items():
        try:
            data = json.loads(read_bounded(folder / name, max_bytes=MAX_MARKER_BYTES))
        except (VtbenchError, OSError, ValueError, RecursionError):
            continue
        if isinstance(data, dict) and {"schema_version", key} <= data.keys():
            return True
    return False


def holds_results(folder: Path) -> bool:
    """Return whether a folder is one of vtbench's results, or below one."""
    return any(_holds_results(place) for place in (folder, *find_place(folder).parents))


def describe_left_out(left_out: Sequence[tuple[Path, str]]) -> str | None:
    """Return what was left out in one line, None for nothing."""
    if not left_out:
        return None
    counts = Counter(reason for _, reason in left_out)
    told = []
    for reason, n in sorted(counts.items()):
        paths = sorted(path for path, why in left_out if why == reason)
        if reason == ENDING:
            endings = {PurePosixPath(path.name).suffix.lower() or "none" for path in paths}
            named = _name_some(sorted(endings))
        else:
            named = _name_some([path.name for path in paths])
        told.append(f"{n} {reason} ({named})")
    return f"left out: {'; '.join(told)}"


def _name_some(names: Sequence[str], most: int = 4) -> str:
    more = f", {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more
