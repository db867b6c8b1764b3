"""The table of full-size checks is what its program prints, and what it says ran did not fail."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program() -> ModuleType:
    path = ROOT / "benchmarks" / "check_architectures.py"
    spec = importlib.util.spec_from_file_location("check_architectures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "check_architectures", module)
        spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_program_prints(program: ModuleType) -> None:
    page = (ROOT / "docs" / "full-size-checks.md").read_text(encoding="utf-8")
    assert page == program.print_table(), "python benchmarks/check_architectures.py --print"


def test_every_row_is_of_an_architecture_and_none_failed(program: ModuleType) -> None:
    groups, rows = program.group_architectures(), program.read_table()
    assert rows and {plan for plan, _ in rows} <= set(groups), (
        "an architecture changed: check it again"
    )
    assert {row.result for row in rows.values()} <= {"ok", "too slow", "too large"}
    for (plan, dtype), row in rows.items():
        assert row.architecture in {entry.name for entry in groups[plan]}
        assert row.dtype == dtype and row.contract in ("once", "shapes") and float(row.seconds) > 0


def test_no_adapter_reads_the_name_of_the_quantizer() -> None:
    """The digest of a plan leaves it out."""
    places = list((ROOT / "vtbench" / "tokenizers").rglob("*.py"))
    found = [
        path.name
        for path in places
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "quantizer"
        if ast.unparse(node.value) in ("spec", "self.spec", "entry", "tokenizer.spec")
    ]
    assert len(places) > 40 and not found


def test_weights_alone_make_no_other_architecture_and_a_plan_does(program: ModuleType) -> None:
    groups = list(program.group_architectures().values())
    together = [{entry.name for entry in entries} for entries in groups]
    assert any({"open-magvit2-256", "open-magvit2-128"} <= names for names in together) is False
    assert any({"amused-256-vq", "amused-512-vq"} <= names for names in together)
