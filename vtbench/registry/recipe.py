"""The recipe by which vtbench trained a reference tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vtbench.base.schema import Strict

Weight = Annotated[float, Field(ge=0)]


class Training(Strict):
    """How a reference tokenizer is trained: `vtbench train-reference NAME` does it.

    The loss is mse + l1 · mean |error| + edges · mean |error of gradients| over three scales, in the
    network's range, plus the weighted terms below. The optimizer is AdamW.

    Attributes:
        seed: Of the initial weights, the crops and the noise.
        steps: How many updates are made.
        batch: Crops in a step.
        crop: The side of a crop in pixels.
        rate: The learning rate at its peak; a cosine takes it to a hundredth of that at the end.
        warmup: Steps until the peak.
        average: The decay of the moving average of the weights, which is what is exported.
        drawn: How many pictures are drawn.
        drawn_share: The share of the crops that are of drawn pictures.
        l1: The weight of the mean absolute error.
        edges: The weight of the error of gradients.
        kl: The weight of the divergence of a value.
        commitment: The weight of the distance of vectors from their codewords.
        entropy: The weight of the share of their entropy that bits lack.
        unquantized: Steps before the quantizer comes in.
        masked: The share of the steps, the first, in which an encoder learns to fill in masked patches.
            After them it is frozen, and the decoder alone learns.
        noise: τ of the noise on the frozen encoder's normalised features. Each image's noise has the
            deviation |N(0, τ²)|.
        precision: Of the network's matrix products and convolutions. Weights, quantizers and losses are
            float32 in either.
    """

    seed: int
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    crop: Annotated[int, Field(ge=8, le=256)]
    rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[int, Field(ge=0)] = 200
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    drawn: Annotated[int, Field(ge=1)] = 768
    drawn_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    l1: Weight = 0.02
    edges: Weight = 0.02
    kl: Weight = 0.0
    commitment: Weight = 0.0
    entropy: Weight = 0.0
    unquantized: Annotated[int, Field(ge=0)] = 0
    masked: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise: Weight = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
