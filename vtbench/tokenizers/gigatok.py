"""GigaTok: queries that ask a convolutional encoder's grid for a row of tokens, and a grid of queries
that asks the tokens back (https://arxiv.org/abs/2504.08736, SilentView/GigaTok,
tokenizer/tokenizer_image/vq/vq_vit_model.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from pydantic import field_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn import conv
from vtbench.tokenizers.nn.conv import ConvPlan, Count
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import QueryBlock, VitPlan, make_tokens
from vtbench.tokenizers.titok import split_grid
from vtbench.tokenizers.vqgan import LlamaGen

STYLE: Mapping[str, Any] = {"middle": "bb", "up": "depth", "adaptive": True}
"""Of the convolutional halves: no attention, and a decoder modulated by its input."""


class GigatokPlan(Strict):
    """encoder, decoder: the transformers of queries; conv: the halves around them; width: values of
    a token. There are as many tokens as places, a power of two."""

    encoder: VitPlan
    decoder: VitPlan
    conv: ConvPlan
    width: Count = 8

    @field_validator("conv", mode="before")
    @classmethod
    def _in_its_style(cls, given: object) -> object:
        return {**STYLE, **given} if isinstance(given, Mapping) else given


class QueryTransformer(nn.Module):
    """Blocks in which queries N×L×width attend to a memory of M places. Both have positions: one of
    the two is the grid, the other the row of tokens."""

    def __init__(self, plan: VitPlan, *, latent: int, places: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(latent, eps=plan.epsilon)
        self.embedding = nn.Linear(latent, plan.width)
        self.grid_places = make_tokens(places, 1, plan.width)
        self.token_places = make_tokens(places, 1, plan.width)
        self.layers = nn.ModuleList(QueryBlock(plan) for _ in range(plan.depth))
        self.norm_out = nn.LayerNorm(plan.width, eps=plan.epsilon)

    def embed(self, memory: Tensor) -> Tensor:
        """Return the memory N×M×width of N×latent×h×w."""
        embedded: Tensor = self.embedding(self.norm_in(memory.flatten(2).mT))
        return embedded

    def ask(self, queries: Tensor, memory: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Return N×width×L: what becomes of the queries; places: theirs and the memory's."""
        own, others = (tokens.transpose(0, 1) for tokens in places)
        for layer in self.layers:
            queries = layer(queries, memory, own, others)
        out: Tensor = self.norm_out(queries)
        return out.mT


class GigatokNetwork(Autoencoder):
    """Convolutions, queries for tokens, `before`, codebook, `after`, queries for places,
    convolutions."""

    def __init__(self, plan: GigatokPlan, grid: tuple[int, int], *, size: int) -> None:
        super().__init__()
        latent, places = plan.conv.latent, grid[0] * grid[1]
        self.grid = grid
        self.encoder, self.decoder = conv.Encoder(plan.conv), conv.Decoder(plan.conv)
        self.tokenizer = QueryTransformer(plan.encoder, latent=latent, places=places)
        self.first_queries = nn.Linear(plan.encoder.width, plan.encoder.width)
        self.tokens_out = nn.Conv2d(plan.encoder.width, latent, 1)
        self.detokenizer = QueryTransformer(plan.decoder, latent=latent, places=places)
        self.grid_out = nn.Conv2d(plan.decoder.width, latent, 3, padding=1)
        self.before = nn.Conv2d(latent, plan.width, 1)
        self.after = nn.Conv2d(plan.width, latent, 1)
        self.quantizer = Codebook(size, plan.width, "cosine")

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×width×1×tokens, which the quantizer will see."""
        part = self.tokenizer
        memory = part.embed(self.encoder(images))
        queries = self.first_queries(pool_levels(memory.mT.reshape(len(memory), -1, *self.grid)))
        tokens = part.ask(queries, memory, (part.token_places, part.grid_places))
        latents: Tensor = self.before(self.tokens_out(tokens[:, :, None]))
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """Return indices N×1×tokens."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        part = self.detokenizer
        memory = part.embed(self.after(self.quantizer.decode(code).to(self.after.weight.dtype)))
        # Every place starts from the first token, which began as the mean of the picture.
        queries = memory[:, :1].expand(-1, memory.shape[1], -1)
        places = part.ask(queries, memory, (part.grid_places, part.token_places))
        grid: Tensor = self.grid_out(places.reshape(*places.shape[:2], *self.grid))
        images: Tensor = self.decoder(grid)
        return images


def pool_levels(grid: Tensor) -> Tensor:
    """Return N×(h·w)×C means of a grid N×C×h×w, coarse to fine and row by row: of the whole grid
    (twice), of its halves (left and right), of its quarters and so on; h·w is a power of two."""
    count = grid.shape[2] * grid.shape[3]
    levels = [0, *range(count.bit_length() - 1)]
    sides = [(1 << level // 2, 1 << (level + 1) // 2) for level in levels]
    means = [functional.adaptive_avg_pool2d(grid, side).flatten(2) for side in sides]
    return torch.cat(means, dim=2).mT


class Gigatok(NetworkTokenizer[GigatokPlan]):
    """One GigaTok. Its file may have the head that was distilled from DINOv2, and a count of used
    codewords."""

    PLAN = GigatokPlan
    OTHERS = r"s1to2decoder\.distill_mlp\.|quantize\.codebook_used$"
    PARTS: ClassVar[Names] = (
        (r"^tokens_out\.", "tokenizer.conv_out."),
        (r"^grid_out\.", "detokenizer.conv_out."),
        (r"^first_queries\.", "tokenizer.global_proj."),
        (r"^tokenizer\.embedding\.", "tokenizer.encoder_embed."),
        (r"^detokenizer\.embedding\.", "detokenizer.decoder_embed."),
        (r"tokenizer\.norm_in\.", "tokenizer.ln_pre."),
        (r"tokenizer\.norm_out\.", "tokenizer.ln_post."),
        (r"\.grid_places$", ".positional_embedding"),
        (r"\.token_places$", ".latent_token_positional_embedding"),
        (r"tokenizer\.layers\.", "tokenizer.transformer."),
        (r"\.attention\.(qkv|out)", r".self_attn.\1"),
        (r"\.cross\.(qkv|out)", r".multihead_attn.\1"),
        (r"_attn\.qkv\.", "_attn.in_proj_"),
        (r"_attn\.out\.", "_attn.out_proj."),
        (r"\.mlp\.0\.", ".linear1."),
        (r"\.mlp\.2\.", ".linear2."),
        (r"^tokenizer\.", "s2to1encoder."),
        (r"^detokenizer\.", "s1to2decoder."),
    )

    @classmethod
    def list_names(cls, plan: GigatokPlan) -> Names:
        """Return the official names; those of the decoder's levels follow from their number."""
        last = len(plan.conv.multipliers) - 1
        adaptive = (
            (rf"^decoder\.levels\.{level}\.modulation\.", f"decoder.adaptive.{last - level}.")
            for level in range(last + 1)
        )
        return (
            *cls.PARTS,
            *adaptive,
            (r"(\.adaptive\.\d+)\.scale\.", r"\1.gamma."),
            (r"(\.adaptive\.\d+)\.shift\.", r"\1.beta."),
            (r"^(decoder\.levels\.\d+\.resample\.conv)\.", r"\g<1>1."),
            (r"\.middle\.block1\.", ".mid.1."),
            *LlamaGen.list_names(plan.conv),
        )

    @classmethod
    def make_network(cls, spec: Spec, plan: GigatokPlan) -> GigatokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        grid = split_grid(spec, plan.conv.downsample)
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        places = grid[0] * grid[1]
        if grid[0] != grid[1] or places & (places - 1):
            raise RegistryError(
                f"{spec.name}: size.fixed must be a square of a power of two, got {spec.size.fixed}"
            )
        check_facts(
            spec,
            {
                "kind": (spec.kind, "discrete"),
                "downsample": (spec.downsample, None),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
            },
        )
        return GigatokNetwork(plan, grid, size=spec.codebook_size)
