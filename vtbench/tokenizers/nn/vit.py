"""The vision transformer of tokenizers, on any number of tokens.

Blocks are those of the Vision Transformer (https://arxiv.org/abs/2010.11929): layer norm, attention,
layer norm, multilayer perceptron, each pair added to its input. Whole tokenizers stand on them:
ViT-VQGAN and BSQ-ViT with a token for each patch, TiTok (https://arxiv.org/abs/2406.07550) with
further tokens that are all the decoder gets. `VitPlan` says what differs from one to the next; how
patches, positions and extra tokens come together is a family's own.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from vtbench.base.schema import Strict
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import rotate

INITIAL = 0.02
"""Deviation of random positions and tokens, as everywhere in the official code."""


class VitPlan(Strict):
    """What distinguishes one transformer from another.

    Attributes:
        width: Of a token.
        depth: The number of blocks.
        heads: Of the attention, each width/heads wide.
        ratio: The hidden width of the perceptron over the width.
        hidden: That width itself, in place of `ratio`.
        norm: Layer norm, or root mean square norm (https://arxiv.org/abs/1910.07467).
        epsilon: Of every norm.
        affine: Whether norms have a learned scale (and shift).
        bias: Of query, key and value; "keyless" for all but the key.
        apart: Whether query, key and value have a layer each.
        plain: Whether the other linear layers have no bias.
        inner: Whether norms stand before the last layer of attention and of SwiGLU (EVA-02,
            https://arxiv.org/abs/2303.11331).
        qk_norm: Norms of queries and keys over each head. The heads share its scale, or each has
            its own (`HeadNorm`).
        gelu: Exact, by tanh, or by a logistic function (quick); None for SiLU in its place.
        gated: Whether the perceptron is a SwiGLU (https://arxiv.org/abs/2002.05202), or with `gate`
            a GEGLU. Gate and value come from two layers (apart), or from one layer that gives the
            gate first or last.
        gate: See `gated`.
        mlp_norm: Whether a gated perceptron has a norm of its own before it.
        halves: Whether rotary positions turn channels i and i + D/2 of a head together, not
            neighbours.
        parallel: Whether attention and perceptron both see the block's one norm.
        scale: The value at which a learned factor of each branch's channels starts; None for no
            such factors.
        norm_in: Whether a norm stands before the first block, as in CLIP.
        norm_out: Whether one stands after the last.
    """

    width: Count
    depth: Count
    heads: Count
    ratio: Annotated[float, Field(gt=0)] = 4.0
    hidden: Count | None = None
    norm: Literal["layer", "rms"] = "layer"
    epsilon: Annotated[float, Field(gt=0)] = 1e-5
    affine: bool = True
    bias: bool | Literal["keyless"] = True
    apart: bool = False
    plain: bool = False
    inner: bool = False
    qk_norm: bool | Literal["heads"] = False
    gelu: Literal["exact", "tanh", "quick"] | None = "exact"
    gated: Literal["apart", "first", "last"] | None = None
    gate: Literal["silu", "gelu"] = "silu"
    mlp_norm: bool = False
    halves: bool = False
    parallel: bool = False
    scale: float | None = None
    norm_in: bool = True
    norm_out: bool = True

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> VitPlan:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads cannot share a width of {self.width}")
        if self.bias == "keyless" and not self.apart:
            raise ValueError("bias: keyless needs apart: true")
        if self.inner and self.gated is None:
            raise ValueError("inner needs gated")
        return self


def make_norm(plan: VitPlan, width: int) -> nn.Module:
    """Return the plan's norm of vectors of the width."""
    kind = nn.RMSNorm if plan.norm == "rms" else nn.LayerNorm
    return kind(width, eps=plan.epsilon, elementwise_affine=plan.affine)


class HeadNorm(nn.Module):
    """Vectors N×heads×L×D scaled to the length √D, times a learned factor for each head and channel."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        unit = functional.normalize(x.float(), dim=-1)
        return (unit * self.gamma[:, None] * math.sqrt(x.shape[-1])).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of tokens N×L×width to themselves, or to the keys `key` with the values
    `value`, both N×M×width."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.heads, self.apart, self.halves = plan.heads, plan.apart, plan.halves
        if plan.apart:
            biases = (bool(plan.bias), plan.bias is True, bool(plan.bias))
            layers = (nn.Linear(plan.width, plan.width, bias=bias) for bias in biases)
            self.q, self.k, self.v = layers
        else:
            self.qkv = nn.Linear(plan.width, 3 * plan.width, bias=bool(plan.bias))
        self.norm_out = make_norm(plan, plan.width) if plan.inner else None
        self.out = nn.Linear(plan.width, plan.width, bias=not plan.plain)
        self.q_norm = self.k_norm = None
        if plan.qk_norm:
            head = plan.width // plan.heads
            self.q_norm, self.k_norm = (
                HeadNorm(plan.heads, head) if plan.qk_norm == "heads" else make_norm(plan, head)
                for _ in range(2)
            )

    def forward(
        self,
        x: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        rotations: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return N×L×width. rotations: of the tokens (`diffusion.rotate`), and not of a `key`; mask:
        true where a token (row) sees another (column), None for everywhere."""
        parts: tuple[Tensor, ...]
        if self.apart:
            parts = (
                self.q(x),
                self.k(x if key is None else key),
                self.v(x if value is None else value),
            )
        elif key is None or value is None:
            parts = self.qkv(x).chunk(3, dim=-1)
        else:
            weights = self.qkv.weight.chunk(3)
            biases = (None,) * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)
            parts = tuple(map(functional.linear, (x, key, value), weights, biases))
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotations is not None:
            q = rotate(q, rotations, halves=self.halves)
            k = rotate(k, rotations, halves=self.halves) if key is None else k
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        out: Tensor = self.out(mixed if self.norm_out is None else self.norm_out(mixed))
        return out


class GatedMlp(nn.Module):
    """SwiGLU: SiLU (or GELU) of the gate times the value, and a linear map of it back to the width."""

    def __init__(self, plan: VitPlan, hidden: int) -> None:
        super().__init__()
        bias, self.last = not plan.plain, plan.gated == "last"
        self.activate = make_activation(plan.gelu if plan.gate == "gelu" else None)
        self.norm_in = make_norm(plan, plan.width) if plan.mlp_norm else None
        self.gate = self.value = self.both = None
        if plan.gated == "apart":
            self.gate = nn.Linear(plan.width, hidden, bias=bias)
            self.value = nn.Linear(plan.width, hidden, bias=bias)
        else:
            self.both = nn.Linear(plan.width, 2 * hidden, bias=bias)
        self.norm_out = make_norm(plan, hidden) if plan.inner else None
        self.out = nn.Linear(hidden, plan.width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_in is not None:
            x = self.norm_in(x)
        if self.gate is not None and self.value is not None:
            gate, value = self.gate(x), self.value(x)
        else:
            assert self.both is not None
            gate, value = self.both(x).chunk(2, dim=-1)
            gate, value = (value, gate) if self.last else (gate, value)
        h = self.activate(gate) * value
        out: Tensor = self.out(h if self.norm_out is None else self.norm_out(h))
        return out


class QuickGelu(nn.Module):
    """x · σ(1.702 x), OpenAI's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def make_activation(gelu: str | None) -> nn.Module:
    """Return what `VitPlan.gelu` says."""
    if gelu is None:
        return nn.SiLU()
    return QuickGelu() if gelu == "quick" else nn.GELU("tanh" if gelu == "tanh" else "none")


def make_mlp(plan: VitPlan) -> nn.Module:
    """Return the perceptron of one hidden layer."""
    hidden = plan.hidden or int(plan.width * plan.ratio)
    if plan.gated is not None:
        return GatedMlp(plan, hidden)
    bias, activation = not plan.plain, make_activation(plan.gelu)
    first, second = (plan.width, hidden), (hidden, plan.width)
    return nn.Sequential(nn.Linear(*first, bias=bias), activation, nn.Linear(*second, bias=bias))


class Block(nn.Module):
    """Attention and perceptron, each after a norm and added to its input, or both after one norm and
    added together."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.norm1 = make_norm(plan, plan.width)
        self.attention = Attention(plan)
        self.norm2 = None if plan.parallel else make_norm(plan, plan.width)
        self.mlp = make_mlp(plan)
        self.scale1 = self.scale2 = None
        if plan.scale is not None:
            self.scale1 = nn.Parameter(torch.full((plan.width,), plan.scale))
            if not plan.parallel:
                self.scale2 = nn.Parameter(torch.full((plan.width,), plan.scale))

    def forward(
        self, x: Tensor, *, rotations: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return N×L×width; for rotations and mask see `Attention`."""
        h = self.norm1(x)
        added: Tensor = self.attention(h, rotations=rotations, mask=mask)
        if self.norm2 is None:
            added = added + self.mlp(h)
        x = x + (added if self.scale1 is None else added * self.scale1)
        if self.norm2 is None:
            return x
        added = self.mlp(self.norm2(x))
        return x + (added if self.scale2 is None else added * self.scale2)


class QueryBlock(nn.Module):
    """DETR's decoder layer (https://arxiv.org/abs/2005.12872): queries N×L×width attend to each
    other, then to a memory N×M×width, and go through a perceptron, each after a norm and added to
    its input. Positions are added where tokens are compared, and not to what they answer."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (make_norm(plan, plan.width) for _ in range(3))
        self.attention, self.cross = Attention(plan), Attention(plan)
        self.mlp = make_mlp(plan)

    def forward(self, x: Tensor, memory: Tensor, places: Tensor, memory_places: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h + places, h + places, h)
        x = x + self.cross(self.norm2(x) + places, memory + memory_places, memory)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


class Transformer(nn.Module):
    """Norm, blocks, norm (where the plan has them): tokens N×L×width → N×L×width, for any L."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.norm_in = make_norm(plan, plan.width) if plan.norm_in else None
        self.layers = nn.ModuleList(Block(plan) for _ in range(plan.depth))
        self.norm_out = make_norm(plan, plan.width) if plan.norm_out else None

    def forward(
        self, tokens: Tensor, *, rotations: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return N×L×width; for rotations and mask see `Attention`."""
        x = tokens if self.norm_in is None else self.norm_in(tokens)
        for layer in self.layers:
            x = layer(x, rotations=rotations, mask=mask)
        return x if self.norm_out is None else self.norm_out(x)


class PatchEmbedding(nn.Module):
    """One linear map of each patch: images N×channels×H×W → tokens N×(H/side·W/side)×width, row by row.

    flat: the weight is a matrix, width×(channels·side²); else it has the shape of a convolution's.
    channels_last: of `split_patches`, where it is a matrix. frames: a patch goes through so many
    frames of a video, of which the images are the first, and the others are zero.
    """

    def __init__(
        self,
        side: int,
        width: int,
        *,
        flat: bool = False,
        bias: bool = True,
        channels: int = 3,
        channels_last: bool = False,
        frames: int = 1,
    ) -> None:
        super().__init__()
        made = (
            nn.Linear(frames * channels * side**2, width, bias=bias)
            if flat
            else nn.Conv2d(channels, width, side, bias=bias)
        )
        self.side, self.weight, self.bias = side, made.weight, made.bias
        self.channels_last, self.frames = channels_last, frames

    def forward(self, images: Tensor) -> Tensor:
        patches = split_patches(images, self.side, channels_last=self.channels_last)
        first = self.weight.flatten(1).chunk(self.frames, dim=1)[0]
        return functional.linear(patches, first, self.bias)


class Pointwise(nn.Module):
    """A linear map of tokens N×L×before → N×L×after whose weight has the shape of a 1×1 convolution's,
    or (flat) of a linear layer's."""

    def __init__(self, before: int, after: int, *, flat: bool = False, bias: bool = True) -> None:
        super().__init__()
        made = nn.Linear(before, after, bias) if flat else nn.Conv2d(before, after, 1, bias=bias)
        self.weight, self.bias = made.weight, made.bias

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.flatten(1), self.bias)


def split_patches(images: Tensor, side: int, *, channels_last: bool = False) -> Tensor:
    """Return the patches of images N×C×H×W, N×(H/side·W/side)×(C·side²), row by row; a patch has all
    pixels of one channel after the other, or (channels_last) all channels of one pixel."""
    patches = functional.pixel_unshuffle(images, side).flatten(2).mT
    if not channels_last:
        return patches
    return patches.reshape(*patches.shape[:2], images.shape[1], -1).mT.flatten(2)


def join_patches(
    patches: Tensor, grid: tuple[int, int], *, channels: int = 3, channels_last: bool = False
) -> Tensor:
    """Return the images N×channels×H×W whose patches, rows × columns of them, are
    N×L×(channels·side²).

    channels_last: a patch has all channels of one pixel after the other (MAE, TiTok), and not all
    pixels of one channel as `split_patches` gives them.
    """
    n, _, values = patches.shape
    if channels_last:
        patches = patches.reshape(n, -1, values // channels, channels).mT.flatten(2)
    planes = patches.mT.reshape(n, values, *grid)
    return functional.pixel_shuffle(planes, math.isqrt(values // channels))


def make_tokens(*shape: int) -> nn.Parameter:
    """Return learned vectors, …×width: positions, or tokens that come from no patch."""
    return nn.Parameter(torch.randn(shape) * INITIAL)


def resample_places(
    places: Tensor, before: tuple[int, int], after: tuple[int, int], mode: str
) -> Tensor:
    """Return learned positions …×L×width, row by row of the grid `before`, on the grid `after`: by
    "bilinear" or "bicubic" interpolation in float32, over a wider area where there are fewer (timm's
    resample_abs_pos_embed)."""
    if before == after:
        return places
    planes = places.float().mT.reshape(-1, places.shape[-1], *before)
    # In the other layout torch 2.14 gives all rows of a grid of one column the first one's values.
    planes = planes.clone(memory_format=torch.channels_last)
    resampled: Tensor = functional.interpolate(planes, after, mode=mode, antialias=True)
    return (
        resampled.flatten(2).mT.to(places.dtype).reshape(*places.shape[:-2], -1, places.shape[-1])
    )


def compute_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Return the float32 sine and cosine positions (rows·columns)×width of a grid, as MAE has them
    (https://arxiv.org/abs/2111.06377): half of the channels for the column, half for the row, of
    each a quarter's sines and then its cosines, wavelengths from 2π to 2π·10⁴. width: a multiple
    of 4."""
    rates = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * rates for n in grid)
    row, column = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (rows, columns))
    both = torch.cat([column.expand(grid[0], -1, -1), row[:, None].expand(-1, grid[1], -1)], dim=-1)
    return both.flatten(0, 1).float()
