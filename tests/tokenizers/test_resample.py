"""The sanity rows: identity is exact, and fewer pixels are worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from vtbench import images as pixels
from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.resample import Resample

SPEC = Spec("resample-under-test", "sanity", "pixels", "none")


def test_identity_returns_every_8_bit_image_exactly():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, size=(33, 51, 3), dtype=np.uint8) for _ in range(3)]
    tokenizer = Resample(SPEC, factor=1)
    code = tokenizer.encode(pixels.to_float(pictures))
    decoded = pixels.to_rgb8(pixels.to_uint8(tokenizer.decode(code)))
    assert all(np.array_equal(a, b) for a, b in zip(pictures, decoded, strict=True))
    assert code.tokens == (33 * 51,) * 3 and code.bits == (24.0 * 33 * 51,) * 3


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("size", [(256, 256), (333, 517), (1, 1), (5, 1)])
def test_the_code_is_the_small_picture_in_8_bits(factor, size):
    image = pixels.resize(pixels.to_float([data.chelsea()]), size).clamp(0, 1)
    tokenizer = Resample(SPEC, factor=factor)
    code = tokenizer.encode(image)
    height, width = -(-size[0] // factor), -(-size[1] // factor)
    assert code.latents.shape == (1, 3, height, width)
    assert code.tokens == (height * width,) and code.bits == (24.0 * height * width,)
    levels = code.latents * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4) and code.latents.max() <= 1
    assert tokenizer.decode(code).shape == image.shape


def test_both_ways_are_pillow_s_bicubic():
    picture = data.chelsea()[:, :450]
    tokenizer = Resample(SPEC, factor=2)
    code = tokenizer.encode(pixels.to_float([picture]))
    small = Image.fromarray(picture).resize((225, 150), Image.Resampling.BICUBIC)
    large = small.resize((450, 300), Image.Resampling.BICUBIC)
    enlarged = tokenizer.decode(replace(code, latents=pixels.to_float([np.asarray(small)])))
    for ours, theirs in ((code.latents, small), (enlarged, large)):
        levels = pixels.to_uint8(ours)[0].permute(1, 2, 0).numpy().astype(int)
        # Pillow rounds to 8 bits between its two passes, we do not.
        difference = np.abs(levels - np.asarray(theirs).astype(int))
        assert difference.max() <= 1 and difference.mean() < 0.25


def test_fewer_pixels_are_worse():
    image = pixels.to_float([data.chelsea()])
    errors = []
    for factor in (1, 2, 4):
        tokenizer = Resample(SPEC, factor=factor)
        errors.append(float((tokenizer.decode(tokenizer.encode(image)) - image).square().mean()))
    assert errors[0] == 0 < errors[1] < errors[2] / 1.5


@pytest.mark.parametrize("factor", [0, -2, 1.5, True, "2"])
def test_a_factor_without_sense_is_refused(factor):
    with pytest.raises(RegistryError, match="factor must be an integer ≥ 1"):
        Resample(SPEC, factor=factor)


def test_another_range_is_refused():
    spec = Spec("resample-under-test", "sanity", "pixels", "none", input_range=(-1.0, 1.0))
    with pytest.raises(RegistryError, match="input_range"):
        Resample(spec, factor=2)
