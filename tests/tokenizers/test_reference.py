"""The bodies of reference tokenizers: the flow's arithmetic, sizes, what an entry may not say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vtbench.base.errors import RegistryError
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers.nn.diffusion import TimeEmbedding, draw_noise
from vtbench.tokenizers.reference import SmallDito, SmallRae

DITO = Spec(
    name="dito",
    family="dito",
    kind="continuous",
    quantizer="none",
    downsample=8,
    latent_channels=4,
    input_range=(-1.0, 1.0),
    size=SizePolicy(8, None, "pad"),
    stochastic=True,
)
NETWORK = {"multipliers": [1], "channels": 8, "latent": 4, "haar": 3, "blocks": 1, "norm": "none"}
RAE = replace(
    DITO,
    name="rae",
    downsample=16,
    latent_channels=16,
    size=SizePolicy(1, (32, 64), "resize"),
    stochastic=False,
)
VIT = {"width": 16, "depth": 1, "heads": 2}


def make_dito(steps: int, *, spec: Spec = DITO, seed: int = 0, **more: Any) -> SmallDito:
    config = {"network": {**NETWORK, "middle": "b"}, "steps": steps, "time": 4, **more}
    return SmallDito(spec, config=config, weights=None, seed=seed)


def make_rae(spec: Spec = RAE, **more: Any) -> SmallRae:
    return SmallRae(spec, config={"encoder": VIT, "decoder": VIT, **more}, weights=None)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_the_flow_follows_the_estimate(steps: int) -> None:
    """For images of zeros that are Gaussian of deviation s, the estimate is linear and the end of the
    exact flow is s times the noise; Euler's method has a product of its own."""
    model = make_dito(steps).model
    deviation = 0.5

    def gain(time: float) -> float:
        return (1 - time) * deviation**2 / ((1 - time) ** 2 * deviation**2 + time**2)

    model.estimate = lambda code, noisy, times: gain(float(times)) * noisy
    noise = draw_noise(2, 16, 0, width=24).double()
    made = model.denoise(torch.zeros(2, 4, 2, 3), noise)
    expected = 1.0
    for step in range(steps, 0, -1):
        expected *= 1 - (1 - gain(step / steps)) / step
    assert torch.allclose(made, expected * noise, rtol=1e-5)  # times are float32
    if steps == 8:  # and comes near the exact end, which a flow in the other direction would not
        assert expected == pytest.approx(deviation, rel=0.25)


def test_a_band_is_kept_as_far_as_it_is_open() -> None:
    model = make_dito(1).model
    for parameter in model.decoder.conv_out.parameters():
        parameter.zero_()
    model.log_variances.fill_(-100.0)
    model.log_variances[:3] = math.log(0.25)  # the means of 8×8
    code, noisy = torch.zeros(3, 4, 2, 2), torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        made = model.estimate(code, noisy, torch.tensor([0.1, 0.5, 1.0]))
    means = torch.nn.functional.avg_pool2d(noisy, 8)
    for image, share in enumerate((0.9 * 0.25 / (0.81 * 0.25 + 0.01), 0.5 * 0.25 / 0.3125, 0.0)):
        expected = share * means[image].repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
        assert torch.allclose(made[image], expected, atol=1e-6)


def test_times_of_a_batch_are_those_of_its_images() -> None:
    embedding = TimeEmbedding(8, 6)
    times = torch.tensor([0.1, 0.7])
    both = embedding(times)
    for row, time in zip(both, times, strict=True):
        assert torch.allclose(row, embedding(time)[0], atol=1e-6)  # another order of sums
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_noise_is_of_the_seed_and_any_size() -> None:
    images = torch.rand(1, 3, 33, 57, generator=torch.Generator().manual_seed(1))

    def decode(seed: int, steps: int) -> Tensor:
        tokenizer = make_dito(steps, seed=seed)
        # Random weights are by the seed too; here they are the same.
        tokenizer.model.load_state_dict(make_dito(steps).model.state_dict())
        return tokenizer.decode(tokenizer.encode(images))

    assert decode(0, 2).shape == images.shape
    assert torch.equal(decode(0, 2), decode(0, 2))
    assert not torch.allclose(decode(0, 2), decode(1, 2), atol=1e-3)
    assert not torch.allclose(decode(0, 2), decode(0, 3), atol=1e-3)


def test_latents_of_features_have_the_order_of_patches() -> None:
    tokenizer = make_rae()
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        features = tokenizer.model.compute_features(images)
        latents = tokenizer.model.compute_latents(images)
        assert latents.shape == (2, 16, 2, 4)
        assert torch.equal(latents[:, :, 1, 2], features[:, 6])
        assert torch.equal(
            tokenizer.model.decode(latents), tokenizer.model.decode_features(features)
        )
        # All patches kept, in another order, see the same: positions are those of their places.
        order = torch.randperm(8, generator=torch.Generator().manual_seed(2)).expand(2, -1)
        turned = tokenizer.model.compute_features(images, order)
        expected = features.gather(1, order[..., None].expand_as(features))
    assert torch.allclose(turned, expected, atol=1e-5)  # attention sums in another order


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_dito(2, spec=replace(DITO, stochastic=False)), "stochastic"),
        (lambda: make_dito(2, spec=replace(DITO, downsample=16)), "downsample"),
        (lambda: make_dito(2, spec=replace(DITO, latent_channels=8)), "latent_channels"),
        (lambda: make_dito(2, spec=replace(DITO, size=SizePolicy(12, None, "pad"))), "size"),
        (lambda: make_dito(0), "steps"),
        (lambda: make_rae(replace(RAE, downsample=8)), "downsample"),
        (lambda: make_rae(replace(RAE, size=SizePolicy(16, None, "pad"))), "size.fixed"),
        (lambda: make_rae(replace(RAE, stochastic=True)), "stochastic"),
        (lambda: make_rae(encoder={**VIT, "width": 18}), "multiple of 4"),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(make: Any, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        make()
