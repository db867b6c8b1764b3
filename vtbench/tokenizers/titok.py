"""TiTok: an image as a short row of tokens that belong to no place
(https://arxiv.org/abs/2406.07550, bytedance/1d-tokenizer, modeling/titok.py).

The encoder is given the patches and K learned tokens and keeps what became of these; the decoder is
given what was coded and a mask token for each patch, and keeps what became of the masks. Models of
256² pixels have learned positions and take no other size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import field_validator
from torch import Tensor, nn

from vtbench.errors import RegistryError
from vtbench.records import Spec
from vtbench.registry import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn import conv
from vtbench.tokenizers.nn.conv import ConvPlan, Count
from vtbench.tokenizers.nn.quantize import Codebook, Lookup
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
)
from vtbench.tokenizers.vqgan import MaskGitVqgan

CLIP_NAMES: Names = (
    (r"\.trunk\.norm_in\.", ".ln_pre."),
    (r"\.trunk\.norm_out\.", ".ln_post."),
    (r"(\.trunk\.layers\.\d+)\.norm(\d)\.", r"\1.ln_\2."),
    (r"\.attention\.qkv\.", ".attn.in_proj_"),
    (r"\.attention\.out\.", ".attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.c_fc."),
    (r"\.mlp\.2\.", ".mlp.c_proj."),
)
"""The blocks of OpenCLIP, around torch's nn.MultiheadAttention."""


class TitokPlan(Strict):
    """The two transformers and what lies between them and beyond.

    patch: side of a patch; tokens: how many the code has; latent: values of one; moments: the
    encoder gives mean and log variance. lookup: how a token's codeword is found. pixels: the decoder
    does not answer with pixels but with scores for `words` codewords of MaskGIT's VQGAN, whose
    decoder this is; it paints their mean, weighted by the scores' softmax.
    """

    encoder: VitPlan
    decoder: VitPlan
    tokens: Count
    latent: Count
    patch: Count = 16
    moments: bool = False
    lookup: Lookup = "nearest"
    words: Count = 1024
    pixels: ConvPlan | None = None

    @field_validator("pixels", mode="before")
    @classmethod
    def _in_maskgits_style(cls, given: object) -> object:
        return {**MaskGitVqgan.STYLE, **given} if isinstance(given, Mapping) else given


class TokenEncoder(nn.Module):
    """Images N×3×H×W → N×latent×1×tokens (2·latent with moments)."""

    def __init__(self, plan: TitokPlan, places: int) -> None:
        super().__init__()
        width = plan.encoder.width
        self.embedding = PatchEmbedding(plan.patch, width)
        self.class_token, self.positions = make_tokens(1, width), make_tokens(places + 1, width)
        self.token_positions = make_tokens(plan.tokens, width)
        self.trunk = Transformer(plan.encoder)
        self.conv_out = nn.Conv2d(width, plan.latent * (2 if plan.moments else 1), 1)
        self.shuffled = plan.pixels is not None

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        n = len(images)
        patches = torch.cat([self.class_token.expand(n, 1, -1), self.embedding(images)], dim=1)
        tokens = (tokens + self.token_positions).expand(n, -1, -1)
        x: Tensor = self.trunk(torch.cat([patches + self.positions, tokens], dim=1))
        x = x[:, -tokens.shape[1] :]
        # The first models read the rows of tokens as if they were those of channels, by a slip of
        # the official code that the weights were trained with.
        x = x.reshape(n, x.shape[2], x.shape[1]) if self.shuffled else x.mT
        out: Tensor = self.conv_out(x[..., None])
        return out.transpose(2, 3)


class TokenDecoder(nn.Module):
    """Codes N×latent×1×tokens → images N×3×H×W, or scores N×words×H/patch×W/patch."""

    def __init__(self, plan: TitokPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        width = plan.decoder.width
        self.grid = grid
        self.embedding = nn.Linear(plan.latent, width)
        self.mask, self.class_token = make_tokens(1, 1, width), make_tokens(1, width)
        self.positions = make_tokens(grid[0] * grid[1] + 1, width)
        self.token_positions = make_tokens(plan.tokens, width)
        self.trunk = Transformer(plan.decoder)
        if plan.pixels is not None:
            layers = [
                nn.Conv2d(width, 2 * width, 1),
                nn.Tanh(),
                nn.Conv2d(2 * width, plan.words, 1),
            ]
        else:
            layers = [nn.Conv2d(width, 3 * plan.patch**2, 1)]
        self.head = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(3, 3, 3, padding=1) if plan.pixels is None else None

    def forward(self, code: Tensor) -> Tensor:
        tokens: Tensor = self.embedding(code[:, :, 0].mT) + self.token_positions
        n, count = len(code), len(self.positions)
        masks = torch.cat([self.class_token, self.mask[0].expand(count - 1, -1)]) + self.positions
        x: Tensor = self.trunk(torch.cat([masks.expand(n, -1, -1), tokens], dim=1))
        answers: Tensor = self.head(x[:, 1:count].mT.reshape(n, -1, *self.grid))
        if self.conv_out is None:
            return answers
        images: Tensor = self.conv_out(
            join_patches(answers.flatten(2).mT, self.grid, channels_last=True)
        )
        return images


class TitokNetwork(Autoencoder):
    """Encoder, quantizer (None: the code is the posterior's mean), decoder, and MaskGIT's decoder
    where the plan has it."""

    def __init__(
        self, plan: TitokPlan, grid: tuple[int, int], *, quantizer: Codebook | None
    ) -> None:
        super().__init__()
        self.tokens = make_tokens(plan.tokens, plan.encoder.width)
        self.encoder = TokenEncoder(plan, grid[0] * grid[1])
        self.detokenizer = TokenDecoder(plan, grid)
        self.quantizer = quantizer
        self.moments = plan.moments
        self.words = self.decoder = None
        if plan.pixels is not None:
            self.words = Codebook(plan.words, plan.pixels.latent)
            self.decoder = conv.Decoder(plan.pixels)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens: the posterior's mean, or what the quantizer will see."""
        latents: Tensor = self.encoder(images, self.tokens)
        return latents.chunk(2, dim=1)[0] if self.moments else latents

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents, or indices N×1×tokens."""
        latents = self.compute_latents(images)
        return latents if self.quantizer is None else self.quantizer.encode(latents)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        latents = code if self.quantizer is None else self.quantizer.decode(code)
        answers: Tensor = self.detokenizer(latents.to(self.tokens.dtype))
        if self.words is None or self.decoder is None:
            return answers
        mean = torch.einsum("nwhk,wc->nchk", answers.softmax(dim=1), self.words.entries)
        images: Tensor = self.decoder(mean)
        return images


class Titok(NetworkTokenizer[TitokPlan]):
    """One TiTok; its plan is a `TitokPlan`."""

    PLAN = TitokPlan
    INPUT_RANGE = (0.0, 1.0)
    OTHERS: ClassVar[str] = r"$^"
    NAMES = (
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer."),
        *MaskGitVqgan.NAMES,
        (r"^decoder\.", "pixel_decoder."),
        (r"^words\.entries$", "pixel_quantize.embedding.weight"),
        (r"^tokens$", "latent_tokens"),
        (r"^encoder\.embedding\.", "encoder.patch_embed."),
        (r"^detokenizer\.embedding\.", "decoder.decoder_embed."),
        (r"^detokenizer\.head\.", "decoder.ffn."),
        (r"^detokenizer\.mask$", "decoder.mask_token"),
        (r"^detokenizer\.", "decoder."),
        (r"\.class_token$", ".class_embedding"),
        (r"\.positions$", ".positional_embedding"),
        (r"\.token_positions$", ".latent_token_positional_embedding"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: TitokPlan) -> TitokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        grid = split_grid(spec, plan.patch)
        quantizer = None
        if spec.codebook_size is not None:
            quantizer = Codebook(spec.codebook_size, plan.latent, plan.lookup)
        check_facts(
            spec,
            {
                "kind": (spec.kind, "continuous" if plan.moments else "discrete"),
                "downsample": (spec.downsample, None),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
                "latent_channels": (spec.latent_channels, plan.latent if plan.moments else None),
            },
        )
        return TitokNetwork(plan, grid, quantizer=quantizer)


def split_grid(spec: Spec, patch: int) -> tuple[int, int]:
    """Return how many rows and columns of patches the entry's fixed size has. Raises RegistryError
    for an entry without one, or where patches do not fill it."""
    height, width = spec.size.fixed or (0, 0)
    if not height or height % patch or width % patch:
        raise RegistryError(
            f"{spec.name}: size.fixed must be a multiple of the patch, {patch}, got {spec.size.fixed}"
        )
    return height // patch, width // patch
