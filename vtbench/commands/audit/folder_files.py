"""The audit of which files a folder of results has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vtbench.base.errors import VtbenchError
from vtbench.base.files import list_below, read_bounded
from vtbench.base.names import printable
from vtbench.commands.audit.pictures import list_other_panels
from vtbench.leaderboard.site.folder import LISTING, MAX_LISTING_BYTES
from vtbench.leaderboard.tables import CHECKED
from vtbench.results.cost_record import COST_FILE, read_costs
from vtbench.results.folder import Run
from vtbench.results.known_files import (
    RECONSTRUCTIONS,
    list_error_maps,
    list_run_files,
    list_suite_files,
)
from vtbench.results.schema import SuiteFolder

WHILE_RUNNING = re.compile(
    r"\.(?P<run>[a-z0-9][a-z0-9.@+-]*)\."
    r"(lock|batches\.json|partial\.jsonl|adding\.jsonl|panel/.*\.png|reconstructions/.*\.png"
    r"|(adding\.)?features/.*)"
)
"""What a run has beside its folder until it is whole (`results.folder`), and the lock, which stays."""

TORN = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
"""A file that was killed before it was whole (`files.write_atomic`), by its name."""

OF_SYSTEMS = re.compile(r"\.DS_Store|\._.*|\.nfs[0-9a-f]+|Thumbs\.db|desktop\.ini")

TOLD = 3
"""Files that are named in complaints."""


def audit_files(
    path: Path, folder: SuiteFolder, runs: Sequence[Run], *, published: bool
) -> Iterator[str]:
    """Yield files that results do not have, and of published ones tables that are not there.

    Args:
        path: the folder.
        folder: its suite.json.
        runs: its runs.
        published: whether it must have what a published one has, and nothing else. Another may have
            what `vtbench run` writes beside: a site, reconstructions, what a run keeps until it is
            whole.
    """
    known = set(list_suite_files(folder)) | set(CHECKED)
    for run in runs:
        own = list_run_files(run.record, folder) | list_error_maps(folder)
        known |= {f"{run.record.run}/{name}" for name in own}
        known.add(f".{run.record.run}.lock")  # `vtbench run` leaves it
    if published:
        for name in CHECKED:
            if not (path / name).is_file():
                yield f"{name} is missing: run `vtbench leaderboard`"
    else:
        known |= _list_sites(path) | _list_other_pictures(path, folder, runs)
        yield from read_costs(path)[1]
    count = 0
    for found in list_below(path):
        relative = found.relative_to(path).as_posix()
        if found.is_symlink():
            yield f"{printable(relative)}: a symbolic link"
        elif relative in known and found.is_file():
            continue
        elif found.parent == path and found.suffix == ".svg":
            continue  # `plots` compares them
        elif published or not _is_of_own(found, relative, known, path):
            count += 1
            if count <= TOLD:
                yield f"{printable(relative)}: no file of a result"


def _is_of_own(found: Path, relative: str, known: set[str], path: Path) -> bool:
    """Return whether a run of one's own leaves such a file."""
    if not found.is_file():
        return False
    if OF_SYSTEMS.fullmatch(found.name) or WHILE_RUNNING.fullmatch(relative):
        return True
    parts = relative.split("/")
    if len(parts) == 2 and parts[1] == COST_FILE:
        return True
    if len(parts) == 3 and parts[1] == RECONSTRUCTIONS and found.suffix == ".png":
        return f"{parts[0]}/run.json" in known
    if torn := TORN.fullmatch(found.name):
        relative = "/".join([*parts[:-1], torn["name"]])
        if relative in known or _is_plot(relative):
            return True
    # Killed while its files were written: run.json is the last of them.
    return (path / f".{parts[0]}.partial.jsonl").is_file() and bool(_OF_A_RUN.fullmatch(relative))


_OF_A_RUN = re.compile(
    r"[^/]+/(run\.json|(images|codes)\.parquet|panel/[0-9]+\.png)|"
    r"[^/]+/(panel/)?\.(run\.json|(images|codes)\.parquet|[0-9]+\.png)\.[a-z0-9_]{8}"
)


def _is_plot(relative: str) -> bool:
    return "/" not in relative and relative.endswith(".svg")


def _list_other_pictures(path: Path, folder: SuiteFolder, runs: Sequence[Run]) -> set[str]:
    """Return the panel's pictures of runs that had another request than the folder's last."""
    return {
        found.relative_to(path).as_posix()
        for name in list_other_panels(folder, runs)
        for found in (path / name / "panel").glob("*.png")
        if re.fullmatch("[0-9]{1,4}", found.stem)
    }


def _list_sites(path: Path) -> set[str]:
    """Return the files of the sites in a folder, as each site's own listing names them."""
    known: set[str] = set()
    for listing in path.glob(f"*/{LISTING}"):
        site = listing.parent.name
        try:
            content = read_bounded(listing, max_bytes=MAX_LISTING_BYTES)
            names = json.loads(content)["files"]
            known |= {f"{site}/{name}" for name in names} | {f"{site}/{LISTING}"}
        except (VtbenchError, OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return known
