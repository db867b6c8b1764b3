"""Convolutional autoencoders of the zoo: what their adapters share.

A family is a subclass that says what its plan has by default, which quantizer it has, and how the
official code calls each tensor.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import ConvPlan, Decoder, Encoder
from vtbench.tokenizers.nn.quantize import BinaryCode, Codebook, MultiScale, ScalarCode

Quantizer = Codebook | BinaryCode | ScalarCode | MultiScale

LDM_NAMES: Names = (
    (r"^encoder\.levels\.", "encoder.down."),
    (r"^decoder\.levels\.", "decoder.up."),
    (r"^(encoder\.down\.\d+)\.resample\.", r"\1.downsample."),
    (r"^(decoder\.up\.\d+)\.resample\.", r"\1.upsample."),
    (r"\.blocks\.", ".block."),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.attentions\.", ".attn."),
    (r"\.projections\.", "."),
    (r"\.out\.", ".proj_out."),
    (r"\.middle\.block0\.", ".mid.block_1."),
    (r"\.middle\.attention0\.", ".mid.attn_1."),
    (r"\.middle\.block1\.", ".mid.block_2."),
    (r"^before\.", "quant_conv."),
    (r"^after\.", "post_quant_conv."),
    (r"^quantizer\.entries$", "quantize.embedding.weight"),
)
"""taming-transformers and latent-diffusion, from which most others took their names."""


class ConvNetwork(Autoencoder):
    """encoder, `before`, quantizer, `after`, decoder. before and after are the convolutions between
    the encoder's width and the code's, where the family has them; without a quantizer the code is
    the posterior's mean."""

    def __init__(
        self,
        plan: ConvPlan,
        *,
        quantizer: Quantizer | None,
        kernel: int,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(plan), Decoder(plan)
        self.before = self.after = None
        if (width := plan.width) is not None:
            times = 2 if plan.moments else 1
            padding = kernel // 2
            self.before = nn.Conv2d(times * plan.latent, times * width, kernel, padding=padding)
            self.after = nn.Conv2d(width, plan.latent, kernel, padding=padding)
        self.quantizer = quantizer
        self.moments = plan.moments

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w: the posterior's mean, or what the quantizer will see."""
        return self.compute_moments(images)[0] if self.moments else self._encode(images)

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and the logarithm of its variance, each N×C×h×w."""
        mean, log_variance = self._encode(images).chunk(2, dim=1)
        return mean, log_variance

    def _encode(self, images: Tensor) -> Tensor:
        h: Tensor = self.encoder(images)
        return h if self.before is None else self.before(h)

    def encode(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return latents, indices, or a tuple of indices."""
        latents = self.compute_latents(images)
        return latents if self.quantizer is None else self.quantizer.encode(latents)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        decoded: Any = code if self.quantizer is None else self.quantizer.decode(code)  # type: ignore[arg-type]
        return self.decode_vectors(decoded)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Return N×3×H×W images of what the quantizer gives, or of latents."""
        h = vectors.to(self.decoder.conv_in.weight.dtype)
        if self.after is not None:
            h = self.after(h)
        images: Tensor = self.decoder(h)
        return images


class ConvTokenizer(NetworkTokenizer[ConvPlan]):
    """One convolutional autoencoder from a published checkpoint; its plan is a `ConvPlan`."""

    PLAN = ConvPlan
    NAMES = LDM_NAMES
    KERNEL: ClassVar[int] = 1

    @classmethod
    def make_network(cls, spec: Spec, plan: ConvPlan) -> ConvNetwork:
        """Return the family's network with random weights. Raises RegistryError where the entry
        contradicts the plan."""
        width = plan.width or plan.latent
        quantizer = cls.make_quantizer(spec, plan, width)
        check_facts(
            spec,
            {
                "kind": (spec.kind, "continuous" if quantizer is None else "discrete"),
                "downsample": (spec.downsample, plan.downsample),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
                "latent_channels": (spec.latent_channels, width if quantizer is None else None),
            },
        )
        for side in spec.size.fixed or (spec.size.multiple,):
            if side % plan.downsample:
                raise RegistryError(
                    f"{spec.name}: size: {side} is no multiple of the downsample factor "
                    f"{plan.downsample}"
                )
        return ConvNetwork(plan, quantizer=quantizer, kernel=cls.KERNEL)

    @classmethod
    @abstractmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> Quantizer | None:
        """Return the family's quantizer of vectors of the width."""


def check_binary_codebook(spec: Spec, bits: int) -> None:
    """Raise RegistryError unless the entry's codebook has 2^bits words."""
    if spec.codebook_size != 2**bits:
        raise RegistryError(
            f"{spec.name}: codebook_size is {spec.codebook_size}, but {bits} bits make {2**bits}"
        )


def resolve_side(
    spec: Spec, plan: ConvPlan, sides: Mapping[int, tuple[int, ...]]
) -> tuple[int, ...]:
    """Return the grids of a multi-scale code for the entry's fixed square size.

    Raises RegistryError for a size that the official code has no grids for.
    """
    fixed = spec.size.fixed
    grid = fixed[0] // plan.downsample if fixed is not None and fixed[0] == fixed[1] else 0
    if grid not in sides:
        known = ", ".join(str(side * plan.downsample) for side in sides)
        raise RegistryError(
            f"{spec.name}: size.fixed must be a square of side {known}, got {fixed}"
        )
    return sides[grid]
