"""Legibility by height, what counts as lost, mending, agreement: against cases whose answer is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from vtbench.metrics.legibility import (
    LineReading,
    find_threshold,
    fit_falling,
    group_readings,
    measure_agreement,
    measure_repair,
    score_readings,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def line(truth: str, reading: str, **more: object) -> LineReading:
    values: dict[str, object] = {
        "page": "p",
        "script": "latin",
        "kind": "random",
        "glyph_px": 10.0,
        "original": truth,
    }
    return LineReading(truth=truth, reading=reading, **(values | more))  # type: ignore[arg-type]


def damage(text: str, rate: float, rng: random.Random) -> str:
    """Return the text with that share of its letters replaced by another sign."""
    return "".join("#" if rng.random() < rate else letter for letter in text)


def test_what_the_engine_misreads_on_the_original_is_not_lost() -> None:
    # "b" was never readable; "d" was, and is gone.
    assert line("abcd", "abcx", original="axcd").count_lost() == (3, 1, 1)
    score = score_readings([line("abcd", "abcx", original="axcd")])
    assert (score.scores.char_edits, score.original.char_edits) == (1, 1)
    assert score.lost_share == pytest.approx(1 / 3)
    # Nothing readable: no share, and not zero.
    blind = score_readings([line("abcd", "abcd", original="")])
    assert blind.lost_share is None and blind.unreadable == 4 and blind.scores.char_edits == 0
    perfect = score_readings([line("two words", "two words")])
    assert (perfect.lost, perfect.unreadable, perfect.scores.words_read) == (0, 0, 2)


def test_lines_of_other_scripts_are_not_put_together() -> None:
    lines = [line("ab", "ab"), line("国家", "国家", script="chinese")]
    with pytest.raises(ValueError, match="not of one script"):
        score_readings(lines)
    groups = group_readings(lines, lambda own: own.script)
    assert list(groups) == ["latin", "chinese"]
    chinese = score_readings(groups["chinese"]).scores
    assert chinese.words is None and chinese.words_read is None


def heights_with_rates(rates: dict[float, float], lines: int = 12) -> list[LineReading]:
    rng = random.Random(5)
    made = []
    for height, rate in rates.items():
        for _ in range(lines):
            truth = "".join(rng.choices(LETTERS, k=40))
            made.append(line(truth, damage(truth, rate, rng), glyph_px=height))
    return made


def test_the_fit_is_isotonic_regression() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 9, 30):
        values, weights = rng.uniform(0, 1, size), rng.integers(1, 50, size).astype(float)
        theirs = IsotonicRegression(increasing=False).fit_transform(
            np.arange(size), values, sample_weight=weights
        )
        # Weighted means of the same blocks.
        assert np.abs(fit_falling(values, weights) - theirs).max() < 1e-12


def test_the_threshold_lies_where_the_error_falls_to_the_limit() -> None:
    # The CER falls along log(height) from .5 at 6 px to 0 at 24 px: .05 is met at 20.9 px.
    heights = (6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 32.0)
    span = np.log(24 / 6)
    rates = {h: float(max(0.0, 0.5 * np.log(24 / h) / span)) for h in heights}
    found = find_threshold(heights_with_rates(rates, 40), seed=1)
    truth = 24 / np.exp(0.1 * span)
    assert found.px is not None and found.low is not None and found.high is not None
    # 1600 letters a height: ±.005 of a CER of .05, which is ±.35 px there; three times that.
    assert found.px == pytest.approx(truth, abs=1.0)
    assert found.low < truth < found.high and found.beyond is None
    assert found.in_tokens(8).px == pytest.approx(found.px / 8)
    assert found.heights == (6.0, 32.0)


def test_a_threshold_outside_of_the_heights_is_not_a_number() -> None:
    legible = find_threshold(heights_with_rates({6.0: 0.0, 12.0: 0.0}), seed=1)
    assert (legible.px, legible.beyond, legible.in_tokens(8).px) == (None, "below", None)
    lost = find_threshold(heights_with_rates({6.0: 0.9, 12.0: 0.8}), seed=1)
    assert (lost.px, lost.beyond) == (None, "above")
    assert lost.low == np.inf and legible.high == -np.inf
    with pytest.raises(ValueError, match="1 glyph height"):
        find_threshold([line("ab", "ab")], seed=1)
    few = find_threshold(heights_with_rates({6.0: 0.9, 12.0: 0.0}, lines=2), seed=1)
    assert few.px is not None and few.low is None


def test_one_bad_height_among_good_ones_does_not_move_the_threshold_up_to_it() -> None:
    rates = {6.0: 0.6, 8.0: 0.02, 12.0: 0.0, 16.0: 0.06, 24.0: 0.0, 32.0: 0.0}
    found = find_threshold(heights_with_rates(rates, 60), seed=1)
    # 8 to 16 px are pooled to about .03: legible. A first height from the top would say 16.
    assert found.px is not None and 6 < found.px < 8


def test_mending_is_what_sentences_lose_less() -> None:
    rng = random.Random(3)
    lines = []
    for kind, rate in (("sentence", 0.05), ("random", 0.2)):
        for _ in range(60):
            truth = "".join(rng.choices(LETTERS, k=30))
            lines.append(line(truth, damage(truth, rate, rng), kind=kind))
    repair = measure_repair(lines, seed=2)
    assert repair.mended is not None and repair.low is not None and repair.high is not None
    assert repair.low < 0.75 < repair.high
    # Another kind, and a height with one kind alone, do not count.
    more = [*lines, line("x" * 50, "", kind="words"), line("x" * 50, "", glyph_px=6.0)]
    assert measure_repair(more, seed=2) == repair
    # An engine that loses both alike mends nothing.
    honest = [line(own.truth, damage(own.truth, 0.2, rng), kind=own.kind) for own in lines]
    plain = measure_repair(honest, seed=2)
    assert plain.low is not None and plain.high is not None and plain.low < 0 < plain.high
    # Too few losses say nothing.
    assert (
        measure_repair([line("ab", "ab"), line("a", "a", kind="sentence")], seed=2).mended is None
    )


def test_agreement_is_of_readings_and_not_with_the_truth() -> None:
    readings = {"one": ["abcd", "xy"], "two": ["abcd", "xy"], "three": ["abzd", ""]}
    agreement = measure_agreement(readings, has_words=True)
    assert agreement == {
        ("one", "two"): 1.0,
        ("one", "three"): pytest.approx(1 - (1 + 2) / (4 + 2)),
        ("three", "two"): pytest.approx(1 - (1 + 2) / (4 + 2)),
    }
    assert measure_agreement({"a": [""], "b": [" "]}, has_words=True) == {("a", "b"): None}
    with pytest.raises(ValueError, match="same lines"):
        measure_agreement({"a": ["x"], "b": []}, has_words=True)
