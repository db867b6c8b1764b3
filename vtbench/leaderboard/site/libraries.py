"""The scripts of kept libraries, taken out of their installed wheels: DataTables (in itables) and
plotly.js (in plotly). Neither package is imported.

A page that is opened from disk may load classic scripts and no modules, so the bundle of DataTables,
a module, becomes one: its export list is replaced by names of the window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from vtbench.base.errors import VtbenchError

_EXPORT = re.compile(r"export\s*\{([^{}]*)\};?")
_NEEDED: Mapping[str, str] = {"default": "VtbenchTables"}
"""What of the bundle's exports the pages use, and the name of the window that it gets."""

_EAGER = b"//# allFunctionsCalledOnLoad\n"
"""By this comment Chromium compiles all functions of a script on another thread while it loads; else it
parses most of them twice, the second time on the page's own thread when they are first called."""


def read_libraries() -> dict[str, bytes]:
    """Return the scripts by file name.

    Raises:
        VtbenchError: a package is not installed, or its script is not in it as expected.
    """
    tables = _read("itables", "html/dt_bundle.js").decode("utf-8")
    return {
        "datatables.js": _EAGER + classic_script(tables).encode(),
        "plotly.js": _EAGER + _read("plotly", "package_data/plotly.min.js"),
    }


def classic_script(module: str) -> str:
    """Return a module as a classic script. Raises VtbenchError where its exports are not found."""
    lists = list(_EXPORT.finditer(module))
    if len(lists) != 1:
        raise VtbenchError(f"itables: {len(lists)} export lists in its script: one was expected")
    exports = {}
    for part in lists[0][1].split(","):
        local, _, name = part.strip().partition(" as ")
        exports[name or local] = local
    if missing := sorted(set(_NEEDED) - set(exports)):
        raise VtbenchError(f"itables: its script exports no {', '.join(missing)}")
    given = "".join(f"window.{there}={exports[name]};" for name, there in _NEEDED.items())
    start, end = lists[0].span()
    return f"(()=>{{{module[:start]}\n{given}\n{module[end:]}\n}})();\n"


def _read(package: str, name: str) -> bytes:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise VtbenchError(f"the site needs the package {package}: pip install {package}")
    path = Path(next(iter(spec.submodule_search_locations)), name)
    if not path.is_file():
        raise VtbenchError(f"{package} has no {name}: another version of it is needed")
    return path.read_bytes()
