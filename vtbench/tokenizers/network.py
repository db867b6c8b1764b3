"""A published network behind the interface: what the adapters of our own architectures share.

A family is a subclass that says which plan its entries have, how the network is made of it, and how
the official code calls each tensor. Nothing is built from a file: the entry has the plan, so a
network can be built, counted and timed without its weights.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vtbench.base.errors import RegistryError, WeightsMismatch
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.base import Code, Tokenizer, check_posterior, draw_latents
from vtbench.tokenizers.nn.quantize import MAX_INDEX_BITS
from vtbench.weights.states import build_network, load_state, restore_dots

Names = tuple[tuple[str, str], ...]

Plan = TypeVar("Plan", bound=Strict)


class Autoencoder(nn.Module):
    """What `NetworkTokenizer` asks of a network."""

    @abstractmethod
    def compute_latents(self, images: Tensor) -> Tensor:
        """Return the continuous code (N×C×…): the posterior's mean, or what the quantizer will see."""

    def compute_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of a network with a Gaussian posterior."""
        raise NotImplementedError(f"{type(self).__name__} has no posterior")

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return latents, indices, or a tuple of indices."""

    @abstractmethod
    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""

    def forward(self, images: Tensor) -> Tensor:
        """Return decode(encode(images))."""
        return self.decode(self.encode(images))


class NetworkTokenizer(Tokenizer, Generic[Plan]):
    """One network of ours with the weights of a published checkpoint.

    Args:
        config: The entry's part of a PLAN; the family's STYLE is the rest.
        weights: The official file, or None for random weights.
        wrapper: The key in it under which the state lies.
        prefix: What its keys start with.
        averaged: Whether to take the moving average that the Lightning checkpoint holds beside the
            last weights.
        posterior: "mode", or "sample" for one seeded draw.

    Latents are the posterior's mean or sample, of `dtype`, unscaled. The network runs in `dtype`,
    and distances to codewords are float32. Indices are computed one image at a time: in a batch a
    convolution rounds differently (3e-7), which is enough to flip an index between two nearly
    equidistant codewords.

    Raises RegistryError where entry and family contradict each other, WeightsMissing and
    WeightsMismatch where the file does.
    """

    PLAN: ClassVar[type[Strict]]
    STYLE: ClassVar[Mapping[str, Any]] = {}
    NAMES: ClassVar[Names] = ()
    OTHERS: ClassVar[str] = r"loss\.|model_ema\.|colorize$"
    """Keys of official files that are no part of the tokenizer: losses with their discriminator and
    perceptual network, averages beside the weights themselves, training statistics."""
    INPUT_RANGE: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __init__(
        self,
        spec: Spec,
        *,
        config: Mapping[str, Any],
        weights: Path | None,
        wrapper: str | None = None,
        prefix: str = "",
        averaged: bool = False,
        posterior: str = "mode",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        plan = self.parse_config(spec, config)
        self.codebooks = self.list_codebooks(spec, plan)
        # What is quantized is never drawn, even where the network gives a variance beside it.
        exists = getattr(plan, "moments", False) and not self.codebooks
        check_posterior(spec, posterior, exists=exists, stochastic=spec.stochastic)
        self._sampled = posterior == "sample"
        state = None
        try:
            if weights is not None:
                plan = self.complete_plan(plan, weights)
                state = self.read_state(
                    weights, plan, wrapper=wrapper, prefix=prefix, averaged=averaged
                )
            self.model = build_network(
                lambda: self.make_network(spec, plan),
                state,
                device=self.device,
                dtype=dtype,
                seed=seed,
            )
        except WeightsMismatch as error:
            raise WeightsMismatch(f"{spec.name}: {error}") from None

    def read_state(
        self,
        weights: Path,
        plan: Plan,
        *,
        wrapper: str | None,
        prefix: str,
        averaged: bool,
    ) -> dict[str, Tensor]:
        """Return the official file's tensors by their names here; names that the network does not
        have stay, for the strict load to refuse. Raises WeightsMissing or WeightsMismatch."""
        with torch.device("meta"):
            names = self.name_tensors(self.make_network(self.spec, plan), plan)
        rename = self._make_rename(names, averaged=averaged)
        if averaged:
            prefix += "model_ema."
        return load_state(weights, wrapper=wrapper, prefix=prefix, rename=rename)

    @classmethod
    @abstractmethod
    def make_network(cls, spec: Spec, plan: Plan) -> Autoencoder:
        """Return the family's network with random weights. Raises RegistryError where the entry
        contradicts the plan."""

    @classmethod
    def check_latents(cls, spec: Spec, *, downsample: int | None, latent: int) -> None:
        """Raise RegistryError unless the entry declares a continuous code with `latent` values a
        token and the factor `downsample` (None where tokens are no grid)."""
        facts = {
            "kind": (spec.kind, "continuous"),
            "downsample": (spec.downsample, downsample),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, latent),
        }
        check_facts(spec, facts)

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: Plan) -> tuple[int, ...]:
        """Return the size of each codebook; a token holds one index into each.

        A codebook_size above 2^62 gives one codebook of size 2 per bit; a continuous code gives none.
        """
        size = spec.codebook_size
        if size is not None and size > 2**MAX_INDEX_BITS:
            return (2,) * (size.bit_length() - 1)
        return () if size is None else (size,)

    @classmethod
    def check_words(cls, spec: Spec, plan: Plan, *, downsample: int | None) -> None:
        """Raise RegistryError unless the entry's codebook_size is the product of the plan's
        codebook sizes and its factor is `downsample` (None where tokens are no grid)."""
        facts = {
            "codebook_size": (spec.codebook_size, math.prod(cls.list_codebooks(spec, plan))),
            "downsample": (spec.downsample, downsample),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
        }
        check_facts(spec, facts)

    @classmethod
    def parse_config(cls, spec: Spec, config: Mapping[str, Any]) -> Plan:
        """Return the entry's plan over the family's STYLE. Raises RegistryError naming the key."""
        if not isinstance(config, Mapping):
            raise RegistryError(f"{spec.name}: options.config must be a mapping, got {config!r}")
        try:
            return cls.PLAN(**{**cls.STYLE, **config})  # type: ignore[return-value]
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(("options.config", *map(str, first["loc"])))
            raise RegistryError(f"{spec.name}: {key}: {first['msg']}") from None

    @classmethod
    def complete_plan(cls, plan: Plan, weights: Path) -> Plan:
        """Return the plan with what the official file alone says, where a family has such a thing.
        Raises WeightsMissing or WeightsMismatch."""
        return plan

    @classmethod
    def name_tensors(cls, network: nn.Module, plan: Plan) -> dict[str, str]:
        """Return each tensor's name here by its name in the official code."""
        names = {}
        for here in network.state_dict():
            there = here
            for pattern, replacement in cls.list_names(plan):
                there = re.sub(pattern, replacement, there)
            names[there] = here
        return names

    @classmethod
    def list_names(cls, plan: Plan) -> Names:
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
        if not self.codebooks and self._sampled:
            mean, log_variance = self.model.compute_moments(images)
            # The bounds are those of the official DiagonalGaussianDistribution.
            deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
            return Code.continuous(draw_latents(mean, deviation, self.seed))
        if not self.codebooks:
            return Code.continuous(self.model.compute_latents(images))
        found = [self.model.encode(image[None]) for image in images]
        scales = [grids if isinstance(grids, tuple) else (grids,) for grids in found]
        joined = tuple(torch.cat(grids) for grids in zip(*scales, strict=True))
        indices = joined if isinstance(found[0], tuple) else joined[0]
        return Code.discrete(indices, self.codebooks)

    def _decode(self, code: Code) -> Tensor:
        if isinstance(code.indices, tuple):
            return self.model.decode(tuple(grid.to(self.device) for grid in code.indices))
        carried = code.indices if code.indices is not None else code.latents
        if carried is None:
            raise ValueError(f"{self.spec.name} decodes indices or latents; this Code has neither")
        return self.model.decode(carried.to(self.device))


def check_facts(spec: Spec, facts: Mapping[str, tuple[object, object]]) -> None:
    """Raise RegistryError for the first fact (declared, needed) where the entry and its plan differ."""
    for key, (declared, needed) in facts.items():
        if declared != needed:
            raise RegistryError(f"{spec.name}: {key} is {declared}, but the plan makes it {needed}")
