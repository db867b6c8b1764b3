"""Plug-ins: tokenizers, metrics, entries and suites that installed packages add by entry points.

    [project.entry-points."vtbench.tokenizers"]   a module with adapters
    [project.entry-points."vtbench.metrics"]      a module with METRICS, a sequence of `Metric`
    [project.entry-points."vtbench.data"]         a module with DATA, the path of a folder that holds
                                                  registry/ or suites/ and manifests/

A module that cannot be imported, or offers something else, is left out and said once; nothing else
fails for it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from vtbench.base.errors import describe_foreign

TOKENIZERS, METRICS, DATA = "vtbench.tokenizers", "vtbench.metrics", "vtbench.data"

Value = TypeVar("Value")


@functools.cache
def list_modules(group: str) -> tuple[str, ...]:
    """Return the names of the modules that installed packages offer under a group; unimported."""
    return tuple(sorted({point.value.partition(":")[0] for point in entry_points(group=group)}))


@functools.cache
def load_offers(group: str, name: str) -> tuple[tuple[str, Any], ...]:
    """Return what each module of a group has under a name, with the module's name."""
    offers = []
    for module in list_modules(group):
        try:
            # A module may leave another standard output behind, or none.
            with redirect_stdout(sys.stdout), redirect_stderr(sys.stderr):
                offers.append((module, getattr(importlib.import_module(module), name)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Somebody else's package may raise anything when it is imported, or end the process.
            leave_out(module, group, describe_foreign(error))
    return tuple(offers)


def leave_out(module: str, group: str, reason: str) -> None:
    """Say that a plug-in is left out."""
    logging.getLogger("vtbench").warning("plug-in %s (%s) is left out: %s", module, group, reason)


@functools.cache
def list_data_folders() -> tuple[Path, ...]:
    """Return the folders of entries and suites that installed packages offer."""
    folders = []
    for module, offered in load_offers(DATA, "DATA"):
        folder = Path(offered) if isinstance(offered, str | Path) else Path()
        if folder.is_absolute() and folder.is_dir():
            folders.append(folder)
        else:
            shown = offered if isinstance(offered, str | Path) else type(offered).__name__
            leave_out(module, DATA, f"DATA is no absolute path of a folder: {shown}")
    return tuple(folders)


class LazyMapping(Mapping[str, Value]):
    """A mapping that is made when it is first looked at: importing its module costs nothing."""

    def __init__(self, make: Callable[[], Mapping[str, Value]]) -> None:
        self._make = functools.cache(make)

    def __getitem__(self, key: str) -> Value:
        return self._make()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())
