"""XQ-GAN, and RobusTok and ImageFolder in its form: two transformers of DINOv2's shape, and between them
grids of tokens with the patches' positions (https://arxiv.org/abs/2412.01762,
https://arxiv.org/abs/2503.08354, https://arxiv.org/abs/2410.01756, lxa9867/ImageFolder,
tokenizer/tokenizer_image/xqgan_model.py).

A token is a word of each of `groups` codebooks (product quantization); with `sides` each of these codes
the grid scale by scale, as VAR does.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.quantize import (
    BinaryCode,
    Codebook,
    DirectedCodebook,
    MultiScale,
    ProductCode,
)
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Pointwise,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
    resample_places,
)
from vtbench.tokenizers.softvq import SoftVq
from vtbench.tokenizers.titok import split_grid

PHIS = 4
"""Refinements that the scales share."""


class XqGanPlan(Strict):
    """One XQ-GAN.

    Attributes:
        encoder: The transformer of the encoder.
        decoder: The transformer of the decoder.
        side: Of the square grid of tokens.
        words: Of each codebook.
        groups: Codebooks, each with a grid of its own.
        latent: Values of a codeword.
        sides: Of the grids of each scale, coarse to fine, the last the token grid's; None for one
            scale.
        signs: Whether a codeword is the signs of its values, of vectors of length 1, over scales
            (BSQ).
        patch: Pixels on a side of a patch.
    """

    encoder: VitPlan
    decoder: VitPlan
    side: Count
    words: Count
    groups: Count = 1
    latent: Count
    sides: tuple[Count, ...] | None = None
    signs: bool = False
    patch: Count = 16


class FoldedTransformer(nn.Module):
    """A transformer over a class token and patches, and grids of tokens. All have the patches'
    positions, enlarged or shrunk to their grid, and a vector that says which of these they are.

    leader: the tokens are one grid, with a class token of its own before it.
    """

    def __init__(
        self, plan: VitPlan, grid: tuple[int, int], *, side: int, groups: int, leader: bool
    ) -> None:
        super().__init__()
        self.grid, self.side, self.groups, self.leader = grid, side, groups, leader
        self.class_token = make_tokens(1, 1, plan.width)
        self.positions = make_tokens(1, grid[0] * grid[1] + 1, plan.width)
        self.kinds = make_tokens(1 + groups, plan.width)
        self.trunk = Transformer(plan)

    def _place(self) -> Tensor:
        """Return the positions 1×(1 + side²)×width of a grid of tokens and its class token."""
        first, places = self.positions[:, :1], self.positions[:, 1:]
        small = resample_places(places, self.grid, (self.side, self.side), "bicubic")
        return torch.cat([first, small], dim=1)

    def forward(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what becomes of N×places×width and of the tokens N×(groups·side²)×width."""
        first = self.class_token.expand(len(patches), 1, -1)
        placed = torch.cat([first, patches], dim=1) + self.positions + self.kinds[0]
        places = self._place()
        if self.leader:
            tokens = torch.cat([first, tokens], dim=1)
        else:
            places = places[:, 1:].repeat(1, self.groups, 1)
        kinds = self.kinds[1:].repeat_interleave(tokens.shape[1] // self.groups, dim=0)
        x: Tensor = self.trunk(torch.cat([placed, tokens + places + kinds], dim=1))
        count = placed.shape[1]
        return x[:, 1:count], x[:, count + int(self.leader) :]


class XqGanNetwork(Autoencoder):
    """Patches and tokens, transformer, `before`, quantizers, `after`, transformer, pixels."""

    def __init__(self, plan: XqGanPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.plan, self.grid, self.groups = plan, grid, plan.groups
        width, out_width = plan.encoder.width, plan.decoder.width
        self.embedding = PatchEmbedding(plan.patch, width)
        self.tokens = make_tokens(1, plan.groups * plan.side**2, width)
        self.encoder = FoldedTransformer(
            plan.encoder, grid, side=plan.side, groups=plan.groups, leader=False
        )
        self.decoder = FoldedTransformer(plan.decoder, grid, side=plan.side, groups=1, leader=True)
        self.before = Pointwise(width, plan.latent)
        self.after = Pointwise(plan.groups * plan.latent, out_width)
        self.quantizer = ProductCode(self._make_quantizer() for _ in range(plan.groups))
        self.mask = make_tokens(1, 1, out_width)
        self.head = nn.Linear(out_width, 3 * plan.patch**2)

    def _make_quantizer(self) -> Codebook | MultiScale:
        plan = self.plan
        if plan.sides is None:
            return Codebook(plan.words, plan.latent, "cosine")
        codebook: Codebook | BinaryCode = DirectedCodebook(plan.words, plan.latent)
        if plan.signs:
            codebook = BinaryCode(plan.latent, sphere=True)
        return MultiScale(codebook, plan.sides, enlarge="bicubic", phis=PHIS, width=plan.latent)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×(groups·latent)×side×side, which the quantizers will see."""
        tokens = self.tokens.expand(len(images), -1, -1)
        _, x = self.encoder(self.embedding(images), tokens)
        grids: Tensor = self.before(x).mT.unflatten(
            2, (self.groups, self.plan.side, self.plan.side)
        )
        grids = grids.transpose(1, 2)
        if self.plan.signs:
            grids = functional.normalize(grids, dim=2)
        return grids.flatten(1, 2)

    def encode(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the indices N×h×w, with several groups N×groups×h×w, or a tuple of such for the
        scales."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        vectors = self.quantizer.decode(code).flatten(2).mT.to(self.mask.dtype)
        masks = self.mask.expand(len(vectors), self.grid[0] * self.grid[1], -1)
        patches, _ = self.decoder(masks, self.after(vectors))
        return join_patches(self.head(patches), self.grid, channels_last=True)


class XqGan(NetworkTokenizer[XqGanPlan]):
    """One XQ-GAN. Its file also has the networks of its losses, counts of used words, and which token
    is of which kind."""

    PLAN = XqGanPlan
    OTHERS = (
        r"(semantic|detail)_(model|loss)\.|sem_linear\.|(en|de)coder\.lvl1LC$|"
        r"quantizes?\.(\d+\.)?(ema_vocab_hit_SV|scaler)$"
    )
    NAMES: ClassVar[Names] = (
        (r"^quantizer\.books\.(\d+)\.(quantizer\.)?entries$", r"quantizes.\1.embedding.weight"),
        (r"^quantizer\.books\.(\d+)\.phis\.", r"quantizes.\1.quant_resi.qresi_ls."),
        (r"\.kinds$", ".lvl_embed.weight"),
        *SoftVq.NAMES,
    )

    @classmethod
    def list_names(cls, plan: XqGanPlan) -> Names:
        """Return the official names; one quantizer is `quantize`, several are `quantizes`."""
        one = (r"^quantizes\.0\.", "quantize.")
        return (*cls.NAMES, one) if plan.groups == 1 else cls.NAMES

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: XqGanPlan) -> tuple[int, ...]:
        """Return the size of each group's codebook."""
        return (plan.words,) * plan.groups

    @classmethod
    def make_network(cls, spec: Spec, plan: XqGanPlan) -> XqGanNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if plan.sides is not None and plan.sides[-1] != plan.side:
            raise RegistryError(f"{spec.name}: the last of sides must be {plan.side}")
        if plan.signs and (plan.sides is None or plan.words != 2**plan.latent):
            raise RegistryError(f"{spec.name}: signs need sides and {2**plan.latent} words")
        cls.check_words(spec, plan, downsample=None)
        return XqGanNetwork(plan, split_grid(spec, plan.patch))
