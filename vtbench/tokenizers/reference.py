"""Two families of which vtbench trains a small member on a body of its own: representation
autoencoders, whose published adapter needs the transformers library and a backbone of hundreds of
megabytes (`rae`), and a convolutional diffusion autoencoder, of whose kind no weights are published
(DiTo, https://arxiv.org/abs/2501.18593). `training.steps` says how they learn."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.diffusion import DiffusionNetwork, DiffusionTokenizer
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import ConvPlan, Count, Decoder, Encoder, join_bands, split_bands
from vtbench.tokenizers.nn.diffusion import TimeEmbedding, draw_noise, integrate
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Transformer,
    VitPlan,
    compute_positions,
    join_patches,
)
from vtbench.tokenizers.titok import split_grid

START = -5.0
"""Logarithm of the variance that each band is first taken to have given the code."""


class SmallRaePlan(Strict):
    """Encoder and decoder, both over patches with the fixed positions of MAE."""

    encoder: VitPlan
    decoder: VitPlan
    patch: Count = 16

    @field_validator("encoder", "decoder")
    @classmethod
    def _positions_fill_the_width(cls, plan: VitPlan) -> VitPlan:
        if plan.width % 4:
            raise ValueError(f"positions need a width that is a multiple of 4, got {plan.width}")
        return plan


class SmallRaeNetwork(Autoencoder):
    """A masked autoencoder's encoder, and a decoder of its features (RAE,
    https://arxiv.org/abs/2510.11690), which are normalised channel by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, plan: SmallRaePlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid, width = grid, plan.encoder.width
        self.embedding = PatchEmbedding(plan.patch, width)
        self.encoder = Transformer(plan.encoder)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.tokens_in = nn.Linear(width, plan.decoder.width)
        self.decoder = Transformer(plan.decoder)
        self.head = nn.Linear(plan.decoder.width, 3 * plan.patch**2)

    def _place(self, tokens: Tensor) -> Tensor:
        return tokens + compute_positions(self.grid, tokens.shape[-1]).to(tokens)

    def compute_features(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the normalised features N×L×C of all patches or, where `kept` (N×K) has the numbers
        of some, of these, the others unseen: N×K×C."""
        tokens = self._place(self.embedding(images))
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        features: Tensor = self.encoder(tokens)
        return (features - self.mean) / self.deviation

    def decode_features(self, features: Tensor) -> Tensor:
        """Return the N×3×H×W images of normalised features N×L×C; zeros are a patch unseen."""
        x = self.decoder(self._place(self.tokens_in(features)))
        return join_patches(self.head(x), self.grid)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return the normalised features N×C×h×w."""
        return self.compute_features(images).mT.reshape(len(images), -1, *self.grid)

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of latents."""
        assert isinstance(code, Tensor)
        return self.decode_features(code.flatten(2).mT.to(self.head.weight.dtype))


class SmallRae(NetworkTokenizer[SmallRaePlan]):
    """One small representation autoencoder, of the entry's fixed size."""

    PLAN = SmallRaePlan

    @classmethod
    def make_network(cls, spec: Spec, plan: SmallRaePlan) -> SmallRaeNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        facts = {
            "downsample": (spec.downsample, plan.patch),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, plan.encoder.width),
            "stochastic": (spec.stochastic, False),
        }
        check_facts(spec, facts)
        return SmallRaeNetwork(plan, split_grid(spec, plan.patch))


class SmallDitoPlan(Strict):
    """One convolutional diffusion autoencoder. network: its `latent` is the code's channels; the
    decoder is the same, but takes noisy image, code and time. time: channels of the time. steps: of
    sampling."""

    network: ConvPlan
    time: Annotated[int, Field(ge=2, multiple_of=2)] = 32
    steps: Count = 8


class SmallDitoNetwork(DiffusionNetwork):
    """Encoder, and a decoder that answers with its estimate of the image, given the code and
    (1 − t)·image + t·noise: a rectified flow from noise (time 1) to image (0) of any size."""

    def __init__(self, plan: SmallDitoPlan) -> None:
        super().__init__()
        network, self.steps = plan.network, plan.steps
        self.factor = network.downsample
        self.encoder = Encoder(network)
        self.time = TimeEmbedding(plan.time, plan.time)
        bands = 3 * self.factor**2
        inputs = bands + network.latent + plan.time
        self.decoder = Decoder(network.model_copy(update={"latent": inputs}))
        self.log_variances = nn.Parameter(torch.full((bands,), START))

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w, without a bound or a prior."""
        latents: Tensor = self.encoder(images)
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return the N×3×H×W images that the seed's noise becomes."""
        assert isinstance(code, Tensor)
        height, width = (self.factor * side for side in code.shape[2:])
        noise = draw_noise(len(code), height, self.seed, width=width)
        return self.denoise(code, noise.to(code.device))

    def estimate(self, code: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Return the float32 images N×3×H×W that noisy ones are expected to come from. times: on the
        CPU, one, or one an image."""
        dtype, halvings = self.decoder.conv_in.weight.dtype, self.factor.bit_length() - 1
        bands = noisy
        for _ in range(halvings):
            bands = split_bands(bands)
        clock = self.time(times)[..., None, None].expand(len(code), -1, *code.shape[2:])
        answer = self.decoder(torch.cat([bands.to(dtype), code.to(dtype), clock], dim=1))
        # The decoder has fewer channels than there are bands, so it cannot denoise each of them.
        # The best linear estimate of a band from its noisy self (Karras et al. 2022, c_skip) can:
        # it lets through hardly anything of a band that the code determines almost completely.
        time = times.reshape(-1, 1, 1, 1).to(noisy)
        variances = self.log_variances.to(noisy).exp()[:, None, None]
        kept = (1 - time) * variances / ((1 - time) ** 2 * variances + time**2) * bands
        for _ in range(halvings):
            kept = join_bands(kept)
        images: Tensor = kept + answer.float()
        return images

    def denoise(self, code: Tensor, noise: Tensor) -> Tensor:
        """Return N×3×H×W images; the last of the steps ends on the estimate itself."""

        def velocity(_: int, time: Tensor, x: Tensor) -> Tensor:
            return (x - self.estimate(code, x, time)) / float(time)

        return integrate(velocity, noise, torch.linspace(1, 0, self.steps + 1))


class SmallDito(DiffusionTokenizer[SmallDitoPlan]):
    """One small diffusion autoencoder; its entry is `stochastic`."""

    PLAN = SmallDitoPlan

    @classmethod
    def make_network(cls, spec: Spec, plan: SmallDitoPlan) -> SmallDitoNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        factor = plan.network.downsample
        facts = {
            "downsample": (spec.downsample, factor),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, plan.network.latent),
            "stochastic": (spec.stochastic, True),
        }
        check_facts(spec, facts)
        for side in spec.size.fixed or (spec.size.multiple,):
            check_facts(spec, {"size": (side, side // factor * factor)})
        return SmallDitoNetwork(plan)
