"""Rows, one an image: their columns, and how Parquet of them is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vtbench.base.errors import ResultsError
from vtbench.base.files import read_bounded, sha256_bytes
from vtbench.base.plugins import LazyMapping
from vtbench.metrics.catalogue import METRICS
from vtbench.results.parquet_file import read_parquet

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

IMAGE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "id": "string",
        "task": "string",
        "subset": "string",
        "width": "int64",
        "height": "int64",
        "sha256": "string",  # of the original's pixels
        "reconstruction_sha256": "string",  # of its pixels as 8 bit; unknown before schema version 5
        "error": "string",  # null, or why this image has no numbers
        "fit": "string",  # none, pad, resize or tile: how the network was given this size
        "tokens": "int64",
        "bits": "float64",
        "entropy_bits": "float64",  # of the tokens under the distribution of codes.parquet
        "batch_size": "int64",
        "encode_s": "float64",  # seconds of the batch ÷ images in it
        "decode_s": "float64",
        "peak_memory_mib": "float64",  # of encode and decode of the batch
    }
)
"""What the pass itself knows of an image: column → Arrow type."""

NEEDED_COLUMNS = tuple(key for key in IMAGE_COLUMNS if key != "reconstruction_sha256")
"""Every file of rows has these."""


def _all_columns() -> dict[str, str]:
    columns = dict(IMAGE_COLUMNS)
    for metric in METRICS.values():
        columns |= metric.row_columns
    return columns


ROW_COLUMNS: Mapping[str, str] = LazyMapping(_all_columns)
"""Columns of images.parquet with their Arrow types: the pass's, then each metric's by the catalogue.

A file has those of what was measured; a column that is not in it reads as null. A null without an
`error` means not applicable, or missing as `run.json` says of the metric."""

Row = dict[str, Any]


MAX_PARQUET_BYTES = 2**28


def read_pinned(path: Path, sha256: str) -> bytes:
    """Return the content of a file of this digest. Raises ResultsError."""
    try:
        content = read_bounded(path, max_bytes=MAX_PARQUET_BYTES, raise_as=ResultsError)
    except FileNotFoundError:
        raise ResultsError(f"{path}: cannot be read (no such file)") from None
    if sha256_bytes(content) != sha256:
        raise ResultsError(f"{path}: not what run.json was written with (edited?)")
    return content


def read_table(path: Path, sha256: str) -> pa.Table:
    """Return images.parquet, which must have this digest, with every column of ROW_COLUMNS in order:
    null for those that the file lacks, whose metrics were not measured or did not exist then.

    Raises ResultsError for a file that is not the one, is damaged or too large, or for a row without
    id, with a task or subset that is no name, or a number that is not finite.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    content = read_pinned(path, sha256)
    read = read_parquet(path, content, ROW_COLUMNS, needed=NEEDED_COLUMNS)
    n = len(read)
    read = read.select([field.name for field in read.schema if field.type != pa.null()])
    # A copy: what was read is one buffer, which any column would keep whole.
    copies = read.take(pa.array(np.arange(n))).columns
    known = dict(zip(read.column_names, copies, strict=True))
    table = pa.table(
        {
            name: known[name].cast(arrow_type(kind)) if name in known else _make_nulls(n, kind)
            for name, kind in ROW_COLUMNS.items()
        }
    )
    ids = table["id"]
    if ids.null_count:
        raise ResultsError(f"{path}: a row without an id")
    if pc.count_distinct(ids).as_py() != len(table):
        counts = pc.value_counts(ids).to_pylist()
        twice = next(count["values"] for count in counts if count["counts"] > 1)
        raise ResultsError(f"{path}: an image appears twice: {twice!r}")
    for key in ("task", "subset"):
        for value in pc.unique(table[key]).to_pylist():
            if value is not None and not _PLACE.fullmatch(value):
                image = ids[pc.index(table[key], value).as_py()].as_py()
                raise ResultsError(f"{path}: {image!r}: {key} {value!r} is no name")
    for key, kind in ROW_COLUMNS.items():
        if "float64" in kind and (image := _find_row(table, key, np.isfinite)) is not None:
            raise ResultsError(f"{path}: {key} of {image} is not finite: measure it again")
    return table


@functools.lru_cache(maxsize=64)
def _make_nulls(n: int, kind: str) -> pa.Array:
    """Return a column of nulls; the columns that a file lacks share it."""
    import pyarrow as pa

    return pa.nulls(n, arrow_type(kind))


def _find_row(
    table: pa.Table, column: str, holds: Callable[[NDArray[Any]], NDArray[np.bool_]]
) -> str | None:
    """Return the id of the first row with a number, alone or in a list, for which something does not
    hold; None where it holds for all of them."""
    import pyarrow.compute as pc

    values = table[column]
    if values.null_count == len(values):
        return None
    lists = "list" in ROW_COLUMNS[column]
    numbers = pc.list_flatten(values) if lists else values
    bad = ~holds(numbers.to_numpy())
    if numbers.null_count:  # NaN in the array
        bad &= numbers.is_valid().to_numpy()
    if not bad.any():
        return None
    row = int(bad.argmax())
    if lists:
        row = pc.list_parent_indices(values)[row].as_py()
    return str(table["id"][row].as_py())


def check_table(path: Path, table: pa.Table) -> None:
    """Raise ResultsError for a row that no board can be made of: without task, subset or size, or with
    a number that its column cannot have (a negative error, a count below none)."""
    import pyarrow.compute as pc

    for key in ("task", "subset"):
        place = pc.index(table[key].is_null(), True).as_py()
        if place >= 0:
            raise ResultsError(f"{path}: {table['id'][place].as_py()!r}: without {key}")
    done = table
    if table["error"].null_count < len(table):
        done = table.filter(table["error"].is_null())
    for side in ("width", "height"):
        within = pc.and_(pc.greater(done[side], 0), pc.less_equal(done[side], MAX_SIDE))
        place = pc.index(pc.fill_null(within, False), False).as_py()
        if place >= 0:
            size = "×".join(str(done[name][place].as_py()) for name in ("width", "height"))
            raise ResultsError(f"{path}: {done['id'][place].as_py()!r}: {size} pixels")
    for key in _list_nonnegative():
        if (image := _find_row(table, key, lambda x: x >= 0)) is not None:
            raise ResultsError(f"{path}: {image!r}: {key} is negative")


MAX_SIDE = 2**20


@functools.cache
def _list_nonnegative() -> tuple[str, ...]:
    """Return the columns of counts, sizes, times and errors: the pass's numbers, all integers, and what
    the catalogue says of each metric."""
    own = [name for name, kind in IMAGE_COLUMNS.items() if kind != "string"]
    for metric in METRICS.values():
        own += [c for c, kind in metric.row_columns.items() if kind == "int64"]
        own += metric.nonnegative
    return tuple(dict.fromkeys(own))


def is_unreadable(row: Row) -> bool:
    """Return whether a row failed because its original cannot be read: then it has no pixels to hash,
    and the image leaves the set for every run alike."""
    return row["error"] is not None and row["sha256"] is None


@functools.cache
def arrow_type(kind: str) -> pa.DataType:
    """Return the Arrow type that a column's text names."""
    import pyarrow as pa

    if kind.startswith("list<"):
        return pa.list_(arrow_type(kind[5:-1]))
    return {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}[kind]


_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
