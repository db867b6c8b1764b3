"""The count of adapters' lines: what it counts, and that their mean stays within its limit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

SOURCE = '''"""A docstring
of two lines."""

# A comment.
import math  # counted


def area(radius: float) -> float:
    """Return it."""
    text = """a text
that is no docstring"""
    return math.pi * radius**2 + len(text)
'''


@pytest.fixture(scope="module")
def program() -> ModuleType:
    path = ROOT / "benchmarks" / "adapter_lines.py"
    if not path.is_file():
        pytest.skip("benchmarks/ is in the repository alone")
    spec = importlib.util.spec_from_file_location("adapter_lines", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_comments_and_empty_lines_are_no_code(program: ModuleType) -> None:
    assert program.count_code(SOURCE) == 5


def test_an_adapter_has_at_most_150_lines_of_code_on_average(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 < program.print_table([]) <= program.LIMIT
    assert "| softvq | 2 | 10 |" in capsys.readouterr().out
