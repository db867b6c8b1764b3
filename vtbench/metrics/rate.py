"""Use of codebooks: usage, perplexity, entropy, and the rate of tokens under that entropy.

Numbers of discrete codes are counted, so they are a fact of the images that they were counted on: a
codebook of 2¹⁸ words seen through 2¹⁶ tokens cannot be used by more than a quarter. No torch.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["codewords", "bits"]
Integers = NDArray[np.int64]

MAX_COUNTED = 2**20
"""A larger codebook (2³² of a bitwise quantizer) is counted bit by bit, not word by word."""


@dataclass(frozen=True)
class Histogram:
    """How often each symbol of one codebook was seen.

    size: words of the codebook. symbols: those seen, ascending; counts: how often, ≥ 1.
    """

    size: int
    symbols: Integers
    counts: Integers

    @property
    def unit(self) -> Unit:
        """What was counted. Codewords: a symbol is a word. Bits, where words are more than
        MAX_COUNTED: symbol 2·i + v is value v of bit i of the words."""
        return "codewords" if self.size <= MAX_COUNTED else "bits"

    @property
    def bits_per_token(self) -> float:
        """Nominal bits of a token: log2 of the codebook's size."""
        return math.log2(self.size)

    @property
    def tokens(self) -> int:
        """How many tokens were counted. Each has one symbol, or one of every bit."""
        total = int(self.counts.sum())
        return total if self.unit == "codewords" else total // _width(self.size)


def _width(size: int) -> int:
    return (size - 1).bit_length()


def count_tokens(words: Integers, size: int) -> Histogram:
    """Return the histogram of some tokens of a codebook of `size` words; words: any shape, int64.

    Raises ValueError for a word outside the codebook.
    """
    words = words.reshape(-1)
    outside = words[(words < 0) | (words >= size)]
    if outside.size:
        raise ValueError(f"token {int(outside[0])} is outside the codebook of {size}")
    if size <= MAX_COUNTED:
        symbols, counts = np.unique(words, return_counts=True)
        return Histogram(size, symbols.astype(np.int64), counts.astype(np.int64))
    ones = np.array([int((words >> bit & 1).sum()) for bit in range(_width(size))], dtype=np.int64)
    counts = np.stack((words.size - ones, ones), axis=1).reshape(-1)
    symbols = np.flatnonzero(counts)
    return Histogram(size, symbols.astype(np.int64), counts[symbols])


def add_histograms(parts: Iterable[Sequence[Histogram]]) -> tuple[Histogram, ...]:
    """Return the sums, codebook by codebook; parts: one sequence an image. Empty for no image.

    Raises ValueError where images do not have the same codebooks.
    """
    sums: list[dict[int, int]] = []
    sizes: list[int] = []
    for part in parts:
        if not sizes:
            sizes = [histogram.size for histogram in part]
            sums = [{} for _ in sizes]
        if sizes != [histogram.size for histogram in part]:
            raise ValueError("two images were encoded with different codebooks")
        for total, histogram in zip(sums, part, strict=True):
            seen = zip(histogram.symbols.tolist(), histogram.counts.tolist(), strict=True)
            for symbol, count in seen:
                total[symbol] = total.get(symbol, 0) + count
    return tuple(
        Histogram(
            size,
            np.array(sorted(total), dtype=np.int64),
            np.array([total[symbol] for symbol in sorted(total)], dtype=np.int64),
        )
        for size, total in zip(sizes, sums, strict=True)
    )


def codebook_usage(histogram: Histogram) -> float | None:
    """Return the share of the codewords seen at least once, in (0, 1]; None if bits were counted."""
    return len(histogram.symbols) / histogram.size if histogram.unit == "codewords" else None


def token_entropy(histogram: Histogram) -> float:
    """Return the empirical order-0 entropy in bits a token, 0 for none; maximum likelihood, which is
    too low where tokens are few beside the words.

    Where bits were counted, the sum of the bits' entropies: an upper bound of the words'.
    """
    return code_length(histogram, histogram) / max(histogram.tokens, 1)


def codebook_perplexity(histogram: Histogram) -> float | None:
    """Return 2^entropy, the number of evenly used words that would be as hard to guess; None if
    bits were counted."""
    return 2.0 ** token_entropy(histogram) if histogram.unit == "codewords" else None


def code_length(image: Histogram, suite: Histogram) -> float:
    """Return the bits that an image's tokens take under the suite's own order-0 distribution.

    Ideal: an arithmetic coder that was given the distribution, which is not counted, and no context.
    The suite must contain the image.
    """
    places = np.searchsorted(suite.symbols, image.symbols)
    if len(image.symbols) == 0:
        return 0.0
    if not np.array_equal(suite.symbols[np.minimum(places, len(suite.symbols) - 1)], image.symbols):
        raise ValueError("the image has a codeword that the suite has not")
    bits = image.counts * (math.log2(suite.tokens) - np.log2(suite.counts[places]))
    return math.fsum(bits.tolist())


def pack_histograms(histograms: Sequence[Histogram]) -> str:
    """Return one image's histograms as printable text, for a line of the partial file."""
    parts = [np.array([len(histograms)], dtype=np.int64)]
    for histogram in histograms:
        parts.append(np.array([histogram.size, len(histogram.symbols)], dtype=np.int64))
        # Differences of ascending symbols are small, and compress.
        parts += [np.diff(histogram.symbols, prepend=0), histogram.counts]
    raw = np.concatenate(parts).astype("<i8").tobytes()
    return base64.b64encode(zlib.compress(raw)).decode("ascii")


def unpack_histograms(text: str) -> tuple[Histogram, ...]:
    """Return what `pack_histograms` was given. Raises ValueError for anything else."""
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
        values = np.frombuffer(raw, dtype="<i8").astype(np.int64)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not packed histograms: {error}") from None
    histograms, place = [], 1
    for _ in range(int(values[0])):
        size, n = (int(value) for value in values[place : place + 2])
        place += 2
        symbols, counts = np.cumsum(values[place : place + n]), values[place + n : place + 2 * n]
        place += 2 * n
        histograms.append(Histogram(size, symbols, counts))
    return tuple(histograms)


def pool_codes(packed: Sequence[str]) -> tuple[tuple[Histogram, ...], list[float]]:
    """Return the suite's histograms, and each image's ideal bits under them (all its codebooks
    together), from the images' packed ones."""
    suite = add_histograms(unpack_histograms(text) for text in packed)
    bits = [math.fsum(map(code_length, unpack_histograms(text), suite)) for text in packed]
    return suite, bits
