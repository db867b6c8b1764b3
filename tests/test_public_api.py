"""What `import vtbench` offers, and what the documents say that there is."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vtbench
from vtbench.base.locations import package_dir
from vtbench.cli import COMMANDS

ROOT = package_dir().parent
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("name", vtbench.__all__)
def test_what_is_offered_exists_and_says_what_it_is(name: str) -> None:
    value = getattr(vtbench, name)
    assert name in dir(vtbench)
    if callable(value):
        assert inspect.getdoc(value)


@pytest.mark.parametrize(
    "name", ["psnr_db", "ssim", "ms_ssim", "mae", "haarpsi", "lpips", "Rfid", "Kid"]
)
def test_metrics_are_functions_too(name: str) -> None:
    assert name in dir(vtbench.metrics)
    assert inspect.getdoc(getattr(vtbench.metrics, name))


def test_what_is_not_offered_is_an_attribute_error() -> None:
    for module in (vtbench, vtbench.metrics):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            module.nothing  # noqa: B018


@pytest.mark.slow
def test_importing_vtbench_imports_no_torch() -> None:
    program = (
        "import sys, vtbench; dir(vtbench); vtbench.list_tokenizers(); vtbench.list_metrics()\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_package_carries_its_types() -> None:
    assert (package_dir() / "py.typed").is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path: Path) -> None:
    if not path.is_file():
        pytest.skip(f"{path.name} is in the repository alone")
    text = path.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL))
    commands = re.findall(r"`vtbench ([a-z][a-z-]+)", text)
    commands += re.findall(r"^vtbench ([a-z][a-z-]+)", blocks, re.MULTILINE)
    assert set(commands) <= set(COMMANDS)
    for file in re.findall(
        r"`((?:vtbench|tests|data|registry|examples|benchmarks)/[\w./-]+)`", text
    ):
        if "<" not in file and "NAME" not in file:
            assert (ROOT / file).exists(), file
    for dotted in re.findall(r"`(vtbench(?:\.\w+)+)", text):
        parts = dotted.split(".")
        if dotted in ("vtbench.tokenizers", "vtbench.metrics", "vtbench.data"):
            continue  # also names of entry points
        value: object = vtbench
        for place, part in enumerate(parts[1:], start=2):
            if not hasattr(value, part):
                value = importlib.import_module(".".join(parts[:place]))
            else:
                value = getattr(value, part)
