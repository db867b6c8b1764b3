"""`vtbench.compare`: tests whether results differ on the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import VtbenchError
from vtbench.base.files import resolve_below, write_atomic
from vtbench.base.names import list_names
from vtbench.base.schema import MAX_JSON_BYTES
from vtbench.evaluation.result import Result
from vtbench.leaderboard.comparison import Comparison, compare_runs
from vtbench.results.known_files import list_run_files, read_known_files


def compare(a: Result, b: Result, *others: Result, metrics: str | Sequence[str] = ()) -> Comparison:
    """Test the paired differences of results of one suite; `print` of what it returns shows the tables.

    Each difference has a 95 % confidence interval (bootstrap over clusters of images) and a p-value,
    adjusted for the number of tests.

    Args:
        a: A result.
        b: Another result of the same suite and images.
        *others: Further results; every pair is compared.
        metrics: A column ("text.cer") or a metric of every task ("psnr_db"), or several. Default:
            quality and rate of every task.

    Raises:
        VtbenchError: Two results have the same name, or something is not a `Result`.
        ResultsError: The results are of different suites or images, or incomplete.
        UnknownName: There is no such metric.
    """
    results = (a, b, *others)
    for result in results:
        if not isinstance(result, Result):
            raise VtbenchError(
                f"{result!r:.60} is not a Result: evaluate, score and read_results return those"
            )
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        raise VtbenchError(f"results of one name cannot be told apart: {', '.join(names)}")
    bare = a.suite.model_copy(update={"panel": ()})  # no pictures
    with tempfile.TemporaryDirectory(prefix="vtbench-") as temporary:
        folder = Path(temporary)
        files = read_known_files(a.folder.parent, {"suite.json": MAX_JSON_BYTES})
        for result in results:
            own = list_run_files(result.record, bare)
            found = read_known_files(result.folder, own)
            files |= {f"{result.name}/{name}": content for name, content in found.items()}
        for name, content in files.items():
            write_atomic(resolve_below(folder, name), content)
        return compare_runs(folder, names, list_names(metrics))
