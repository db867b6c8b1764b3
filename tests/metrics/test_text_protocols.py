"""TokBench's and OmniDoc-TokenBench's scores against what their own code gave on the same readings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtbench.base.padding import pad_to_square, unpad_square
from vtbench.images import RGB8
from vtbench.metrics.text_protocols import (
    TokBenchWord,
    score_omnidoc,
    score_tokbench,
)

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "goldens" / "text_protocols.json").read_text(encoding="utf-8")
)
WORDS = [TokBenchWord(*word) for word in GOLDEN["tokbench"]["words"]]

EXACT = 1e-12
"""Both are sums of the same float64 values in other orders."""


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_tokbench_is_tokbench(side: int) -> None:
    theirs = GOLDEN["tokbench"]["settings"][str(side)]
    ours = score_tokbench(WORDS, side=side)
    assert (ours.all_t_acc, ours.all_t_ned) == pytest.approx(theirs["all"], abs=EXACT)
    assert ours.bucket_t_acc == pytest.approx(theirs["buckets_acc"], abs=EXACT)
    assert ours.bucket_t_ned == pytest.approx(theirs["buckets_ned"], abs=EXACT)
    assert ours.t_acc == pytest.approx(theirs["mean_acc"], abs=EXACT)
    assert ours.t_ned == pytest.approx(theirs["mean_ned"], abs=EXACT)
    assert f"{ours.t_acc:.2%}" == theirs["printed"][3]
    assert sum(ours.counts) + ours.dropped == len(WORDS)
    # The mutant: all words of the buckets together; TokBench gives each bucket the same weight.
    pooled = sum(n * (a or 0) for n, a in zip(ours.counts, ours.bucket_t_acc, strict=True)) / sum(
        ours.counts
    )
    assert pooled != pytest.approx(theirs["mean_acc"], abs=1e-6)


def test_buckets_are_half_open_and_an_empty_one_is_not_a_number_of_its_own() -> None:
    words = [TokBenchWord("a", "a", ratio) for ratio in (0.0199, 0.02, 0.0299, 0.04, 1.0)]
    score = score_tokbench(words, side=256)
    assert score.counts == (2, 0, 1) and score.dropped == 2
    assert score.bucket_t_acc == (1.0, None, 1.0)
    assert score.t_acc is None and score.all_t_acc == 1.0
    with pytest.raises(ValueError, match="no setting 300"):
        score_tokbench(words, side=300)
    with pytest.raises(ValueError, match="no words"):
        score_tokbench([], side=256)


def pattern(width: int, height: int) -> RGB8:
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 7 + y * 3) % 256, (x * y) % 251, (x // 3 * 31 + y // 5 * 17) % 256]
    return np.stack(planes, axis=2).astype(np.uint8)


@pytest.mark.parametrize("case", GOLDEN["padding"]["cases"], ids=lambda case: str(case["size"]))
def test_padding_is_insighttoks(case: dict[str, Any]) -> None:
    square, padding = pad_to_square(pattern(*case["size"]), case["side"])
    assert square.shape == (case["side"], case["side"], 3)
    assert list(padding.scaled) == case["scaled"] and list(padding.place) == case["place"]
    # Pillow resizes 8-bit images by integers: the same bytes on every machine.
    assert hashlib.sha256(square.tobytes()).hexdigest() == case["padded_sha256"]
    restored = unpad_square(square, padding)
    assert hashlib.sha256(restored.tobytes()).hexdigest() == case["restored_sha256"]


def test_omnidoc_is_omnidoc() -> None:
    theirs = GOLDEN["omnidoc"]
    originals, reconstructions = zip(*theirs["pages"], strict=True)
    ours = score_omnidoc(originals, reconstructions)
    assert ours.ned == pytest.approx(theirs["ned"], abs=EXACT)
    assert (ours.images, ours.skipped) == (theirs["images"], 1)
    assert score_omnidoc([[]], [["x"]]).ned is None
    with pytest.raises(ValueError, match="1 originals"):
        score_omnidoc([[]], [])
