"""Pictures in Parquet files, as the Hugging Face hub keeps them: listed by row, read by row group."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtbench.base.errors import ImageError, SuiteError
from vtbench.base.records import ParquetPlace, Sample

MAX_ROW_GROUP_BYTES = 4 * 2**30
"""A Parquet row group is read whole, so a larger one is refused."""


def list_parquet(path: Path, column: str) -> Iterator[tuple[Path, str, ParquetPlace]]:
    """Yield (file, name or "", place) of each row. Raises SuiteError for a file without pictures."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            kind = _column_type(path, file.schema_arrow, column)
            named = _has_names(path, kind, column)
            leaf = f"{column}.bytes" if pa.types.is_struct(kind) else column
            for group in range(file.num_row_groups):
                facts = file.metadata.row_group(group)
                if facts.total_byte_size > MAX_ROW_GROUP_BYTES:
                    raise SuiteError(
                        f"{path}: row group {group} has {facts.total_byte_size / 2**30:.1f} GiB; "
                        f"write the file again with at most {MAX_ROW_GROUP_BYTES >> 30}"
                    )
                names: list[Any] = [None] * facts.num_rows
                if named:
                    table = file.read_row_group(
                        group, columns=[f"{column}.path"], use_threads=False
                    )
                    names = [row["path"] if row else None for row in table.column(0).to_pylist()]
                for row, name in enumerate(names):
                    yield path, name or "", ParquetPlace(name or "", group, row, leaf)
    except (pa.ArrowException, OSError) as error:
        raise SuiteError(f"{path}: not a Parquet file ({_first_line(error)})") from None


def _has_names(path: Path, kind: Any, column: str) -> bool:
    """Return whether the rows of a column have names. Raises SuiteError for those of another type
    than text: numbers in their stead would be other ids."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return False
    text = kind.field("path").type
    if pa.types.is_dictionary(text):
        text = text.value_type
    if not (_is_any(text, "string", "large_string", "string_view") or pa.types.is_null(text)):
        raise SuiteError(f"{path}: column {column!r}: path holds {text}, not text")
    return not pa.types.is_null(text)


def _is_any(kind: Any, *names: str) -> bool:
    """Return whether an Arrow type is one of these; older versions do not know all of them."""
    import pyarrow as pa

    return any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in names)


def _column_type(path: Path, schema: Any, column: str) -> Any:
    import pyarrow as pa

    if column not in schema.names:
        raise SuiteError(f"{path}: no column {column!r}; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    inner = kind
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inner = kind.field("bytes").type
    if not _is_any(inner, "binary", "large_binary", "binary_view"):
        raise SuiteError(f"{path}: column {column!r} holds {kind}, not encoded pictures")
    return kind


class _RowGroup:
    """The row group that was read last; the next one takes its place. Threads take turns."""

    def __init__(self) -> None:
        self._key: tuple[Path, int, str] | None = None
        self._pictures: Any = None
        self._turn = threading.Lock()

    def read(self, sample: Sample) -> bytes | None:
        """Return the bytes of a sample's row, None where the row has none."""
        with self._turn:
            return self._read(sample)

    def _read(self, sample: Sample) -> bytes | None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        assert isinstance(sample.place, ParquetPlace)
        key = (sample.path, sample.place.row_group, sample.place.column)
        if key != self._key:
            self._key = self._pictures = None  # before the next is read: one at a time
            try:
                with parquet.ParquetFile(sample.path) as file:
                    table = file.read_row_group(key[1], columns=[key[2]], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise ImageError(
                    f"{sample.path}: row group {key[1]}: cannot be read ({_first_line(error)})"
                ) from error
            self._key, self._pictures = key, table.column(0)
        value = self._pictures[sample.place.row].as_py()
        found = value.get("bytes") if isinstance(value, dict) else value
        return found if isinstance(found, bytes) else None


ROW_GROUP = _RowGroup()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
