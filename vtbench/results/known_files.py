"""The files that a results folder may hold, read within limits."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from vtbench.base.errors import ImageError, OutputError, ResultsError
from vtbench.base.files import read_bounded, resolve_below
from vtbench.base.schema import MAX_JSON_BYTES
from vtbench.images import load_rgb8
from vtbench.results.codes import CODES
from vtbench.results.rows import MAX_PARQUET_BYTES
from vtbench.results.schema import RunRecord, SuiteFolder

MAX_PICTURE_BYTES = 8 * 2**20
"""Larger files of a results folder are refused unread: they may come from a stranger."""


RECONSTRUCTIONS = "reconstructions"
"""A folder that a run's may have beside these files (`--keep-reconstructions`); never published."""


def list_run_files(record: RunRecord, suite: SuiteFolder) -> dict[str, int]:
    """Return the files that a run has, by name below its folder, with their largest sizes."""
    pictures = (f"panel/{item.n}.png" for item in suite.panel)
    files = {"run.json": MAX_JSON_BYTES, "images.parquet": MAX_PARQUET_BYTES}
    if record.codes is not None:
        files[CODES] = MAX_PARQUET_BYTES
    return files | dict.fromkeys(pictures, MAX_PICTURE_BYTES)


def list_error_maps(suite: SuiteFolder) -> dict[str, int]:
    """Return the error maps that older runs have beside their pictures, with their largest sizes."""
    return {f"panel/{item.n}.error.png": MAX_PICTURE_BYTES for item in suite.panel}


def list_suite_files(suite: SuiteFolder) -> dict[str, int]:
    """Return the files of a suite's folder beside its runs and tables, with their largest sizes."""
    originals = (f"originals/{item.n}.png" for item in suite.panel)
    return {"suite.json": MAX_JSON_BYTES} | dict.fromkeys(originals, MAX_PICTURE_BYTES)


def read_known_files(folder: Path, files: Mapping[str, int]) -> dict[str, bytes]:
    """Return the content of those of the named files that are in the folder.

    Raises ResultsError for one that is no regular file, is behind a symbolic link, is larger than
    its limit, or is named a picture and is no PNG.
    """
    found = {}
    for name, limit in files.items():
        try:
            path = resolve_below(folder, name)
            found[name] = read_bounded(path, max_bytes=limit, raise_as=ResultsError)
            if name.endswith(".png"):
                load_rgb8(io.BytesIO(found[name]), formats=("PNG",))
        except FileNotFoundError:
            continue
        except OutputError as error:
            raise ResultsError(str(error)) from None
        except ImageError as error:
            raise ResultsError(f"{path}: {error}") from None
    return found
