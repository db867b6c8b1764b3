"""The digest of the code that a number depends on: the import closure of some modules.

A file is digested if it belongs to vtbench, to the package of a root (a plug-in's adapter, a model of
one's own), or to no installed distribution at all. An installed distribution counts by its version,
the standard library by nothing: `library_versions` has Python's. Imports are read from the source, so
nothing is imported, and those inside functions count too. What a module imports by a string that it
puts together is not seen; such modules are given as roots.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, distribution, distributions, version
from pathlib import Path

from vtbench.base.errors import RegistryError
from vtbench.base.files import sha256_file

_DOOR = "vtbench"
"""The package's own `__init__` reaches for every room, and none of them for it."""


def digest_code(roots: Iterable[str], *, without: Collection[str] = ()) -> str:
    """Return the digest of all code that the modules named by `roots` import, and of themselves.

    Args:
        roots: names of modules.
        without: modules of data, whose facts the caller digests by themselves.

    Raises:
        RegistryError: a root is not to be found.
    """
    own = {root.partition(".")[0] for root in roots}
    found: dict[str, str] = {}
    nothing: set[str] = set()
    waiting = sorted(set(roots))
    for root in waiting:
        if not _files_of(root):
            raise RegistryError(f"module {root} is not to be found")
    while waiting:
        name = waiting.pop()
        if name in found or name in nothing or name == _DOOR or name in without:
            continue
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if top not in own and (installed := _installed_version(top)) is not None:
            found[top] = installed
            continue
        files = _files_of(name)
        if not files:  # a function or class: `from module import name` cannot be told from a module
            nothing.add(name)
            continue
        found[name] = " ".join(sha256_file(file) for file in files)
        waiting += [imported for file in files for imported in _imports(file, name)]
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # its package's __init__ is run before it
    content = "\n".join(f"{name} {digest}" for name, digest in sorted(found.items()))
    return hashlib.sha256(content.encode()).hexdigest()


@functools.cache
def _distributions() -> dict[str, tuple[Distribution, ...]]:
    """Return the distributions of each top-level package or module, as `packages_distributions` finds
    them, without a path of each of their files, which is most of its time."""
    found: dict[str, list[Distribution]] = {}
    for one in distributions():
        for top in _list_tops(one):
            found.setdefault(top, []).append(one)
    return {top: tuple(owners) for top, owners in found.items()}


def _list_tops(installed: Distribution) -> set[str]:
    if declared := (installed.read_text("top_level.txt") or "").split():
        return set(declared)
    record = installed.read_text("RECORD")
    if record is None:  # not installed from a wheel
        files = [file.as_posix() for file in installed.files or ()]
    else:
        files = [line.partition(",")[0].strip('"') for line in record.splitlines()]
    tops = (file.partition("/") for file in files if file.endswith(".py"))
    return {first if below else first.removesuffix(".py") for first, _, below in tops}


@functools.cache
def _installed_version(top: str) -> str | None:
    """Return the versions of the distributions that a top-level package is of.

    None for one that is not installed, or installed as editable: its files lie elsewhere. Where a
    distribution's folder is does not matter: a site folder, one of PYTHONPATH, links to another.
    """
    places = _top_places(top)
    names = sorted({owner.metadata["Name"] for owner in _distributions().get(top, ())})
    files = [top, *(f"{top}{ending}" for ending in (".py", *EXTENSION_SUFFIXES))]
    owned = [distribution(name).locate_file(file) for name in names for file in files]
    homes = {Path(str(file)).resolve() for file in owned}
    if not places or not homes.issuperset(places):
        return None
    return " ".join(f"{name}=={version(name)}" for name in names)


@functools.cache
def _top_places(top: str) -> tuple[Path, ...]:
    """Return the folders of a top-level package, or the file of a top-level module."""
    module = sys.modules.get(top)
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(Path(place).resolve() for place in spec.submodule_search_locations)
    return (Path(spec.origin).resolve(),) if spec.origin and spec.has_location else ()


def _files_of(name: str) -> tuple[Path, ...]:
    """Return the files of a module: its source or extension, or the `__init__` of a package."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None:
        return (Path(loaded),)
    top, _, rest = name.partition(".")
    places = _top_places(top)
    if not rest:
        return tuple(_existing(p / "__init__" if p.is_dir() else p) for p in places if _any(p))
    found = []
    for place in places:
        stem = place.joinpath(*rest.split("."))
        if stem.is_dir() and _any(stem):
            found.append(_existing(stem / "__init__"))
        elif (file := _find(stem)) is not None:
            found.append(file)
    return tuple(found)


def _find(stem: Path) -> Path | None:
    endings = (".py", *EXTENSION_SUFFIXES)
    return next((p for end in endings if (p := stem.with_name(stem.name + end)).is_file()), None)


def _any(place: Path) -> bool:
    return place.is_file() or _find(place / "__init__") is not None


def _existing(place: Path) -> Path:
    found = place if place.is_file() else _find(place)
    assert found is not None
    return found


@functools.lru_cache(maxsize=4096)
def _parse(file: Path, changed: int, size: int) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Return each import of a file as (level, module, names). changed, size: of the file, as key."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # its import says so; the bytes are digested
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append((node.level, node.module or "", names))
    return tuple(found)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements below, without those that only a type checker sees. No expression holds an
    import."""
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                continue
            yield child
            yield from _walk(child)


def _imports(file: Path, name: str) -> Iterator[str]:
    """Yield the modules that a file of the module `name` may import, with absolute names."""
    if file.suffix != ".py":
        return
    facts = file.stat()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for level, module, names in _parse(file, facts.st_mtime_ns, facts.st_size):
        base = module
        if level:
            parts = package.split(".")
            parents = parts[: len(parts) - level + 1]
            base = ".".join([*parents, module] if module else parents)
        if not base:
            continue
        yield base
        yield from (f"{base}.{imported}" for imported in names if imported != "*")
