"""VQGAN and its successors of one code grid: a convolutional autoencoder around one codebook.

taming-transformers, latent diffusion's VQ models and Chameleon differ in nothing but their plans;
LlamaGen normalises codebook and vectors; IBQ takes the largest inner product; MaskGIT's has neither
attention nor biases; RQ-VAE codes each position four times.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsMismatch
from vtbench.base.records import Spec
from vtbench.tokenizers.convnet import LDM_NAMES, ConvTokenizer, Quantizer
from vtbench.tokenizers.network import Names
from vtbench.tokenizers.nn.conv import ConvPlan
from vtbench.tokenizers.nn.quantize import Codebook, Lookup, MultiScale


class Vqgan(ConvTokenizer):
    """VQGAN with the names of CompVis/taming-transformers (taming/models/vqgan.py), which
    CompVis/latent-diffusion and facebookresearch/chameleon kept. Nearest codeword in L2."""

    LOOKUP: ClassVar[Lookup] = "nearest"

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> Quantizer:
        """Return the codebook of the entry's size."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        return Codebook(spec.codebook_size, width, cls.LOOKUP)


class Ibq(Vqgan):
    """Index backpropagation quantization (https://arxiv.org/abs/2412.02692), TencentARC/SEED-Voken,
    src/IBQ: VQGAN's network with twice the blocks; a token is the codeword with the largest
    inner product, which is rarely the nearest one in L2."""

    LOOKUP = "dot"


class LlamaGen(Vqgan):
    """The VQ models of FoundationVision/LlamaGen (tokenizer/tokenizer_image/vq_model.py). Levels of
    the decoder are numbered from the lowest resolution. `quantize.codebook_used` is a count kept in
    training."""

    LOOKUP = "cosine"
    OTHERS = r"quantize\.codebook_used$"

    @classmethod
    def list_names(cls, plan: ConvPlan) -> Names:
        """Return the official names; those of the decoder's levels follow from their number."""
        return (
            (r"^encoder\.levels\.", "encoder.conv_blocks."),
            *reverse_levels(plan, "decoder.conv_blocks."),
            (r"\.blocks\.", ".res."),
            (r"^(encoder\.conv_blocks\.\d+)\.resample\.", r"\1.downsample."),
            (r"^(decoder\.conv_blocks\.\d+)\.resample\.", r"\1.upsample."),
            (r"\.middle\.block0\.", ".mid.0."),
            (r"\.middle\.attention0\.", ".mid.1."),
            (r"\.middle\.block1\.", ".mid.2."),
            *LDM_NAMES,
        )


class MaskGitVqgan(Vqgan):
    """MaskGIT's VQGAN (https://arxiv.org/abs/2202.04200) as PyTorch code has it: bytedance/1d-tokenizer,
    modeling/modules/maskgit_vqgan.py, and markweberdev/maskbit. Where a block changes its width, the
    shortcut is taken from its output: the original's slip, which the weights were trained with."""

    INPUT_RANGE = (0.0, 1.0)
    STYLE: ClassVar[Mapping[str, Any]] = {
        "middle": "bb",
        "decoder_extra": 0,
        "bias": False,
        "head": 1,
        "shortcut": "output",
        "down": "mean",
    }
    OTHERS = r"$^"
    NAMES = (
        (r"^encoder\.levels\.", "encoder.down."),
        (r"^decoder\.levels\.", "decoder.up."),
        (r"\.blocks\.", ".block."),
        (r"\.resample\.conv\.", ".upsample_conv."),
        (r"\.middle\.block", ".mid."),
        *LDM_NAMES,
    )


class RqVae(Vqgan):
    """RQ-VAE (https://arxiv.org/abs/2203.01941), kakaobrain/rq-vae-transformer, rqvae/models/rqvae:
    VQGAN's network; at each position four codewords of one codebook, each the nearest to what the
    ones before it left. A code is four grids. The file has the codebook once for each depth, and in
    its last row a word of padding that no search sees."""

    DEPTH: ClassVar[int] = 4
    OTHERS = r"quantizer\.codebooks\.\d+\.(cluster_size_ema|embed_ema)$"
    NAMES = ((r"^quantizer\.quantizer\.entries$", "quantizer.codebooks.0.weight"), *LDM_NAMES)

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> Quantizer:
        """Return the residual quantizer: grids of one size, which is the vectors' own."""
        codebook = super().make_quantizer(spec, plan, width)
        assert isinstance(codebook, Codebook)
        return MultiScale(codebook, (1,) * cls.DEPTH, enlarge="bilinear")

    def read_state(self, weights: Path, plan: ConvPlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors. Raises WeightsMismatch where the depths' codebooks are not one."""
        state = super().read_state(weights, plan, **layout)
        entries = state.get("quantizer.quantizer.entries")
        for depth in range(1, self.DEPTH):
            other = state.pop(f"quantizer.codebooks.{depth}.weight", None)
            if other is None or entries is None or not torch.equal(other, entries):
                raise WeightsMismatch(f"{weights}: codebook {depth} is missing or not codebook 0")
        if entries is not None:
            state["quantizer.quantizer.entries"] = entries[:-1]
        return state


def reverse_levels(plan: ConvPlan, name: str) -> Names:
    """Return names of the decoder's levels for code that numbers them from the lowest resolution."""
    last = len(plan.multipliers) - 1
    return tuple(
        (rf"^decoder\.levels\.{level}\.", f"{name}{last - level}.") for level in range(last + 1)
    )
