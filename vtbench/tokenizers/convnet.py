"""Convolutional autoencoders of the zoo: what their adapters share.

A family is a subclass that says what its plan has by default, which quantizer it has, and how the
official code calls each tensor. Nothing is built from a file: the entry has the plan, so a network
can be built, counted and timed without its weights.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vtbench.errors import RegistryError, WeightsMismatch
from vtbench.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.loading import build_network, load_state, restore_dots
from vtbench.tokenizers.nn.conv import ConvPlan, Decoder, Encoder
from vtbench.tokenizers.nn.quantize import (
    MAX_INDEX_BITS,
    BinaryCode,
    Codebook,
    MultiScale,
    ScalarCode,
)

Quantizer = Codebook | BinaryCode | ScalarCode | MultiScale

Names = tuple[tuple[str, str], ...]

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


class ConvNetwork(nn.Module):
    """encoder, `before`, quantizer, `after`, decoder. before and after are the convolutions between
    the encoder's width and the code's, where the family has them; without a quantizer the code is
    the posterior's mean."""

    def __init__(
        self,
        plan: ConvPlan,
        *,
        quantizer: Quantizer | None,
        width: int | None,
        kernel: int,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(plan), Decoder(plan)
        self.before = self.after = None
        if width is not None:
            times = 2 if plan.moments else 1
            padding = kernel // 2
            self.before = nn.Conv2d(times * plan.latent, times * width, kernel, padding=padding)
            self.after = nn.Conv2d(width, plan.latent, kernel, padding=padding)
        self.quantizer = quantizer
        self.moments = plan.moments

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w: the posterior's mean, or what the quantizer will see."""
        h: Tensor = self.encoder(images)
        if self.before is not None:
            h = self.before(h)
        return h.chunk(2, dim=1)[0] if self.moments else h

    def encode(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return latents, indices, or a tuple of indices."""
        latents = self.compute_latents(images)
        return latents if self.quantizer is None else self.quantizer.encode(latents)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        dtype = self.decoder.conv_in.weight.dtype
        decoded: Any = code if self.quantizer is None else self.quantizer.decode(code)  # type: ignore[arg-type]
        h: Tensor = decoded.to(dtype)
        if self.after is not None:
            h = self.after(h)
        images: Tensor = self.decoder(h)
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Return decode(encode(images))."""
        return self.decode(self.encode(images))


class ConvTokenizer(Tokenizer):
    """One convolutional autoencoder from a published checkpoint.

    config: the entry's part of a `ConvPlan` (the family's STYLE is the rest). width: of the code's
    vectors where convolutions stand between it and the encoder. weights: the official file, or None
    for random ones. wrapper: the key in it under which the state lies; prefix: what its keys start
    with; averaged: take the moving average that the Lightning checkpoint holds beside the last
    weights.

    Latents are the posterior's mean, of `dtype`, unscaled. Indices are computed in float32 and one
    image at a time: in a batch a convolution rounds differently (3e-7), which is enough to flip an
    index between two nearly equidistant codewords. Raises RegistryError where entry and family
    contradict each other, WeightsMissing and WeightsMismatch where the file does.
    """

    STYLE: ClassVar[Mapping[str, Any]] = {}
    NAMES: ClassVar[Names] = LDM_NAMES
    OTHERS: ClassVar[str] = r"loss\.|model_ema\.|colorize$"
    """Keys of official files that are no part of the tokenizer: losses with their discriminator and
    perceptual network, averages beside the weights themselves, training statistics."""
    KERNEL: ClassVar[int] = 1
    INPUT_RANGE: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __init__(
        self,
        spec: Spec,
        *,
        config: Mapping[str, Any],
        weights: Path | None,
        width: int | None = None,
        wrapper: str | None = None,
        prefix: str = "",
        averaged: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        plan = self.parse_config(spec, config)
        state = None
        try:
            if weights is not None:
                with torch.device("meta"):
                    names = self.name_tensors(self.make_network(spec, plan, width), plan)
                rename = self._make_rename(names, averaged=averaged)
                if averaged:
                    prefix += "model_ema."
                state = load_state(weights, wrapper=wrapper, prefix=prefix, rename=rename)
            self.model = build_network(
                lambda: self.make_network(spec, plan, width),
                state,
                device=self.device,
                dtype=dtype,
                seed=seed,
            )
        except WeightsMismatch as error:
            raise WeightsMismatch(f"{spec.name}: {error}") from None

    @classmethod
    def make_network(cls, spec: Spec, plan: ConvPlan, width: int | None) -> ConvNetwork:
        """Return the family's network with random weights. Raises RegistryError where the entry
        contradicts the plan."""
        quantizer = cls.make_quantizer(spec, plan, width or plan.latent)
        facts: list[tuple[str, object, object]] = [
            ("kind", spec.kind, "continuous" if quantizer is None else "discrete"),
            ("downsample", spec.downsample, plan.downsample),
            ("input_range", spec.input_range, cls.INPUT_RANGE),
        ]
        if quantizer is None:
            facts.append(("latent_channels", spec.latent_channels, width or plan.latent))
        for key, declared, needed in facts:
            if declared != needed:
                raise RegistryError(
                    f"{spec.name}: {key} is {declared}, but the plan makes it {needed}"
                )
        for side in spec.size.fixed or (spec.size.multiple,):
            if side % plan.downsample:
                raise RegistryError(
                    f"{spec.name}: size: {side} is no multiple of the downsample factor "
                    f"{plan.downsample}"
                )
        return ConvNetwork(plan, quantizer=quantizer, width=width, kernel=cls.KERNEL)

    @classmethod
    def parse_config(cls, spec: Spec, config: Mapping[str, Any]) -> ConvPlan:
        """Return the entry's plan over the family's STYLE. Raises RegistryError naming the key."""
        if not isinstance(config, Mapping):
            raise RegistryError(f"{spec.name}: options.config must be a mapping, got {config!r}")
        try:
            return ConvPlan(**{**cls.STYLE, **config})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(("options.config", *map(str, first["loc"])))
            raise RegistryError(f"{spec.name}: {key}: {first['msg']}") from None

    @classmethod
    @abstractmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> Quantizer | None:
        """Return the family's quantizer of vectors of the width."""

    @classmethod
    def name_tensors(cls, network: nn.Module, plan: ConvPlan) -> dict[str, str]:
        """Return each tensor's name here by its name in the official code."""
        names = {}
        for here in network.state_dict():
            there = here
            for pattern, replacement in cls.list_names(plan):
                there = re.sub(pattern, replacement, there)
            names[there] = here
        return names

    @classmethod
    def list_names(cls, plan: ConvPlan) -> Names:
        """Return the patterns of names here and what makes the official ones of them, in order."""
        return cls.NAMES

    @classmethod
    def _make_rename(
        cls, names: Mapping[str, str], *, averaged: bool
    ) -> Callable[[str], str | None]:
        restore = restore_dots(tuple(names)) if averaged else None

        def rename(key: str) -> str | None:
            official = key if restore is None else restore(key)
            if official is None or official in names:
                return official and names[official]
            # The averages have the losses' parameters too, without dots.
            return None if re.match("loss" if averaged else cls.OTHERS, key) else key

        return rename

    def _encode(self, images: Tensor) -> Code:
        images = images.to(self.dtype)
        size = self.spec.codebook_size
        if size is None:
            return Code.continuous(self.model.compute_latents(images))
        found = [self.model.encode(image[None]) for image in images]
        scales = [grids if isinstance(grids, tuple) else (grids,) for grids in found]
        joined = tuple(torch.cat(grids) for grids in zip(*scales, strict=True))
        books: int | tuple[int, ...] = size
        if size > 2**MAX_INDEX_BITS:  # the quantizer gives the bits, each of them a codebook
            books = (2,) * (size.bit_length() - 1)
        return Code.discrete(joined if isinstance(found[0], tuple) else joined[0], books)

    def _decode(self, code: Code) -> Tensor:
        if isinstance(code.indices, tuple):
            return self.model.decode(tuple(grid.to(self.device) for grid in code.indices))
        carried = code.indices if code.indices is not None else code.latents
        if carried is None:
            raise ValueError(f"{self.spec.name} decodes indices or latents; this Code has neither")
        return self.model.decode(carried.to(self.device))


def check_power(spec: Spec, bits: int) -> None:
    """Raise RegistryError unless the entry's codebook is that of so many bits."""
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
