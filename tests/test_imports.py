"""Data flows one way: who may import whom, and what must start without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vtbench

PACKAGE = Path(vtbench.__file__).parent

LAYERS = [
    {"errors", "records", "locations", "files", "statistics"},
    {"images"},
    {"registry"},
    {"weights", "metrics", "metric_weights", "weights_folder", "datasets", "suites", "results"},
    {"downloads", "pickles"},
    {"tokenizers", "leaderboard", "sets", "measure", "environment", "memory"},
    {"batches", "plan"},
    {"panel", "provenance"},
    {"runner", "sheet", "listing", "validation", "publishing", "training"},
    {
        "comparison",
        "manifests",
        "fetching",
        "pins",
        "quarantine",
        "conversion",
        "doctor",
        "reproduction",
    },
    {"progress"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up: a module imports from its own layer or from one below."""

FORBIDDEN = {
    "metrics": {"tokenizers", "results", "suites", "registry"},
    "tokenizers": {"results", "leaderboard", "metrics", "measure", "suites"},
    "leaderboard": {"tokenizers", "measure", "runner", "weights"},
    "results": {"suites", "weights"},
    "training": {"suites", "metrics", "measure", "results"},
}
"""Beyond the layers: rooms that must not know of each other."""

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


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


def test_every_room_has_a_layer() -> None:
    assert {_room(path) for path in _modules()} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    if room == "__init__":  # the package's front door: `load` reaches for what it needs when called
        return
    for imported in _imported(path) - {room}:
        assert RANK[imported] <= RANK[room], f"{room} imports {imported}, which is above it"
        assert imported not in FORBIDDEN.get(room, set()), f"{room} must not know {imported}"


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
