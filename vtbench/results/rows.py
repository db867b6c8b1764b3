"""Rows, one an image: their columns, and Parquet of them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench.base.errors import ResultsError
from vtbench.base.files import read_bounded

ROW_COLUMNS: dict[str, str] = {
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
    "q8_bits": "float64",  # of latents quantized to 8 bits, with their ranges
    "batch_size": "int64",
    "encode_s": "float64",  # seconds of the batch ÷ images in it
    "decode_s": "float64",
    "peak_memory_mib": "float64",  # of encode and decode of the batch
    "psnr_db": "float64",
    "ssim": "float64",
    "ms_ssim": "float64",
    "lpips_alex": "float64",
    "lpips_vgg": "float64",
    "mse": "float64",  # squared 8-bit levels: what a pooled PSNR is made of
    "mae": "float64",  # 8-bit levels
    "haarpsi": "float64",
    "dists": "float64",
    "psnr_q8_db": "float64",  # of what those quantized latents decode to
    "contrast_transfer": "list<float64>",  # one a grating patch
    "patch_cpp": "list<float64>",  # the patch's frequency, cycles per pixel
    "script": "string",
    "glyph_px": "float64",
    "chars": "int64",
    "char_edits": "int64",
    "words": "int64",  # null where the script has no spaces
    "word_edits": "int64",
    "ned": "float64",  # normalized edit similarity, mean over the page's lines
    "lines": "int64",
    "reading": "list<string>",  # what the engine read, line by line
    "original_char_edits": "int64",  # the same of the original: the engine's own error
    "original_word_edits": "int64",
    "original_ned": "float64",
    "original_reading": "list<string>",
    "dinov2_cos": "float64",  # cosine of the features of original and reconstruction
    "clip_cos": "float64",
    "siglip_cos": "float64",
    "face_cos": "float64",
}
"""Columns of images.parquet, in order, with their Arrow types. A null without an `error` means not
applicable, or missing as `run.json` says of the metric."""


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

    for row in rows:
        if unknown := sorted(set(row) - set(ROW_COLUMNS)):
            raise ResultsError(f"row {row.get('id')}: unknown column {unknown[0]}")
    schema = pa.schema([(name, _arrow_type(pa, kind)) for name, kind in ROW_COLUMNS.items()])
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


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
