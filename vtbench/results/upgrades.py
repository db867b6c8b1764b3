"""Results of older schema versions, read as if they were of this one.

A version is one step: `run.json` and `suite.json` of it become those of the next. What a step does to
`images.parquet` is nothing: a column that a file lacks reads as null (`rows.read_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vtbench.base.errors import ResultsError
from vtbench.results.schema import SCHEMA_VERSION

OLDEST = 3

INPUTS = 5
"""The first version whose run.json says all that its key is made of."""


def _upgrade_3(data: dict[str, Any]) -> dict[str, Any]:
    """Version 4: a file of rows has the columns of what was measured, and no longer all; run.json
    says whether the reconstructions came from files (`source`)."""
    return data


def _upgrade_4(data: dict[str, Any]) -> dict[str, Any]:
    """Version 5: a row has the digest of its reconstruction's pixels, run.json all that its key is made
    of (`inputs`). Neither can be had afterwards: both stay unknown."""
    return data


UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {3: _upgrade_3, 4: _upgrade_4}
"""By the version that it starts from."""


def upgrade(data: object, path: Path) -> dict[str, Any]:
    """Return the content of a run.json or suite.json as one of this version.

    Raises ResultsError for one that is no mapping, older than OLDEST, or newer than this vtbench.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(data, dict) or isinstance(version, bool) or not isinstance(version, int):
        raise ResultsError(f"{path}: no result file: it states no schema_version")
    if not OLDEST <= version <= SCHEMA_VERSION:
        advice = "update vtbench" if version > SCHEMA_VERSION else "measure it again"
        raise ResultsError(
            f"{path}: schema version {version}, this vtbench reads {OLDEST} to {SCHEMA_VERSION}: "
            f"{advice}"
        )
    for key in {"upgraded_from"} | ({"inputs"} if version < INPUTS else set()):
        if key in data:
            raise ResultsError(f"{path}: {key}: no key of schema version {version}")
    for step in range(version, SCHEMA_VERSION):
        data = UPGRADES[step](data)
    older = {"upgraded_from": version} if version < SCHEMA_VERSION else {}
    return data | {"schema_version": SCHEMA_VERSION} | older
