"""OmniTokenizer: a tokenizer of videos and pictures (https://arxiv.org/abs/2406.09399,
FoundationVision/OmniTokenizer, OmniTokenizer/omnitokenizer.py), of one picture.

Transformers over space, then over time; of one frame, attention over time is each place's own value.
Those checkpoints alone whose positions are rotary: the image-only ones have learned biases, which the
official code leaves out or not by the version of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as functional
from pydantic import field_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import make_grid, make_rotations, rotate
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import VitPlan, join_patches, make_mlp, split_patches
from vtbench.tokenizers.titok import split_grid

SHARPNESS = 8.0
"""What products of queries and keys of length 1 are multiplied with."""

STYLE: Mapping[str, Any] = {"gated": "last", "gate": "gelu", "plain": True, "bias": False}


class OmniPlan(Strict):
    """One OmniTokenizer.

    Attributes:
        vit: Of all blocks; its depth is of those over time.
        encoder: The blocks over space, a letter each: t sees all places, w its window of
            window×window.
        decoder: The same of the decoder.
        window: Places on a side of a window.
        patch: Pixels on a side of a patch.
        latent: Values of a codeword, or of a token with moments.
        moments: Whether the encoder gives mean and log variance.
    """

    vit: VitPlan
    encoder: str = "ttww"
    decoder: str = "tttt"
    window: Count = 8
    patch: Count = 8
    latent: Count = 8
    moments: bool = False

    @field_validator("vit", mode="before")
    @classmethod
    def _in_its_style(cls, given: object) -> object:
        return {**STYLE, **given} if isinstance(given, Mapping) else given

    @field_validator("encoder", "decoder")
    @classmethod
    def _letters(cls, value: str) -> str:
        if not value or set(value) - {"t", "w"}:
            raise ValueError(f"{value!r} has other blocks than t and w")
        return value


class Place(nn.Module):
    """A depthwise convolution of 3×3×3, of which one frame sees the last slice, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dsconv = nn.Conv3d(width, width, 3, groups=width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        weight, bias = self.dsconv.weight[:, :, 2], self.dsconv.bias
        planes = x.mT.reshape(len(x), -1, *grid)
        found = functional.conv2d(planes, weight, bias, padding=1, groups=len(weight))
        return x + found.flatten(2).mT


class CosineAttention(nn.Module):
    """Attention by the angle between queries of the normalised tokens and keys of the tokens
    themselves; values are of these, too. over: time leaves each token with its own value."""

    def __init__(self, plan: VitPlan, over: Literal["space", "time"]) -> None:
        super().__init__()
        width, head = plan.width, plan.width // plan.heads
        self.heads = plan.heads
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm = self.q = None
        if over == "space":
            self.norm, self.q = nn.LayerNorm(width), nn.Linear(width, width, bias=False)
            self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head)) for _ in range(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        k, v = self.kv(x).chunk(2, dim=-1)
        if self.norm is None or self.q is None:
            return self.out(v)  # type: ignore[no-any-return]
        q, k, v = (self._split(part) for part in (self.q(self.norm(x)), k, v))
        q = functional.normalize(rotate(q, rotations), dim=-1) * self.q_scale
        k = functional.normalize(rotate(k, rotations), dim=-1) * self.k_scale
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=SHARPNESS)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class WindowAttention(nn.Module):
    """Attention within windows of side×side places, with a bias for each distance
    (https://arxiv.org/abs/2103.14030)."""

    def __init__(self, plan: VitPlan, side: int) -> None:
        super().__init__()
        self.heads, self.side = plan.heads, side
        self.norm = nn.LayerNorm(plan.width)
        self.biases = nn.Parameter(torch.zeros((2 * side - 1) ** 2, plan.heads))
        self.qkv = nn.Linear(plan.width, 3 * plan.width, bias=False)
        self.out = nn.Linear(plan.width, plan.width)

    def _bias(self) -> Tensor:
        places = make_grid(self.side, self.side).to(self.biases.device)
        apart = places[:, None] - places[None] + self.side - 1
        return self.biases[apart[..., 0] * (2 * self.side - 1) + apart[..., 1]].movedim(-1, 0)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        n, _, width = x.shape
        rows, columns, side = grid[0] // self.side, grid[1] // self.side, self.side
        cells = self.norm(x).reshape(n, rows, side, columns, side, width).transpose(2, 3)
        parts = self.qkv(cells.reshape(-1, side * side, width)).chunk(3, dim=-1)
        q, k, v = (p.reshape(*p.shape[:2], self.heads, -1).transpose(1, 2) for p in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=self._bias())
        cells = self.out(mixed.transpose(1, 2).flatten(2))
        grids: Tensor = cells.reshape(n, rows, columns, side, side, width).transpose(2, 3)
        return grids.reshape(x.shape)


class OmniBlock(nn.Module):
    """Place and attention over everything, or attention in windows; then the perceptron."""

    def __init__(self, plan: OmniPlan, kind: str, over: Literal["space", "time"]) -> None:
        super().__init__()
        vit = plan.vit
        self.place = Place(vit.width) if kind == "t" else None
        windows = kind == "w"
        self.attention = (
            WindowAttention(vit, plan.window) if windows else CosineAttention(vit, over)
        )
        self.norm, self.mlp = nn.LayerNorm(vit.width), make_mlp(vit)

    def forward(self, x: Tensor, grid: tuple[int, int], rotations: Tensor) -> Tensor:
        if self.place is not None:
            x = self.place(x, grid)
        windows = isinstance(self.attention, WindowAttention)
        x = x + self.attention(x, grid if windows else rotations)
        out: Tensor = x + self.mlp(self.norm(x))
        return out


class OmniTransformer(nn.Module):
    """Blocks over a grid of tokens, and a norm."""

    def __init__(self, plan: OmniPlan, kinds: str, over: Literal["space", "time"]) -> None:
        super().__init__()
        self.head = plan.vit.width // plan.vit.heads
        self.layers = nn.ModuleList(OmniBlock(plan, kind, over) for kind in kinds)
        self.norm_out = nn.LayerNorm(plan.vit.width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        # Pairs of channels are rotated alternately by column and by row.
        half = self.head // 2
        by_row, by_column = (
            make_rotations(p[:, None], (half,)) for p in make_grid(*grid).unbind(1)
        )
        rotations = torch.stack([by_column, by_row], dim=-1).flatten(2).to(x.device)
        for layer in self.layers:
            x = layer(x, grid, rotations)
        out: Tensor = self.norm_out(x)
        return out


class OmniNetwork(Autoencoder):
    """Patches, space, time, `before`, codebook or posterior, `after`, time, space, patches."""

    def __init__(self, plan: OmniPlan, grid: tuple[int, int], quantizer: Codebook | None) -> None:
        super().__init__()
        self.plan, self.grid, self.quantizer = plan, grid, quantizer
        width, pixels, times = plan.vit.width, 3 * plan.patch**2, "t" * plan.vit.depth
        self.embedding = nn.Sequential(
            nn.LayerNorm(pixels), nn.Linear(pixels, width), nn.LayerNorm(width)
        )
        self.encoder = OmniTransformer(plan, plan.encoder, "space")
        self.encoder_time = OmniTransformer(plan, times, "time")
        self.before = nn.Linear(width, plan.latent * (2 if plan.moments else 1))
        self.after = nn.Linear(plan.latent, width)
        self.decoder_time = OmniTransformer(plan, times, "time")
        self.decoder = OmniTransformer(plan, plan.decoder, "space")
        self.head = nn.Linear(width, pixels)

    def _encode(self, images: Tensor) -> Tensor:
        x = self.embedding(split_patches(images, self.plan.patch))
        x = self.encoder_time(self.encoder(x, self.grid), self.grid)
        latents: Tensor = self.before(x).mT.reshape(len(x), -1, *self.grid)
        return latents

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and the logarithm of its variance, each N×latent×h×w."""
        mean, log_variance = self._encode(images).chunk(2, dim=1)
        return mean, log_variance

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×h×w: the posterior's mean, or vectors of length 1 for the codebook, whose
        words are of any length."""
        if self.plan.moments:
            return self.compute_moments(images)[0]
        return functional.normalize(self._encode(images), dim=1)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents, or indices N×h×w."""
        latents = self.compute_latents(images)
        return latents if self.quantizer is None else self.quantizer.encode(latents)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = code if self.quantizer is None else self.quantizer.decode(code)
        x = self.after(vectors.flatten(2).mT.to(self.after.weight.dtype))
        x = self.decoder(self.decoder_time(x, self.grid), self.grid)
        return join_patches(self.head(x), self.grid)


class OmniTokenizer(NetworkTokenizer[OmniPlan]):
    """One OmniTokenizer. Of its file are left: discriminators, losses, counts of words, and what only
    a second frame would need."""

    PLAN = OmniPlan
    INPUT_RANGE = (-0.5, 0.5)
    OTHERS = (
        r"\w+_discriminator\.|perceptual_model\.|codebook\.|.*\.(to_patch_emb|to_pixels)\.\d|"
        r".*\.context_norm\.|.*\.relative_position_index$|"
        r".*_temporal_transformer\.layers\.\d+\.1\.(norm|to_q|q_scale|k_scale|spatial_rel_pos_bias)"
    )
    NAMES: ClassVar[Names] = (
        (r"^embedding\.0\.", "encoder.to_patch_emb_first_frame.1."),
        (r"^embedding\.1\.", "encoder.to_patch_emb_first_frame.2."),
        (r"^embedding\.2\.", "encoder.to_patch_emb_first_frame.3."),
        (r"^encoder\.(layers|norm_out)\.", r"encoder.enc_spatial_transformer.\1."),
        (r"^encoder_time\.", "encoder.enc_temporal_transformer."),
        (r"^decoder\.(layers|norm_out)\.", r"decoder.dec_spatial_transformer.\1."),
        (r"^decoder_time\.", "decoder.dec_temporal_transformer."),
        (r"^before\.", "pre_vq_conv.1."),
        (r"^after\.", "post_vq_conv.1."),
        (r"^head\.", "decoder.to_pixels_first_frame.0."),
        (r"^quantizer\.entries$", "codebook.embeddings"),
        (r"(_transformer\.norm_out|\.attention\.norm)\.weight$", r"\1.gamma"),
        (r"(_transformer\.norm_out|\.attention\.norm)\.bias$", r"\1.beta"),
        (r"\.place\.", ".0."),
        (r"\.attention\.biases$", ".1.relative_position_bias_table"),
        (r"\.attention\.(q|kv)\.", r".1.to_\1."),
        (r"\.attention\.", ".1."),
        (r"(\.layers\.\d+)\.norm\.", r"\1.3.0."),
        (r"\.mlp\.both\.", ".3.1."),
        (r"\.mlp\.out\.", ".3.4."),
    )

    @classmethod
    def list_names(cls, plan: OmniPlan) -> Names:
        """Return the official names; an attention's last layer is called by the kind of its block."""
        sides = (("enc", plan.encoder), ("dec", plan.decoder))
        outs = tuple(
            (rf"({side}_spatial_transformer\.layers\.{index}\.1)\.out\.", r"\1.proj.")
            for side, kinds in sides
            for index, kind in enumerate(kinds)
            if kind == "w"
        )
        return (*cls.NAMES, *outs, (r"\.1\.out\.", ".1.to_out."))

    @classmethod
    def make_network(cls, spec: Spec, plan: OmniPlan) -> OmniNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        facts = {
            "kind": (spec.kind, "continuous" if plan.moments else "discrete"),
            "downsample": (spec.downsample, plan.patch),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, plan.latent if plan.moments else None),
        }
        check_facts(spec, facts)
        grid = split_grid(spec, plan.patch)
        if grid[0] % plan.window or grid[1] % plan.window:
            raise RegistryError(f"{spec.name}: windows of {plan.window} do not fill {grid}")
        quantizer = None if plan.moments else Codebook(spec.codebook_size or 0, plan.latent)
        return OmniNetwork(plan, grid, quantizer)
