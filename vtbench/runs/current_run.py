"""Whether a folder has a run already that a request asks for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vtbench.base.errors import ImageError, ResultsError
from vtbench.results.folder import Run, read_run
from vtbench.results.rows import is_unreadable
from vtbench.runs.request import Request
from vtbench.suites.batches import PixelCache


def find_current_run(
    folder: Path, key: str, request: Request, cache: PixelCache
) -> Run | str | None:
    """Return the folder's run if it is complete and current; else why not; None if there is none.

    An original that could not be read is tried again, since it may have been mended."""
    if not (folder / "run.json").exists():
        return None
    try:
        run = read_run(folder)
    except ResultsError as error:
        return f"measured again: {error}"
    if run.record.key != key:
        return "measured again: the protocol, the weights, the code or a library has changed"
    failed = {row["id"] for row in run.rows if row["error"] is not None}
    if any(row["id"] in failed and not is_unreadable(row) for row in run.rows):
        return "measured again: some images had failed"
    for sample in request.samples():
        if sample.id in failed:
            with suppress(ImageError):
                cache.load(sample)
                return "measured again: an image that could not be read can be now"
    if any(found.state == "failed" for found in run.record.sets.values()):
        return "measured again: a metric of the whole set had failed"
    return run
