"""The vision transformer behind DINOv2, CLIP and SigLIP features, in the key names of DINOv2's
checkpoints.

Pre-norm blocks after Dosovitskiy et al. (ICLR 2021); DINOv2 scales each residual branch, CLIP
normalizes before the first block, has a quick GELU and projects the class token; SigLIP has no class
token: one learned query attends to the patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """A transformer's sizes. grid: patches a side of its position table. projection: width of the
    class token's projection, 0 for none. hidden: width inside its MLPs, 0 for four times its own."""

    patch: int
    grid: int
    width: int
    depth: int
    heads: int
    eps: float
    layer_scale: bool = False
    clip: bool = False
    siglip: bool = False
    projection: int = 0
    hidden: int = 0


DINOV2_L14 = Shape(14, 37, 1024, 24, 16, 1e-6, layer_scale=True)
"""Oquab et al., TMLR 2024: dinov2_vitl14, without registers."""

CLIP_L14_336 = Shape(14, 24, 1024, 24, 16, 1e-5, clip=True, projection=768)
"""Radford et al., ICML 2021: ViT-L/14@336px."""

SIGLIP_SO400M_14_384 = Shape(14, 27, 1152, 27, 16, 1e-6, siglip=True, hidden=4304)
"""Zhai et al., ICCV 2023: the shape-optimized ViT at 384 px, 27 patches of 14 a side."""


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, width))
        return projected


class _Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.clip = shape.clip
        self.approximate = "tanh" if shape.siglip else "none"
        hidden = shape.hidden or 4 * shape.width
        self.fc1 = nn.Linear(shape.width, hidden)
        self.fc2 = nn.Linear(hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        if self.clip:
            x = x * torch.sigmoid(1.702 * x)
        else:
            x = functional.gelu(x, approximate=self.approximate)
        out: Tensor = self.fc2(x)
        return out


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, shape.eps)
        self.attn = _Attention(shape)
        self.norm2 = nn.LayerNorm(shape.width, shape.eps)
        self.mlp = _Mlp(shape)
        self.ls1 = _Scale(shape.width) if shape.layer_scale else nn.Identity()
        self.ls2 = _Scale(shape.width) if shape.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class _PatchEmbed(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch, shape.patch, bias=not shape.clip)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return patches


class _Pooling(nn.Module):
    """A learned query attends to all tokens; an MLP is added: N×L×width → N×width."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, shape.width))
        self.attention = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.norm = nn.LayerNorm(shape.width, shape.eps)
        self.mlp = _Mlp(shape)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.attention(self.probe.expand(len(x), -1, -1), x, x, need_weights=False)[0]
        out: Tensor = (pooled + self.mlp(self.norm(pooled)))[:, 0]
        return out


class VisionTransformer(nn.Module):
    """Normalized N×3×S×S → the class token, N×width (N×projection), or SigLIP's pooled tokens. S is
    a multiple of the patch, or has the position table's number of patches."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        classes = 0 if shape.siglip else 1
        if classes:
            self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.empty(1, classes + shape.grid**2, shape.width))
        self.patch_embed = _PatchEmbed(shape)
        self.norm_pre = nn.LayerNorm(shape.width, shape.eps) if shape.clip else nn.Identity()
        self.blocks = nn.Sequential(*(_Block(shape) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(shape.width, shape.eps)
        self.head: nn.Module = nn.Identity()
        if shape.siglip:
            self.head = _Pooling(shape)
        elif shape.projection:
            self.head = nn.Linear(shape.width, shape.projection, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of normalized images, N×3×H×W."""
        patches = self.patch_embed(x)
        if self.shape.siglip:
            pooled: Tensor = self.head(self.norm(self.blocks(patches + self.pos_embed)))
            return pooled
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        tokens = tokens + resize_positions(self.pos_embed, x.shape[-1] // self.shape.patch)
        classes = self.norm(self.blocks(self.norm_pre(tokens))[:, 0])
        out: Tensor = self.head(classes)
        return out


def resize_positions(table: Tensor, grid: int) -> Tensor:
    """Return the position table (1×(1+g²)×width, class first) for a grid of another side.

    As DINOv2's own code does it: bicubic without antialiasing, at a scale of (grid + 0.1) / g. The
    0.1 kept the size from being rounded down, and became part of the features.
    """
    side = math.isqrt(table.shape[1] - 1)
    if grid == side:
        return table
    patches = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (grid + 0.1) / side
    patches = functional.interpolate(patches, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], dim=1)


_NOT_VISION = (
    "text_model.",
    "text_projection.",
    "logit_scale",
    "logit_bias",
    "vision_model.embeddings.position_ids",
)
"""Parts of a CLIP or SigLIP checkpoint that image features do not use."""


def rename_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the vision half of a transformers CLIP or SigLIP checkpoint under this module's names;
    what is not known stays as it is, for the strict loading to refuse."""
    renamed: dict[str, Tensor] = {}
    heads = {
        "vision_model.embeddings.class_embedding": "cls_token",
        "vision_model.embeddings.patch_embedding.": "patch_embed.proj.",
        "vision_model.embeddings.position_embedding.weight": "pos_embed",
        "vision_model.pre_layrnorm.": "norm_pre.",
        "vision_model.post_layernorm.": "norm.",
        "visual_projection.": "head.",
        "vision_model.head.layernorm.": "head.norm.",
        "vision_model.head.": "head.",
        "vision_model.encoder.layers.": "blocks.",
    }
    inner = {
        ".layer_norm1.": ".norm1.",
        ".layer_norm2.": ".norm2.",
        ".self_attn.out_proj.": ".attn.proj.",
    }
    for key, value in state.items():
        if key.startswith(_NOT_VISION):
            continue
        name = key
        for old, new in heads.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
        for old, new in inner.items():
            name = name.replace(old, new)
        if ".self_attn.q_proj." in name:
            parts = [key.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
            if all(part in state for part in parts):
                name = name.replace(".self_attn.q_proj.", ".attn.qkv.")
                value = torch.cat([state[part] for part in parts])
        elif (".self_attn.k_proj." in name or ".self_attn.v_proj." in name) and (
            key.replace(".k_proj.", ".q_proj.").replace(".v_proj.", ".q_proj.") in state
        ):
            continue  # joined to its query above
        if name in ("cls_token", "pos_embed"):
            value = value.reshape(1, -1, value.shape[-1])
        renamed[name] = value
    return renamed
