"""`codes.parquet`: how often each codeword was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import ResultsError
from vtbench.metrics.rate import Histogram
from vtbench.results.parquet_file import read_parquet
from vtbench.results.parquet_reader import MAX_VALUES
from vtbench.results.rows import read_pinned
from vtbench.results.schema import CodesRecord

CODES = "codes.parquet"

CODES_COLUMNS = dict.fromkeys(("codebook", "symbol", "count"), "int64")


def encode_codes(codes: Sequence[Histogram]) -> bytes:
    """Return the histograms as a Parquet file: a row a symbol seen, by codebook and symbol."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    places = [np.full(len(histogram.symbols), place) for place, histogram in enumerate(codes)]
    columns = {
        "codebook": np.concatenate(places),
        "symbol": np.concatenate([histogram.symbols for histogram in codes]),
        "count": np.concatenate([histogram.counts for histogram in codes]),
    }
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    buffer = pa.BufferOutputStream()
    # Ascending symbols are stored by their differences.
    parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(columns, "DELTA_BINARY_PACKED"),
    )
    return bytes(buffer.getvalue())


def read_codes(folder: Path, record: CodesRecord) -> tuple[Histogram, ...]:
    """Return a run's histograms, which must be the ones that run.json was written with.

    Raises ResultsError for a missing, damaged or edited file, or counts that do not add up.
    """
    path = folder / CODES
    content = read_pinned(path, record.sha256)
    table = read_parquet(path, content, CODES_COLUMNS, max_rows=MAX_VALUES)
    if any(column.null_count for column in table.columns):
        raise ResultsError(f"{path}: a count is null")
    place, symbol, count = (table[name].to_numpy() for name in CODES_COLUMNS)
    codes = []
    for index, book in enumerate(record.codebooks):
        own = place == index
        codes.append(Histogram(book.size, symbol[own], count[own]))
    whole = sum(len(histogram.symbols) for histogram in codes) == len(place)
    for histogram, book in zip(codes, record.codebooks, strict=True):
        largest = book.size if book.unit == "codewords" else 2 * book.size.bit_length()
        symbols = histogram.symbols
        if (
            not whole
            or (histogram.unit, histogram.tokens) != (book.unit, book.tokens)
            or (histogram.counts < 1).any()
            or (symbols[1:] <= symbols[:-1]).any()
            or (len(symbols) and not 0 <= symbols[0] <= symbols[-1] < largest)
        ):
            raise ResultsError(f"{path}: its counts are not those of the codebooks of run.json")
    return tuple(codes)
