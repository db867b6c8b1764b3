"""TokenFlow: LlamaGen's convolutions and a vision transformer beside each other, coded by one index into
two codebooks, over grids of growing size (https://arxiv.org/abs/2412.03069,
ByteVisionLab/TokenFlow, tokenflow/tokenizer/vq_model.py).

The transformer is CLIP's or SigLIP's; what it says decides the words too. Pixels come from the
convolutions' half of each word alone: the decoder of the other half, which was trained to give the
transformer's features back, is in the file and not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import model_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.convnet import ConvNetwork
from vtbench.tokenizers.network import Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import ConvPlan, Count
from vtbench.tokenizers.nn.quantize import JointCodebook, MultiScale
from vtbench.tokenizers.nn.vit import PatchEmbedding, Transformer, VitPlan, make_tokens
from vtbench.tokenizers.vqgan import LlamaGen

CLIP_NAMES: Names = (
    (r"^semantics\.patches\.", "encoder_vqkd.conv1."),
    (r"^semantics\.lead$", "encoder_vqkd.class_embedding"),
    (r"^semantics\.places$", "encoder_vqkd.positional_embedding"),
    (r"^semantics\.trunk\.norm_in\.", "encoder_vqkd.ln_pre."),
    (r"^semantics\.trunk\.norm_out\.", "encoder_vqkd.ln_post."),
    (r"^semantics\.trunk\.layers\.", "encoder_vqkd.transformer.resblocks."),
    (r"^(encoder_vqkd.*)\.norm(\d)\.", r"\1.ln_\2."),
    (r"^(encoder_vqkd.*)\.attention\.qkv\.", r"\1.attn.in_proj_"),
    (r"^(encoder_vqkd.*)\.attention\.out\.", r"\1.attn.out_proj."),
    (r"^(encoder_vqkd.*)\.mlp\.0\.", r"\1.mlp.c_fc."),
    (r"^(encoder_vqkd.*)\.mlp\.2\.", r"\1.mlp.c_proj."),
)

SIGLIP = "encoder_vqkd.vision_model."

SIGLIP_NAMES: Names = (
    (r"^semantics\.patches\.", f"{SIGLIP}embeddings.patch_embedding."),
    (r"^semantics\.places$", f"{SIGLIP}embeddings.position_embedding.weight"),
    (r"^semantics\.trunk\.layers\.", f"{SIGLIP}encoder.layers."),
    (r"^(encoder_vqkd.*)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(encoder_vqkd.*)\.attention\.([qkv])\.", r"\1.self_attn.\2_proj."),
    (r"^(encoder_vqkd.*)\.attention\.out\.", r"\1.self_attn.out_proj."),
    (r"^(encoder_vqkd.*)\.mlp\.0\.", r"\1.mlp.fc1."),
    (r"^(encoder_vqkd.*)\.mlp\.2\.", r"\1.mlp.fc2."),
)


class TokenFlowPlan(Strict):
    """One TokenFlow.

    Attributes:
        conv: LlamaGen's network.
        vit: The transformer: SigLIP's without the last block, whose output nobody sees.
        sides: Of the grids, coarse to fine; the last is that of the latents.
        patch: Pixels on a side of the transformer's patches.
        places: Positions on a side, resampled where the grid is another.
        lead: Whether a class token goes first.
        semantic: Values of a codeword that come from the transformer.
    """

    conv: ConvPlan
    vit: VitPlan
    sides: tuple[Count, ...]
    patch: Count = 16
    places: Count
    lead: bool = True
    semantic: Count = 32

    @model_validator(mode="after")
    def _has_a_code(self) -> TokenFlowPlan:
        if self.conv.width is None or not self.sides:
            raise ValueError("conv.width and sides are needed")
        return self


class Semantics(nn.Module):
    """Patches, transformer, a perceptron to the values of a word: images → N×semantic×h×w."""

    def __init__(self, plan: TokenFlowPlan) -> None:
        super().__init__()
        width, self.grid, self.side = plan.vit.width, plan.sides[-1], plan.places
        self.patches = PatchEmbedding(plan.patch, width, bias=not plan.lead)
        self.lead = make_tokens(width) if plan.lead else None
        self.places = make_tokens(plan.places**2 + plan.lead, width)
        self.trunk = Transformer(plan.vit)
        self.out = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, plan.semantic)
        )

    def _list_places(self) -> Tensor:
        lead = len(self.places) - self.side**2
        if self.grid == self.side:
            return self.places
        planes = self.places[lead:].mT.reshape(1, -1, self.side, self.side)
        # A tenth more than the grid, as the official code has it, and cut down to the grid.
        factor = (self.grid + 0.1) / self.side
        planes = functional.interpolate(planes, scale_factor=(factor, factor), mode="bicubic")
        return torch.cat([self.places[:lead], planes.flatten(2)[0].mT])

    def forward(self, images: Tensor) -> Tensor:
        side = self.grid * self.patches.side
        x = self.patches(images[..., :side, :side])
        if self.lead is not None:
            x = torch.cat([self.lead.expand(len(x), 1, -1), x], dim=1)
        x = self.trunk(x + self._list_places())[:, 0 if self.lead is None else 1 :]
        words: Tensor = self.out(x).mT.unflatten(2, (self.grid, self.grid))
        return words


class TokenFlowNetwork(ConvNetwork):
    """Both encoders, the two codebooks over all grids, and the convolutions' decoder."""

    def __init__(self, plan: TokenFlowPlan, size: tuple[int, int], words: int) -> None:
        assert plan.conv.width is not None
        book = JointCodebook(words, (plan.semantic, plan.conv.width))
        quantizer = MultiScale(book, plan.sides, enlarge="bicubic")
        super().__init__(plan.conv, quantizer=quantizer, kernel=1)
        self.semantics, self.size, self.semantic = Semantics(plan), size, plan.semantic
        self.inner = (plan.sides[-1] * plan.conv.downsample,) * 2

    def _encode(self, images: Tensor) -> Tensor:
        words = self.semantics(images)
        if self.inner != self.size:
            images = functional.interpolate(images, size=self.inner, mode="bicubic")
        return torch.cat([words, super()._encode(images)], dim=1)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Return N×3×H×W images of the quantizer's vectors, of which the first values say nothing of
        pixels."""
        images = super().decode_vectors(vectors[:, self.semantic :])
        if self.inner != self.size:
            images = functional.interpolate(images, size=self.size, mode="bicubic")
        return images


class TokenFlow(NetworkTokenizer[TokenFlowPlan]):
    """TokenFlow with CLIP, in the names of ByteVisionLab/TokenFlow."""

    PLAN = TokenFlowPlan
    OTHERS = (
        r"decoder_vqkd\.|decode_task_layer\.|scaling_layer\.|quantize\.codebook_used$"
        r"|encoder_vqkd\.vision_model\.(head|post_layernorm)\."
    )
    TEACHER = CLIP_NAMES

    @classmethod
    def list_names(cls, plan: TokenFlowPlan) -> Names:
        """Return the official names: the transformer's, and LlamaGen's."""
        return (
            *cls.TEACHER,
            (r"^semantics\.out\.", "encode_task_layer."),
            (r"^quantizer\.quantizer\.parts\.0\.entries$", "quantize.embedding_vqkd.weight"),
            (r"^quantizer\.quantizer\.parts\.1\.entries$", "quantize.embedding_vqgan.weight"),
            *LlamaGen.list_names(plan.conv),
        )

    @classmethod
    def make_network(cls, spec: Spec, plan: TokenFlowPlan) -> TokenFlowNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        check_facts(spec, {"input_range": (spec.input_range, cls.INPUT_RANGE)})
        size = spec.size.fixed
        if size is None or size[0] != size[1] or size[0] // plan.patch != plan.sides[-1]:
            raise RegistryError(
                f"{spec.name}: size.fixed must be a square of {plan.sides[-1]} patches of "
                f"{plan.patch}, got {size}"
            )
        return TokenFlowNetwork(plan, size, spec.codebook_size)


class TokenFlowSiglip(TokenFlow):
    """TokenFlow with SigLIP: the last block, whose output is not used, is in the file and not read."""

    TEACHER = SIGLIP_NAMES

    def read_state(self, weights: Path, plan: TokenFlowPlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors. Raises WeightsMissing or WeightsMismatch."""
        last = f"{SIGLIP}encoder.layers.{plan.vit.depth}."
        state = super().read_state(weights, plan, **layout)
        return {key: tensor for key, tensor in state.items() if not key.startswith(last)}
