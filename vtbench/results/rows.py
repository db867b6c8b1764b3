"""Rows, one an image: their columns, and Parquet of them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vtbench.base.errors import ResultsError
from vtbench.base.files import read_bounded
from vtbench.base.plugins import LazyMapping
from vtbench.metrics.catalogue import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "id": "string",
        "task": "string",
        "subset": "string",
        "width": "int64",
        "height": "int64",
        "sha256": "string",  # of the original's pixels
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
"""What the pass itself knows of an image: column → Arrow type. Every file of rows has these."""


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


MAX_PARQUET_BYTES = 2**30


def _read_parquet_file(path: Path) -> bytes:
    try:
        return read_bounded(path, max_bytes=MAX_PARQUET_BYTES, raise_as=ResultsError)
    except FileNotFoundError:
        raise ResultsError(f"{path}: cannot be read (no such file)") from None


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the rows as a Parquet file. Raises ResultsError for a column that is not known."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    present = set(IMAGE_COLUMNS)
    for row in rows:
        if unknown := sorted(set(row) - set(ROW_COLUMNS)):
            raise ResultsError(f"row {row.get('id')}: unknown column {unknown[0]}")
        present |= set(row)
    schema = pa.schema(
        [(name, _arrow_type(pa, kind)) for name, kind in ROW_COLUMNS.items() if name in present]
    )
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def decode_rows(path: Path, content: bytes) -> pa.Table:
    """Return the table of a Parquet file of rows, with every column of ROW_COLUMNS in their order.

    Columns that the file lacks are null: their metrics were not measured, or did not exist then.
    Raises ResultsError for another file, an unknown column, or one of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        # With threads, or through read_table, pyarrow ends one process in fifty by SIGABRT at exit.
        file = parquet.ParquetFile(pa.BufferReader(content))
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(f"{path}: not a Parquet file ({error})") from None
    for field in table.schema:
        kind = ROW_COLUMNS.get(field.name)
        if kind is None:
            raise ResultsError(f"{path}: unknown column {field.name}: of a newer vtbench?")
        if field.type != _arrow_type(pa, kind):
            raise ResultsError(f"{path}: column {field.name} is {field.type}, not {kind}")
    if missing := [name for name in IMAGE_COLUMNS if name not in table.column_names]:
        raise ResultsError(f"{path}: no column {missing[0]}")
    columns = [
        table[name] if name in table.column_names else pa.nulls(len(table), _arrow_type(pa, kind))
        for name, kind in ROW_COLUMNS.items()
    ]
    return pa.table(dict(zip(ROW_COLUMNS, columns, strict=True)))


def _arrow_type(pa: Any, kind: str) -> Any:
    if kind.startswith("list<"):
        return pa.list_(_arrow_type(pa, kind[5:-1]))
    return {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}[kind]


def _check_places(path: Path, rows: Sequence[Row]) -> None:
    """Raise ResultsError for a row without id, or whose task or subset is no name."""
    for row in rows:
        if not isinstance(row["id"], str):
            raise ResultsError(f"{path}: a row without an id")
        for key in ("task", "subset"):
            if row[key] is not None and not _PLACE.fullmatch(str(row[key])):
                raise ResultsError(f"{path}: {row['id']!r}: {key} {row[key]!r} is no name")


_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
