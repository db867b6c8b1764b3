"""suite.json of a folder of results, and the panel's originals."""

from __future__ import annotations

from vtbench.base.errors import ResultsError
from vtbench.results.folder import read_suite_folder, require_own_folder
from vtbench.results.folder import write_suite_folder as write_record
from vtbench.results.schema import Skipped, SuiteFolder
from vtbench.results.writer import refuse_links
from vtbench.runs.panel import write_originals
from vtbench.runs.request import Request
from vtbench.suites.batches import PixelCache


def write_suite_folder(request: Request, cache: PixelCache) -> None:
    """Write suite.json and the panel's originals; the board is rendered from them and the runs."""
    suite, protocol = request.suite, request.suite.protocol
    require_own_folder(request.out, suite.name)
    refuse_links(request.out)
    by_id = {sample.id: sample for sample in request.samples()}
    panel = write_originals(request.out, protocol.panel, by_id, cache)
    counts = {task: sum(s.task == task for s in by_id.values()) for task in request.tasks}
    write_record(
        request.out,
        SuiteFolder(
            name=suite.name,
            version=protocol.version,
            title=protocol.title,
            description=protocol.description,
            sha256=suite.sha256,
            published=suite.published,
            pinned=suite.pinned,
            limit=request.limit,
            tasks=request.tasks if set(request.tasks) != set(protocol.tasks) else None,
            images=counts,
            metrics={task: protocol.tasks[task].metrics for task in request.tasks},
            show_images=protocol.show_images,
            cost_subset=protocol.cost.subset if protocol.cost else None,
            panel=panel,
            skipped=_all_skipped(request),
            cut_from=suite.shared_files(),
        ),
    )


def _all_skipped(request: Request) -> tuple[Skipped, ...]:
    """Return all tokenizers that were skipped for missing weights and have no run in the folder, those
    of earlier requests among them."""
    skipped = {}
    if request.selective and (request.out / "suite.json").exists():
        try:
            earlier = read_suite_folder(request.out).skipped
        except ResultsError:
            earlier = ()
        skipped = {entry.name: entry for entry in earlier}
    skipped |= {entry.name: entry for entry in request.skipped}
    for entry in request.entries:
        skipped.pop(entry.name, None)
    return tuple(skipped[name] for name in sorted(skipped))
