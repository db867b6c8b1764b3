"""The text scores of TokBench and OmniDoc-TokenBench, each as its own code computes it.

TokBench: github.com/wjf5203/TokBench at a77070c; its padding as github.com/LeapLabTHU/InsightTok at
01661ba ships it. OmniDoc-TokenBench: github.com/alibaba/OmniDoc-TokenBench at f2815a7. Their numbers
on the same readings are in tests/goldens/text_protocols.json.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vtbench.images import RGB8

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


def score_tokbench(words: Sequence[TokBenchWord], *, side: int) -> TokBenchScore:
    """Return TokBench's scores of the words of all its sets together.

    T-ACC: the word as it stands, case and accents and all. T-NED: 1 − Levenshtein ÷ the longer length.
    No normalization. TokBench leaves out whole batches with a character that docTR's vocabulary
    lacks; here no word is left out.

    Raises:
        ValueError: no words, an empty true word, or a side that TokBench has not.
    """
    from rapidfuzz.distance import Levenshtein

    if side not in BUCKETS:
        raise ValueError(f"TokBench has no setting {side}: {', '.join(map(str, BUCKETS))}")
    if not words or not all(word.truth for word in words):
        raise ValueError("no words, or a true word that is empty")
    exact = [float(word.truth == word.read) for word in words]
    similar = [
        1 - Levenshtein.distance(word.truth, word.read) / max(len(word.truth), len(word.read))
        for word in words
    ]
    bounds = BUCKETS[side]
    places: list[list[int]] = [[], [], []]
    for index, word in enumerate(words):
        for bucket, (low, high) in enumerate(itertools.pairwise(bounds)):
            if low <= word.ratio < high:
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
        dropped=len(words) - sum(counts),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None for none, or where one is missing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True)
class Padding:
    """Where a picture lies in its square. size: the picture's own; scaled: in the square, at `place`."""

    size: tuple[int, int]
    scaled: tuple[int, int]
    place: tuple[int, int]


def pad_to_square(image: RGB8, side: int) -> tuple[RGB8, Padding]:
    """Return the picture in a black square as TokBench's tokenizers see it, and where it lies.

    The longer side becomes `side`, the other is rounded up; Lanczos of Pillow on 8 bits; in the middle,
    rounded to the left and top.
    """
    height, width = image.shape[:2]
    ratio = min(side / width, side / height)
    scaled = (math.ceil(width * ratio), math.ceil(height * ratio))
    place = ((side - scaled[0]) // 2, (side - scaled[1]) // 2)
    square = Image.new("RGB", (side, side))
    square.paste(Image.fromarray(image).resize(scaled, Image.Resampling.LANCZOS), place)
    return np.asarray(square), Padding((width, height), scaled, place)


def unpad_square(square: RGB8, padding: Padding) -> RGB8:
    """Return the picture of a reconstructed square at its own size again, by Lanczos."""
    left, top = padding.place
    box = (left, top, left + padding.scaled[0], top + padding.scaled[1])
    picture = Image.fromarray(square).crop(box)
    return np.asarray(picture.resize(padding.size, Image.Resampling.LANCZOS))


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
