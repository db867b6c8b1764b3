"""Writing of a site into its folder, and removal of an earlier site's files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from vtbench.base.errors import OutputError
from vtbench.base.files import read_bounded, resolve_below, write_atomic

LISTING = "site.json"
"""The file that lists the files of a site, by which a later one knows what is its to replace."""

MAX_LISTING_BYTES = 32 * 2**20


def write_site(target: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Write the files of a site into a folder and return how many there are.

    A file that is there already with the same bytes is left alone.

    Raises:
        OutputError: the folder holds something else than a site, or cannot be written.
    """
    earlier = _read_listing(target)
    written: list[str] = []
    for name, content in files:
        path = resolve_below(target, name)
        written.append(name)
        if not (path.is_file() and path.stat().st_size == len(content)) or (
            path.read_bytes() != content
        ):
            write_atomic(path, content)
    write_atomic(
        target / LISTING, (json.dumps({"files": sorted(written)}, indent=0) + "\n").encode()
    )
    for name in sorted(earlier - set(written)):
        resolve_below(target, name).unlink(missing_ok=True)
    return len(written) + 1


def _read_listing(target: Path) -> set[str]:
    """Return the files of the site that is in the folder, none where the folder is new or empty."""
    path = target / LISTING
    if not target.exists() or not any(target.iterdir()):
        return set()
    try:
        listing = json.loads(read_bounded(path, max_bytes=MAX_LISTING_BYTES, raise_as=OutputError))
        files = listing["files"]
        if all(isinstance(name, str) for name in files):
            return set(files)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        pass
    raise OutputError(f"{target}: holds files that are no site of vtbench; name an empty folder")
