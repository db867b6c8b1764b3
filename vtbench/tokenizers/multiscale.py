"""Next-scale tokenizers: the code is a pyramid of grids, each of what the coarser ones left over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.convnet import LDM_NAMES, ConvTokenizer, check_binary_codebook, resolve_side
from vtbench.tokenizers.nn.conv import ConvPlan
from vtbench.tokenizers.nn.quantize import BinaryCode, Codebook, MultiScale


class Var(ConvTokenizer):
    """VAR's VQ-VAE (https://arxiv.org/abs/2404.02905), FoundationVision/VAR, models/vqvae.py: ten
    scales of one codebook of nearest vectors, four shared refinements. The same file serves 256²
    and 512². `ema_vocab_hit_SV` counts codewords in training."""

    SIDES: ClassVar[Mapping[int, tuple[int, ...]]] = {
        16: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
        32: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    }
    PHIS: ClassVar[int] = 4
    STYLE: ClassVar[Mapping[str, Any]] = {"fused": True}
    KERNEL = 3
    OTHERS = r"quantize\.ema_vocab_hit_SV$"
    NAMES = (
        (r"^quantizer\.quantizer\.entries$", "quantize.embedding.weight"),
        (r"^quantizer\.phis\.", "quantize.quant_resi.qresi_ls."),
        *LDM_NAMES,
    )

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> MultiScale:
        """Return the residual quantizer of the entry's size."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        sides = resolve_side(spec, plan, cls.SIDES)
        codebook = Codebook(spec.codebook_size, width)
        return MultiScale(codebook, sides, enlarge="bicubic", phis=cls.PHIS, width=width)


class Infinity(ConvTokenizer):
    """Infinity's tokenizer (https://arxiv.org/abs/2412.04431), FoundationVision/Infinity,
    infinity/models/bsq_vae: the network of FLUX.1 without attention, binary spherical quantization
    over the scales of its "dynamic" schedule. A token has as many bits as the code has channels."""

    SIDES: ClassVar[Mapping[int, tuple[int, ...]]] = {
        16: (1, 2, 4, 6, 8, 12, 16),
        32: (1, 2, 4, 6, 8, 12, 16, 20, 24, 32),
        64: (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64),
    }
    STYLE: ClassVar[Mapping[str, Any]] = {"middle": "bb"}
    OTHERS = r"quantizer?\.lfq\.mask$"
    NAMES = (
        *LDM_NAMES,
        # The official code wraps each convolution and norm in a module of its own.
        (r"(conv_in|conv_out|conv[12]|nin_shortcut|sample\.conv)\.(weight|bias)$", r"\1.conv.\2"),
        (r"(norm[12]|norm_out)\.(weight|bias)$", r"\1.norm.\2"),
    )

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> MultiScale:
        """Return the residual sign quantizer of the entry's size."""
        check_binary_codebook(spec, width)
        sides = resolve_side(spec, plan, cls.SIDES)
        return MultiScale(BinaryCode(width, sphere=True), sides, enlarge="bilinear")
