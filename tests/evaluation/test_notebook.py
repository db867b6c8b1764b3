"""The notebooks of examples/ run from top to bottom, and show tables and pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from vtbench.base.locations import package_dir

EXAMPLES = package_dir().parent / "examples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples/ is in the repository alone"),
]


def execute(notebook: Path, folder: Path) -> list[Any]:
    """Return the outputs of a notebook's cells, run from top to bottom; none of them is an error."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(notebook)]
    command += ["--output-dir", str(folder), "--output", "executed", "--allow-errors"]
    path = os.pathsep.join([str(package_dir().parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "JUPYTER_PLATFORM_DIRS": "1"}
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "PYTHONWARNINGS": "ignore"}
    environment |= {"TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [o.evalue for o in outputs if o.output_type == "error"] == []
    return outputs


def of_type(outputs: list[Any], kind: str) -> list[str]:
    """Return what was shown as one MIME type."""
    return ["".join(o.data[kind]) for o in outputs if kind in o.get("data", {})]


def test_every_notebook_is_tested_and_linked() -> None:
    names = {path.name for path in EXAMPLES.glob("*.ipynb")}
    assert names == {"evaluate_in_training.ipynb", "compare_tokenizers.ipynb"}
    page = (EXAMPLES.parent / "docs" / "machines" / "notebooks.md").read_text(encoding="utf-8")
    assert all(name in page for name in names)


def test_a_training_is_evaluated_in_a_notebook(tmp_path: Path) -> None:
    pages = of_type(execute(EXAMPLES / "evaluate_in_training.ipynb", tmp_path), "text/html")
    assert any("PSNR" in page and "data:image/png;base64," in page for page in pages)


def test_tokenizers_are_compared_in_a_notebook(tmp_path: Path) -> None:
    outputs = execute(EXAMPLES / "compare_tokenizers.ipynb", tmp_path)
    said = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "ref-vq-f8" in said and "ref-kl-f8" in said and "95 %" in said
    (table,) = (page for page in of_type(outputs, "text/html") if "my-webp" in page)
    assert "scored from files" in table and "bpp" in table and "[" in table
    assert len(of_type(outputs, "image/png")) >= 2  # strips, and quality against rate
    frames = [text for text in of_type(outputs, "text/plain") if "psnr_db" in text]
    assert frames and not any("NaN" in text for text in frames)
