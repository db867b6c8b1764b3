"""FQGAN: LlamaGen's network whose encoder ends in two or three heads, each with a codebook of its own
(https://arxiv.org/abs/2411.16681, showlab/FQGAN, tokenizer/vq_model_dual.py and vq_model_triple.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as functional
from pydantic import field_validator
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.bsq_vit import PlacedTransformer
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import ConvPlan, Count, Decoder, Encoder, make_norm
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import VitPlan
from vtbench.tokenizers.titok import CLIP_NAMES, split_grid
from vtbench.tokenizers.vqgan import LlamaGen

HEADS: Mapping[int, tuple[str, ...]] = {2: ("vis", "sem"), 3: ("vis", "sem_mid", "sem_high")}
"""What the official code calls the heads: of visual detail, and of semantics at one level or two."""


class FqganPlan(Strict):
    """One FQGAN.

    Attributes:
        conv: The halves.
        adapter: The transformer of each head, as wide as the encoder's last level.
        heads: How many there are, with a codebook each.
        words: Of each codebook.
        width: Values of a codeword.
    """

    conv: ConvPlan
    adapter: VitPlan
    heads: Literal[2, 3]
    words: Count = 16384
    width: Count = 8

    @field_validator("conv", mode="before")
    @classmethod
    def _without_a_width(cls, given: object) -> object:
        return {"latent": 256, **given} if isinstance(given, Mapping) else given


class Head(nn.Module):
    """A transformer over the encoder's grid, convolutions, and a codebook of cosine nearness."""

    def __init__(self, plan: FqganPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        width = plan.conv.widths[-1]
        self.grid = grid
        self.adapter = PlacedTransformer(plan.adapter, grid[0] * grid[1])
        self.norm_out = make_norm(width)
        self.conv_out = nn.Conv2d(width, plan.conv.latent, 3, padding=1)
        self.before = nn.Conv2d(plan.conv.latent, plan.width, 1)
        self.quantizer = Codebook(plan.words, plan.width, "cosine")

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.adapter(h.flatten(2).mT).mT.reshape_as(h)
        vectors: Tensor = self.before(self.conv_out(functional.silu(self.norm_out(tokens))))
        return vectors


class FqganNetwork(Autoencoder):
    """Encoder, heads, `after`, decoder."""

    def __init__(self, plan: FqganPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(plan.conv), Decoder(plan.conv)
        # Each head has its own.
        del self.encoder.norm_out, self.encoder.conv_out
        self.heads = nn.ModuleDict({name: Head(plan, grid) for name in HEADS[plan.heads]})
        self.after = nn.Conv2d(plan.heads * plan.width, plan.conv.latent, 1)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×(heads·width)×h×w, which the quantizers will see."""
        h = self.encoder.extract(images)
        return torch.cat([head(h) for head in self.heads.values()], dim=1)

    def _list_codebooks(self) -> list[Codebook]:
        return [head.quantizer for head in self.heads.values() if isinstance(head, Head)]

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×heads×h×w."""
        parts = self.compute_latents(images).chunk(len(self.heads), dim=1)
        books = self._list_codebooks()
        return torch.stack([b.encode(part) for b, part in zip(books, parts, strict=True)], dim=1)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        books, grids = self._list_codebooks(), code.unbind(dim=1)
        words = [book.decode(indices) for book, indices in zip(books, grids, strict=True)]
        vectors = torch.cat(words, dim=1).to(self.after.weight.dtype)
        images: Tensor = self.decoder(self.after(vectors))
        return images


class Fqgan(NetworkTokenizer[FqganPlan]):
    """One FQGAN. Its file may have the heads that were distilled from CLIP and DINO, and counts of
    used codewords."""

    PLAN = FqganPlan
    OTHERS = r"(mid_sem_|high_sem_)?feat_pred(_head)?\.|quantize_\w+\.codebook_used$"
    PARTS: ClassVar[Names] = (
        (r"^heads\.(\w+)\.(norm_out|conv_out)\.", r"encoder.\2_\1."),
        (r"^heads\.(\w+)\.before\.", r"quant_conv_\1."),
        (r"^heads\.(\w+)\.quantizer\.entries$", r"quantize_\1.embedding.weight"),
        (r"^heads\.vis\.adapter\.", "encoder.visual_head.0."),
        (r"^heads\.sem(\w*)\.adapter\.", r"encoder.semantic_head\1.0."),
        (r"\.positions$", ".positional_embedding"),
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer."),
    )

    @classmethod
    def list_names(cls, plan: FqganPlan) -> Names:
        """Return the official names; those of the decoder's levels follow from their number."""
        return (*cls.PARTS, *LlamaGen.list_names(plan.conv))

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: FqganPlan) -> tuple[int, ...]:
        """Return the size of each head's codebook."""
        return (plan.words,) * plan.heads

    @classmethod
    def make_network(cls, spec: Spec, plan: FqganPlan) -> FqganNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_words(spec, plan, downsample=plan.conv.downsample)
        return FqganNetwork(plan, split_grid(spec, plan.conv.downsample))
