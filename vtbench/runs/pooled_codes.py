"""What tokens are used for is known when the last image is through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtbench.base.errors import CellFailed
from vtbench.metrics import rate
from vtbench.metrics.rate import Histogram

if TYPE_CHECKING:
    import pyarrow as pa


def pool_codes(table: pa.Table) -> tuple[pa.Table, tuple[Histogram, ...]]:
    """Return the rows with each image's ideal bits in place of its packed histograms, and the sums
    of these: what an image's tokens cost is known only when all have been counted.

    Raises CellFailed for a tokenizer whose codebooks are not the same for all images."""
    import pyarrow as pa

    counted = table["codes"].is_valid().to_pylist()
    try:
        codes, bits = rate.pool_codes(table["codes"].drop_null().to_pylist())
    except ValueError as error:
        raise CellFailed(f"tokens cannot be counted: {error}") from None
    lengths = iter(bits)
    column = pa.array([next(lengths) if own else None for own in counted], pa.float64())
    place = table.column_names.index("entropy_bits")
    return table.drop_columns(["codes"]).set_column(place, "entropy_bits", column), codes
