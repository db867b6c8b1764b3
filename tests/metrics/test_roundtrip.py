"""Drift over rounds and change under a shift, of tokenizers whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from drawn import blur, jpeg, texture
from torch import Tensor

from vtbench.images import RGB8, to_rgb8
from vtbench.metrics.color import measure_color_shift
from vtbench.metrics.pixel import psnr_db
from vtbench.metrics.roundtrip import ROUNDS, Passes, measure_drift, measure_shift_db


def batch(*names: str, side: int = 128) -> Tensor:
    stacked = np.stack([texture(name)[100 : 100 + side, 200 : 200 + side] for name in names])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def by_image(how: Callable[[RGB8], RGB8]) -> Passes:
    def run(images: Tensor) -> tuple[Tensor, None]:
        done = [torch.from_numpy(how(pixels).copy()).permute(2, 0, 1) for pixels in to_rgb8(images)]
        return torch.stack(done), None

    return run


def darken(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Lose a level of green a round; the tokens are the mean levels of 16 px cells."""
    cells = images.double().mean(dim=1).unfold(1, 16, 16).unfold(2, 16, 16).mean(dim=(3, 4)).round()
    out = images.clone()
    out[:, 1] = out[:, 1].clamp(min=1) - 1
    return out, tuple(cells.to(torch.int64))


def test_rounds_add_up() -> None:
    images = batch("coffee", "grass")
    drifts = measure_drift(darken, images)
    assert [[d.rounds for d in own] for own in drifts] == [list(ROUNDS)] * 2
    for place, own in enumerate(drifts):
        for drift in own:
            shifted = images.clone()
            shifted[:, 1] = shifted[:, 1].clamp(min=drift.rounds) - drift.rounds
            psnr = psnr_db(images, shifted)[place]
            assert drift.psnr_db == pytest.approx(float(psnr), abs=1e-9)
            shift = measure_color_shift(to_rgb8(images)[place], to_rgb8(shifted)[place])
            assert drift.color_shift == pytest.approx(shift, abs=1e-9)
        assert own[0].tokens_changed == 0.0  # the first round's tokens are the reference
        changed = [drift.tokens_changed for drift in own]
        assert None not in changed and changed == sorted(changed) and changed[-1] == 1.0  # type: ignore[type-var]


def test_jpeg_settles_and_blur_goes_on() -> None:
    images = batch("coffee")
    (settled,) = measure_drift(by_image(lambda x: jpeg(x, 75)), images)
    (blurred,) = measure_drift(by_image(lambda x: blur(x, 0.7)), images)
    assert settled[0].psnr_db - settled[-1].psnr_db < 1.5
    losses = [drift.psnr_db for drift in blurred]
    assert losses == sorted(losses, reverse=True) and losses[0] - losses[-1] > 3
    assert {drift.tokens_changed for drift in settled} == {None}


def test_shifts_that_commute_and_those_that_do_not() -> None:
    images = batch("coffee", "grass")
    assert measure_shift_db(lambda x: (x, None), images).tolist() == [100.0, 100.0]
    # Blur commutes but for the border that it reflects, which is left out.
    assert measure_shift_db(by_image(lambda x: blur(x, 1.0)), images).tolist() == [100.0, 100.0]
    coarse, fine = (
        measure_shift_db(by_image(lambda x, q=quality: jpeg(x, q)), images)  # type: ignore[misc]
        for quality in (10, 90)
    )
    assert (coarse < fine).all() and (fine < 60).all()


def test_what_is_refused() -> None:
    images = batch("coffee", side=64)
    for rounds in ((), (2, 1), (0, 1), (1, 1)):
        with pytest.raises(ValueError, match="ascend"):
            measure_drift(darken, images, rounds=rounds)
    with pytest.raises(ValueError, match="differ"):
        measure_drift(lambda x: (x[..., 1:], None), images)
    with pytest.raises(ValueError, match="64 px"):
        measure_shift_db(darken, images[..., 1:])
