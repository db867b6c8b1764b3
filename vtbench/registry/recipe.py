"""The recipe by which vtbench trained a reference tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vtbench.base.schema import Strict

Weight = Annotated[float, Field(ge=0)]


class Training(Strict):
    """How a reference tokenizer is trained: `vtbench train-reference NAME` does it.

    batch: crops of crop×crop pixels a step. rate: AdamW's, at its peak after `warmup` steps; a cosine
    takes it to a hundredth at the end. average: decay of the moving average of the weights, which is
    what is exported. drawn: pictures drawn, drawn_share: of the crops that are of them.

    The loss is mse + l1 · mean |error| + edges · mean |error of gradients| over three scales, in the
    network's range, plus kl · divergence a value, commitment · distance of vectors from codewords,
    entropy · the share of their entropy that bits lack. unquantized: steps before the quantizer comes
    in. masked: share of the steps, the first, in which an encoder learns to fill in masked patches;
    after them it is frozen, and the decoder alone learns. noise: τ of what is added to the frozen
    encoder's normalised features then, for each image of a deviation |N(0, τ²)|. precision: of the
    network's matrix products and convolutions; weights, quantizers and losses are float32 in either.
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
