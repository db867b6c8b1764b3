"""Data flows one way: who may import whom, and what must start without torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import vtbench

PACKAGE = Path(vtbench.__file__).parent

FLOORS = [
    {"base"},
    {"images"},
    {"registry"},
    {"weights"},
    {"metrics", "tokenizers"},
    {"suites", "results"},
    {"runs", "leaderboard", "training"},
    {"evaluation"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up: a room imports from its own floor or from one below."""

FORBIDDEN = {
    "metrics": {"tokenizers"},
    "tokenizers": {"metrics"},
    "results": {"suites"},
    "suites": {"results"},
    "leaderboard": {"runs", "training"},
    "runs": {"leaderboard", "training"},
    "training": {"suites", "metrics", "runs", "results"},
}
"""Beyond the floors: rooms that must not know of each other."""

FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def _modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "_share" not in path.parts]


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "vtbench":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtbench."):
            rooms.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("vtbench.")]
            rooms |= {name.split(".")[1] for name in names}
    return rooms


def test_every_room_has_a_floor() -> None:
    assert {_room(path) for path in _modules()} - {"__init__"} <= set(FLOOR)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    if room == "__init__":  # the package's front door: `load` reaches for what it needs when called
        return
    for imported in _imported(path) - {room}:
        assert FLOOR[imported] <= FLOOR[room], f"{room} imports {imported}, which is above it"
        assert imported not in FORBIDDEN.get(room, set()), f"{room} must not know {imported}"


def _place(name: str) -> Path | None:
    """Return the file of a module or package of vtbench."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _imported_modules(path: Path) -> set[Path]:
    """Return the files of the package that a file imports, also within functions: of `from room import
    module` the module, of `from room import name` the room's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtbench"):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [part if _place(part) else str(node.module) for part in parts]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("vtbench")]
        found |= {place for name in names if (place := _place(name)) is not None}
    return found - {path, PACKAGE / "__init__.py"}


@pytest.mark.slow
def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {path: _imported_modules(path) for path in _modules()}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError with the files of the circle


MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
TABLES_OF_DATA = {"metrics/catalogue.py", "metrics/catalogue_detail.py"}


def _count_code(node: ast.AST, lines: list[str]) -> int:
    """Return the lines of a function without docstrings, comments and empty lines; its signature, where
    an option has a line of its own, is a list and no logic."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    said: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant):
            said |= set(range(inner.lineno, (inner.end_lineno or 0) + 1))
    numbers = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    code = (lines[number - 1].strip() for number in numbers if number not in said)
    return sum(bool(line) and not line.startswith("#") for line in code)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_of_logic_and_no_function_is_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if path.relative_to(PACKAGE).as_posix() not in TABLES_OF_DATA:
        assert len(lines) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _count_code(node, lines) <= MOST_LINES_OF_A_FUNCTION, node.name


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--all"],
        ["list", "suites"],
        ["list", "metrics"],
        ["show", "jpeg-q50"],
        ["show", "spae"],
        ["show", "embedded"],
        ["show", "imagenet-val-256"],
        ["validate", "data/suites/kodak.yaml"],
        ["validate", "registry"],
        ["leaderboard", "--help"],
        ["doctor"],
        ["reproduce", "sd-vae-ft-mse"],
        ["compare", "jpeg-q50", "jpeg-q25", "--results", "results/embedded"],
    ],
    ids=" ".join,
)
def test_no_torch_is_imported(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom vtbench.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'torch', 'diffusers', 'matplotlib', 'rapidocr'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
