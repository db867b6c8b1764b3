"""The convolutional autoencoder of VQGAN and latent diffusion, and its two branches.

Published by Esser et al. 2021 (https://arxiv.org/abs/2012.09841, CompVis/taming-transformers) and
since then the body of most tokenizers: residual blocks of group norm, swish and 3×3 convolution on
levels that halve the resolution, self-attention on some of them. `ConvPlan` says what differs from
one to the next; MaskGIT's branch (google-research/maskgit) has no attention and no biases, MAGVIT-2's
(https://arxiv.org/abs/2310.05737, as TencentARC/SEED-Voken rebuilt it) also a decoder whose levels
are modulated by the code. Level 0 has the full resolution, in the encoder and in the decoder.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from vtbench.base.schema import Strict

Count = Annotated[int, Field(ge=1)]

GROUPS, EPSILON = 32, 1e-6
"""Of every group norm, in all of the official code."""


class ConvPlan(Strict):
    """What distinguishes one convolutional autoencoder from another.

    Attributes:
        channels: Of level 0.
        multipliers: Of `channels`, one a level.
        steps: How often the resolution is halved: after the first levels of the encoder, and the
            last of the decoder. By default n levels halve it n − 1 times.
        haar: Wavelet transforms before the encoder; each is a halving too.
        latent: Channels that the decoder takes.
        width: Of the code's vectors, where convolutions stand between them and encoder and decoder.
        moments: Whether the encoder gives mean and log variance, twice as many channels.
        blocks: On a level of the encoder, one number or one a level. The decoder has
            `decoder_extra` more.
        decoder_blocks: On each level of the decoder, where `blocks` has one number a level.
        decoder_multipliers: The decoder's, where they differ.
        attention: Levels of the encoder whose blocks are each followed by attention.
        decoder_attention: The same of the decoder, where it differs.
        middle: Blocks (b) and attentions (a) at the bottom, in order.
        fused: Whether query, key and value come from one convolution.
        bias: Whether the residual blocks and the first convolution have biases.
        head: The kernel of the encoder's last convolution.
        shortcut: What the 1×1 convolution takes where a block changes its width: the block's input,
            or (MaskGIT) its output.
        down: A convolution of stride 2, padded right and below only or all round; or a mean of 2×2.
        up: Nearest pixels and a convolution, or a convolution and depth to space.
        adaptive: Whether each level of the decoder starts with a norm that the code's mean and
            deviation modulate.
        norm: "none" leaves out every group norm but those of attention. Small networks that vtbench
            trains learn several times faster so.
    """

    channels: Count = 128
    multipliers: tuple[Count, ...]
    latent: Count
    width: Count | None = None
    moments: bool = False
    blocks: Count | tuple[Count, ...] = 2
    decoder_extra: Literal[0, 1] = 1
    decoder_blocks: tuple[Count, ...] | None = None
    decoder_multipliers: tuple[Count, ...] | None = None
    attention: tuple[int, ...] = ()
    decoder_attention: tuple[int, ...] | None = None
    middle: Annotated[str, Field(pattern=r"^[ba]+$")] = "bab"
    fused: bool = False
    bias: bool = True
    head: Literal[1, 3] = 3
    shortcut: Literal["input", "output"] = "input"
    down: Literal["corner", "around", "mean"] = "corner"
    up: Literal["nearest", "depth"] = "nearest"
    adaptive: bool = False
    norm: Literal["group", "none"] = "group"
    steps: Annotated[int, Field(ge=0)] | None = None
    haar: Annotated[int, Field(ge=0)] = 0

    @property
    def halvings(self) -> int:
        """How often levels halve the resolution."""
        return len(self.multipliers) - 1 if self.steps is None else self.steps

    @model_validator(mode="after")
    def _levels_agree(self) -> ConvPlan:
        levels = len(self.multipliers)
        for key in ("blocks", "decoder_blocks", "decoder_multipliers"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != levels:
                raise ValueError(f"{key} has {len(value)} levels, multipliers {levels}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level of the encoder."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels of each level of the decoder."""
        multipliers = self.decoder_multipliers or self.multipliers
        return tuple(self.channels * multiplier for multiplier in multipliers)

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks of each level of the encoder."""
        blocks = self.blocks
        return blocks if isinstance(blocks, tuple) else (blocks,) * len(self.multipliers)

    @property
    def decoder_counts(self) -> tuple[int, ...]:
        """Blocks of each level of the decoder."""
        if self.decoder_blocks is not None:
            return self.decoder_blocks
        return tuple(count + self.decoder_extra for count in self.counts)

    @property
    def downsample(self) -> int:
        """The factor between image and code grid."""
        return 1 << (self.halvings + self.haar)


def make_norm(channels: int, norm: str = "group") -> nn.Module:
    """Return what precedes every convolution and attention, as `ConvPlan.norm` says."""
    return nn.Identity() if norm == "none" else nn.GroupNorm(GROUPS, channels, eps=EPSILON)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of N×C×h×w."""

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__(channels, eps=EPSILON, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """norm, swish, 3×3; again; plus the input: N×a×h×w → N×b×h×w."""

    def __init__(self, before: int, after: int, plan: ConvPlan) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(before, plan.norm), make_norm(after, plan.norm)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=plan.bias)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=plan.bias)
        self.of_output = plan.shortcut == "output"
        self.shortcut = None
        if before != after:
            self.shortcut = nn.Conv2d(after if self.of_output else before, after, 1, bias=plan.bias)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        residual: Tensor = x
        if self.shortcut is not None:
            residual = self.shortcut(h if self.of_output else x)
        return residual + h


class SpatialAttention(nn.Module):
    """One head over all positions, added to the input: N×c×h×w → N×c×h×w."""

    def __init__(self, channels: int, *, fused: bool = False) -> None:
        super().__init__()
        self.norm = make_norm(channels)
        names = ("qkv",) if fused else ("q", "k", "v")
        self.projections = nn.ModuleDict(
            {name: nn.Conv2d(channels, channels * 3 // len(names), 1) for name in names}
        )
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        projected = torch.cat([conv(h) for conv in self.projections.values()], dim=1)
        # N×1×positions×channels, so that a fused kernel need not hold positions² weights.
        q, k, v = (t.flatten(2).mT[:, None].contiguous() for t in projected.chunk(3, dim=1))
        mixed: Tensor = functional.scaled_dot_product_attention(q, k, v)[:, 0].mT
        out: Tensor = self.out(mixed.reshape(x.shape))
        return x + out


class Shrink(nn.Module):
    """Half the resolution, as `ConvPlan.down` says."""

    def __init__(self, channels: int, method: str) -> None:
        super().__init__()
        self.method = method
        self.conv = None if method == "mean" else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return functional.avg_pool2d(x, 2)
        before = 0 if self.method == "corner" else 1
        shrunk: Tensor = self.conv(functional.pad(x, (before, 1, before, 1)))
        return shrunk


class Enlarge(nn.Module):
    """Twice the resolution, as `ConvPlan.up` says."""

    def __init__(self, channels: int, method: str) -> None:
        super().__init__()
        self.factor = 4 if method == "depth" else 1
        self.conv = nn.Conv2d(channels, self.factor * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.factor == 1:
            h: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            return h
        # Depth to space as TensorFlow orders it: the place within 2×2 varies slowest, where
        # torch.pixel_shuffle has it vary fastest.
        h = self.conv(x).unflatten(1, (self.factor, -1)).transpose(1, 2).flatten(1, 2)
        return functional.pixel_shuffle(h, 2)


class AdaptiveNorm(nn.Module):
    """Group norm without parameters, scaled and shifted per image by linear functions of the
    deviation and the mean of the code over its positions (unbiased variance plus epsilon)."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=EPSILON, affine=False)
        self.scale, self.shift = nn.Linear(latent, channels), nn.Linear(latent, channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        positions = code.flatten(2)
        scale = self.scale((positions.var(dim=-1) + EPSILON).sqrt())
        shift = self.shift(positions.mean(dim=-1))
        scaled: Tensor = scale[..., None, None] * self.norm(x) + shift[..., None, None]
        return scaled


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where the plan has it there, and the
    way to the next one (`resample`, None at the end)."""

    def __init__(self, widths: list[int], plan: ConvPlan, *, attends: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(a, b, plan) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(
            SpatialAttention(width, fused=plan.fused) for width in widths[1:] if attends
        )
        self.modulation: AdaptiveNorm | None = None
        self.resample: Shrink | Enlarge | None = None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        if self.modulation is not None and code is not None:
            x = self.modulation(x, code)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[index](x)
        return x if self.resample is None else self.resample(x)


def make_middle(width: int, plan: ConvPlan) -> nn.Sequential:
    """Return the blocks and attentions at the lowest resolution: block0, attention0, block1, ..."""
    middle = nn.Sequential()
    for index, kind in enumerate(plan.middle):
        number = plan.middle[:index].count(kind)
        if kind == "b":
            middle.add_module(f"block{number}", ResidualBlock(width, width, plan))
        else:
            middle.add_module(f"attention{number}", SpatialAttention(width, fused=plan.fused))
    return middle


def split_bands(x: Tensor) -> Tensor:
    """Return one level of the Haar transform, N×c×H×W → N×4c×H/2×W/2: mean, then half differences of
    rows, of columns and of both; all channels of one band after the other."""
    top, bottom = x[..., 0::2, :], x[..., 1::2, :]
    rows = (top + bottom, top - bottom)
    low = [part[..., 0::2] + part[..., 1::2] for part in rows]
    high = [part[..., 0::2] - part[..., 1::2] for part in rows]
    return torch.cat([*low, *high], dim=1) / 4


def join_bands(x: Tensor) -> Tensor:
    """Return the N×c×H×W that `split_bands` split."""
    mean, rows, columns, both = x.chunk(4, dim=1)
    left = torch.stack([mean + rows + columns + both, mean - rows + columns - both], dim=-2)
    right = torch.stack([mean + rows - columns - both, mean - rows - columns + both], dim=-2)
    return torch.stack([left.flatten(-3, -2), right.flatten(-3, -2)], dim=-1).flatten(-2)


class Encoder(nn.Module):
    """Images N×3×H×W → N×latent×H/f×W/f (2·latent with moments). H and W are multiples of f."""

    def __init__(self, plan: ConvPlan) -> None:
        super().__init__()
        widths = plan.widths
        self.haar = plan.haar
        self.conv_in = nn.Conv2d(3 * 4**plan.haar, plan.channels, 3, padding=1, bias=plan.bias)
        self.levels = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[index - 1] if index else plan.channels
            sizes = [before] + [width] * plan.counts[index]
            level = Level(sizes, plan, attends=index in plan.attention)
            if index < plan.halvings:
                level.resample = Shrink(width, plan.down)
            self.levels.append(level)
        self.middle = make_middle(widths[-1], plan)
        self.norm_out = make_norm(widths[-1], plan.norm)
        out = plan.latent * (2 if plan.moments else 1)
        self.conv_out = nn.Conv2d(widths[-1], out, plan.head, padding=plan.head // 2)

    def extract(self, images: Tensor) -> Tensor:
        """Return what comes out of the middle, N×widths[-1]×H/f×W/f."""
        for _ in range(self.haar):
            images = split_bands(images)
        h = self.conv_in(images)
        for level in self.levels:
            h = level(h)
        middle: Tensor = self.middle(h)
        return middle

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.conv_out(functional.silu(self.norm_out(self.extract(images))))
        return out


class Decoder(nn.Module):
    """Codes N×latent×h×w → images N×3×h·f×w·f."""

    def __init__(self, plan: ConvPlan) -> None:
        super().__init__()
        widths, counts = plan.decoder_widths, plan.decoder_counts
        attention = plan.attention if plan.decoder_attention is None else plan.decoder_attention
        self.conv_in = nn.Conv2d(plan.latent, widths[-1], 3, padding=1)
        self.middle = make_middle(widths[-1], plan)
        self.levels = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[min(index + 1, len(widths) - 1)]
            level = Level([before] + [width] * counts[index], plan, attends=index in attention)
            if plan.adaptive:
                level.modulation = AdaptiveNorm(plan.latent, before)
            if index >= len(widths) - plan.halvings:
                level.resample = Enlarge(width, plan.up)
            self.levels.append(level)
        self.norm_out = make_norm(widths[0], plan.norm)
        self.haar = plan.haar
        self.conv_out = nn.Conv2d(widths[0], 3 * 4**plan.haar, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        h = self.middle(self.conv_in(code))
        for level in reversed(self.levels):
            h = level(h, code)
        out: Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        for _ in range(self.haar):
            out = join_bands(out)
        return out
