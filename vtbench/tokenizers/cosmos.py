"""NVIDIA's Cosmos image tokenizers: two Haar transforms around latent diffusion's network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.convnet import ConvTokenizer
from vtbench.tokenizers.nn.conv import ConvPlan
from vtbench.tokenizers.nn.quantize import ScalarCode


class CosmosImage(ConvTokenizer):
    """Cosmos-Tokenizer CI (continuous, no distribution) and DI (finite scalar quantization), as
    NVIDIA/Cosmos-Tokenizer, cosmos_tokenizer/networks, builds them (https://arxiv.org/abs/2501.03575).
    Three levels; the official numbers of steps are 1 for 8×8 and 2 for 16×16. The wavelets and the
    implicit codebook are buffers that a file may have. The quantizer's levels follow from the size of
    the codebook: 64,000 words in the published ones, the others as the paper on finite scalar
    quantization recommends them (https://arxiv.org/abs/2309.15505, table 1)."""

    LEVELS: ClassVar[tuple[tuple[int, ...], ...]] = (
        (8, 6, 5),
        (8, 5, 5, 5),
        (7, 5, 5, 5, 5),
        (8, 8, 8, 6, 5),
        (8, 8, 8, 5, 5, 5),
    )
    STYLE: ClassVar[Mapping[str, Any]] = {"multipliers": (2, 4, 4), "haar": 2}
    OTHERS = r"(encoder\.patcher|decoder\.unpatcher|quantizer)\."

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> ScalarCode | None:
        """Return the scalar quantizer of a discrete entry, none for a continuous one."""
        if spec.kind == "continuous":
            return None
        sizes = {math.prod(levels): levels for levels in cls.LEVELS}
        levels = sizes.get(spec.codebook_size or 0)
        if levels is None or width != len(levels):
            known = ", ".join(f"{size} ({len(levels)} values)" for size, levels in sizes.items())
            raise RegistryError(
                f"{spec.name}: {width} values make no {spec.codebook_size} codewords; known: {known}"
            )
        return ScalarCode(levels)
