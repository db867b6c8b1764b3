"""`codes.parquet`: how often each codeword was seen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from vtbench.base.errors import ResultsError
from vtbench.base.files import sha256_bytes
from vtbench.metrics.rate import Histogram
from vtbench.results.rows import _read_parquet_file
from vtbench.results.schema import CodesRecord

CODES = "codes.parquet"


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
    buffer = io.BytesIO()
    # Ascending symbols are stored by their differences.
    parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(columns, "DELTA_BINARY_PACKED"),
    )
    return buffer.getvalue()


def read_codes(folder: Path, record: CodesRecord) -> tuple[Histogram, ...]:
    """Return a run's histograms, which must be the ones that run.json was written with.

    Raises ResultsError for a missing, damaged or edited file, or counts that do not add up.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = folder / CODES
    content = _read_parquet_file(path)
    if sha256_bytes(content) != record.sha256:
        raise ResultsError(f"{path}: not the counts that run.json was written with (edited?)")
    try:
        table = parquet.read_table(io.BytesIO(content))
        place, symbol, count = (table[name].to_numpy() for name in ("codebook", "symbol", "count"))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise ResultsError(f"{path}: not a table of counts ({error})") from None
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
