"""The audit of a row against the same image measured again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from vtbench.commands.audit.pixel_hashes import HASH
from vtbench.metrics.rate import Histogram, code_length, unpack_histograms
from vtbench.results.rows import ROW_COLUMNS, Row

NOT_OF_PIXELS = ("encode_s", "decode_s", "peak_memory_mib", "batch_size")
"""Times and memory are the machine's."""

READINGS = (
    *("reading", "char_edits", "word_edits", "ned"),
    *(f"original_{key}" for key in ("reading", "char_edits", "word_edits", "ned")),
)

SAME = (1e-6, 1e-7)
"""Relative and absolute, of the same pixels on the same machine: threads sum in another order."""

OTHER_MACHINE = (1e-3, 1e-4)
"""Of the same pixels on another processor, or with other libraries: networks in float32."""

OTHER_PIXELS = (2e-2, 5e-3)
"""Of a network's pixels where libraries or processor differ: some samples move by a level."""

PSNR_DB = 0.05
"""Absolute, with other pixels."""

CODEC_BYTES = 0.02
"""Relative, of a codec's file from another version of its library."""


def compare_rows(
    told: Row,
    again: Row,
    *,
    codes: Sequence[Histogram],
    same_machine: bool,
    skipped: Collection[str],
) -> Iterator[str]:
    """Yield each column in which two rows differ by more than the machines explain.

    Args:
        told: the row of the results.
        again: the row measured here; `codes` in it holds the packed counts of its tokens.
        codes: the histograms of the results.
        same_machine: whether the pixels must be the same: processor, libraries, batch are.
        skipped: columns that are not measured here, or not by this version.
    """
    if again["error"] is not None:
        yield f"failed here: {again['error']}"
        return
    digest = told[HASH]
    if digest is not None and same_machine and digest != again[HASH]:
        yield f"{HASH} is {digest[:12]}…, measured again {again[HASH][:12]}…"
    same_pixels = same_machine if digest is None else digest == again[HASH]
    again = {**again, "entropy_bits": _entropy(again, codes)}
    for key in ROW_COLUMNS:
        if key in NOT_OF_PIXELS or key == HASH or key in skipped:
            continue
        if key in READINGS and not (same_pixels and same_machine):
            continue
        one, other = told.get(key), again.get(key)
        if not _agree(key, one, other, same_machine=same_machine, same_pixels=same_pixels):
            yield f"{key} is {_show(one)}, measured again {_show(other)}"


def _entropy(row: Row, codes: Sequence[Histogram]) -> float | None:
    """Return what the row's tokens cost under the counts of the whole run, infinity where it has a
    word that the run has not."""
    if row.get("codes") is None or not codes:
        return None
    try:
        own = unpack_histograms(row["codes"])
        return math.fsum(code_length(a, b) for a, b in zip(own, codes, strict=True))
    except ValueError:
        return math.inf


def _agree(key: str, one: Any, other: Any, *, same_machine: bool, same_pixels: bool) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _agree(key, a, b, same_machine=same_machine, same_pixels=same_pixels)
            for a, b in zip(one, other, strict=True)
        )
    if one is None or other is None or isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    if key in ("tokens", "bits", "entropy_bits") and not same_pixels:
        return math.isclose(one, other, rel_tol=CODEC_BYTES)
    if same_pixels:
        relative, absolute = SAME if same_machine else OTHER_MACHINE
    else:
        relative, absolute = OTHER_PIXELS
        if key in ("psnr_db", "psnr_q8_db"):
            return bool(abs(one - other) <= PSNR_DB)
    return math.isclose(one, other, rel_tol=relative, abs_tol=absolute)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
