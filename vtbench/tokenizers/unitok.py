"""UniTok: ViTamin, convolutions and then a transformer, on either side of eight codebooks
(https://arxiv.org/abs/2502.20321, FoundationVision/UniTok, models/unitok.py and models/vitamin.py).

A token is a word of each codebook. What text it was trained beside is in its file and not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from pydantic import field_validator
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import ChannelNorm, Count, Enlarge
from vtbench.tokenizers.nn.quantize import Codebook, ProductCode
from vtbench.tokenizers.nn.vit import Transformer, VitPlan, make_mlp

EPSILON = 1e-6
"""Of the norms of ViTamin."""

GATED: Mapping[str, Any] = {"gated": "apart", "gate": "gelu", "gelu": "tanh", "mlp_norm": True}
"""Of every perceptron, those of the transformers and those beside the code."""

FACTOR = 16
"""Pixels on a side of a token: four halvings."""


class UniTokPlan(Strict):
    """One UniTok.

    Attributes:
        vit: The transformer of each half.
        widths: Channels of the two levels of convolutions.
        blocks: Of the encoder on each level, from the pixels in.
        decoder_blocks: Of the decoder on each level, from the tokens out.
        words: Of each codebook.
        codebooks: How many there are.
        latent: Values of a token, shared out among the codebooks.
    """

    vit: VitPlan
    widths: tuple[Count, Count] = (160, 320)
    blocks: tuple[Count, Count] = (2, 4)
    decoder_blocks: tuple[Count, Count] = (4, 2)
    words: Count = 4096
    codebooks: Count = 8
    latent: Count = 64

    @field_validator("vit", mode="before")
    @classmethod
    def _gated(cls, given: object) -> object:
        style = {**GATED, "ratio": 2.0, "epsilon": EPSILON, "norm_in": False}
        return {**style, **given} if isinstance(given, Mapping) else given


class Widen(nn.Module):
    """Twice the resolution, nearest pixels, then a 3×3 convolution to another width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        enlarged: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return enlarged


class InvertedBlock(nn.Module):
    """Norm, 1×1 convolution to four times the width, depthwise 3×3, 1×1 back, added to its input.

    resize: the resolution is halved by the depthwise convolution and its input by a mean of 3×3
    ("half"), or both are doubled before ("double").
    """

    def __init__(self, before: int, after: int, resize: str | None) -> None:
        super().__init__()
        hidden, self.resize = 4 * after, resize
        self.shortcut: nn.Module | None = None
        if resize == "double":
            self.shortcut = Widen(before, after)
        elif before != after:
            self.shortcut = nn.Conv2d(before, after, 1)
        self.norm = ChannelNorm(before)
        self.lift = nn.Conv2d(before, hidden, 1)
        self.enlarge = Enlarge(hidden, "nearest") if resize == "double" else None
        stride = 2 if resize == "half" else 1
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden)
        self.reduce = nn.Conv2d(hidden, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.gelu(self.lift(self.norm(x)))
        if self.resize == "half":
            x = functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        if self.enlarge is not None:
            h = self.enlarge(h)
        h = self.reduce(functional.gelu(self.depthwise(h)))
        out: Tensor = h + (x if self.shortcut is None else self.shortcut(x))
        return out


def make_level(before: int, after: int, count: int, resize: str) -> nn.Sequential:
    """Return blocks of which the first resizes."""
    made = [InvertedBlock(before, after, resize)]
    made += [InvertedBlock(after, after, None) for _ in range(count - 1)]
    return nn.Sequential(*made)


class Bridge(nn.Module):
    """Attention that changes the width, between transformer and code: down, the heads' mean; up, the
    heads beside each other. Added to a linear map; a GEGLU follows."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        wide, narrow = max(before, after), min(before, after)
        self.heads, self.down = wide // narrow, before > after
        self.norm1, self.norm2 = nn.LayerNorm(before), nn.LayerNorm(after)
        self.norm3, self.linear = nn.LayerNorm(before), nn.Linear(before, after)
        self.qkv = nn.Linear(before, 3 * wide, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(wide)), nn.Parameter(torch.zeros(wide))
        self.out = nn.Linear(after, after)
        # Only the perceptron is made of this plan, so its `depth` and `heads` have no effect.
        plan = VitPlan(width=after, depth=1, heads=1, ratio=2.0, epsilon=EPSILON, **GATED)
        self.mlp = make_mlp(plan)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = functional.linear(self.norm1(x), self.qkv.weight, bias)
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(q, k, v)
        joined = mixed.mean(dim=1) if self.down else mixed.transpose(1, 2).flatten(2)
        x = self.linear(self.norm3(x)) + self.out(joined)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class UniTokNetwork(Autoencoder):
    """Convolutions, transformer, `before`, codebooks, `after`, transformer, convolutions."""

    def __init__(self, plan: UniTokPlan) -> None:
        super().__init__()
        width, (narrow, wide) = plan.vit.width, plan.widths
        stem = [nn.Conv2d(3, narrow, 3, 2, 1), ChannelNorm(narrow), nn.GELU()]
        self.stem = nn.Sequential(*stem, nn.Conv2d(narrow, narrow, 3, padding=1))
        self.levels = nn.ModuleList(
            (
                make_level(narrow, narrow, plan.blocks[0], "half"),
                make_level(narrow, wide, plan.blocks[1], "half"),
            )
        )
        self.patches = nn.Sequential(ChannelNorm(wide), nn.Conv2d(wide, width, 3, 2, 1))
        self.place = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder, self.decoder = Transformer(plan.vit), Transformer(plan.vit)
        self.before, self.after = Bridge(width, plan.latent), Bridge(plan.latent, width)
        part = plan.latent // plan.codebooks
        self.quantizer = ProductCode(
            Codebook(plan.words, part, "cosine") for _ in range(plan.codebooks)
        )
        self.widen = Widen(width, wide)
        self.up_levels = nn.ModuleList(
            (
                make_level(wide, wide, plan.decoder_blocks[0], "double"),
                make_level(wide, narrow, plan.decoder_blocks[1], "double"),
            )
        )
        head = [Enlarge(narrow, "nearest"), ChannelNorm(narrow), nn.GELU()]
        self.head = nn.Sequential(*head, nn.Conv2d(narrow, 3, 3, padding=1))

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×h×w, which the codebooks will see."""
        x = self.stem(images)
        for level in self.levels:
            x = level(x)
        planes = self.patches(x)
        tokens = self.before(self.encoder(planes.flatten(2).mT + self.place))
        latents: Tensor = tokens.mT.unflatten(2, planes.shape[-2:])
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×codebooks×h×w."""
        indices = self.quantizer.encode(self.compute_latents(images))
        assert isinstance(indices, Tensor)
        return indices

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        vectors = self.quantizer.decode(code).to(self.place.dtype)
        tokens = self.decoder(self.after(vectors.flatten(2).mT))
        x = self.widen(tokens.mT.unflatten(2, vectors.shape[-2:]))
        for level in self.up_levels:
            x = level(x)
        images: Tensor = self.head(x)
        return images


class UniTok(NetworkTokenizer[UniTokPlan]):
    """One UniTok. Its file also has the text encoder, what is compared with it, and counts of words."""

    PLAN = UniTokPlan
    OTHERS = (
        r"text_encoder\.|fc_norm\.|projection\.|logit_scale$|"
        r"quantizer\.codebooks\.\d+\.vocab_usage$|(post_)?quant_proj\.attn\.zero_k_bias$"
    )
    NAMES: ClassVar[Names] = (
        (r"^quantizer\.books\.(\d+)\.entries$", r"quantizer.codebooks.\1.codebook.weight"),
        (r"^place$", "encoder.pos_embed"),
        (r"^stem\.0\.", "encoder.patch_embed.backbone.stem.conv1."),
        (r"^stem\.1\.", "encoder.patch_embed.backbone.stem.norm1."),
        (r"^stem\.3\.", "encoder.patch_embed.backbone.stem.conv2."),
        (r"^levels\.", "encoder.patch_embed.backbone.stages."),
        (r"^patches\.0\.", "encoder.patch_embed.backbone.pool.norm."),
        (r"^patches\.1\.", "encoder.patch_embed.backbone.pool.proj."),
        (r"^widen\.", "decoder.up_conv1."),
        (r"^up_levels\.0\.", "decoder.up_conv2."),
        (r"^up_levels\.1\.", "decoder.up_conv3."),
        (r"^head\.0\.", "decoder.up_conv4.conv1."),
        (r"^head\.1\.", "decoder.up_conv4.norm1."),
        (r"^head\.3\.", "decoder.up_conv4.conv2."),
        (r"(stages.*)\.shortcut\.", r"\1.shortcut.expand."),
        (r"((stages|up_conv\d).*\.\d+)\.norm\.", r"\1.pre_norm."),
        (r"\.lift\.", ".conv1_1x1."),
        (r"\.enlarge\.", ".up."),
        (r"\.depthwise\.", ".conv2_kxk."),
        (r"\.reduce\.", ".conv3_1x1."),
        (r"^((?:en|de)coder)\.layers\.", r"\1.blocks."),
        (r"^((?:en|de)coder)\.norm_out\.", r"\1.norm."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"^before\.", "quant_proj."),
        (r"^after\.", "post_quant_proj."),
        (r"^((?:post_)?quant_proj)\.(q_bias|v_bias|qkv\.weight)$", r"\1.attn.\2"),
        (r"^((?:post_)?quant_proj)\.out\.", r"\1.attn.proj."),
        (r"^((?:post_)?quant_proj)\.linear\.", r"\1.proj."),
        (r"\.mlp\.norm_in\.", ".mlp.norm."),
        (r"\.mlp\.gate\.", ".mlp.w0."),
        (r"\.mlp\.value\.", ".mlp.w1."),
        (r"\.mlp\.out\.", ".mlp.w2."),
    )

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: UniTokPlan) -> tuple[int, ...]:
        """Return the size of each codebook."""
        return (plan.words,) * plan.codebooks

    @classmethod
    def make_network(cls, spec: Spec, plan: UniTokPlan) -> UniTokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_words(spec, plan, downsample=FACTOR)
        return UniTokNetwork(plan)
