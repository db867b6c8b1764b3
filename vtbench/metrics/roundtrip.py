"""Metrics of repeated passes through a tokenizer: drift over rounds, change under a shift.

The tokenizer comes as a function from 8-bit images to 8-bit images and tokens, so this room knows of
no adapter. Users ask for both by name (tiled decodes that shift saturation, models that feed their
own output back).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from vtbench.images import to_rgb8
from vtbench.metrics.color import measure_color_shift
from vtbench.metrics.pixel import psnr_db, require_pair

ROUNDS = (1, 2, 5, 10)
"""Encode-decode rounds after which drift is read."""

SHIFT_MARGIN_PX = 16
"""Border left out of the comparison under a shift: there the content itself differs."""

Passes = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...] | None]]
"""One pass: uint8 N×3×H×W to the reconstruction, uint8 of the same shape, and the tokens of each
image (integer tensors of one shape, a word of every codebook), or None without indices."""


@dataclass(frozen=True)
class Drift:
    """Where an image stands after some rounds, against the original.

    psnr_db, color_shift (CIEDE2000 of mean colours); tokens_changed: share of the words that differ
    from those of the first round, None without indices.
    """

    rounds: int
    psnr_db: float
    color_shift: float
    tokens_changed: float | None


def measure_drift(
    run: Passes, images: Tensor, *, rounds: Sequence[int] = ROUNDS
) -> list[list[Drift]]:
    """Return the drift of each image after each number of rounds.

    Every round encodes and decodes the last round's 8-bit picture. Raises ValueError for rounds that
    do not ascend from 1 and for passes that change shape or dtype.
    """
    if not rounds or list(rounds) != sorted({*rounds}) or rounds[0] < 1:
        raise ValueError(f"rounds must ascend from 1, not {list(rounds)}")
    drifts: list[list[Drift]] = [[] for _ in images]
    originals = to_rgb8(images)
    current, first = images, None
    for number in range(1, rounds[-1] + 1):
        current, tokens = run(current)
        require_pair(images, current)
        first = tokens if number == 1 else first
        if number not in rounds:
            continue
        psnr = psnr_db(images, current)
        for place, (original, now) in enumerate(zip(originals, to_rgb8(current), strict=True)):
            changed = None
            if first is not None and tokens is not None:
                changed = float((first[place] != tokens[place]).double().mean())
            shift = measure_color_shift(original, now)
            drifts[place].append(Drift(number, float(psnr[place]), shift, changed))
    return drifts


def measure_shift_db(run: Passes, images: Tensor) -> Tensor:
    """Return how alike the reconstructions of two crops are that lie one pixel apart on both axes:
    PSNR in dB where they show the same, float64 (N,).

    100 dB for a tokenizer that commutes with shifts. SHIFT_MARGIN_PX at the border are left out.
    Raises ValueError for images of fewer than 4·SHIFT_MARGIN_PX a side.
    """
    if min(images.shape[-2:]) < 4 * SHIFT_MARGIN_PX:
        raise ValueError(f"{tuple(images.shape)}: at least {4 * SHIFT_MARGIN_PX} px a side needed")
    here, _ = run(images[..., :-1, :-1].contiguous())
    there, _ = run(images[..., 1:, 1:].contiguous())
    inner = slice(SHIFT_MARGIN_PX, -SHIFT_MARGIN_PX)
    return psnr_db(here[..., 1:, 1:][..., inner, inner], there[..., :-1, :-1][..., inner, inner])
