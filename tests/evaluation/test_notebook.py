"""The notebook of examples/ runs from top to bottom, and shows a table and pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vtbench.base.locations import package_dir

NOTEBOOK = package_dir().parent / "examples" / "evaluate_in_training.ipynb"


@pytest.mark.slow
@pytest.mark.skipif(not NOTEBOOK.is_file(), reason="examples/ is in the repository alone")
def test_the_notebook_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(NOTEBOOK)]
    command += ["--output-dir", str(tmp_path), "--output", "executed", "--allow-errors"]
    path = os.pathsep.join([str(package_dir().parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "JUPYTER_PLATFORM_DIRS": "1"}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    pages = ["".join(o.data.get("text/html", "")) for o in outputs if "data" in o]
    assert any("PSNR" in page and "data:image/png;base64," in page for page in pages)
