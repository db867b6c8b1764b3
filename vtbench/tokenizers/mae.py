"""The masked autoencoder (https://arxiv.org/abs/2111.06377, facebookresearch/mae, models_mae.py) with
nothing masked: what becomes of all patches is the code, the decoder draws their pixels.

Only checkpoints whose targets were pixels are tokenizers, those of demo/mae_visualize.ipynb; the
others predict patches less their own mean and over their own deviation (`norm_pix_loss`). The official
loss is of masked patches alone, so what is drawn of patches that were seen was never corrected.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn import vit
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.rae import IMAGENET
from vtbench.tokenizers.titok import split_grid


class MaeVitPlan(vit.VitPlan):
    """One of its transformers: norms of 1e-6, none before the first block, positions of four parts."""

    width: Annotated[int, Field(ge=4, multiple_of=4)]
    epsilon: Annotated[float, Field(gt=0)] = 1e-6
    norm_in: bool = False


class MaePlan(Strict):
    """Two transformers over a class token and patches of patch×patch pixels."""

    encoder: MaeVitPlan
    decoder: MaeVitPlan
    patch: Count = 16


def make_positions(grid: tuple[int, int], width: int) -> nn.Parameter:
    """Return fixed positions 1×(1 + places)×width, zero for the class token: a parameter, as in the
    official file, though nothing trains it."""
    placed = torch.cat([torch.zeros(1, width), vit.compute_positions(grid, width)])
    return nn.Parameter(placed[None], requires_grad=False)


class MaeNetwork(Autoencoder):
    """Encoder and decoder. The decoder attends to the class token, too, so the code has it. `mask`
    stands for patches unseen, of which there are none; the official file has it."""

    def __init__(self, plan: MaePlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid, width, out_width = grid, plan.encoder.width, plan.decoder.width
        self.embedding = vit.PatchEmbedding(plan.patch, width)
        self.class_token = vit.make_tokens(1, 1, width)
        self.positions = make_positions(grid, width)
        self.encoder = vit.Transformer(plan.encoder)
        self.tokens_in = nn.Linear(width, out_width)
        self.mask = vit.make_tokens(1, 1, out_width)
        self.decoder_positions = make_positions(grid, out_width)
        self.decoder = vit.Transformer(plan.decoder)
        self.head = nn.Linear(out_width, 3 * plan.patch**2)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return features N×width×1×(1 + places) of images in [0, 1], the class token's first."""
        mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
        patches = self.embedding((images - mean) / deviation)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        features: Tensor = self.encoder(tokens + self.positions)
        return features.mT[:, :, None]

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images, nominally in [0, 1], of such features."""
        assert isinstance(code, Tensor)
        tokens = self.tokens_in(code[:, :, 0].mT.to(self.head.weight.dtype))
        patches: Tensor = self.head(self.decoder(tokens + self.decoder_positions)[:, 1:])
        mean, deviation = (patches.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
        return vit.join_patches(patches, self.grid, channels_last=True) * deviation + mean


class Mae(NetworkTokenizer[MaePlan]):
    """One masked autoencoder that predicts pixels; its plan is a `MaePlan`."""

    PLAN = MaePlan
    OTHERS = r"$^"
    INPUT_RANGE = (0.0, 1.0)
    NAMES = (
        (r"^encoder\.layers\.", "blocks."),
        (r"^encoder\.norm_out\.", "norm."),
        (r"^decoder\.layers\.", "decoder_blocks."),
        (r"^decoder\.norm_out\.", "decoder_norm."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
        (r"^embedding\.", "patch_embed.proj."),
        (r"^tokens_in\.", "decoder_embed."),
        (r"^head\.", "decoder_pred."),
        (r"^class_token$", "cls_token"),
        (r"^mask$", "mask_token"),
        (r"positions$", "pos_embed"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: MaePlan) -> MaeNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        facts = {
            "kind": (spec.kind, "continuous"),
            "downsample": (spec.downsample, None),  # 1 + places tokens are no grid
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, plan.encoder.width),
        }
        check_facts(spec, facts)
        return MaeNetwork(plan, split_grid(spec, plan.patch))
