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
from pydantic import field_validator, model_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
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

    Attributes:
        encoder: The transformer of the encoder.
        decoder: The transformer of the decoder.
        tokens: How many the encoder gives.
        kept: How many of them, the first, the code has and the decoder gets; by default all.
        latent: Values of a token.
        patch: Pixels on a side of a patch.
        moments: Whether the encoder gives mean and log variance.
        lookup: How a token's codeword is found.
        words: Codewords of MaskGIT's VQGAN.
        pixels: The decoder of MaskGIT's VQGAN, if the transformer answers with scores for its
            `words` instead of pixels. It paints their mean, weighted by the scores' softmax.
    """

    encoder: VitPlan
    decoder: VitPlan
    tokens: Count
    kept: Count | None = None
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

    @model_validator(mode="after")
    def _keeps_no_more_than_there_are(self) -> TitokPlan:
        if self.kept is not None and self.kept > self.tokens:
            raise ValueError(f"kept: {self.kept} of {self.tokens} tokens")
        return self


class TokenTransformer(nn.Module):
    """A transformer over a class token, patches and tokens, all with learned positions. lead: axes of
    1 that these have before theirs, as files lay them out."""

    def __init__(
        self, plan: VitPlan, *, places: int, tokens: int, lead: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.class_token = make_tokens(*lead, 1, plan.width)
        self.positions: nn.Parameter | None = make_tokens(*lead, places + 1, plan.width)
        self.token_positions = make_tokens(*lead, tokens, plan.width)
        self.trunk = Transformer(plan)

    def forward(
        self, patches: Tensor, tokens: Tensor, more: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what becomes of patches N×places×width and of tokens N×K×width, which may be the
        first of those that have a position. more: N×M×width that come last, with positions of their
        own, and are only attended to."""
        first = self.class_token.expand(len(patches), 1, -1)
        placed = torch.cat([first, patches], dim=1)
        if self.positions is not None:
            placed = placed + self.positions
        tokens = tokens + self.token_positions[..., : tokens.shape[1], :]
        parts = [placed, tokens, *([] if more is None else [more])]
        x = self.run(torch.cat(parts, dim=1))
        count = placed.shape[1]
        return x[:, 1:count], x[:, count : count + tokens.shape[1]]

    def run(self, x: Tensor) -> Tensor:
        """Return what the transformer makes of all tokens N×L×width."""
        out: Tensor = self.trunk(x)
        return out


class TitokNetwork(Autoencoder):
    """Encoder, quantizer (None: the code is the posterior's mean), detokenizer, and MaskGIT's decoder
    where the plan has it."""

    def __init__(self, plan: TitokPlan, grid: tuple[int, int], quantizer: Codebook | None) -> None:
        super().__init__()
        places, width, out_width = grid[0] * grid[1], plan.encoder.width, plan.decoder.width
        self.grid, self.moments, self.quantizer = grid, plan.moments, quantizer
        self.kept = plan.kept or plan.tokens
        self.embedding = PatchEmbedding(plan.patch, width)
        self.tokens = make_tokens(plan.tokens, width)
        self.encoder = TokenTransformer(plan.encoder, places=places, tokens=plan.tokens)
        self.tokens_out = nn.Conv2d(width, plan.latent * (2 if plan.moments else 1), 1)
        self.tokens_in = nn.Linear(plan.latent, out_width)
        self.mask = make_tokens(1, 1, out_width)
        self.detokenizer = TokenTransformer(plan.decoder, places=places, tokens=plan.tokens)
        self.words = self.decoder = self.conv_out = None
        if plan.pixels is None:
            self.head = nn.Sequential(nn.Conv2d(out_width, 3 * plan.patch**2, 1))
            self.conv_out = nn.Conv2d(3, 3, 3, padding=1)
        else:
            hidden = nn.Conv2d(out_width, 2 * out_width, 1)
            self.head = nn.Sequential(hidden, nn.Tanh(), nn.Conv2d(2 * out_width, plan.words, 1))
            self.words = Codebook(plan.words, plan.pixels.latent)
            self.decoder = conv.Decoder(plan.pixels)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens: the posterior's mean, or what the quantizer will see."""
        return self.compute_moments(images)[0] if self.moments else self._encode(images)

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and the logarithm of its variance, each N×latent×1×tokens."""
        mean, log_variance = self._encode(images).chunk(2, dim=1)
        return mean, log_variance

    def _encode(self, images: Tensor) -> Tensor:
        tokens = self.tokens.expand(len(images), -1, -1)
        _, x = self.encoder(self.embedding(images), tokens)
        # The first models, those that answer with words, read rows of tokens as if they were rows of
        # channels: a slip of the official code that the weights were trained with.
        x = x.mT if self.words is None else x.reshape(len(x), x.shape[2], x.shape[1])
        latents: Tensor = self.tokens_out(x[..., None]).transpose(2, 3)
        return latents[..., : self.kept]

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents, or indices N×1×tokens."""
        latents = self.compute_latents(images)
        return latents if self.quantizer is None else self.quantizer.encode(latents)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        return self.decode_vectors(code if self.quantizer is None else self.quantizer.decode(code))

    def guide(self, n: int) -> Tensor | None:
        """Return what the detokenizer of n images sees beside the code: nothing."""
        return None

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Return N×3×H×W images of what the quantizer gives, or of latents: N×latent×1×tokens."""
        tokens = self.tokens_in(vectors[:, :, 0].mT.to(self.tokens.dtype))
        masks = self.mask.expand(len(tokens), self.grid[0] * self.grid[1], -1)
        x, _ = self.detokenizer(masks, tokens, self.guide(len(tokens)))
        answers: Tensor = self.head(x.mT.reshape(len(x), -1, *self.grid))
        if self.words is not None and self.decoder is not None:
            mean = torch.einsum("nwhk,wc->nchk", answers.softmax(dim=1), self.words.entries)
            return self.decoder(mean)  # type: ignore[no-any-return]
        images = join_patches(answers.flatten(2).mT, self.grid, channels_last=True)
        return images if self.conv_out is None else self.conv_out(images)


class Titok(NetworkTokenizer[TitokPlan]):
    """One TiTok; its plan is a `TitokPlan`."""

    PLAN: ClassVar[type[TitokPlan]] = TitokPlan
    INPUT_RANGE = (0.0, 1.0)
    OTHERS: ClassVar[str] = r"$^"
    NAMES = (
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer."),
        *MaskGitVqgan.NAMES,
        (r"^decoder\.", "pixel_decoder."),
        (r"^words\.entries$", "pixel_quantize.embedding.weight"),
        (r"^tokens$", "latent_tokens"),
        (r"^embedding\.", "encoder.patch_embed."),
        (r"^tokens_out\.", "encoder.conv_out."),
        (r"^tokens_in\.", "decoder.decoder_embed."),
        (r"^mask$", "decoder.mask_token"),
        (r"^detokenizer\.", "decoder."),
        (r"^head\.", "decoder.ffn."),
        (r"^conv_out\.", "decoder.conv_out."),
        (r"\.class_token$", ".class_embedding"),
        (r"\.positions$", ".positional_embedding"),
        (r"\.token_positions$", ".latent_token_positional_embedding"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: TitokPlan) -> TitokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        return TitokNetwork(plan, *cls.make_parts(spec, plan))

    @classmethod
    def make_parts(cls, spec: Spec, plan: TitokPlan) -> tuple[tuple[int, int], Codebook | None]:
        """Return grid and quantizer. Raises RegistryError where the entry contradicts the plan."""
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
        return grid, quantizer


def split_grid(spec: Spec, patch: int) -> tuple[int, int]:
    """Return how many rows and columns of patches the entry's fixed size has. Raises RegistryError
    for an entry without one, or where patches do not fill it."""
    height, width = spec.size.fixed or (0, 0)
    if not height or height % patch or width % patch:
        raise RegistryError(
            f"{spec.name}: size.fixed must be a multiple of the patch, {patch}, got {spec.size.fixed}"
        )
    return height // patch, width // patch
