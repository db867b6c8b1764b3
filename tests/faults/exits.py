"""Processes that read results and pictures, and how they end: by themselves, never by a signal."""

from __future__ import annotations

import shutil
from pathlib import Path

from faults import kills

from vtbench.base.locations import published_dir


def prepare(work: Path) -> dict[str, tuple[list[object], int]]:
    """Return commands by name, each with the exit status that it must have: small results that are
    right, the same with a torn file, and a run of two small pictures."""
    name = "patch-vq-f16"  # a run's folder has its name
    good, bad = work / "good" / name, work / "bad" / name
    for folder in (good, bad):
        shutil.copytree(published_dir("embedded") / name, folder)
    rows = bad / "images.parquet"
    rows.write_bytes(rows.read_bytes()[:-100])
    pictures = kills.write_pictures(work / "two", n=2)
    measured = ["run", "--images", pictures, "-t", "jpeg-q25", "--device", "cpu", "--fresh"]
    return {
        "validate": (["validate", good], 0),
        "validate of a torn file": (["validate", bad], 2),
        "run --images": ([*measured, "--out", work / "exits"], 0),
    }


def run(arguments: list[object]) -> int:
    """Return the exit status of a process; negative for one that a signal ended."""
    return kills.start(*arguments).wait(timeout=600)
