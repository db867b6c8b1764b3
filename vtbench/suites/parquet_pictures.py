"""The process that reads pictures in Parquet for `parquet_files`: pyarrow aborts on some damaged files.

It lists the rows of a file, and holds the row group that was read last. What a footer says is compared
with the file's size before anything is decompressed: memory follows from bytes that are there.
"""

from __future__ import annotations

import bisect
import json
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vtbench.base.child_process import CPU_SECONDS, allow, serve
from vtbench.base.errors import ImageError, SuiteError, VtbenchError, WeightsError
from vtbench.weights.quarantine import isolate

MAX_ROW_GROUP_BYTES = 4 * 2**30
"""A Parquet row group is read whole, so a larger one is refused."""

MAX_SMALL_BYTES = 2**28
"""A row group may have as many decompressed bytes, however few it has in the file."""

MAX_EXPANSION = 4
"""Upper limit on (decompressed bytes) / (bytes in the file) of a larger row group."""

MAX_ROW_GROUPS = 2**16

MIN_PICTURE_BYTES = 16
"""A file of more rows than its bytes have room for is none of pictures; the smallest GIF has 35."""

MAX_NAME_BYTES = 2**26
"""Of the names of a file together, each counted as often as it is used."""

MAX_ENCODED_BYTES = 2**30
"""Of one picture."""

SPARE_BYTES = 3 * 2**28
"""Memory beside the row group: the libraries, a page, an answer."""

MOST_MEMORY = SPARE_BYTES + MAX_ROW_GROUP_BYTES * 3 // 2

BYTES_A_SECOND = 5 * 10**7
"""Of processor time: decompression is several times as fast."""

LENGTH = struct.Struct("<q")
"""Of a picture in an answer; -1 for a row without one."""


@contextmanager
def _open(path: str, **options: Any) -> Iterator[tuple[Any, int]]:
    """Open a regular file as (Parquet file, bytes). Raises SuiteError for damage and for other files."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    limits = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": 2**22}
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):
            raise SuiteError(f"{path}: not a regular file")
        # In a stream of its own, and not by its address, which could be one of a network.
        with (
            pa.OSFile(path) as stream,
            parquet.ParquetFile(stream, buffer_size=2**20, **limits, **options) as file,
        ):
            yield file, facts.st_size
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SuiteError(f"{path}: not a Parquet file ({why})") from None


def list_rows(path: str, column: str) -> dict[str, Any]:
    """Return `leaf`, the column of the encoded pictures, and `groups`: of each row group the number of
    its rows, and their names if they have some, else null.

    Raises:
        SuiteError: no such column, another type, more rows or bytes than the limits, damage.
    """
    import pyarrow as pa

    with _open(path) as (file, size):
        kind = _find_type(path, file.schema_arrow, column)
        named = _has_names(path, kind, column)
        leaf = f"{column}.bytes" if pa.types.is_struct(kind) else column
        place = _find_leaf(path, file, leaf)
        facts = file.metadata
        if facts.num_row_groups > MAX_ROW_GROUPS:
            raise SuiteError(f"{path}: {facts.num_row_groups:,} row groups")
        groups: list[list[Any]] = []
        for number in range(facts.num_row_groups):
            limit_group(path, facts, number, place=place, size=size)
            groups.append([facts.row_group(number).num_rows, None])
        rows = sum(count for count, _ in groups)
        if rows * MIN_PICTURE_BYTES > size:
            raise SuiteError(f"{path}: {rows:,} rows in {size:,} bytes: no pictures")
    if named:
        text = kind.field("path").type == pa.string()
        _read_names(path, f"{column}.path", groups, once=text)
    return {"leaf": leaf, "groups": groups}


def limit_group(path: str, facts: Any, number: int, *, place: int, size: int) -> int:
    """Return the most bytes that a row group may have once it is decompressed.

    Args:
        path: for the messages.
        facts: the file's footer.
        number: of the row group.
        place: of the pictures among the columns.
        size: bytes of the file.

    Raises:
        SuiteError: its footer claims more, or what cannot be.
    """
    group = facts.row_group(number)
    if group.num_columns != facts.num_columns or group.num_rows < 0:
        raise SuiteError(f"{path}: not a Parquet file (row group {number} lacks columns)")
    if group.total_byte_size > MAX_ROW_GROUP_BYTES:
        raise SuiteError(
            f"{path}: row group {number} has {group.total_byte_size / 2**30:.1f} GiB; "
            f"write the file again with at most {MAX_ROW_GROUP_BYTES >> 30}"
        )
    chunk = group.column(place)
    there, claimed = int(chunk.total_compressed_size), int(chunk.total_uncompressed_size)
    if not 0 <= there <= size or claimed < 0:
        raise SuiteError(f"{path}: not a Parquet file (row group {number} leaves the file)")
    most = min(MAX_ROW_GROUP_BYTES, max(MAX_SMALL_BYTES, MAX_EXPANSION * there))
    if claimed > most:
        raise SuiteError(
            f"{path}: row group {number} has {there:,} bytes in the file and {claimed:,} decompressed; "
            f"at most {most:,} are read; write the file again with smaller row groups"
        )
    return most


def _find_leaf(path: str, file: Any, leaf: str) -> int:
    paths = [file.schema.column(n).path for n in range(len(file.schema))]
    if paths.count(leaf) != 1:
        raise SuiteError(f"{path}: not a Parquet file (column {leaf[:80]} is there twice, or not)")
    return paths.index(leaf)


def _read_names(path: str, leaf: str, groups: list[list[Any]], *, once: bool) -> None:
    """Put the names into the groups.

    Args:
        path: the file.
        leaf: the column of the names.
        groups: each with the number of its rows, and place for their names.
        once: whether names that are the same can be read as one.
    """
    total = 0
    with _open(path, read_dictionary=[leaf] if once else None) as (file, _):
        for number, group in enumerate(groups):
            names: list[str | None] = []
            for batch in file.iter_batches(
                1024, row_groups=[number], columns=[leaf], use_threads=False
            ):
                (texts,) = batch.column(0).flatten()
                total += _measure_text(texts)
                if total > MAX_NAME_BYTES:
                    raise SuiteError(f"{path}: names of more than {MAX_NAME_BYTES:,} bytes")
                names += texts.to_pylist()
            if len(names) != group[0]:
                raise SuiteError(f"{path}: not a Parquet file (row group {number} lacks rows)")
            group[1] = names


def _measure_text(texts: Any) -> int:
    """Return the bytes of an array of text, each counted as often as it is used."""
    import pyarrow.compute as compute

    if not hasattr(texts, "dictionary"):
        return int(texts.nbytes)
    lengths = compute.take(compute.binary_length(texts.dictionary), texts.indices)
    return int(compute.sum(lengths).as_py() or 0)


def _has_names(path: str, kind: Any, column: str) -> bool:
    """Return whether the rows of a column have names. Raises SuiteError for those of another type
    than text: numbers in their stead would be other ids."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return False
    text = kind.field("path").type
    if pa.types.is_dictionary(text):
        text = text.value_type
    if not (_is_any(text, "string", "large_string", "string_view") or pa.types.is_null(text)):
        raise SuiteError(f"{path}: column {column!r}: path holds {str(text)[:80]}, not text")
    return not pa.types.is_null(text)


def _is_any(kind: Any, *names: str) -> bool:
    """Return whether an Arrow type is one of these; older versions do not know all of them."""
    import pyarrow as pa

    return any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in names)


def _find_type(path: str, schema: Any, column: str) -> Any:
    import pyarrow as pa

    if column not in schema.names:
        some = ", ".join(name[:80] for name in schema.names[:20])
        raise SuiteError(f"{path}: no column {column!r}; it has {some}")
    if schema.names.count(column) > 1:
        raise SuiteError(f"{path}: column {column!r} is there twice")
    kind = schema.field(column).type
    inner = kind
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inner = kind.field("bytes").type
    if not _is_any(inner, "binary", "large_binary", "binary_view"):
        raise SuiteError(f"{path}: column {column!r} holds {str(kind)[:80]}, not encoded pictures")
    return kind


class RowGroup:
    """The encoded pictures of one row group."""

    def __init__(self, path: str, number: int, leaf: str) -> None:
        import pyarrow as pa

        self.starts: list[int] = []
        self._parts: list[Any] = []
        rows = held = 0
        with _open(path) as (file, size):
            place = _find_leaf(path, file, leaf)
            most = limit_group(path, file.metadata, number, place=place, size=size)
            allow(CPU_SECONDS + most / BYTES_A_SECOND, SPARE_BYTES + most * 3 // 2)
            group = file.metadata.row_group(number)
            mean = max(1, group.column(place).total_uncompressed_size // max(1, group.num_rows))
            step = max(1, min(4096, 2**24 // mean))
            for batch in file.iter_batches(
                step, row_groups=[number], columns=[leaf], use_threads=False
            ):
                part = batch.column(0)
                if pa.types.is_struct(part.type):  # a row that is null has no picture
                    (part,) = part.flatten()
                held += part.nbytes
                if held > most:
                    raise SuiteError(f"{path}: row group {number} has more than {most:,} bytes")
                self.starts.append(rows)
                self._parts.append(part)
                rows += len(part)
        self.n_rows = rows

    def picture(self, row: int) -> Any:
        """Return the bytes of a row, as a buffer, None where it has none."""
        index = bisect.bisect_right(self.starts, row) - 1
        value = self._parts[index][row - self.starts[index]]
        return value.as_buffer() if value.is_valid else None


class Reader:
    """What answers: the row group of the last request is held."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._group: RowGroup | None = None

    def answer(self, request: bytes) -> bytes:
        """Return what is asked for.

        Args:
            request: as JSON: `path`; with `column`, the rows of the file are listed; else `group`,
                `leaf`, `row`, and `more`, bytes up to which rows that follow are added.

        Raises:
            SuiteError: listing failed.
            ImageError: reading failed.
        """
        want = json.loads(request)
        if "column" in want:
            return json.dumps(list_rows(want["path"], want["column"])).encode()
        try:
            return self._read(want)
        except VtbenchError as error:
            raise ImageError(str(error)) from None

    def _read(self, want: dict[str, Any]) -> bytes:
        facts = Path(want["path"]).stat()
        changes = facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
        key = (want["path"], want["group"], want["leaf"], changes)
        if key != self._key or self._group is None:
            self._key = self._group = None  # before the next is read: one at a time
            self._group = RowGroup(want["path"], want["group"], want["leaf"])
            self._key = key
        group, row, size = self._group, want["row"], 0
        if not 0 <= row < group.n_rows:
            raise ImageError(f"{want['path']}: row group {want['group']} has no row {row}")
        parts: list[Any] = []
        while row < group.n_rows and (not parts or size < want["more"]):
            content = group.picture(row)
            n = -1 if content is None else len(content)
            if n > MAX_ENCODED_BYTES:
                if not parts:
                    raise ImageError(
                        f"{want['path']}: row {row} of row group {want['group']}: more than "
                        f"{MAX_ENCODED_BYTES >> 30} GiB"
                    )
                break
            parts += [LENGTH.pack(n), *([] if content is None else [content])]
            size += max(n, 0) + LENGTH.size
            row += 1
        return b"".join(parts)


def main() -> int:
    """Answer until the process that asks has ended."""
    # Before the walls: a library may start programs when it is imported.
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    with suppress(WeightsError):  # a system without such walls
        isolate(0)
    return serve(Reader().answer, 1, most_memory=MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
