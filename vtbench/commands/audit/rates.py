"""The audit of tokens and bits against the entry and the counted codewords."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from vtbench.commands.audit.case import Case, tell_first
from vtbench.metrics.rate import Histogram
from vtbench.registry.entries import Entry
from vtbench.results.rows import Row

BITS_A_VALUE = 16
"""Nominal, of a latent's value."""

BITS_A_PIXEL = 24

POLICIES = ("none", "pad", "resize", "tile")


def audit_rates(case: Case) -> Iterator[str]:
    """Yield tokens, bits and entropies that are not those of the codes."""
    if case.record.protocol.source == "files":
        return
    yield from tell_first(_tokens(case))
    yield from _counted(case)
    if case.entry is not None and case.entry.kind not in ("codec",):
        yield from tell_first(_grid(case, case.entry))


def _tokens(case: Case) -> Iterator[tuple[str, str]]:
    tokenizer, codes = case.record.tokenizer, case.run.codes
    for row in case.done:
        tokens, bits = row["tokens"], row["bits"]
        if tokens is None or bits is None or tokens < 1:
            yield row["id"], "has no tokens"
            continue
        expected: float | None = None
        if tokenizer.kind == "codec":
            expected = 8.0 * tokens
        elif tokenizer.kind == "pixels":
            expected = float(BITS_A_PIXEL * tokens)
        elif tokenizer.kind == "continuous" and tokenizer.latent_channels:
            expected = float(BITS_A_VALUE * tokenizer.latent_channels * tokens)
        elif codes:
            expected = tokens * math.fsum(book.bits_per_token for book in codes)
        elif tokenizer.codebook_size:
            expected = tokens * math.log2(tokenizer.codebook_size)
        if expected is not None and not math.isclose(bits, expected, rel_tol=1e-9):
            yield (
                row["id"],
                f"bits are not those of its tokens: {bits:g}; {tokens} tokens take {expected:g}",
            )


def _counted(case: Case) -> Iterator[str]:
    """Codes.parquet counts the tokens of the rows; a row's tokens cost between the least and the most
    that as many tokens can cost under it."""
    codes = case.run.codes
    counted = [row for row in case.done if row["entropy_bits"] is not None]
    if not codes:
        if counted:
            yield f"{counted[0]['id']}: has an entropy and no codes.parquet"
        return
    if case.record.tokenizer.kind != "discrete":
        yield f"codes.parquet of a tokenizer that is {case.record.tokenizer.kind}"
    size = case.record.tokenizer.codebook_size
    sizes = [book.size for book in codes]
    if size is not None and math.prod(sizes) != size and set(sizes) != {size}:
        yield f"the codebooks of codes.parquet have {sizes} words, the entry {size}"
    total = sum(row["tokens"] for row in counted)
    if any(book.tokens != total for book in codes):
        yield f"codes.parquet counts {codes[0].tokens} tokens, the rows have {total}"
        return
    low, high = (math.fsum(ends) for ends in zip(*map(_code_lengths, codes), strict=True))
    for row in counted:
        least, most = row["tokens"] * low, row["tokens"] * high
        slack = 1e-6 * (1 + most)
        if not least - slack <= row["entropy_bits"] <= most + slack:
            yield (
                f"{row['id']}: entropy_bits {row['entropy_bits']:g}; {row['tokens']} tokens take "
                f"{least:g} to {most:g}"
            )
            return


def _code_lengths(book: Histogram) -> tuple[float, float]:
    """Return the bits of a codebook's most and least frequent word under its own counts."""
    lengths = -np.log2(book.counts / max(book.tokens, 1))
    if book.unit == "codewords":
        return float(lengths.min()), float(lengths.max())
    bits = [lengths[book.symbols // 2 == place] for place in np.unique(book.symbols // 2)]
    return math.fsum(b.min() for b in bits), math.fsum(b.max() for b in bits)


def _grid(case: Case, entry: Entry) -> Iterator[tuple[str, str]]:
    """A code of one size of picture has one size; where the entry has a downsampling factor, a whole
    number of tokens for each place of the grid, the same in all pictures."""
    first: dict[tuple[int, int, str], Row] = {}
    ratio: float | None = None
    for row in case.done:
        if row["fit"] not in POLICIES:
            yield row["id"], f"fit is none of {', '.join(POLICIES)}: {row['fit']}"
            continue
        if row["fit"] not in ("none", entry.size.policy):
            yield row["id"], f"fit is not the entry's policy: {row['fit']}, not {entry.size.policy}"
        key = (row["width"], row["height"], row["fit"])
        if first.setdefault(key, row)["tokens"] != row["tokens"]:
            yield row["id"], f"tokens differ from those of another picture of {key[0]}×{key[1]}"
        if entry.downsample is None or entry.quantizer.startswith("multi-scale"):
            continue
        own = row["tokens"] / _places(row, entry)
        ratio = own if ratio is None else ratio
        if own != ratio or not own.is_integer():
            yield (
                row["id"],
                f"tokens are not those of a grid of 1/{entry.downsample}: {row['tokens']}",
            )


def _places(row: Row, entry: Entry) -> int:
    """Return the places of the grid for a picture as the network is given it."""
    assert entry.downsample is not None
    width, height = row["width"], row["height"]
    if entry.size.fixed is not None:
        rows, columns = entry.size.fixed
        tiles = -(-height // rows) * -(-width // columns) if row["fit"] == "tile" else 1
        return tiles * -(-rows // entry.downsample) * -(-columns // entry.downsample)
    many = entry.size.multiple
    padded = [-(-side // many) * many for side in (width, height)]
    return math.prod(-(-side // entry.downsample) for side in padded)
