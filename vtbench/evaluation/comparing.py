"""`vtbench.compare`: is one better than the other on the same images?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import VtbenchError
from vtbench.evaluation.result import Result
from vtbench.leaderboard.comparison import Comparison, compare_runs


def compare(a: Result, b: Result, *others: Result, metrics: Sequence[str] = ()) -> Comparison:
    """Return the paired differences of results of one suite, with intervals and adjusted p-values.

    Args:
        a: The first result.
        b: A result of the same suite and images.
        *others: Further ones; every pair is compared.
        metrics: Columns ("text.cer") or metrics of every task ("psnr_db"); by default the quality and
            rate of every task.

    Raises:
        VtbenchError: two results have one name.
        ResultsError: they are of different suites or images, or incomplete.
        UnknownName: there is no such metric.
    """
    results = (a, b, *others)
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        raise VtbenchError(f"results of one name cannot be told apart: {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="vtbench-") as temporary:
        folder = Path(temporary)
        shutil.copy(a.folder.parent / "suite.json", folder / "suite.json")
        for result in results:
            shutil.copytree(result.folder, folder / result.name)
        return compare_runs(folder, names, metrics)
