"""AToken: which part of a video's patch is the picture's, and entries that are none. That it gives the
official figures is in tests/parity."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from parity.golden import adapt, load_golden

from vtbench.base.errors import RegistryError
from vtbench.tokenizers.atoken import Atoken
from vtbench.tokenizers.nn.vit import HeadNorm, resample_places


def build(name: str, **change: Any) -> Atoken:
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    config = {**golden["ours"]["options"]["config"], **change.pop("config", {})}
    options = change.pop("options", {})
    spec = dataclasses.replace(spec, **change)
    tokenizer = adapter(spec, config=config, weights=None, **options)
    assert isinstance(tokenizer, Atoken)
    return tokenizer


@torch.inference_mode()
def test_a_picture_is_the_first_of_four_frames() -> None:
    tokenizer = build("atoken-c")
    model: Any = tokenizer.model
    images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    before = model.compute_latents(images)
    drawn = model.decode(before)
    values = 3 * 16 * 16
    assert model.embedding.weight.shape[1] == model.head.weight.shape[0] == 4 * values
    model.embedding.weight[:, values:] += 1
    model.head.weight[values:] += 1
    assert torch.equal(model.compute_latents(images), before)
    assert torch.equal(model.decode(before), drawn)
    # One weight within it is seen: of red in the patch's second pixel.
    model.embedding.weight[:, 3] += 1
    assert not torch.allclose(model.compute_latents(images), before)
    model.head.weight[3] = 0
    assert drawn[0, 0, ::16, 1::16].all()
    assert not model.decode(before)[0, 0, ::16, 1::16].any()


def test_each_head_scales_what_has_length_one() -> None:
    norm = HeadNorm(2, 8)
    x = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(x).square().mean(dim=-1), torch.ones(3, 2, 5))
    with torch.no_grad():
        norm.gamma[1] = 3
    torch.testing.assert_close(norm(x).square().mean(dim=-1)[:, 1], torch.full((3, 5), 9.0))
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_positions_are_resampled_to_another_grid_alone() -> None:
    places = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    assert resample_places(places, (4, 4), (4, 4), "bilinear") is places
    small = resample_places(places, (4, 4), (2, 1), "bilinear")
    assert small.shape == (2, 6)
    # Triangles as wide as the grid shrinks: twice along rows, four times along columns.
    down = torch.tensor([[3.0, 3, 1, 0], [0, 1, 3, 3]]) / 7
    across = torch.tensor([5.0, 7, 7, 5]) / 24
    expected = torch.einsum("ri,j,ijc->rc", down, across, places.reshape(4, 4, 6))
    torch.testing.assert_close(small, expected)


def test_words_are_counted_over_all_codebooks() -> None:
    tokenizer = build("atoken-d")
    assert tokenizer.codebooks == (4096, 4096)
    code = tokenizer.encode(torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0)))
    assert isinstance(code.indices, torch.Tensor) and code.indices.shape == (1, 2, 2, 4)
    assert tokenizer.decode(code).shape == (1, 3, 32, 64)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("atoken-d", {"codebook_size": 4096}, "codebook_size is 4096"),
        ("atoken-c", {"latent_channels": 48}, "latent_channels is 48, but the plan makes it 16"),
        ("atoken-c", {"downsample": 8}, "downsample is 8, but the plan makes it 16"),
        ("atoken-d", {"config": {"latent": 13}}, "2 words of 6 values are no 13"),
        ("atoken-d", {"config": {"levels": [4, 1]}}, "greater than or equal to 2"),
        ("atoken-d", {"options": {"posterior": "sample"}}, "options.posterior is 'sample'"),
        ("atoken-c", {"options": {"posterior": "sample"}}, "stochastic is False"),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(
    name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        build(name, **change)
