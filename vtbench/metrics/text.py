"""Error rates of a reading against the true text: CER, WER, T-ACC and similarity."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

INVISIBLE = dict.fromkeys(
    (0x00AD, 0x034F, 0x061C, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
     *range(0x2060, 0x2070), *range(0xFE00, 0xFE10))
)  # fmt: skip
"""Code points without ink of their own, for `str.translate`: soft hyphen, joiners, marks of direction
and their isolates, variation selectors, the byte order mark. An engine writes them or not."""


@dataclass(frozen=True)
class LineScores:
    """Edit counts of some lines, to be pooled, and their mean similarity.

    CER = Σ char_edits / Σ chars and WER = Σ word_edits / Σ words over everything that is reported
    together; neither is clipped. words_read / words is T-ACC, exact_lines / lines the exact-line rate.

    Attributes:
        char_edits: Levenshtein distance over code points.
        chars: true code points.
        word_edits: the same over words; None, as words and words_read, for scripts without spaces.
        words: true words.
        words_read: true words that stand unchanged in the alignment of both lines.
        exact_lines: lines that were read without an error.
        lines: all lines.
        ned: mean over the lines of 1 − d / max(length), in [0, 1].
    """

    char_edits: int
    chars: int
    word_edits: int | None
    words: int | None
    words_read: int | None
    exact_lines: int
    lines: int
    ned: float


def score_lines(truth: Sequence[str], read: Sequence[str], *, has_words: bool) -> LineScores:
    """Return the errors of each reading against the true line of the same place.

    Both go through `normalize_text` first; case counts. Levenshtein distance with cost 1 for an
    insertion, deletion or substitution, over code points and over words.

    Args:
        truth: the true lines.
        read: their readings.
        has_words: False for scripts without spaces (Chinese), where words are not applicable.

    Raises:
        ValueError: unequal lengths, no lines, or an empty true line: no text is no proof of
            legibility and must not score as perfect.
    """
    from rapidfuzz.distance import Levenshtein

    if len(truth) != len(read):
        raise ValueError(f"{len(truth)} true lines, {len(read)} readings")
    if not truth:
        raise ValueError("no true lines: there is nothing that could have been read")
    char_edits = chars = word_edits = words = words_read = exact = 0
    similarity = []
    for index, (raw, reading) in enumerate(zip(truth, read, strict=True)):
        t = normalize_text(raw, has_words=has_words)
        r = normalize_text(reading, has_words=has_words)
        if not t:
            raise ValueError(f"true line {index} is empty ({raw!r})")
        distance = Levenshtein.distance(t, r)
        char_edits += distance
        chars += len(t)
        exact += distance == 0
        similarity.append(1.0 - distance / max(len(t), len(r)))
        if has_words:
            true_words, read_words = t.split(" "), r.split()
            word_edits += Levenshtein.distance(true_words, read_words)
            words += len(true_words)
            words_read += sum(find_kept(true_words, read_words))
    return LineScores(
        char_edits=char_edits,
        chars=chars,
        word_edits=word_edits if has_words else None,
        words=words if has_words else None,
        words_read=words_read if has_words else None,
        exact_lines=exact,
        lines=len(truth),
        ned=math.fsum(similarity) / len(similarity),
    )


def find_kept(truth: Sequence[str], read: Sequence[str]) -> list[bool]:
    """Return of each element of the truth whether it stands unchanged in the shortest alignment of both.

    Of several shortest alignments rapidfuzz's is taken, which is the same for the same two sequences.
    """
    from rapidfuzz.distance import Levenshtein

    kept = [False] * len(truth)
    for block in Levenshtein.opcodes(truth, read):
        if block.tag == "equal":
            kept[block.src_start : block.src_end] = [True] * (block.src_end - block.src_start)
    return kept


def count_lost(truth: str, original: str, reading: str, *, has_words: bool) -> tuple[int, int, int]:
    """Return how many glyphs of a line were readable on the original, were not, and were lost.

    A glyph is a code point of the normalized truth. Read is one that stands unchanged in the shortest
    alignment of truth and reading; what a reading adds is counted by the CER alone.

    Args:
        truth: the line.
        original: the reading of the original.
        reading: the reading of the reconstruction.
        has_words: as for `score_lines`.
    """
    t, before, after = (
        normalize_text(text, has_words=has_words) for text in (truth, original, reading)
    )
    known, still = find_kept(t, before), find_kept(t, after)
    readable = sum(known)
    lost = sum(was and not stays for was, stays in zip(known, still, strict=True))
    return readable, len(t) - readable, lost


def normalize_text(text: str, *, has_words: bool) -> str:
    """Return the text as it is compared.

    Unicode NFKC without INVISIBLE, stripped, each run of white space one space, or none of it where
    the script has no words. NFKC makes full-width forms half-width, Arabic presentation forms letters,
    "…" three dots, and joins a letter with its combining marks where a code point of both exists.
    """
    plain = unicodedata.normalize("NFKC", text.translate(INVISIBLE))
    return (" " if has_words else "").join(plain.split())
