"""The published results that are shown next to a user's own."""

from __future__ import annotations

from pathlib import Path

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.base.files import find_place
from vtbench.commands.complaints import complain
from vtbench.commands.options import EMBEDDED
from vtbench.results.folder import read_suite_folder


def has_runs(folder: Path) -> bool:
    """Return whether a folder is one of a suite's results."""
    return (folder / "suite.json").is_file()


def find_results(results: Path | None) -> Path:
    """Return the folder to read: the given one, else the user's of the embedded suite, else the
    published one."""
    local = locations.local_dir(EMBEDDED)
    return results or (local if has_runs(local) else locations.published_dir(EMBEDDED))


def find_published(suite: str, folder: Path) -> Path | None:
    """Return the published results to show beside those of a folder, or None.

    Results that cannot be read are said on standard error: they cost nobody the table of a run.
    """
    published = locations.published_dir(suite)
    if not has_runs(published) or find_place(published) == find_place(folder):
        return None
    try:
        read_suite_folder(published)
    except ResultsError as error:
        complain(f"published results are not shown beside: {error}")
        return None
    return published
