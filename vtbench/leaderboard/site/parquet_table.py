"""A board as one Parquet table: a row a run, the columns of its CSV with types."""

from __future__ import annotations

import csv
import io

from vtbench.leaderboard.board import Board

_COUNTS = (".n", ".rank_low", ".rank_high")


def encode_table(board: Board, rendered: str) -> bytes:
    """Return a board's table as a Parquet file. Text is text, counts are int64, numbers float64, and
    what does not exist is null. rendered: its CSV."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = list(csv.DictReader(io.StringIO(rendered)))
    numbers = {column.key for column in board.columns}
    arrays: dict[str, pa.Array] = {}
    for name in rows[0] if rows else ():
        values = [row[name] or None for row in rows]
        stem, dot, end = name.rpartition(".")
        if name in numbers or (stem in numbers and end in ("low", "high", "sd", "se")):
            column = [None if value is None else float(value) for value in values]
            arrays[name] = pa.array(column, pa.float64())
        elif (stem in numbers and dot + end in _COUNTS) or name in ("psnr_capped", "threads"):
            counts = [None if value is None else int(value) for value in values]
            arrays[name] = pa.array(counts, pa.int64())
        else:
            arrays[name] = pa.array(values, pa.string())
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(arrays), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content
