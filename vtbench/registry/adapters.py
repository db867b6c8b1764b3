"""The check that an entry's adapter exists. It parses the module's source and imports nothing."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from vtbench.base import plugins
from vtbench.base.locations import package_dir

OWN = "vtbench.tokenizers."

MAX_SOURCE_BYTES = 2**20


_ADAPTER = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*", re.ASCII | re.IGNORECASE)


def find_adapter_fault(adapter: str) -> str | None:
    """Return why "module:Class" is no adapter, or None.

    In vtbench.tokenizers it must be a class that descends from `Tokenizer`. In an installed package
    it must be a name at the top of its module; its bases, which are the package's, are not checked.
    """
    if not _ADAPTER.fullmatch(adapter):
        return f"{adapter} is no module:Class"
    module, _, name = adapter.partition(":")
    own = module.startswith(OWN)
    if not own and module not in plugins.list_modules(plugins.TOKENIZERS):
        return (
            f"{module} is neither in vtbench.tokenizers nor offered by an installed package "
            f"(entry-point group {plugins.TOKENIZERS})"
        )
    names = _read_names(module)
    if names is None:
        return f"there is no module {module}"
    if name not in names:
        return f"{module} has no class {name}"
    if own and not _descends(module, name, frozenset()):
        return f"{module}:{name} is not a Tokenizer"
    return None


GIVEN = frozenset({"self", "spec", "device", "dtype", "seed", "weights"})
"""What an adapter's constructor gets from elsewhere than an entry's options."""


def find_options(adapter: str) -> frozenset[str] | None:
    """Return the options that an adapter of vtbench takes, by its constructor's source; None for one
    of another package, which may build its own from anything."""
    module, _, name = adapter.partition(":")
    found = _find_constructor(module, name, frozenset())
    return None if found is None else found - GIVEN


def _find_constructor(
    module: str, name: str, seen: frozenset[tuple[str, str]]
) -> frozenset[str] | None:
    if (module, name) in seen or not module.startswith(OWN):
        return None
    if (own := _read_constructors(module).get(name)) is not None:
        return own
    found = (_read_names(module) or {}).get(name)
    seen |= {(module, name)}
    if isinstance(found, tuple):
        return _find_constructor(*found, seen)
    inherited = (_find_constructor(module, base, seen) for base in found or ())
    return next((one for one in inherited if one is not None), None)


@functools.cache
def _read_constructors(module: str) -> dict[str, frozenset[str]]:
    """Return the parameters of the constructors that the classes of a module write themselves."""
    tree = _parse(module)
    found = {}
    for node in _statements(tree) if tree is not None else ():
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                given = part.args
                names = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
                if isinstance(node, ast.ClassDef) and given.kwarg is None:
                    found[node.name] = frozenset(names)
    return found


def _descends(module: str, name: str, seen: frozenset[tuple[str, str]]) -> bool:
    """Return whether a class of vtbench descends from `vtbench.tokenizers.base.Tokenizer`."""
    if (module, name) == (f"{OWN}base", "Tokenizer"):
        return bool(seen)  # itself it is abstract
    if (module, name) in seen or not module.startswith(OWN):
        return False
    found = (_read_names(module) or {}).get(name)
    seen |= {(module, name)}
    if isinstance(found, tuple):  # imported from there
        return _descends(*found, seen)
    return any(_descends(module, base, seen) for base in found or ())


_Origin = tuple[str, str] | list[str]
"""Where a name comes from: the module and name that it was imported as, or the bases of a class."""


@functools.cache
def _parse(module: str) -> ast.Module | None:
    path = _find_source(module)
    try:
        if path is None or path.stat().st_size > MAX_SOURCE_BYTES:
            return None
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@functools.cache
def _read_names(module: str) -> dict[str, _Origin] | None:
    """Return the classes and imported names at the top of a module, or None where there is none."""
    tree = _parse(module)
    if tree is None:
        return None
    names: dict[str, _Origin] = {}
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef):
            names[node.name] = [
                b.id for base in node.bases if isinstance(b := _unwrap(base), ast.Name)
            ]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = (node.module or "", alias.name)
    return names


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements at the top, also those below an `if` or `try` there."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop(0)
        yield node
        if isinstance(node, ast.If | ast.Try):
            todo += [*node.body, *node.orelse]


def _unwrap(base: ast.expr) -> ast.expr:
    return base.value if isinstance(base, ast.Subscript) else base  # Generic[T]


def _find_source(module: str) -> Path | None:
    """Return a module's file. Of its packages none is imported, so none runs."""
    if module.startswith(OWN):
        parts = module.split(".")[1:]
        path = package_dir().joinpath(*parts)
        candidates = (path.with_suffix(".py"), path / "__init__.py")
        return next((file for file in candidates if file.is_file()), None)
    top, *below = module.split(".")
    try:
        spec = find_spec(top)
        for part in below:
            if spec is None or spec.submodule_search_locations is None:
                return None
            places = list(spec.submodule_search_locations)
            spec = PathFinder.find_spec(f"{spec.name}.{part}", places)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)
