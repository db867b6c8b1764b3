"""The process that reads Parquet files of strangers for `parquet_file`: pyarrow aborts on some.

The footer is read and bounded first, then the columns, which must be exactly those expected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from vtbench.base.child_process import serve
from vtbench.base.errors import ResultsError, WeightsError
from vtbench.weights.quarantine import isolate

MAX_VALUES = 2**24
"""Of one column. A run of equal values takes no room in the file, and 8 bytes each in memory."""

MAX_COLUMN_BYTES = 2**28
"""Of one column, decompressed."""

MAX_TEXT_BYTES = 2**28
"""Of all text together, each string counted as often as it is used: the file holds it once."""

MAX_ROW_GROUPS = 4096


def read_content(asked: bytes, content: bytes) -> memoryview:
    """Return the table of a Parquet file as an Arrow stream.

    Args:
        asked: as JSON: `path`, which messages name; `columns`, Arrow types by name; `needed`, those that
            must be there; `max_rows`.
        content: the file.

    Raises:
        ResultsError: other columns or types; more rows, values or bytes than the limits; damage.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    want = json.loads(asked)
    path = want["path"]
    limits = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 2**20}
    try:
        with parquet.ParquetFile(pa.BufferReader(content), **limits) as file:
            _check_columns(path, file.schema_arrow, want["columns"], want["needed"])
            footer = file.metadata
            _check_footer(path, footer, want["max_rows"])
            leaves = [file.schema.column(n) for n in range(len(file.schema))]
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        with parquet.ParquetFile(
            pa.BufferReader(content), metadata=footer, read_dictionary=texts, **limits
        ) as file:
            table = file.read(use_threads=False)
        _check_text(path, table)
        # Of a column of nulls its name is sent: older files have one for every metric.
        columns = [
            pa.nulls(len(table)) if 0 < column.null_count == len(table) else column
            for column in table.columns
        ]
        table = pa.table(columns, names=table.column_names)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return memoryview(sink.getvalue())
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResultsError(f"{path}: not a Parquet file of rows ({why[:200]})") from None


def _check_columns(
    path: str, schema: Any, columns: Mapping[str, str], needed: Collection[str]
) -> None:
    for field in schema:
        if field.name not in columns:
            raise ResultsError(f"{path}: unknown column {field.name[:80]}: of a newer vtbench?")
        if (found := _name_type(field.type)) != (kind := columns[field.name]):
            raise ResultsError(f"{path}: column {field.name} is {found[:80]}, not {kind}")
    if missing := [name for name in needed if name not in schema.names]:
        raise ResultsError(f"{path}: no column {missing[0]}")
    if len(set(schema.names)) < len(schema.names):
        raise ResultsError(f"{path}: a column is there twice")


def _check_footer(path: str, facts: Any, max_rows: int) -> None:
    if facts.num_rows > max_rows:
        raise ResultsError(f"{path}: {facts.num_rows:,} rows, at most {max_rows:,} are read")
    if facts.num_row_groups > MAX_ROW_GROUPS:
        raise ResultsError(f"{path}: {facts.num_row_groups:,} row groups")
    for n in range(facts.num_row_groups):
        # Below, each column of the schema is asked of each row group.
        if facts.row_group(n).num_columns != facts.num_columns:
            raise ResultsError(f"{path}: not a Parquet file of rows (row group {n} lacks columns)")
    for place in range(facts.num_columns):
        chunks = [facts.row_group(n).column(place) for n in range(facts.num_row_groups)]
        values = sum(chunk.num_values for chunk in chunks)
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        if values > MAX_VALUES or size > MAX_COLUMN_BYTES:
            raise ResultsError(
                f"{path}: {chunks[0].path_in_schema}: {values:,} values of {size:,} bytes; at most "
                f"{MAX_VALUES:,} of {MAX_COLUMN_BYTES:,} are read"
            )


def _name_type(kind: Any) -> str:
    """Return an Arrow type as `ROW_COLUMNS` writes it; the name of a list's items is the writer's."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"list<{_name_type(kind.value_type)}>"
    if pa.types.is_dictionary(kind) and kind.value_type == pa.string():
        return "string"
    return "float64" if kind == pa.float64() else str(kind)


def _check_text(path: str, table: Any) -> None:
    import pyarrow as pa
    import pyarrow.compute as compute

    total = 0
    for column in table.columns:
        for chunk in column.chunks:
            if pa.types.is_list(chunk.type):
                chunk = chunk.flatten()
                if chunk.null_count:
                    raise ResultsError(f"{path}: a list holds a null")
            if pa.types.is_dictionary(chunk.type) and chunk.null_count < len(chunk):
                lengths = compute.binary_length(chunk.dictionary)
                total += compute.sum(compute.take(lengths, chunk.indices)).as_py() or 0
    if total > MAX_TEXT_BYTES:
        raise ResultsError(f"{path}: {total:,} bytes of text, at most {MAX_TEXT_BYTES:,} are read")


def main() -> int:
    """Answer until the process that asks has ended."""
    # Before the walls: a library may start programs when it is imported.
    import pyarrow.parquet  # noqa: F401

    with suppress(WeightsError):  # a system without such walls
        isolate(0)
    return serve(read_content, 2)


if __name__ == "__main__":
    sys.exit(main())
