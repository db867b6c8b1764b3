"""The audit of suite.json where no manifest is here to compare with: a folder of pictures, a data set
that nobody has hashed, a suite of one's own. The rows say which images there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from vtbench.metrics.catalogue import SET_METRICS
from vtbench.results.folder import Run
from vtbench.results.rows import Row, is_unreadable
from vtbench.results.schema import SuiteFolder
from vtbench.suites.panel_crop import PANEL_SIDE
from vtbench.suites.suites import PANEL_PICTURES, Suite

COLUMNS = ("id", "task", "width", "height", "sha256", "error")
"""What is asked of the rows here; a dictionary of all columns takes some kB."""


def audit_own_suite(folder: SuiteFolder, suite: Suite | None, runs: Sequence[Run]) -> Iterator[str]:
    """Yield what suite.json says that the rows of its runs contradict.

    Args:
        folder: the suite.json.
        suite: of this name and version, None where it is not here.
        runs: of the folder; those of other versions, crops or with a limit say nothing of it.
    """
    of_suite = [run for run in runs if run.record.suite.sha256 == folder.sha256]
    for run in of_suite:
        if (run.record.suite.manifest_sha256 is not None) != folder.pinned:
            yield f"pinned is not what {run.record.run} says of its manifest"
            return
        yield from _metrics(folder, run)
    if any(run.record.protocol.crop is not None for run in of_suite):
        return  # the panel may be that of another crop
    whole = [run for run in of_suite if run.record.protocol.limit is None]
    if not whole or (suite is not None and suite.samples):
        return
    rows: dict[str, Row] = {}
    for run in whole:
        rows |= {row["id"]: row for row in run.table.select(COLUMNS).to_pylist()}
    counts = Counter(row["task"] for row in rows.values())
    if folder.limit is None and folder.images.keys() == counts.keys() and folder.images != counts:
        yield f"images: {folder.images}; the runs have {dict(counts)}"
    yield from _cuts(folder, rows)
    yield from _panel(folder, rows)
    if is_of_pictures(folder, suite):
        yield from _pictures(folder, rows)
    if folder.partial is None and not (folder.published and not folder.show_images):
        unread = sum(is_unreadable(row) for row in rows.values())
        yield from _count_panel(folder, suite, images=len(rows), unread=unread)


def is_of_pictures(folder: SuiteFolder, suite: Suite | None) -> bool:
    """Return whether a folder's results are of a folder of pictures (`image_folder.folder_suite`)."""
    return suite is None and folder.name.startswith("images-") and not folder.published


def _metrics(folder: SuiteFolder, run: Run) -> Iterator[str]:
    """The metrics of each task are named, and the run has a record of each."""
    if folder.metrics.keys() != folder.images.keys() and folder.upgraded_from is None:
        yield "metrics: not those of its tasks"
        return
    if any(len(set(names)) < len(names) for names in folder.metrics.values()):
        yield "metrics: one is named twice"
        return
    measured = run.record.protocol
    for task in folder.metrics.keys() & set(measured.tasks):
        asked = set(folder.metrics[task]) - set(SET_METRICS)
        if missing := sorted(asked - measured.metrics.keys()):
            yield f"metrics: {missing[0][:80]!r}, of which {run.record.run} says nothing"
            return


def _cuts(folder: SuiteFolder, rows: Mapping[str, Row]) -> Iterator[str]:
    for own, first in folder.cut_from.items():
        if own not in rows or first not in rows:
            yield f"cut_from: {(own if own not in rows else first)[:80]!r} is no image of the runs"
            return
        if folder.cut_from.get(first) != first:
            yield f"cut_from: {first[:80]!r} is not the first of its file"
            return


def _panel(folder: SuiteFolder, rows: Mapping[str, Row]) -> Iterator[str]:
    for item in folder.panel:
        if (row := rows.get(item.id)) is None:
            yield f"panel: {item.id[:80]!r} is no image of the runs"
        elif row["task"] != item.task:
            yield f"panel: {item.id[:80]!r} is of the task {row['task']}, not {item.task[:80]}"
        elif row["error"] is None and (item.width > row["width"] or item.height > row["height"]):
            yield f"panel: {item.id[:80]!r} is larger than its image"


def _pictures(folder: SuiteFolder, rows: Mapping[str, Row]) -> Iterator[str]:
    """Each picture of a folder has a file of its own; the panel shows the middle of the first."""
    if folder.cut_from:
        yield "cut_from: pictures of a folder share no file"
    if len(folder.panel) > PANEL_PICTURES:
        yield f"panel: has more than {PANEL_PICTURES} pictures"
    for item in folder.panel:
        row = rows.get(item.id)
        if row is not None and row["error"] is None:
            shown = min(row["width"], PANEL_SIDE), min(row["height"], PANEL_SIDE)
            if (item.width, item.height) != shown:
                yield f"panel: {item.id[:80]!r} is not {shown[0]}×{shown[1]}"


def _count_panel(
    folder: SuiteFolder, suite: Suite | None, *, images: int, unread: int
) -> Iterator[str]:
    """The first pictures are shown, but those that cannot be read; a suite of one's own may name others,
    or none where a manifest pins its images."""
    if is_of_pictures(folder, suite) or (suite is not None and not suite.protocol.panel):
        least = min(PANEL_PICTURES, images) - unread
    else:
        least = 0 if folder.pinned else 1 - unread
    if len(folder.panel) < least:
        yield f"panel: {len(folder.panel)} pictures; a run shows {least} or more"
