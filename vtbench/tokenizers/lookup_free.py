"""Lookup-free quantization: the code is the sign of each channel, and there is no codebook; and SimVQ,
which shares the network of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.convnet import LDM_NAMES, ConvTokenizer, check_binary_codebook
from vtbench.tokenizers.network import Names
from vtbench.tokenizers.nn.conv import ConvPlan
from vtbench.tokenizers.nn.quantize import BinaryCode, ProjectedCodebook
from vtbench.tokenizers.vqgan import reverse_levels
from vtbench.weights.states import load_state


class LookupFree(ConvTokenizer):
    """A tokenizer whose code has one bit a channel of the plan's latent. FIRST: which bit channel 0
    is."""

    FIRST: ClassVar[Literal["low", "high"]] = "low"

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> BinaryCode:
        """Return the sign quantizer."""
        check_binary_codebook(spec, width)
        return BinaryCode(width, first=cls.FIRST)


class OpenMagvit2(LookupFree):
    """Open-MAGVIT2 (https://arxiv.org/abs/2409.04410), TencentARC/SEED-Voken, src/Open_MAGVIT2:
    MAGVIT-2's image tokenizer, no attention, a decoder modulated by the code."""

    STYLE: ClassVar[Mapping[str, Any]] = {
        "blocks": 4,
        "middle": "bbbb",
        "decoder_extra": 0,
        "bias": False,
        "head": 1,
        "down": "around",
        "up": "depth",
        "adaptive": True,
    }
    NAMES = (
        (r"^decoder\.levels\.(\d+)\.modulation\.scale\.", r"decoder.adaptive.\1.gamma."),
        (r"^decoder\.levels\.(\d+)\.modulation\.shift\.", r"decoder.adaptive.\1.beta."),
        (r"^(encoder\.levels\.\d+)\.resample\.conv\.", r"\1.downsample."),
        (r"^(decoder\.levels\.\d+)\.resample\.conv\.", r"\1.upsample.conv1."),
        (r"\.middle\.block", ".mid_block."),
        *LDM_NAMES,
    )


class SimVq(OpenMagvit2):
    """SimVQ (https://arxiv.org/abs/2411.02038), youngsheen/SimVQ, taming/models/vq.py: Open-MAGVIT2's
    network without modulation, around a codebook of projected words. The words are frozen, so the
    moving average has none: they are those of the weights themselves."""

    WORDS: ClassVar[str] = "quantize.embedding.weight"
    STYLE: ClassVar[Mapping[str, Any]] = {
        **OpenMagvit2.STYLE,
        "blocks": 2,
        "middle": "bb",
        "adaptive": False,
    }
    NAMES = (
        (r"^quantizer\.projection\.", "quantize.embedding_proj."),
        *OpenMagvit2.NAMES,
    )

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> ProjectedCodebook:  # type: ignore[override]
        """Return the codebook of the entry's size."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        return ProjectedCodebook(spec.codebook_size, width)

    def read_state(
        self, weights: Path, plan: ConvPlan, *, averaged: bool, **layout: Any
    ) -> dict[str, Tensor]:
        """Return the tensors. Raises WeightsMissing or WeightsMismatch."""
        state = super().read_state(weights, plan, averaged=averaged, **layout)
        if averaged and "quantizer.entries" not in state:
            keep = {self.WORDS: "quantizer.entries"}
            state |= load_state(weights, rename=keep.get, **layout)
        return state


class WeTok(OpenMagvit2):
    """WeTok (https://arxiv.org/abs/2508.05599), zhuangshaobin/WeTok, src/WeTok/models/lfqgan.py:
    Open-MAGVIT2's network; each eight channels are a word, so that a token has several."""

    GROUP: ClassVar[int] = 8

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> BinaryCode:
        """Return the sign quantizer of words. Raises RegistryError where they do not come out even."""
        check_binary_codebook(spec, width)
        if width % cls.GROUP:
            raise RegistryError(f"{spec.name}: {width} bits are no words of {cls.GROUP}")
        return BinaryCode(width, group=cls.GROUP)

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: ConvPlan) -> tuple[int, ...]:
        """Return the size of each word's codebook."""
        return (2**cls.GROUP,) * ((plan.width or plan.latent) // cls.GROUP)


class MaskBit(LookupFree):
    """MaskBit's VQGAN+ (https://arxiv.org/abs/2409.16211), markweberdev/maskbit,
    modeling/conv_vqgan.py: MaskGIT's network with strided convolutions, in its own naming, where the
    decoder's levels are numbered from the lowest resolution."""

    INPUT_RANGE = (0.0, 1.0)
    STYLE: ClassVar[Mapping[str, Any]] = {
        "middle": "bb",
        "decoder_extra": 0,
        "bias": False,
        "head": 1,
        "shortcut": "output",
    }
    OTHERS = r"quantize\.(bits_to_indices|codebook)$"

    @classmethod
    def list_names(cls, plan: ConvPlan) -> Names:
        """Return the official names; those of the decoder's levels follow from their number."""
        return (
            *reverse_levels(plan, "decoder.up."),
            (r"^(encoder\.levels\.\d+)\.resample\.conv\.", r"\1.down_conv."),
            (r"^(decoder\.up\.\d+)\.resample\.conv\.", r"\1.upsample_conv."),
            (r"\.blocks\.", ".res_blocks."),
            (r"\.middle\.block", ".mid.res_blocks."),
            *LDM_NAMES,
        )


class ShowoMagvit2(LookupFree):
    """Show-o's MAGVIT-v2 (https://arxiv.org/abs/2408.12528), showlab/Show-o,
    models/modeling_magvitv2.py, which MMaDA uses as it is: VQGAN's network with blocks by level. The
    file also has the table of all codes."""

    FIRST = "high"
    STYLE: ClassVar[Mapping[str, Any]] = {
        "multipliers": (1, 2, 2, 4, 4),
        "blocks": (4, 3, 4, 3, 4),
        "decoder_multipliers": (1, 1, 2, 2, 4),
        "decoder_blocks": (4, 4, 3, 4, 3),
        "latent": 13,
        "width": 13,
    }
    OTHERS = r"quantize\.(embedding|power_vals)$"
    NAMES = (
        (r"^before\.", "encoder.quant_conv."),
        (r"^after\.", "decoder.post_quant_conv."),
        *LDM_NAMES,
    )
