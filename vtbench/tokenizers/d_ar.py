"""D-AR's sequential diffusion tokenizer (https://arxiv.org/abs/2505.23660), showlab/D-AR,
tokenizer/tokenizer_image: 256 tokens in order, of which each step of the decoder gets the next few."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.diffusion import DiffusionNetwork, DiffusionTokenizer
from vtbench.tokenizers.network import check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import (
    EPSILON,
    TimeEmbedding,
    integrate,
    make_grid,
    make_rotations,
    normalize,
)
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import Attention, Block, VitPlan, make_mlp

HEAD = 64
"""Width of an attention's head, whatever the network's; half of it turns with the row of a patch,
half with the column."""

TABLE = 1024
"""Learned vectors of the queries, and places of the code, of which the first `tokens` are used."""

QUERY_RANK = 8


class DArPlan(Strict):
    """One D-AR tokenizer; the defaults are those of configs/tokenizer_v1.yaml.

    Attributes:
        width: Of a token in the three transformers.
        encoder_depth: Blocks of the encoder.
        code_depth: Blocks that see the code's tokens, causally.
        decoder_depth: Blocks of the flow's network.
        encoder_patch: Pixels on a side of the encoder's patches.
        decoder_patch: Pixels on a side of the flow's patches.
        latent: Values of a codeword.
        tokens: Of the code.
        group: How many tokens a step gets.
        kept: How many of all tokens, the first, the code has, in whole groups; by default all.
        deviation: Of the pixels that the flow works on.
        shift: t → t/(t + shift·(1 − t)) of the evenly spaced times.
        steps: Of sampling.
    """

    width: Annotated[int, Field(ge=HEAD, multiple_of=HEAD)] = 768
    encoder_depth: Count = 8
    code_depth: Count = 8
    decoder_depth: Count = 12
    encoder_patch: Count = 16
    decoder_patch: Count = 8
    latent: Count = 8
    tokens: Annotated[int, Field(ge=1, le=TABLE)] = 256
    group: Count = 32
    kept: Count | None = None
    deviation: Annotated[float, Field(gt=0)] = 0.6
    shift: Annotated[float, Field(gt=0)] = 2.0
    steps: Count = 8

    @model_validator(mode="after")
    def _keeps_whole_groups(self) -> DArPlan:
        if self.kept is not None and (self.kept > self.tokens or self.kept % self.group):
            raise ValueError(f"kept: {self.kept} of {self.tokens} tokens in groups of {self.group}")
        return self

    @property
    def vit(self) -> VitPlan:
        """The plan of all blocks."""
        heads = self.width // HEAD
        return VitPlan(
            width=self.width,
            depth=1,
            heads=heads,
            epsilon=EPSILON,
            apart=True,
            qk_norm=True,
            gelu=None,
            scale=0.0,
        )


class FlowBlock(nn.Module):
    """A block of the decoder: what each patch finds in the code, plus the time, scales, shifts and
    gates its attention and perceptron."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.time = TimeEmbedding(plan.width, plan.width)
        self.code = make_mlp(plan.model_copy(update={"ratio": 1.0}))
        self.cross, self.attention = Attention(plan), Attention(plan)
        self.modulation = nn.Linear(plan.width, 6 * plan.width)
        self.mlp = make_mlp(plan)

    def forward(self, x: Tensor, code: Tensor, time: Tensor, rotations: Tensor) -> Tensor:
        memory = normalize(self.code(code))
        found = self.cross(normalize(x), memory, memory, rotations=rotations)
        terms = self.modulation(functional.silu(self.time(time)[:, None] + found))
        shift1, scale1, gate1, shift2, scale2, gate2 = terms.chunk(6, dim=-1)
        modulated = normalize(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(modulated, rotations=rotations)
        added: Tensor = gate2 * self.mlp(normalize(x) * (1 + scale2) + shift2)
        return x + added


class Flow(nn.Module):
    """The velocity of the flow from noise (time 0) to image (1): N×3×H×W → N×3×H×W."""

    def __init__(self, plan: DArPlan) -> None:
        super().__init__()
        self.patch = plan.decoder_patch
        self.code = nn.Linear(plan.width, plan.width)
        self.conv_in = nn.Conv2d(3 * self.patch**2, plan.width, 1)
        self.blocks = nn.ModuleList(FlowBlock(plan.vit) for _ in range(plan.decoder_depth))
        self.conv_out = nn.Conv2d(plan.width, 3 * self.patch**2, 1)

    def forward(self, x: Tensor, time: Tensor, code: Tensor) -> Tensor:
        planes = self.conv_in(functional.pixel_unshuffle(x, self.patch))
        grid = planes.shape[-2:]
        rotations = make_rotations(make_grid(*grid), (HEAD // 2, HEAD // 2)).to(x.device)
        code = normalize(self.code(code))
        tokens = planes.flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens, code, time, rotations)
        planes = self.conv_out(normalize(tokens).mT.reshape_as(planes))
        return functional.pixel_shuffle(planes, self.patch)


class DArNetwork(DiffusionNetwork):
    """Patches and learned queries → codewords in order → features of each, causal → the flow."""

    def __init__(self, plan: DArPlan, side: int, size: int) -> None:
        super().__init__()
        self.plan, self.side = plan, side
        width = plan.width
        self.patches = nn.Conv2d(3, width, plan.encoder_patch, stride=plan.encoder_patch)
        self.queries = nn.Parameter(torch.randn(TABLE, QUERY_RANK))
        self.query_in = nn.Linear(QUERY_RANK, width)
        self.encoder = nn.ModuleList(Block(plan.vit) for _ in range(plan.encoder_depth))
        self.before = nn.Conv2d(width, plan.latent, 1, bias=False)
        self.quantizer = Codebook(size, plan.latent, "cosine")
        self.after = nn.Conv2d(plan.latent, width, 1, bias=False)
        self.places = nn.Parameter(torch.randn(TABLE, width) * 0.02)
        self.code = nn.ModuleList(Block(plan.vit) for _ in range(plan.code_depth))
        self.flow = Flow(plan)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens."""
        planes = self.patches(images)
        grid, count = planes.shape[-2:], self.plan.tokens
        queries = self.query_in(self.queries[:count]).expand(len(images), -1, -1)
        x = torch.cat([normalize(planes.flatten(2).mT), queries], dim=1)
        patches = x.shape[1] - count
        # Patches see patches; a query sees these and the queries up to itself. Only patches turn.
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        mask[:, :patches] = True
        places = functional.pad(make_grid(*grid), (0, 0, 0, count))
        rotations = make_rotations(places, (HEAD // 2, HEAD // 2)).to(x.device)
        for block in self.encoder:
            x = block(x, rotations=rotations, mask=mask)
        latents: Tensor = self.before(normalize(x[:, patches:]).mT[:, :, None])
        return latents[..., : self.plan.kept]

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×1×tokens."""
        return self.quantizer.encode(self.compute_latents(images))

    def denoise(self, code: Tensor, noise: Tensor) -> Tensor:
        """Return N×3×side×side images. With the first tokens alone, the last step that has its group
        goes the rest of the way, as the official code's previews do (`clip_steps`)."""
        plan, dtype = self.plan, self.places.dtype
        x = self.after(self.quantizer.decode(code).to(dtype)).squeeze(2).mT
        count = x.shape[1]
        x = x + self.places[:count]
        mask = torch.ones(count, count, dtype=torch.bool, device=x.device).tril()
        for block in self.code:
            x = block(x, mask=mask)
        features = normalize(x)
        firsts = [_find_first(plan, step) for step in range(plan.steps)]
        firsts = [first for first in firsts if first + plan.group <= count]
        even = torch.tensor([step / plan.steps for step in range(len(firsts))] + [1.0])
        times = even / (even + plan.shift * (1 - even))

        def velocity(step: int, time: Tensor, x: Tensor) -> Tensor:
            group = features[:, firsts[step] : firsts[step] + plan.group]
            flow: Tensor = self.flow(x.to(dtype), time, group)
            return flow.float()

        return integrate(velocity, noise, times, adams=True) / plan.deviation


def _find_first(plan: DArPlan, step: int) -> int:
    """Return the first token of the group that a step is given."""
    groups = plan.tokens // plan.group
    nearest = math.floor(step / plan.steps * groups + 0.5) / groups
    return min(int(nearest * plan.tokens), plan.tokens - plan.group)


class DAr(DiffusionTokenizer[DArPlan]):
    """D-AR's tokenizer with the names of showlab/D-AR. `repa_out` is the head of a loss; of the
    codebook's use a count is kept in training."""

    PLAN = DArPlan
    OTHERS = r"diff_decoder\.net\.repa_out\.|quantize\.codebook_used$"
    NAMES = (
        (r"^queries$", "query_embedding.weight"),
        (r"^places$", "decoder_embedding.weight"),
        (r"^quantizer\.entries$", "quantize.embedding.weight"),
        (r"^patches\.", "patchify."),
        (r"^query_in\.", "query_linear."),
        (r"^before\.", "quant_in_conv."),
        (r"^after\.", "quant_out_conv."),
        (r"^encoder\.", "encoder_layers."),
        (r"^code\.", "decoder_layers."),
        (r"^flow\.code\.", "diff_decoder.net.cond_mlp."),
        (r"^flow\.", "diff_decoder.net."),
        (r"\.scale(\d)$", r".gate\1"),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
        (r"\.out\.", ".proj."),
        (r"\.cross\.", ".cross_attn."),
        (r"\.time\.", ".time_embed.mlp."),
        (r"\.code\.", ".cond_embed."),
        (r"\.modulation\.", ".adaLN_modulation.1."),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: DArPlan) -> DArNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        check_facts(spec, {"input_range": (spec.input_range, cls.INPUT_RANGE)})
        return DArNetwork(plan, cls.check_size(spec), spec.codebook_size)
