"""The worst patch: where a blob is put, and the same value as that patch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import add_noise, texture
from torch import Tensor

from vtbench.images import RGB8
from vtbench.metrics.patches import PATCH, PatchMetric, cut_patches, find_worst
from vtbench.metrics.pixel import psnr_db, ssim


def as_batch(*pixels: RGB8) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def test_patches_cover_the_picture() -> None:
    place = torch.arange(150 * 203).reshape(1, 150, 203).repeat(3, 1, 1)
    patches = cut_patches(place)
    assert patches.shape[1:] == (3, PATCH, PATCH)
    assert torch.equal(patches.unique(), place.unique())
    assert len(cut_patches(place[:, :PATCH, :PATCH])) == 1
    assert len(cut_patches(place[:, :128, :128])) == 9


@pytest.mark.slow
@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_a_blob_decides_the_worst_and_not_the_quantile(metric: PatchMetric) -> None:
    pixels = texture("coffee")[:384, :512]
    image = add_noise(pixels, 4)
    before = find_worst(metric, as_batch(pixels), as_batch(image), better="higher")
    hurt = image.copy()
    hurt[192:224, 320:352] = 255
    after = find_worst(metric, as_batch(pixels, pixels), as_batch(hurt, image), better="higher")
    assert before is not None and after is not None and after[1] == before[0]
    candidates = [
        metric(
            as_batch(pixels[t : t + 64, left : left + 64]),
            as_batch(hurt[t : t + 64, left : left + 64]),
        )
        for t in (160, 192)
        for left in (288, 320)
    ]
    alone = min(float(value[0]) for value in candidates if value is not None)
    assert after[0].patch == pytest.approx(alone, abs=1e-12)
    assert after[0].patch < before[0].patch - (5 if metric is psnr_db else 0.1)
    # 4 of 165 patches hold the blob: fewer than 5 %.
    assert after[0].quantile == pytest.approx(before[0].quantile, abs=0.5)


def test_the_bad_end_is_the_metrics_own() -> None:
    pixels = texture("coffee")[:256, :256]
    image = add_noise(pixels, 4)
    image[:70, :70] = 0

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() - y.double()).abs().mean(dim=(1, 2, 3))

    worst = find_worst(distance, as_batch(pixels), as_batch(image), better="lower")
    assert worst is not None
    assert worst[0].patch == pytest.approx(
        float(distance(as_batch(pixels[:64, :64]), as_batch(image[:64, :64])))
    )
    assert worst[0].patch >= worst[0].quantile > 3


def test_what_does_not_apply() -> None:
    small = as_batch(texture("brick")[: PATCH - 1])
    assert find_worst(psnr_db, small, small, better="higher") is None
    fitting = as_batch(texture("brick")[:PATCH])
    assert find_worst(lambda x, y: None, fitting, fitting, better="higher") is None
    same = find_worst(psnr_db, fitting, fitting, better="higher")
    assert same is not None and same[0].patch == same[0].quantile == 100.0
    with pytest.raises(ValueError, match="differ"):
        find_worst(psnr_db, fitting, small, better="higher")
