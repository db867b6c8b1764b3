"""Tokenizers of a transformer on each side and a token for each patch: l-DeTok, ViTok-v2, VTP, AToken.

- l-DeTok (https://arxiv.org/abs/2507.15856), Jiawei-Yang/DeTok, models/detok.py
- ViTok-v2 (https://arxiv.org/abs/2501.09755 is the first), Na-VAE/vitok-release, vitok/models/ae.py
- VTP (https://arxiv.org/abs/2512.13687), MiniMax-AI/VTP, vtp/models
- AToken (https://arxiv.org/abs/2509.14476), whose adapter is in `atoken`

They differ in their blocks (`VitPlan`), in how positions turn queries and keys (`TURNS`), and in what
stands between transformer and latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import make_grid, make_rotations, normalize
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Pointwise,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
    resample_places,
)
from vtbench.tokenizers.rae import IMAGENET
from vtbench.tokenizers.titok import split_grid

Turn = Literal["detok", "vitok", "dinov3", "atoken"]


class PatchVitPlan(Strict):
    """One tokenizer of these families.

    Attributes:
        encoder: The transformer of the encoder; its norms before and after it are those of its
            plan.
        decoder: The transformer of the decoder.
        latent: Values of a token.
        patch: Pixels on a side of a patch.
        turn: A key of `TURNS`, the rotary positions.
        coarse: Whether their angles are computed in bfloat16, and what they turn is rounded to it,
            whatever the network's dtype.
        moments: Whether the encoder gives mean and log variance.
        placed: Whether patches have learned positions too, so that only one size fits.
        side: Learned positions are those of a square of so many patches on a side, resampled to the
            image's grid.
        frames: Of a video in a patch; the image is the first, and a pixel's channels lie together.
        leader: Whether a class token goes before the patches.
        level: Whether the latent is a layer norm, without weights.
        flat: Whether there are matrices where others have 1×1 convolutions.
        bare: Whether the layers on either side of the latent, and the one to the pixels, have no
            biases.
        smooth: Whether a 3×3 convolution over the pixels comes last.
        normalised: Whether the network's pixels are in ImageNet's units.
    """

    encoder: VitPlan
    decoder: VitPlan
    latent: Count
    patch: Count = 16
    turn: Turn
    coarse: bool = False
    moments: bool = False
    placed: bool = False
    side: Count | None = None
    frames: Count = 1
    leader: bool = False
    level: bool = False
    flat: bool = False
    bare: bool = False
    smooth: bool = False
    normalised: bool = False


def turn_detok(rows: int, columns: int, head: int, dtype: torch.dtype) -> Tensor:
    """Return l-DeTok's rotations, 4×L×head/2: places run from 0 to 1, frequencies from 7 down to
    7·10⁻⁴. The official list of frequencies is laid out for pairs of halves and used for pairs of
    neighbours, so the two channels of a pair turn by different angles."""
    rates = 2 * math.pi * 7 * 1e4 ** torch.linspace(0, -1, head // 4, dtype=torch.float64)
    places = torch.cartesian_prod(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns))
    # …×2 axes×the two of a pair×pairs
    angles = places.double()[:, :, None, None] * rates.repeat(2).reshape(-1, 2).T
    first, second = angles.transpose(1, 2).flatten(2).unbind(dim=1)
    return torch.stack([first.cos(), first.sin(), second.cos(), second.sin()]).to(dtype)


def turn_vitok(rows: int, columns: int, head: int, dtype: torch.dtype) -> Tensor:
    """Return the usual rotations, 2×L×head/2: half of the channels by row, half by column."""
    return make_rotations(make_grid(rows, columns), (head // 2, head // 2)).to(dtype)


def turn_dinov3(rows: int, columns: int, head: int, dtype: torch.dtype) -> Tensor:
    """Return DINOv3's rotations, 2×L×head/2: places run from −1 to 1, periods from 1 to 100."""
    rates = 100.0 ** (2 * torch.arange(head // 4, dtype=dtype) / (head // 2))
    sides = (torch.arange(0.5, n, dtype=dtype) / n for n in (rows, columns))
    places = 2.0 * torch.cartesian_prod(*sides) - 1.0
    angles = (2 * math.pi * places[:, :, None] / rates).flatten(1)
    return torch.stack([angles.cos(), angles.sin()])


def turn_atoken(rows: int, columns: int, head: int, dtype: torch.dtype) -> Tensor:
    """Return AToken's rotations, 2×L×head/2: a quarter of the channels each by time, row, column and
    depth, of which a picture has the first and the last at 0. The official rates are counted over
    the whole head and used within each quarter, so the last is near 1/√10 and not near 10⁻⁴."""
    places = functional.pad(make_grid(rows, columns), (1, 1))
    return make_rotations(places, (head // 4,) * 4, period=10000.0 ** (1 / 8)).to(dtype)


TURNS: Mapping[Turn, Callable[[int, int, int, torch.dtype], Tensor]] = {
    "detok": turn_detok,
    "vitok": turn_vitok,
    "dinov3": turn_dinov3,
    "atoken": turn_atoken,
}
"""How a place turns queries and keys: from rows, columns and the width of a head, in a dtype."""


class PatchVitNetwork(Autoencoder):
    """Patches, transformer, latent; latent, transformer, patches. grid: of the learned positions."""

    def __init__(self, plan: PatchVitPlan, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.plan, width, out_width = plan, plan.encoder.width, plan.decoder.width
        video = plan.frames > 1
        self.embedding = PatchEmbedding(
            plan.patch, width, flat=plan.flat, channels_last=video, frames=plan.frames
        )
        self.leader = make_tokens(1, 1, width) if plan.leader else None
        self.grid = grid
        self.places = self.out_places = None
        if grid is not None:
            shape = (1, grid[0] * grid[1]) if plan.side is None else (plan.side**2,)
            self.places = make_tokens(*shape, width)
            self.out_places = make_tokens(*shape, out_width)
        self.encoder, self.decoder = Transformer(plan.encoder), Transformer(plan.decoder)
        self.tokens_out = nn.Linear(
            width, plan.latent * (2 if plan.moments else 1), bias=not (plan.leader or plan.bare)
        )
        self.tokens_in = Pointwise(
            plan.latent, out_width, flat=plan.flat or plan.placed, bias=not plan.bare
        )
        values = plan.frames * 3 * plan.patch**2
        self.head = Pointwise(out_width, values, flat=plan.flat, bias=not plan.bare)
        self.conv_out = nn.Conv2d(3, 3, 3, padding=1) if plan.smooth else None

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×h×w: the posterior's mean where there is one."""
        return self.compute_moments(images)[0] if self.plan.moments else self._encode(images)

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and the logarithm of its variance, each N×latent×h×w."""
        mean, log_variance = self._encode(images).chunk(2, dim=1)
        return mean, log_variance

    def _encode(self, images: Tensor) -> Tensor:
        if self.plan.normalised:
            mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
            images = (images - mean) / deviation
        grid = (images.shape[2] // self.plan.patch, images.shape[3] // self.plan.patch)
        x = self._place(self.embedding(images), self.places, grid)
        if self.leader is not None:
            x = torch.cat([self.leader.expand(len(x), -1, -1), x], dim=1)
        x = self.encoder(x, rotations=self._turn(self.plan.encoder, grid, x))
        x = self.tokens_out(x[:, -grid[0] * grid[1] :])
        if self.plan.level:
            x = normalize(x.float()).to(x.dtype)
        latents: Tensor = x.mT.reshape(len(x), -1, *grid)
        return latents

    def _place(self, x: Tensor, places: Tensor | None, grid: tuple[int, int]) -> Tensor:
        if places is None or self.grid is None:
            return x
        return x + resample_places(places, self.grid, grid, "bilinear")

    def _turn(self, plan: VitPlan, grid: tuple[int, int], x: Tensor) -> Tensor:
        dtype = torch.bfloat16 if self.plan.coarse else torch.float32
        return TURNS[self.plan.turn](*grid, plan.width // plan.heads, dtype).to(x.device)

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of latents."""
        assert isinstance(code, Tensor)
        grid = (code.shape[2], code.shape[3])
        x = self.tokens_in(code.flatten(2).mT.to(self.head.weight.dtype))
        x = self._place(x, self.out_places, grid)
        x = self.head(self.decoder(x, rotations=self._turn(self.plan.decoder, grid, x)))
        first = x.chunk(self.plan.frames, dim=-1)[0]
        channels_last = self.plan.smooth or self.plan.frames > 1
        images = join_patches(first, grid, channels_last=channels_last)
        if self.plan.normalised:
            mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
            images = images * deviation + mean
        return images if self.conv_out is None else self.conv_out(images)


class PatchVit(NetworkTokenizer[PatchVitPlan]):
    """What these families share."""

    PLAN: ClassVar[type[PatchVitPlan]] = PatchVitPlan

    @classmethod
    def make_network(cls, spec: Spec, plan: PatchVitPlan) -> PatchVitNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_latents(spec, downsample=plan.patch, latent=plan.latent)
        return PatchVitNetwork(plan, cls.find_grid(spec, plan))

    @classmethod
    def find_grid(cls, spec: Spec, plan: PatchVitPlan) -> tuple[int, int] | None:
        """Return the grid that the plan's positions were learned on, None without such positions."""
        if plan.side is not None:
            return plan.side, plan.side
        return split_grid(spec, plan.patch) if plan.placed else None


class Detok(PatchVit):
    """One l-DeTok. The mask token is of its training."""

    STYLE: ClassVar[Mapping[str, Any]] = {
        "turn": "detok",
        "moments": True,
        "placed": True,
        "smooth": True,
    }
    OTHERS = r"decoder\.mask_token$"
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "encoder.patch_embed.0."),
        (r"^tokens_out\.", "encoder.latent_head."),
        (r"^tokens_in\.", "decoder.decoder_embed."),
        (r"^head\.", "decoder.ffn.1."),
        (r"^conv_out\.", "decoder.conv_out."),
        (r"^places$", "encoder.positional_embedding"),
        (r"^out_places$", "decoder.positional_embedding"),
        (r"\.norm_in\.", ".ln_pre."),
        (r"\.norm_out\.", ".ln_post."),
        (r"\.layers\.", ".transformer."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.both\.", ".w12."),
        (r"\.mlp\.out\.", ".mlp.w3."),
    )


class Vitok(PatchVit):
    """One ViTok-v2. weights: the official folder of encoder.safetensors and decoder.safetensors, or
    one file of both."""

    STYLE: ClassVar[Mapping[str, Any]] = {"turn": "vitok", "level": True, "flat": True}
    OTHERS = r"$^"
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "patch_embed."),
        (r"^tokens_out\.", "to_code."),
        (r"^tokens_in\.", "decoder_embed."),
        (r"^head\.", "to_pixels."),
        (r"^(encoder|decoder)\.layers\.", r"\1_blocks."),
        (r"\.attention\.(q|k)_norm\.", r".attn.norm_\1."),
        (r"\.attention\.(qkv|out)\.", r".attn.\1_proj."),
        (r"\.mlp\.both\.", ".ffn.fc1."),
        (r"\.mlp\.out\.", ".ffn.fc2."),
        (r"\.scale1$", ".layer_scale.gamma"),
    )

    def read_state(self, weights: Path, plan: PatchVitPlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of both files. Raises WeightsMissing or WeightsMismatch."""
        if not weights.is_dir():
            return super().read_state(weights, plan, **layout)
        halves = (weights / f"{half}.safetensors" for half in ("encoder", "decoder"))
        states = [super(Vitok, self).read_state(half, plan, **layout) for half in halves]
        return states[0] | states[1]


class Vtp(PatchVit):
    """One VTP. Its file also has the text encoder that it was trained beside."""

    STYLE: ClassVar[Mapping[str, Any]] = {
        "turn": "dinov3",
        "coarse": True,
        "leader": True,
        "normalised": True,
    }
    INPUT_RANGE = (0.0, 1.0)
    OTHERS = (
        r"text_|(token|positional)_embedding|ln_final\.|visual_proj\.|logit_|trunk\.mask_token$|"
        r"\w+\.rope_embed\.periods$"
    )
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "trunk.patch_embed.proj."),
        (r"^leader$", "trunk.cls_token"),
        (r"^tokens_out\.", "trunk.feature_bottleneck."),
        (r"^tokens_in\.", "pixel_decoder.proj_in."),
        (r"^head\.", "pixel_decoder.proj_out."),
        (r"^encoder\.", "trunk."),
        (r"^decoder\.", "pixel_decoder."),
        (r"\.norm_out\.", ".norm."),
        (r"\.layers\.", ".blocks."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.gate\.", ".mlp.w1."),
        (r"\.mlp\.value\.", ".mlp.w2."),
        (r"\.mlp\.out\.", ".mlp.w3."),
        (r"\.scale(\d)$", r".ls\1.gamma"),
    )
