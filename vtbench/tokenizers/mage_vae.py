"""Mage-VAE: one step of a diffusion codec without its noise, in convolutions alone
(https://arxiv.org/abs/2607.19064, microsoft/Mage, mage_flow/models/modules/mage_vae.py).

Encoder and decoder were trained as denoisers. Both always start from zeros at time 0, so that what
multiplies the noise is left out, and each block is modulated by the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import (
    ChannelNorm,
    ConvPlan,
    Count,
    ResidualBlock,
    SpatialAttention,
    make_norm,
)
from vtbench.tokenizers.nn.diffusion import EPSILON, TimeEmbedding
from vtbench.tokenizers.nn.vit import join_patches

TIME_VALUES = 256
"""Cosines and sines that stand for a time."""

WINDOW = 32
"""Places on a side of a window of attention; the last row and column are repeated to fill it."""

FREQUENCIES = 8
"""Of the place of a pixel in its patch, along either side."""

BOUNDS = (-20.0, 10.0)
"""Of the logarithm of the variance."""


class MagePlan(Strict):
    """One Mage-VAE.

    Attributes:
        width: Of the blocks of both halves.
        blocks: Of the encoder.
        decoder_blocks: Of the decoder.
        head_width: Of the blocks that see the pixels first.
        head_blocks: How many those are.
        pixel_width: Of the perceptron that draws each pixel.
        pixel_blocks: Of that perceptron.
        latent: Values of a token.
        patch: Pixels on a side of a patch.
        moments: Whether the encoder gives mean and log variance.
    """

    width: Count = 384
    blocks: Count = 21
    decoder_blocks: Count = 21
    head_width: Count = 768
    head_blocks: Count = 2
    pixel_width: Count = 32
    pixel_blocks: Count = 3
    latent: Count = 128
    patch: Count = 16
    moments: bool = True


class ConvBlock(nn.Module):
    """Norm, 1×1, depthwise 3×3, GELU, a gate by the picture's mean, 1×1; then norm and a perceptron;
    each added to its input. timed: shifts, scales and gates come from the time (DiCo's block)."""

    def __init__(self, width: int, *, timed: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (ChannelNorm(width, affine=not timed) for _ in range(2))
        self.conv1, self.conv3 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.gate = nn.Conv2d(width, width, 1)
        self.conv4, self.conv5 = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        self.modulation = nn.Linear(width, 6 * width) if timed else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return N×C×h×w. time: 1×C."""
        terms: Sequence[Tensor | float] = (0.0, 0.0, 1.0) * 2
        if self.modulation is not None:
            terms = self.modulation(functional.silu(time))[..., None, None].chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = terms
        h = self.norm1(x) * (1 + scale1) + shift1
        h = functional.gelu(self.conv2(self.conv1(h)))
        h = self.conv3(h * self.gate(h.mean(dim=(2, 3), keepdim=True)).sigmoid())
        x = x + gate1 * h
        h = self.norm2(x) * (1 + scale2) + shift2
        out: Tensor = x + gate2 * self.conv5(functional.gelu(self.conv4(h)))
        return out


class WindowAttention(SpatialAttention):
    """Self-attention within windows of 32×32 places."""

    def forward(self, x: Tensor) -> Tensor:
        h, (rows, columns) = self.norm(x), x.shape[-2:]
        down, across = (math.ceil(side / WINDOW) for side in (rows, columns))
        row, column = (
            torch.arange(count * WINDOW, device=x.device).clamp(max=side - 1)
            for count, side in ((down, rows), (across, columns))
        )
        parts = []
        for conv in self.projections.values():
            filled = conv(h)[:, :, row][..., column]
            windows = filled.unflatten(3, (across, WINDOW)).unflatten(2, (down, WINDOW))
            parts.append(windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2))
        q, k, v = parts
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed.reshape(len(x), down, across, WINDOW, WINDOW, -1)
        mixed = mixed.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        out: Tensor = self.out(mixed[..., :rows, :columns])
        return x + out


class MageEncoder(nn.Module):
    """Images N×3×H×W → mean and logarithm of the variance, N×2·latent×h×w."""

    def __init__(self, plan: MagePlan) -> None:
        super().__init__()
        width = plan.width
        self.conv_in = nn.Conv2d(3, plan.head_width, plan.patch, stride=plan.patch)
        self.heads = nn.ModuleList(
            ConvBlock(plan.head_width, timed=False) for _ in range(plan.head_blocks)
        )
        self.reduce = nn.Conv2d(plan.head_width, width, 1)
        self.start = nn.Parameter(torch.zeros(width))
        self.fuse = nn.Conv2d(2 * width, width, 1)
        self.time = TimeEmbedding(TIME_VALUES, width)
        self.blocks = nn.ModuleList(ConvBlock(width, timed=True) for _ in range(plan.blocks))
        self.norm_out = ChannelNorm(width)
        self.conv_out = nn.Conv2d(width, 2 * plan.latent, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, time = self.conv_in(images), self.time(torch.zeros(1))
        for block in self.heads:
            x = block(x, time)
        x = self.reduce(x)
        x = self.fuse(torch.cat([x, self.start[:, None, None].expand_as(x)], dim=1))
        for block in self.blocks:
            x = block(x, time)
        out: Tensor = self.conv_out(self.norm_out(x))
        return out


class PixelBlock(nn.Module):
    """A perceptron over each pixel, modulated by what its patch says of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        layers = nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        self.mlp, self.modulation = nn.Sequential(*layers), nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(functional.silu(told)).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)
        return out


class MageDecoder(nn.Module):
    """Latents N×latent×h×w → images N×3×H×W."""

    def __init__(self, plan: MagePlan) -> None:
        super().__init__()
        self.plan, width, inner = plan, plan.width, plan.pixel_width
        conv = ConvPlan(multipliers=(1,), latent=plan.latent)
        self.conv_in = nn.Conv2d(plan.latent, width, 3, padding=1)
        middle: list[nn.Module] = [ResidualBlock(width, width, conv)]
        for _ in range(2):
            middle += [WindowAttention(width, fused=False), ResidualBlock(width, width, conv)]
        self.middle, self.norm_out = nn.Sequential(*middle), make_norm(width)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        self.time = TimeEmbedding(TIME_VALUES, width)
        self.fuse = nn.Conv2d(plan.latent + width, width, 1)
        self.blocks = nn.ModuleList(
            ConvBlock(width, timed=True) for _ in range(plan.decoder_blocks)
        )
        self.pixels = nn.Conv2d(width, inner * plan.patch**2, 1)
        self.pixel_in = nn.Linear(3 + inner + FREQUENCIES**2, inner)
        self.told = nn.Linear(width, inner * plan.patch**2)
        self.pixel_first = nn.Linear(inner, inner)
        self.pixel_blocks = nn.ModuleList(PixelBlock(inner) for _ in range(plan.pixel_blocks))
        self.pixel_norm = nn.RMSNorm(inner, eps=EPSILON)
        self.pixel_out = nn.Linear(inner, 3)

    def forward(self, latents: Tensor) -> Tensor:
        cond = self.middle(self.conv_in(latents))
        cond = self.conv_out(functional.silu(self.norm_out(cond)))
        time = self.time(torch.zeros(1))
        # The picture that it starts from is zero, and so is what its patches give.
        x = self.fuse(torch.cat([torch.zeros_like(latents), cond], dim=1))
        for block in self.blocks:
            x = block(x, time)
        told = self.told(x.flatten(2).mT).unflatten(2, (self.plan.patch**2, -1))
        planes = self.pixels(cond).flatten(2).unflatten(1, (-1, self.plan.patch**2))
        inputs = functional.pad(planes.permute(0, 3, 2, 1), (3, 0))
        places = place_pixels(self.plan.patch).to(inputs).expand(*inputs.shape[:3], -1)
        pixels = self.pixel_first(self.pixel_in(torch.cat([inputs, places], dim=-1)))
        for block in self.pixel_blocks:
            pixels = block(pixels, told)
        patches = self.pixel_out(self.pixel_norm(pixels)).mT.flatten(2)
        return join_patches(patches, (x.shape[2], x.shape[3]))


def place_pixels(side: int) -> Tensor:
    """Return the float32 cosines side²×64 of each pixel's place in its patch, row by row, of eight
    frequencies from 0 to 8 across and down, those of high ones smaller."""
    places, rates = torch.linspace(0, 1, side), torch.linspace(0, FREQUENCIES, FREQUENCIES)
    waves = (places[:, None] * rates * torch.pi).cos()
    products = waves[None, :, :, None] * waves[:, None, None, :]
    return (products / (1 + rates[:, None] * rates)).flatten(2).flatten(0, 1)


class MageNetwork(Autoencoder):
    """encoder, decoder."""

    def __init__(self, plan: MagePlan) -> None:
        super().__init__()
        self.encoder, self.decoder = MageEncoder(plan), MageDecoder(plan)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return the posterior's mean N×latent×h×w."""
        return self.compute_moments(images)[0]

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, each N×latent×h×w."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(*BOUNDS)

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of latents."""
        assert isinstance(code, Tensor)
        images: Tensor = self.decoder(code.to(self.encoder.start.dtype))
        return images


class MageVae(NetworkTokenizer[MagePlan]):
    """One Mage-VAE. Its file also has what multiplies the noise, which is zero, and the encoder that it
    was trained beside."""

    PLAN = MagePlan
    OTHERS = (
        r"student\.dconv_encoder\.z_proj\.weight$|pipeline\.s_embedder\.proj1\.|"
        r"pipeline\.y_embedder\.(encoder|bottleneck)\."
    )
    NAMES: ClassVar[Names] = (
        (r"^encoder\.", "student.dconv_encoder."),
        (r"encoder\.conv_in\.", "encoder.patch_cond_embed."),
        (r"\.heads\.", ".head_blocks."),
        (r"\.reduce\.", ".proj_down."),
        (r"\.start$", ".z_proj.bias"),
        (r"encoder\.fuse\.", "encoder.fuse_proj."),
        (r"encoder\.conv_out\.", "encoder.proj_out."),
        (r"^decoder\.(conv_in|norm_out|conv_out)\.", r"pipeline.y_embedder.decoder.\1."),
        (r"^decoder\.middle\.", "pipeline.y_embedder.decoder.block."),
        (r"\.projections\.", "."),
        (r"^(pipeline\..*block\.\d)\.out\.", r"\1.proj_out."),
        (r"^decoder\.fuse\.", "pipeline.s_embedder.proj2."),
        (r"^decoder\.pixels\.", "pipeline.y_embedder_x."),
        (r"^decoder\.pixel_in\.", "pipeline.x_embedder.embedder.0."),
        (r"^decoder\.told\.", "pipeline.dec_net.cond_embed."),
        (r"^decoder\.pixel_first\.", "pipeline.dec_net.input_proj."),
        (r"^decoder\.pixel_blocks\.(\d+)\.norm\.", r"pipeline.dec_net.res_blocks.\1.in_ln."),
        (r"^decoder\.pixel_blocks\.", "pipeline.dec_net.res_blocks."),
        (r"^decoder\.pixel_norm\.", "pipeline.final_layer.norm."),
        (r"^decoder\.pixel_out\.", "pipeline.final_layer.linear."),
        (r"^decoder\.", "pipeline."),
        (r"\.time\.", ".t_embedder.mlp."),
        (r"\.gate\.", ".ca.1."),
        (r"\.modulation\.", ".adaLN_modulation.1."),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: MagePlan) -> MageNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_latents(spec, downsample=plan.patch, latent=plan.latent)
        return MageNetwork(plan)
