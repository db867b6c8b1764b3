"""MGVQ: the deep compression autoencoder on fewer levels, around a codebook for each group of channels
(https://arxiv.org/abs/2507.07997, MKJia/MGVQ, efficientvit/models/tokenizer/mgvq.py).

Encoder and decoder are diffusers', which has DC-AE's (https://arxiv.org/abs/2410.10733).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import torch.nn.functional as functional

# Imported here, not where it is used: a network is also made on the meta device, and a library that is
# first imported there keeps constants without values (diffusers' Cosmos).
from diffusers.models.attention_processor import SanaMultiscaleLinearAttention
from diffusers.models.autoencoders.autoencoder_dc import Decoder, Encoder
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.quantize import GroupedCodebook
from vtbench.tokenizers.nn.vit import Pointwise


class MgvqPlan(Strict):
    """One MGVQ.

    Attributes:
        words: Of each group's codebook.
        groups: Of channels, with a codebook each.
        latent: Channels of the code.
        channels: Of the levels, from the full resolution, on which nothing is done, down.
        blocks: Of the encoder, on each level.
        decoder_blocks: Of the decoder, on each level.
        plain: The levels of residual blocks, of which the decoder's have batch norms. Those below
            are of linear attention.
        head: The width of one head of that attention.
    """

    words: Count
    groups: Count
    latent: Count = 32
    channels: tuple[Count, ...] = (128, 256, 512, 512, 1024, 1024)
    blocks: tuple[int, ...] = (0, 4, 8, 2, 2, 2)
    decoder_blocks: tuple[int, ...] = (0, 5, 10, 2, 2, 2)
    plain: Count = 3
    head: Count = 32


class Third(nn.Module):
    """One of the three maps that one weight holds, to queries, keys or values: N×…×C → N×…×C."""

    def __init__(self, whole: Pointwise, part: int) -> None:
        super().__init__()
        # In a list, so that its weight is not registered thrice.
        self.whole, self.part = [whole], part

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.whole[0].weight.flatten(1).chunk(3)[self.part])


def join_projections(network: nn.Module) -> None:
    """Give each linear attention of diffusers its weights in the shapes of the official file."""
    for module in network.modules():
        if isinstance(module, SanaMultiscaleLinearAttention):
            inner, width = module.to_q.weight.shape
            parts: Any = module
            parts.qkv = Pointwise(width, 3 * inner, bias=False)
            parts.to_q, parts.to_k, parts.to_v = (Third(parts.qkv, part) for part in range(3))
            parts.to_out = Pointwise(inner, width, bias=False)


class MgvqNetwork(Autoencoder):
    """encoder, `before`, quantizer, `after`, decoder; before and after work on each group alone."""

    def __init__(self, plan: MgvqPlan) -> None:
        super().__init__()
        plain, levels, latent = plan.plain, len(plan.channels), plan.latent
        below = levels - plain
        shared: dict[str, Any] = {
            "in_channels": 3,
            "latent_channels": latent,
            "attention_head_dim": plan.head,
            "block_type": ("ResBlock",) * plain + ("EfficientViTBlock",) * below,
            "block_out_channels": plan.channels,
            "qkv_multiscales": ((),) * levels,
        }
        self.encoder: nn.Module = Encoder(**shared, layers_per_block=plan.blocks)
        shared |= {
            "norm_type": ("batch_norm",) * plain + ("rms_norm",) * below,
            "act_fn": ("relu",) * plain + ("silu",) * below,
        }
        self.decoder: nn.Module = Decoder(**shared, layers_per_block=plan.decoder_blocks)
        join_projections(self)
        self.before = nn.Conv2d(latent, latent, 1, groups=plan.groups)
        self.after = nn.Conv2d(latent, latent, 1, groups=plan.groups)
        width = latent // plan.groups
        self.quantizer = GroupedCodebook(plan.words, width, "cosine", groups=plan.groups)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×h×w, which the quantizer will see."""
        latents: Tensor = self.before(self.encoder(images))
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×groups×h×w."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = self.quantizer.decode(code).to(self.after.weight.dtype)
        images: Tensor = self.decoder(self.after(vectors))
        return images


class Mgvq(NetworkTokenizer[MgvqPlan]):
    """One MGVQ. The file counts how its words were used in training."""

    PLAN = MgvqPlan
    OTHERS = r"quantize\.(codebook_used|embed_prob)$"
    NAMES: ClassVar[Names] = (
        (r"^before\.", "quant_conv."),
        (r"^after\.", "post_quant_conv."),
        (r"^quantizer\.entries$", "quantize.embedding.weight"),
        (r"^encoder\.conv_in\.conv\.", "encoder.project_in.conv.conv."),
        (r"^decoder\.conv_in\.", "decoder.project_in.main.conv."),
        (r"^encoder\.conv_out\.", "encoder.project_out.main.op_list.0.conv."),
        (r"^decoder\.norm_out\.", "decoder.project_out.op_list.0."),
        (r"^decoder\.conv_out\.conv\.", "decoder.project_out.op_list.2.conv.conv."),
        (r"_blocks\.(\d+)\.(\d+)\.", r"_blocks.\1.op_list.\2.main."),
        (r"\.(down|up)_blocks\.", ".stages."),
        (r"\.main\.attn\.qkv\.", ".context_module.main.qkv.conv."),
        (r"\.main\.attn\.to_out\.", ".context_module.main.proj.conv."),
        (r"\.main\.attn\.norm_out\.", ".context_module.main.proj.norm."),
        (r"\.main\.conv_out\.conv_(inverted|depth)\.", r".local_module.main.\1_conv.conv."),
        (r"\.main\.conv_out\.conv_point\.", ".local_module.main.point_conv.conv."),
        (r"\.main\.conv_out\.norm\.", ".local_module.main.point_conv.norm."),
        (r"\.main\.conv(\d)\.", r".main.conv\1.conv."),
        (r"\.main\.norm\.", ".main.conv2.norm."),
        (r"(\.op_list\.\d+\.main\.conv)\.", r"\1.conv."),
    )

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers with its version: encoder and decoder are its."""
        return {"diffusers": version("diffusers")}

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: MgvqPlan) -> tuple[int, ...]:
        """Return the size of each group's codebook."""
        return (plan.words,) * plan.groups

    @classmethod
    def make_network(cls, spec: Spec, plan: MgvqPlan) -> MgvqNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_words(spec, plan, downsample=1 << (len(plan.channels) - 1))
        return MgvqNetwork(plan)
