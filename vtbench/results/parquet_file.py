"""Parquet of strangers, read by another process: whatever it holds, it cannot end this one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vtbench.base.child_process import ChildFailed, ChildProcess
from vtbench.base.errors import ResultsError

MAX_ROWS = 250_000
"""Of images.parquet: a row is some kB once it is read."""

_READER = ChildProcess("vtbench.results.parquet_reader")


def read_parquet(
    path: Path,
    content: bytes,
    columns: Mapping[str, str],
    *,
    needed: Collection[str] | None = None,
    max_rows: int = MAX_ROWS,
) -> Any:
    """Return the pyarrow table of a Parquet file of these columns, by name and Arrow type, of which it
    must have those `needed` (default: all).

    Text columns are dictionaries (`to_pylist` gives text); a column of nulls is of the type null.

    Raises:
        ResultsError: other columns or types; more rows, values, bytes, memory or time than the limits;
            damage.
    """
    _READER.start()  # it gets ready while this process imports pyarrow
    import pyarrow as pa

    asked = {
        "path": str(path),
        "columns": dict(columns),
        "needed": list(columns if needed is None else needed),
        "max_rows": max_rows,
    }
    try:
        good, answer = _READER.ask(json.dumps(asked).encode(), content)
    except ChildFailed as failed:
        raise ResultsError(f"{path}: not a Parquet file of rows (reading it {failed})") from None
    if not good:
        raise ResultsError(answer.decode("utf-8", "replace"))
    try:
        # A buffer of Arrow's own: threads that hold a Python object when the process ends abort it.
        buffer = pa.allocate_buffer(len(answer))
        memoryview(buffer).cast("B")[:] = answer
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(buffer, options=options) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResultsError(f"{path}: not a Parquet file of rows ({why[:200]})") from None
    return table
