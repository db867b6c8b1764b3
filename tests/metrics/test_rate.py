"""Counted tokens: against scipy and by hand, sub-codebooks, wide codebooks, packing; and mutants."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import entropy

from vtbench.metrics import rate
from vtbench.metrics.rate import Histogram, count_tokens

# float64 sums of a few thousand terms
EXACT = 1e-12


def draw(seed: int, size: int, n: int) -> rate.Integers:
    """Return n words of a codebook, some far more often than others."""
    random = np.random.default_rng(seed)
    return np.floor(size * random.random(n) ** 3).astype(np.int64)


def test_counts_usage_entropy_and_perplexity_by_hand() -> None:
    counted = count_tokens(np.array([[5, 5], [5, 5], [0, 0], [7, 2]]), 8)
    assert counted.symbols.tolist() == [0, 2, 5, 7]
    assert counted.counts.tolist() == [2, 1, 4, 1]
    assert (counted.tokens, counted.bits_per_token) == (8, 3.0)
    assert rate.codebook_usage(counted) == 0.5
    assert rate.token_entropy(counted) == 1.75  # ½·1 + ¼·2 + 2·⅛·3
    assert rate.codebook_perplexity(counted) == pytest.approx(2**1.75, rel=EXACT)


@pytest.mark.parametrize(("size", "n"), [(16, 1000), (1024, 5000), (2**18, 4096)])
def test_entropy_is_scipys(size: int, n: int) -> None:
    words = draw(0, size, n)
    counted = count_tokens(words, size)
    expected = entropy(np.bincount(words), base=2)
    assert rate.token_entropy(counted) == pytest.approx(expected, abs=EXACT)
    assert counted.tokens == n
    usage, perplexity = rate.codebook_usage(counted), rate.codebook_perplexity(counted)
    assert usage == len(set(words.tolist())) / size
    assert perplexity is not None and perplexity <= usage * size
    # Mutant: natural logarithms.
    assert abs(rate.token_entropy(counted) - entropy(np.bincount(words))) > 0.5


def test_an_even_codebook_and_a_dead_one() -> None:
    even, dead = count_tokens(np.arange(256).repeat(3), 256), count_tokens(np.full(99, 4), 256)
    assert (rate.codebook_usage(even), rate.codebook_perplexity(even)) == (1.0, 256.0)
    assert rate.token_entropy(even) == even.bits_per_token == 8.0
    assert (rate.codebook_usage(dead), rate.codebook_perplexity(dead)) == (1 / 256, 1.0)
    nothing = count_tokens(np.zeros(0, dtype=np.int64), 256)
    assert (nothing.tokens, rate.token_entropy(nothing)) == (0, 0.0)


@pytest.mark.parametrize("word", [-1, 8])
def test_a_word_outside_the_codebook_is_refused(word: int) -> None:
    with pytest.raises(ValueError, match=f"token {word} is outside the codebook of 8"):
        count_tokens(np.array([0, word, 3]), 8)


def test_the_code_lengths_of_the_images_sum_to_the_suites_entropy() -> None:
    parts = [draw(seed, 300, n) for seed, n in ((1, 50), (2, 700), (3, 1))]
    images = [(count_tokens(words, 300),) for words in parts]
    (suite,) = rate.add_histograms(images)
    whole = count_tokens(np.concatenate(parts), 300)
    assert suite.symbols.tolist() == whole.symbols.tolist()
    assert suite.counts.tolist() == whole.counts.tolist()
    lengths = [rate.code_length(image, suite) for (image,) in images]
    # Each token on its own.
    counts = np.bincount(np.concatenate(parts))
    by_hand = [sum(-math.log2(counts[w] / 751) for w in words.tolist()) for words in parts]
    assert lengths == pytest.approx(by_hand, rel=EXACT)
    assert math.fsum(lengths) == pytest.approx(751 * rate.token_entropy(suite), rel=EXACT)
    # Mutant: each image under its own distribution, which no decoder knows.
    own = [rate.code_length(image, image) for (image,) in images]
    assert math.fsum(own) < 0.98 * math.fsum(lengths)
    with pytest.raises(ValueError, match="the suite has not"):
        rate.code_length(suite, images[2][0])


def test_sub_codebooks_are_counted_apart() -> None:
    first, second = np.array([0, 0, 1, 1]), np.array([2, 2, 2, 2])
    image = (count_tokens(first, 4), count_tokens(second, 4))
    twice = rate.add_histograms([image, image])
    assert [rate.codebook_usage(book) for book in twice] == [0.5, 0.25]
    assert [rate.token_entropy(book) for book in twice] == [1.0, 0.0]
    # Mutant: one histogram of both.
    assert rate.codebook_usage(count_tokens(np.concatenate((first, second)), 4)) == 0.75
    with pytest.raises(ValueError, match="different codebooks"):
        rate.add_histograms([image, image[:1]])
    assert rate.add_histograms([]) == ()


def test_wide_codebooks_are_counted_bit_by_bit() -> None:
    words = draw(4, 2**40, 500)
    counted = count_tokens(words, 2**40)
    assert (counted.unit, counted.tokens, counted.bits_per_token) == ("bits", 500, 40.0)
    assert rate.codebook_usage(counted) is None
    assert rate.codebook_perplexity(counted) is None
    bits = [(words >> place) & 1 for place in range(40)]
    expected = sum(entropy(np.bincount(bit, minlength=2), base=2) for bit in bits)
    assert rate.token_entropy(counted) == pytest.approx(expected, abs=1e-10)
    # At the border both ways give the same tokens, and bits never less entropy than words.
    words = draw(5, rate.MAX_COUNTED, 3000)
    by_word = count_tokens(words, rate.MAX_COUNTED)
    by_bit = count_tokens(words, rate.MAX_COUNTED + 1)
    assert (by_word.unit, by_bit.unit) == ("codewords", "bits")
    assert by_bit.tokens == by_word.tokens == 3000
    assert rate.token_entropy(by_bit) >= rate.token_entropy(by_word)


def same(one: tuple[Histogram, ...], other: tuple[Histogram, ...]) -> bool:
    return len(one) == len(other) and all(
        (a.size, a.unit) == (b.size, b.unit)
        and np.array_equal(a.symbols, b.symbols)
        and np.array_equal(a.counts, b.counts)
        for a, b in zip(one, other, strict=True)
    )


def test_packing_keeps_everything_and_is_small() -> None:
    image = (
        count_tokens(draw(6, 2**18, 1024), 2**18),
        count_tokens(np.zeros(0, dtype=np.int64), 4),
        count_tokens(draw(7, 2**40, 10), 2**40),
    )
    packed = rate.pack_histograms(image)
    assert same(rate.unpack_histograms(packed), image)
    assert not same(rate.unpack_histograms(packed), image[:2])
    assert len(packed) < 6 * 1024  # bytes a token, of the text in the partial file
    for torn in (packed[:-8], "§", ""):
        with pytest.raises(ValueError):
            rate.unpack_histograms(torn)


def test_it_imports_no_torch() -> None:
    code = "import sys, vtbench.metrics.rate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
