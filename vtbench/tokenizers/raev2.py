"""RAEv2: the sum of what several layers of DINOv3 see, and RAE's decoder
(https://arxiv.org/abs/2605.18324, nanovisionx/RAEv2, src/stage1/rae.py, src/encoders).

DINOv3 (https://arxiv.org/abs/2508.10104, facebookresearch/dinov3) is ours, with the names of its own
repository; the decoder is diffusers'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.errors import WeightsMismatch
from vtbench.base.records import Spec
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.vit import PatchEmbedding, Transformer, VitPlan, make_tokens
from vtbench.tokenizers.patch_vit import turn_dinov3
from vtbench.tokenizers.rae import (
    IMAGENET,
    DecoderPlan,
    make_decoder,
    read_statistics,
    rename_part,
)
from vtbench.weights.states import load_state

DECODER, STATISTICS = "decoder.pt", "stats.pt"
"""The official files beside the encoder's own."""

LEADERS = 5
"""Tokens before those of patches: the class token and four registers."""


class Raev2Plan(DecoderPlan):
    """One RAEv2.

    Attributes:
        encoder: DINOv3's transformer.
        layers: Those whose patches are averaged, from 0, to which the mean patch of the last is
            added; None for the last alone, as it is.
        side: Of the image.
        encoder_file: DINOv3's own checkpoint.
    """

    encoder: VitPlan
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    side: Count = 256
    encoder_file: str = "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth"


class Dinov3(nn.Module):
    """Patches of normalised images, after a class token and registers, through blocks."""

    def __init__(self, plan: VitPlan, patch: int) -> None:
        super().__init__()
        self.head = plan.width // plan.heads
        self.embedding = PatchEmbedding(patch, plan.width)
        self.leader = make_tokens(1, 1, plan.width)
        self.registers = make_tokens(1, LEADERS - 1, plan.width)
        self.trunk = Transformer(plan)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the patches N×L×width after each block, normalised without weights."""
        patches = self.embedding(images)
        rows, columns = (side // self.embedding.side for side in images.shape[-2:])
        rotations = turn_dinov3(rows, columns, self.head, torch.float32).to(images.device)
        leaders = torch.cat([self.leader, self.registers], dim=1).expand(len(patches), -1, -1)
        x, seen = torch.cat([leaders, patches], dim=1), []
        for layer in self.trunk.layers:
            x = layer(x, rotations=rotations)
            seen.append(functional.layer_norm(x[:, LEADERS:], x.shape[-1:]))
        return seen


class Raev2Network(Autoencoder):
    """encoder, statistics, decoder."""

    _latents_mean: Tensor
    _latents_std: Tensor

    def __init__(self, plan: Raev2Plan) -> None:
        super().__init__()
        width, grid = plan.encoder.width, plan.side // plan.patch_size
        self.layers, self.grid = plan.layers, (grid, grid)
        self.encoder = Dinov3(plan.encoder, plan.patch_size)
        self.decoder = make_decoder(plan, width, grid)
        self.register_buffer("_latents_mean", torch.zeros(width, grid, grid))
        self.register_buffer("_latents_std", torch.ones(width, grid, grid))

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w of N×3×H×W images in [0, 1], over the statistics' deviation."""
        mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
        seen = self.encoder((images - mean) / deviation)
        x = seen[-1]
        if self.layers is not None:
            chosen = [seen[layer] for layer in self.layers]
            x = torch.stack(chosen).mean(dim=0) + chosen[-1].mean(dim=1, keepdim=True)
        latents: Tensor = x.mT.reshape(len(x), -1, *self.grid)
        return (latents - self._latents_mean) / self._latents_std

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images, nominally in [0, 1], of latents."""
        assert isinstance(code, Tensor)
        latents = code * self._latents_std + self._latents_mean
        patches = self.decoder(latents.flatten(2).mT.contiguous()).logits
        images: Tensor = self.decoder.unpatchify(patches)
        return images


class Raev2(NetworkTokenizer[Raev2Plan]):
    """weights: a folder of decoder.pt, stats.pt and DINOv3's own file, or the first of these."""

    PLAN = Raev2Plan
    INPUT_RANGE = (0.0, 1.0)
    OTHERS = r"norm\.|mask_token$|rope_embed\.periods$"
    NAMES: ClassVar[Names] = (
        (r"^encoder\.embedding\.", "patch_embed.proj."),
        (r"^encoder\.leader$", "cls_token"),
        (r"^encoder\.registers$", "storage_tokens"),
        (r"^encoder\.trunk\.layers\.", "blocks."),
        (r"^(blocks.*)\.attention\.out\.", r"\1.attn.proj."),
        (r"^(blocks.*)\.attention\.", r"\1.attn."),
        (r"^(blocks.*)\.mlp\.0\.", r"\1.mlp.fc1."),
        (r"^(blocks.*)\.mlp\.2\.", r"\1.mlp.fc2."),
        (r"^(blocks.*)\.scale(\d)$", r"\1.ls\2.gamma"),
    )

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers with its version: the decoder is its."""
        return {"diffusers": version("diffusers")}

    @classmethod
    def make_network(cls, spec: Spec, plan: Raev2Plan) -> Raev2Network:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_latents(spec, downsample=plan.patch_size, latent=plan.encoder.width)
        check_facts(spec, {"size.fixed": (spec.size.fixed, (plan.side, plan.side))})
        return Raev2Network(plan)

    def read_state(self, weights: Path, plan: Raev2Plan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of the three files. Raises WeightsMissing or WeightsMismatch."""
        folder = weights if weights.is_dir() else weights.parent
        # The mask takes the keys' biases away, which the official code never trains.
        state = fold_masks(super().read_state(folder / plan.encoder_file, plan, **layout))
        state |= load_state(folder / DECODER, rename=lambda key: rename_part(key, "decoder."))
        return state | read_statistics(folder / STATISTICS)


def fold_masks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with each …qkv.bias_mask multiplied into its bias."""
    folded = {key: tensor for key, tensor in state.items() if not key.endswith(".bias_mask")}
    for key in state.keys() - folded.keys():
        bias = re.sub(r"^blocks\.(.*)\.attn\.", r"encoder.trunk.layers.\1.attention.", key)
        bias = bias.removesuffix("_mask")
        if bias not in folded or folded[bias].shape != state[key].shape:
            raise WeightsMismatch(f"{key} masks no bias")
        folded[bias] = folded[bias] * state[key]
    return folded
