"""CER, WER and NED against jiwer and by hand, on plain and on unusual Unicode."""

from __future__ import annotations

import random
import unicodedata

import jiwer
import pytest
from rapidfuzz.distance import Levenshtein

from vtbench.metrics.text import INVISIBLE, find_kept, normalize_text, score_lines

TRUTH = ["The quick brown fox", "jumps over the lazy dog.", "Sphinx of black quartz", "ok"]


def garbled(line: str, rate: float, rng: random.Random) -> str:
    letters = []
    for letter in line:
        draw = rng.random()
        if draw < rate / 3:
            continue
        letters.append(rng.choice("abcde ") if draw < rate * 2 / 3 else letter)
        if draw > 1 - rate / 3:
            letters.append(rng.choice("xyz "))
    return " ".join("".join(letters).split())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_cer_and_wer_are_jiwers(rate: float) -> None:
    rng = random.Random(int(rate * 10))
    read = [garbled(line, rate, rng) for line in TRUTH]
    scores = score_lines(TRUTH, read, has_words=True)
    assert scores.words is not None and scores.word_edits is not None
    assert scores.char_edits / scores.chars == pytest.approx(jiwer.cer(TRUTH, read), abs=1e-12)
    assert scores.word_edits / scores.words == pytest.approx(jiwer.wer(TRUTH, read), abs=1e-12)


def test_scores_by_hand() -> None:
    scores = score_lines(["abcd", "one two"], ["abxd", "one"], has_words=True)
    assert (scores.char_edits, scores.chars) == (1 + 4, 4 + 7)
    assert (scores.word_edits, scores.words) == (1 + 1, 1 + 2)
    assert scores.ned == pytest.approx((3 / 4 + 3 / 7) / 2)
    perfect = score_lines(TRUTH, TRUTH, has_words=True)
    assert (perfect.char_edits, perfect.word_edits, perfect.ned) == (0, 0, 1.0)
    nothing = score_lines(TRUTH, [""] * 4, has_words=True)
    assert (nothing.char_edits, nothing.word_edits) == (nothing.chars, nothing.words)
    assert nothing.ned == 0.0
    # Not clipped: a repetition loop costs what it is.
    loop = score_lines(["ab"], ["ababab"], has_words=True)
    assert loop.char_edits == 4
    assert loop.ned == pytest.approx(2 / 6)


def test_text_is_normalized() -> None:
    assert normalize_text("  Ｆｕｌｌ\t width\u00a0… \n", has_words=True) == "Full width ..."
    assert normalize_text(" 視覺 标 记 ", has_words=False) == "視覺标记"
    assert normalize_text("cafe\u0301", has_words=True) == "café"
    assert score_lines(["Ab"], ["ab"], has_words=True).char_edits == 1  # case counts
    chinese = score_lines(["视觉标记"], ["视 觉标己"], has_words=False)
    assert (chinese.char_edits, chinese.chars, chinese.ned) == (1, 4, 0.75)
    assert (chinese.word_edits, chinese.words, chinese.words_read) == (None, None, None)


@pytest.mark.parametrize(
    ("truth", "read", "words"),
    [([], [], "no true lines"), (["a", " \n"], ["a", ""], "empty"), (["a"], [], "0 readings")],
)
def test_no_text_is_not_perfect(truth: list[str], read: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score_lines(truth, read, has_words=True)


def macro_cer(truth: list[str], read: list[str]) -> float:
    """The mutant: a mean of the lines' rates."""
    rates = [jiwer.cer(t, r) for t, r in zip(truth, read, strict=True)]
    return sum(rates) / len(rates)


def forgiving_cer(truth: list[str], read: list[str]) -> float:
    """The mutant: an empty truth scores 0, as perfect."""
    chars = sum(map(len, truth))
    return score_lines(truth, read, has_words=True).char_edits / chars if chars else 0.0


def test_cer_is_pooled_and_not_a_mean_of_rates() -> None:
    truth, read = ["a" * 98, "no"], ["a" * 98, "xy"]
    scores = score_lines(truth, read, has_words=True)
    assert scores.char_edits / scores.chars == pytest.approx(0.02)
    assert macro_cer(truth, read) == pytest.approx(0.5)
    assert forgiving_cer([], []) == 0.0  # where ours raises, above


EDGE_CASES = {
    "combining marks": ("cafe\u0301 nin\u0303o", "café niño", 0),
    "a mark without a code point of both": ("x\u0301y", "xy", 1),
    "devanagari cluster": ("क्षत्रिय ज्ञान", "क्षत्रीय ज्ञान", 1),
    "devanagari nukta, composed and not": ("\u095bिला", "\u091c\u093cिला", 0),
    "devanagari without its joiner": ("क्\u200dष", "क्ष", 0),
    "full width": ("ＡＢＣ１２３", "ABC123", 0),
    "half-width katakana": ("ｶﾞﾗｽ", "ガラス", 0),
    "arabic with marks of direction": ("\u200fكتاب ١٢\u200f", "كتاب ١٢", 0),
    "arabic presentation forms": ("\ufedb\ufe98\ufe8e\ufe8f", "كتاب", 0),
    "arabic, one letter": ("مدرسة كبيرة", "مدرسه كبيرة", 1),
    "hangul, composed and not": ("\u1112\u1161\u11ab\uae00", "한글", 0),
    "no-break and ideographic space": ("a\u00a0b\u3000c", "a b c", 0),
    "soft hyphen and byte order mark": ("\ufeffin\u00adto", "into", 0),
    "ligature": ("ﬁnal oﬃce", "final office", 0),
    "outside the first plane": ("𠮷野家", "吉野家", 1),
    "eszett is not ss": ("Straße", "Strasse", 2),
}


@pytest.mark.parametrize("case", EDGE_CASES)
def test_unicode_counts_as_jiwer_and_rapidfuzz_count_it(case: str) -> None:
    truth, read, edits = EDGE_CASES[case]
    scores = score_lines([truth], [read], has_words=True)
    t, r = (normalize_text(text, has_words=True) for text in (truth, read))
    assert scores.char_edits == edits == Levenshtein.distance(t, r)
    assert scores.char_edits / scores.chars == pytest.approx(jiwer.cer(t, r), abs=1e-12)
    assert scores.word_edits is not None and scores.words is not None
    assert scores.word_edits / scores.words == pytest.approx(jiwer.wer(t, r), abs=1e-12)
    assert scores.exact_lines == (edits == 0)


def test_what_is_invisible_is_left_out_and_nothing_else_is() -> None:
    # Marks, signs and joiners with ink of their own stay: the Arabic number sign is of category Cf.
    assert normalize_text("\u0600١", has_words=True) == "\u0600١"
    assert all(unicodedata.category(chr(c)) in ("Cf", "Mn", "Cn") for c in INVISIBLE)
    # Normalization does not bring one back, so that once is enough.
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000)]))
    assert not set(map(ord, unicodedata.normalize("NFKC", every.translate(INVISIBLE)))) & set(
        INVISIBLE
    )


def test_words_and_lines_that_are_right_are_counted() -> None:
    scores = score_lines(
        ["one two three", "four five", "six"], ["one three", "four five", "sx"], has_words=True
    )
    assert (scores.words_read, scores.words) == (2 + 2 + 0, 6)
    assert (scores.exact_lines, scores.lines) == (1, 3)
    assert find_kept("abcd", "xbd") == [False, True, False, True]
    assert find_kept("", "x") == [] and find_kept("ab", "") == [False, False]
