"""AToken: one transformer for pictures, videos and shapes (https://arxiv.org/abs/2509.14476,
apple/ml-atoken, atoken_inference/model/autoencoder_kl.py), of one picture.

A patch is 16×16 pixels of four frames, of which a picture is the first. The encoder is SigLIP2's with
positions that turn in time, row, column and depth; So/D rounds each value of the posterior's mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from vtbench.base.records import Spec
from vtbench.tokenizers.network import Names
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.quantize import ProductCode, ScalarCode
from vtbench.tokenizers.patch_vit import PatchVit, PatchVitNetwork, PatchVitPlan

HALF: Mapping[str, Any] = {"epsilon": 1e-6, "gelu": "tanh", "norm_in": False}
"""Of both transformers."""

DECODER: Mapping[str, Any] = {"norm": "rms", "bias": False, "plain": True, "qk_norm": "heads"}
"""Of the decoder alone."""


class AtokenPlan(PatchVitPlan):
    """One AToken. levels: of each value of a codebook's words, so that the latent is levels times
    codebooks; None for a continuous code."""

    levels: tuple[Annotated[int, Field(ge=2)], ...] | None = None
    codebooks: Count = 1

    @model_validator(mode="after")
    def _has_all_values(self) -> AtokenPlan:
        if self.levels is not None and self.latent != len(self.levels) * self.codebooks:
            raise ValueError(
                f"{self.codebooks} words of {len(self.levels)} values are no {self.latent}"
            )
        return self

    @field_validator("encoder", "decoder", mode="before")
    @classmethod
    def _in_its_style(cls, given: object, info: ValidationInfo) -> object:
        style = {**HALF, **(DECODER if info.field_name == "decoder" else {})}
        return {**style, **given} if isinstance(given, Mapping) else given


class AtokenNetwork(PatchVitNetwork):
    """The transformers, and between them a quantizer of the mean where the plan has levels."""

    def __init__(self, plan: AtokenPlan, grid: tuple[int, int] | None) -> None:
        super().__init__(plan, grid)
        self.quantizer = None
        if plan.levels is not None:
            self.quantizer = ProductCode(ScalarCode(plan.levels) for _ in range(plan.codebooks))

    def encode(self, images: Tensor) -> Tensor:
        """Return the mean, or the indices N×codebooks×h×w."""
        latents = self.compute_latents(images)
        code = latents if self.quantizer is None else self.quantizer.encode(latents)
        assert isinstance(code, Tensor)
        return code

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        return super().decode(code if self.quantizer is None else self.quantizer.decode(code))


class Atoken(PatchVit):
    """One AToken. Its file also has the head that pools the encoder's tokens, to compare them with
    text."""

    PLAN = AtokenPlan
    STYLE: ClassVar[Mapping[str, Any]] = {
        "turn": "atoken",
        "moments": True,
        "side": 16,
        "frames": 4,
        "flat": True,
        "bare": True,
    }
    OTHERS = r"encoder\.head\.|logit_(scale|bias)$"
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "encoder.input_layer."),
        (r"^places$", "encoder.pos_embedder.position_embedding.weight"),
        (r"^out_places$", "decoder.pos_embedder.position_embedding.weight"),
        (r"^tokens_out\.", "proj."),
        (r"^tokens_in\.", "decoder.input_layer."),
        (r"^head\.", "decoder.out_layer."),
        (r"^encoder\.norm_out\.", "encoder.post_layernorm."),
        (r"^decoder\.norm_out\.", "decoder.out_norm."),
        (r"\.layers\.", ".blocks."),
        (r"\.attention\.([qk])_norm\.", r".attn.\1_rms_norm."),
        (r"\.attention\.(qkv|out)\.", r".attn.to_\1."),
        (r"\.mlp\.", ".mlp.mlp."),
    )

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: PatchVitPlan) -> tuple[int, ...]:
        """Return the size of each codebook, none for a continuous code."""
        assert isinstance(plan, AtokenPlan)
        return () if plan.levels is None else (math.prod(plan.levels),) * plan.codebooks

    @classmethod
    def make_network(cls, spec: Spec, plan: PatchVitPlan) -> AtokenNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        assert isinstance(plan, AtokenPlan)
        if plan.levels is None:
            cls.check_latents(spec, downsample=plan.patch, latent=plan.latent)
        else:
            cls.check_words(spec, plan, downsample=plan.patch)
        return AtokenNetwork(plan, cls.find_grid(spec, plan))
