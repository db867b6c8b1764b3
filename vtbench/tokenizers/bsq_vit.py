"""BSQ-ViT: a transformer over 8×8 patches, each of which becomes the signs of a point on a sphere
(https://arxiv.org/abs/2406.07548, zhaoyue-zephyrus/bsq-vit, transcoder/models/bsqvit.py)."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.records import Spec
from vtbench.registry import Strict
from vtbench.tokenizers.convnet import check_power
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.quantize import BinaryCode
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
)
from vtbench.tokenizers.titok import CLIP_NAMES, split_grid


class BsqVitPlan(Strict):
    """One transformer, which encoder and decoder each have. patch: side of a patch; bits: of its
    code; hidden: width between the decoder's transformer and the pixels."""

    vit: VitPlan
    bits: Count
    patch: Count = 8
    hidden: Count = 3072


class PatchEncoder(nn.Module):
    """Images N×3×H×W → tokens N×places×width."""

    def __init__(self, plan: BsqVitPlan, places: int) -> None:
        super().__init__()
        width = plan.vit.width
        # A norm follows, so the official code leaves the bias out.
        self.embedding = PatchEmbedding(plan.patch, width, flat=True, bias=not plan.vit.norm_in)
        self.positions = make_tokens(places, width)
        self.trunk = Transformer(plan.vit)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.trunk(self.embedding(images) + self.positions)
        return tokens


class PatchDecoder(nn.Module):
    """Tokens N×places×width → images N×3×H×W."""

    def __init__(self, plan: BsqVitPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.positions = make_tokens(grid[0] * grid[1], plan.vit.width)
        self.trunk = Transformer(plan.vit)
        self.head = nn.Sequential(nn.Linear(plan.vit.width, plan.hidden), nn.Tanh())
        self.conv_out = nn.Linear(plan.hidden, 3 * plan.patch**2)

    def forward(self, tokens: Tensor) -> Tensor:
        patches: Tensor = self.conv_out(self.head(self.trunk(tokens + self.positions)))
        return join_patches(patches, self.grid)


class BsqVitNetwork(Autoencoder):
    """Encoder, `before`, quantizer, `after`, decoder."""

    def __init__(self, plan: BsqVitPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = PatchEncoder(plan, grid[0] * grid[1])
        self.decoder = PatchDecoder(plan, grid)
        self.before = nn.Linear(plan.vit.width, plan.bits)
        self.after = nn.Linear(plan.bits, plan.vit.width)
        self.quantizer = BinaryCode(plan.bits, sphere=True, first="high")

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×bits×h×w vectors of length 1, which the quantizer will see."""
        vectors = functional.normalize(self.before(self.encoder(images)), dim=-1)
        return vectors.mT.reshape(len(vectors), -1, *self.grid)

    def encode(self, images: Tensor) -> Tensor:
        """Return indices N×h×w."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = self.quantizer.decode(code).flatten(2).mT
        images: Tensor = self.decoder(self.after(vectors.to(self.after.weight.dtype)))
        return images


class BsqVit(NetworkTokenizer[BsqVitPlan]):
    """One BSQ-ViT. The official model clamps to the range, as vtbench does to every image."""

    PLAN = BsqVitPlan
    OTHERS = r"quantize\.(group_)?basis$"
    NAMES = (
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer.resblocks."),
        (r"^encoder\.embedding\.", "encoder.conv1."),
        (r"\.positions$", ".positional_embedding"),
        (r"^decoder\.head\.", "decoder.ffn."),
        (r"^before\.", "quant_embed."),
        (r"^after\.", "post_quant_embed."),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: BsqVitPlan) -> BsqVitNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        grid = split_grid(spec, plan.patch)
        check_facts(
            spec,
            {
                "kind": (spec.kind, "discrete"),
                "downsample": (spec.downsample, plan.patch),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
            },
        )
        check_power(spec, plan.bits)
        return BsqVitNetwork(plan, grid)
