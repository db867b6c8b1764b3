"""The text scores of TokBench and OmniDoc-TokenBench, each as its own code computes it.

TokBench: github.com/wjf5203/TokBench at a77070c; its padded square is `padding.pad_to_square`.
OmniDoc-TokenBench: github.com/alibaba/OmniDoc-TokenBench at f2815a7. Their numbers on the same readings
are in tests/metrics/goldens/text_protocols.json.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

# TokBench

BUCKETS: dict[int, tuple[float, float, float, float]] = {
    256: (0.02, 0.03, 0.04, 1.0),
    512: (0.01, 0.02, 0.03, 1.0),
    1024: (0.005, 0.01, 0.02, 1.0),
}
"""Of each side of the square: the bounds of the three half-open buckets of a word's height over the
image's longer side."""


@dataclass(frozen=True)
class TokBenchWord:
    """A word. ratio: the annotation's, its height over the image's longer side."""

    truth: str
    read: str
    ratio: float


@dataclass(frozen=True)
class TokBenchScore:
    """TokBench's numbers. T-ACC and T-NED are shares in [0, 1], TokBench prints them in percent.

    Attributes:
        t_acc, t_ned: unweighted means of the three buckets; None where a bucket is empty (TokBench
            prints nan).
        bucket_t_acc, bucket_t_ned: of the buckets, from small to large words; None where empty.
        all_t_acc, all_t_ned: over all words, also those outside of the buckets.
        counts: words of each bucket.
        dropped: words in none.
    """

    t_acc: float | None
    t_ned: float | None
    bucket_t_acc: tuple[float | None, ...]
    bucket_t_ned: tuple[float | None, ...]
    all_t_acc: float
    all_t_ned: float
    counts: tuple[int, ...]
    dropped: int


def score_words(words: Sequence[TokBenchWord]) -> tuple[list[float], list[float]]:
    """Return T-ACC and T-NED of each word.

    T-ACC: 1 for the word as it stands, case and accents and all, else 0. T-NED: 1 − Levenshtein ÷ the
    longer length. No normalization. TokBench leaves out whole batches with a character that docTR's
    vocabulary lacks; here no word is left out.

    Raises:
        ValueError: no words, or an empty true word.
    """
    from rapidfuzz.distance import Levenshtein

    if not words or not all(word.truth for word in words):
        raise ValueError("no words, or a true word that is empty")
    exact = [float(word.truth == word.read) for word in words]
    similar = [
        1 - Levenshtein.distance(word.truth, word.read) / max(len(word.truth), len(word.read))
        for word in words
    ]
    return exact, similar


def pool_words(
    exact: Sequence[float], similar: Sequence[float], ratios: Sequence[float], *, side: int
) -> TokBenchScore:
    """Return TokBench's numbers of the words of all its sets together.

    Args:
        exact: Which words are read exactly, of `score_words`.
        similar: How similar each reading is, of `score_words`.
        ratios: the annotations' ratios of the same words.
        side: of the square.

    Raises:
        ValueError: no words, or a side that TokBench has not.
    """
    if side not in BUCKETS:
        raise ValueError(f"TokBench has no setting {side}: {', '.join(map(str, BUCKETS))}")
    if not exact:
        raise ValueError("no words")
    places: list[list[int]] = [[], [], []]
    for index, ratio in enumerate(ratios):
        for bucket, (low, high) in enumerate(itertools.pairwise(BUCKETS[side])):
            if low <= ratio < high:
                places[bucket].append(index)
    accuracies = tuple(_mean([exact[index] for index in own]) for own in places)
    similarities = tuple(_mean([similar[index] for index in own]) for own in places)
    counts = tuple(map(len, places))
    return TokBenchScore(
        t_acc=_mean(accuracies),
        t_ned=_mean(similarities),
        bucket_t_acc=accuracies,
        bucket_t_ned=similarities,
        all_t_acc=math.fsum(exact) / len(exact),
        all_t_ned=math.fsum(similar) / len(similar),
        counts=counts,
        dropped=len(exact) - sum(counts),
    )


def score_tokbench(words: Sequence[TokBenchWord], *, side: int) -> TokBenchScore:
    """Return TokBench's numbers of these words. Raises ValueError as its two steps do."""
    exact, similar = score_words(words)
    return pool_words(exact, similar, [word.ratio for word in words], side=side)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None for none, or where one is missing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


# OmniDoc-TokenBench


@dataclass(frozen=True)
class OmniDocScore:
    """OmniDoc-TokenBench's NED. ned: None where no original was read. images: those that count.
    skipped: those whose original read as nothing."""

    ned: float | None
    images: int
    skipped: int


def score_omnidoc(
    originals: Sequence[Sequence[str]], reconstructions: Sequence[Sequence[str]]
) -> OmniDocScore:
    """Return the mean over images of 1 − Levenshtein ÷ the longer length.

    The reference is the engine's own reading of the original, not a true text. A page's lines are put
    one after the other without anything between them; no normalization.

    Args:
        originals: of each image, the lines that the engine found on the original.
        reconstructions: the same of the reconstructions.

    Raises:
        ValueError: unequal numbers of images.
    """
    from rapidfuzz.distance import Levenshtein

    if len(originals) != len(reconstructions):
        raise ValueError(f"{len(originals)} originals, {len(reconstructions)} reconstructions")
    values = []
    for known, read in zip(originals, reconstructions, strict=True):
        if truth := "".join(known):
            other = "".join(read)
            distance = Levenshtein.distance(truth, other)
            values.append(1 - distance / max(len(truth), len(other)))
    mean = math.fsum(values) / len(values) if values else None
    return OmniDocScore(mean, len(values), len(originals) - len(values))
