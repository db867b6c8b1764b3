"""Whether what was measured before can stand for what is asked for now, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vtbench.base.errors import ImageError, ResultsError
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run, read_run
from vtbench.results.rows import Row, is_unreadable
from vtbench.results.schema import Failure, RunRecord
from vtbench.runs.added_metrics import Addition, find_addition, is_current
from vtbench.runs.kept_reconstructions import has_all
from vtbench.runs.meter import Meter
from vtbench.runs.request import Request
from vtbench.suites.batches import PixelCache
from vtbench.weights.entries import WeightFiles


def find_current(
    request: Request,
    entry: Entry,
    meter: Meter,
    cache: PixelCache,
    *,
    draft: RunRecord,
    found: WeightFiles | None,
) -> Run | Addition | str | None:
    """Return the folder's run if it is complete and current, or what it lacks; else why it is measured
    again; None if there is none.

    An original that could not be read is tried again, since it may have been mended.

    Args:
        request: what is asked for.
        entry: the tokenizer.
        meter: what measures.
        cache: of the originals.
        draft: the record of the request's run.
        found: the entry's weights.
    """
    folder = request.out / draft.run
    if not (folder / "run.json").exists():
        return None
    try:
        run = read_run(folder)
    except ResultsError as error:
        return f"measured again: {error}"
    lacking = None
    if run.record.key != draft.key or (request.keep and not has_all(folder, run.rows)):
        seed = draft.protocol.seed
        lacking = find_addition(request, entry, meter, found, seed=seed, run=run)
        if lacking is None:
            return "measured again: the protocol, the weights, the code or a library has changed"
        if any(row["error"] is None and not row["reconstruction_sha256"] for row in run.rows):
            return "measured again: it does not say which its reconstructions were"
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
    if lacking is None or is_current(request, lacking):
        return run
    return lacking


def list_failures(rows: Sequence[Row], *, unreadable: bool = False) -> tuple[Failure, ...]:
    """Return the failed images, or those alone whose originals cannot be read."""
    return tuple(
        Failure(id=row["id"], error=row["error"])
        for row in rows
        if row.get("error") and (is_unreadable(row) or not unreadable)
    )
