"""Plug-ins: tokenizers, metrics, entries and suites that installed packages add by entry points.

    [project.entry-points."vtbench.tokenizers"]   a module with adapters
    [project.entry-points."vtbench.metrics"]      a module with METRICS, a sequence of `Metric`
    [project.entry-points."vtbench.data"]         a module with DATA, the path of a folder that holds
                                                  registry/ or suites/ and manifests/

A module that cannot be imported is left out and said once; nothing else fails for it.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from vtbench.base.errors import describe_foreign

TOKENIZERS, METRICS, DATA = "vtbench.tokenizers", "vtbench.metrics", "vtbench.data"

Value = TypeVar("Value")


@functools.cache
def list_modules(group: str) -> tuple[str, ...]:
    """Return the names of the modules that installed packages offer under a group; unimported."""
    return tuple(sorted({point.value.partition(":")[0] for point in entry_points(group=group)}))


@functools.cache
def load_modules(group: str) -> tuple[ModuleType, ...]:
    """Return the modules that installed packages offer under a group."""
    modules = []
    for name in list_modules(group):
        try:
            modules.append(importlib.import_module(name))
        except Exception as error:
            # Somebody else's package may raise anything when it is imported.
            logging.getLogger("vtbench").warning(
                "plug-in %s (%s) is left out: %s", name, group, describe_foreign(error)
            )
    return tuple(modules)


def list_data_folders() -> tuple[Path, ...]:
    """Return the folders of entries and suites that installed packages offer."""
    return tuple(Path(module.DATA) for module in load_modules(DATA))


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
