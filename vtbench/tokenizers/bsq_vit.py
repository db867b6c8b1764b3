"""BSQ-ViT: a transformer over 8×8 patches, each of which becomes the signs of a point on a sphere
(https://arxiv.org/abs/2406.07548, zhaoyue-zephyrus/bsq-vit, transcoder/models/bsqvit.py)."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
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


class PlacedTransformer(nn.Module):
    """Tokens N×places×width with learned positions, through a transformer."""

    def __init__(self, plan: VitPlan, places: int) -> None:
        super().__init__()
        self.positions = make_tokens(places, plan.width)
        self.trunk = Transformer(plan)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.trunk(tokens + self.positions)
        return out


class BsqVitNetwork(Autoencoder):
    """Patches, transformer, `before`, quantizer, `after`, transformer, `head`, patches."""

    def __init__(self, plan: BsqVitPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        places, width = grid[0] * grid[1], plan.vit.width
        self.grid = grid
        # A norm follows, so the official code leaves the bias out.
        self.embedding = PatchEmbedding(plan.patch, width, flat=True, bias=not plan.vit.norm_in)
        self.encoder = PlacedTransformer(plan.vit, places)
        self.before = nn.Linear(width, plan.bits)
        self.quantizer = BinaryCode(plan.bits, sphere=True, first="high")
        self.after = nn.Linear(plan.bits, width)
        self.decoder = PlacedTransformer(plan.vit, places)
        outputs = nn.Linear(plan.hidden, 3 * plan.patch**2)
        self.head = nn.Sequential(nn.Linear(width, plan.hidden), nn.Tanh(), outputs)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×bits×h×w vectors of length 1, which the quantizer will see."""
        vectors = functional.normalize(self.before(self.encoder(self.embedding(images))), dim=-1)
        return vectors.mT.reshape(len(vectors), -1, *self.grid)

    def encode(self, images: Tensor) -> Tensor:
        """Return indices N×h×w."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = self.quantizer.decode(code).flatten(2).mT
        tokens = self.decoder(self.after(vectors.to(self.after.weight.dtype)))
        return join_patches(self.head(tokens), self.grid)


class BsqVit(NetworkTokenizer[BsqVitPlan]):
    """One BSQ-ViT. The official model clamps to the range, as vtbench does to every image."""

    PLAN = BsqVitPlan
    OTHERS = r"quantize\.(group_)?basis$"
    NAMES = (
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer.resblocks."),
        (r"^embedding\.", "encoder.conv1."),
        (r"\.positions$", ".positional_embedding"),
        (r"^head\.0\.", "decoder.ffn.0."),
        (r"^head\.2\.", "decoder.conv_out."),
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
