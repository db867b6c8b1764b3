"""Libraries that would report to their makers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtbench.base.library_reports import SWITCHES
from vtbench.base.locations import package_dir

READ = """
import numpy, sys
from vtbench.metrics.ocr import open_reader
reader = open_reader("rapidocr", scripts=("latin",))
reader.read_page(numpy.full((64, 96, 3), 255, numpy.uint8), script="latin")
assert "onnxruntime" in sys.modules
"""


@pytest.mark.slow
def test_reading_text_leaves_no_file_of_a_report(tmp_path: Path) -> None:
    """onnxruntime's reporter writes `.ses` into the folder of temporary files when it starts."""
    folders = {name: tmp_path / name for name in ("home", "temporary", "here", "cache")}
    for folder in folders.values():
        folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in SWITCHES} | {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "XDG_CACHE_HOME": str(folders["cache"]),
        "PYTHONPATH": os.pathsep.join(
            [str(package_dir().parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    environment.pop("CI", None)  # in which it would not start either
    command = [sys.executable, "-c", READ]
    subprocess.run(command, check=True, cwd=folders["here"], env=environment)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
