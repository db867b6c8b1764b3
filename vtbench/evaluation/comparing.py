"""`vtbench.compare`: tests whether results differ on the same images."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import VtbenchError
from vtbench.evaluation.result import Result
from vtbench.leaderboard.comparison import Comparison, compare_runs


def compare(a: Result, b: Result, *others: Result, metrics: Sequence[str] = ()) -> Comparison:
    """Test the paired differences of results of one suite; `print` of what it returns shows the tables.

    Each difference has a 95 % confidence interval (bootstrap over clusters of images) and a p-value,
    adjusted for the number of tests.

    Args:
        a: A result.
        b: Another result of the same suite and images.
        *others: Further results; every pair is compared.
        metrics: Columns ("text.cer"), or metrics of every task ("psnr_db"). Default: quality and rate of
            every task.

    Raises:
        VtbenchError: Two results have the same name.
        ResultsError: The results are of different suites or images, or incomplete.
        UnknownName: There is no such metric.
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
