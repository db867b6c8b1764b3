"""DALL·E's discrete VAE (https://arxiv.org/abs/2102.12092), openai/DALL-E, dall_e/{encoder,decoder}.py.

Blocks of four convolutions without norms, added with a small gain; four groups of them, between
which a maximum halves and a copy doubles the resolution. A token is the largest of 8,192 logits. The
decoder gives the parameters of a logit-Laplace distribution on [0.1, 0.9], of which the location is
the picture.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.weights.states import load_state

GROUPS, BLOCKS = 4, 2

MARGIN = 0.1
"""Of the pixels' range on either side, so that their logit is finite (dall_e/utils.py)."""


ATTRIBUTES = re.compile(r"(?:^|(?<=\.))_(?:modules|parameters)\.")
"""Where a pickled module has its parts and tensors; names of a state do not have them."""


class DallePlan(Strict):
    """width: of the first and last group; it doubles with each lower resolution. entry: channels that
    a token becomes in the decoder."""

    width: Count = 256
    entry: Count = 128


class GainBlock(nn.Module):
    """Four times ReLU and a convolution, times a gain, plus the input: N×a×h×w → N×b×h×w."""

    def __init__(self, before: int, after: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (before, *(after // 4,) * 3, after)
        self.gain = 1 / (GROUPS * BLOCKS) ** 2
        self.id_path = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.res_path = nn.Sequential()
        for number, kernel in enumerate(kernels, 1):
            conv = nn.Conv2d(widths[number - 1], widths[number], kernel, padding=kernel // 2)
            self.res_path.add_module(f"relu_{number}", nn.ReLU())
            self.res_path.add_module(f"conv_{number}", conv)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.id_path(x) + self.gain * self.res_path(x)
        return out


def make_groups(
    widths: tuple[int, ...], *, entry: nn.Module, out: int, kernels: tuple[int, ...]
) -> Any:
    """Return the entry, groups from widths[0] through the others, ReLU and a 1×1 convolution: of the
    encoder where the first kernel is larger than the last, else of the decoder."""
    down = kernels[0] > kernels[-1]
    stages: OrderedDict[str, nn.Module] = OrderedDict(input=entry)
    for index, (before, after) in enumerate(pairwise(widths), 1):
        group = stages[f"group_{index}"] = nn.Sequential()
        for block in range(1, BLOCKS + 1):
            group.add_module(f"block_{block}", GainBlock(before, after, kernels))
            before = after
        if index < GROUPS:
            group.add_module("resample", nn.MaxPool2d(2) if down else nn.Upsample(scale_factor=2))
    head = OrderedDict(relu=nn.ReLU(), conv=nn.Conv2d(widths[-1], out, 1))
    stages["output"] = nn.Sequential(head)
    return nn.Sequential(OrderedDict(blocks=nn.Sequential(stages)))


class DalleNetwork(Autoencoder):
    """`encoder` gives logits N×K×H/8×W/8; `decoder` takes tokens' one-hot vectors."""

    def __init__(self, plan: DallePlan, size: int) -> None:
        super().__init__()
        widths = tuple(plan.width << group for group in range(GROUPS))
        first = nn.Conv2d(3, plan.width, 7, padding=3)
        self.encoder = make_groups(
            (plan.width, *widths), entry=first, out=size, kernels=(3, 3, 3, 1)
        )
        choice = nn.Conv2d(size, plan.entry, 1)
        self.decoder = make_groups(
            (plan.entry, *widths[::-1]), entry=choice, out=6, kernels=(1, 3, 3, 3)
        )

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return the logits of N×3×H×W images in [0, 1]."""
        logits: Tensor = self.encoder((1 - 2 * MARGIN) * images + MARGIN)
        return logits

    def encode(self, images: Tensor) -> Tensor:
        """Return int64 tokens N×H/8×W/8."""
        return self.compute_latents(images).float().argmax(dim=1)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of the tokens, within −1/8 and 9/8."""
        assert isinstance(code, Tensor)
        convolve, *stages = self.decoder.blocks.children()
        # A 1×1 convolution of one-hot vectors is a choice among its columns.
        h = functional.embedding(code, convolve.weight[:, :, 0, 0].T).permute(0, 3, 1, 2)
        h = h + convolve.bias[:, None, None]
        for stage in stages:
            h = stage(h)
        images: Tensor = (h[:, :3].sigmoid() - MARGIN) / (1 - 2 * MARGIN)
        return images


class Dalle(NetworkTokenizer[DallePlan]):
    """weights: encoder.safetensors, with decoder.safetensors beside it: what `vtbench convert` makes of
    the two official files, which are pickles of whole modules."""

    PLAN = DallePlan
    NAMES = ((r"\.weight$", ".w"), (r"\.bias$", ".b"))
    INPUT_RANGE = (0.0, 1.0)
    FILES = ("encoder", "decoder")

    def read_state(self, weights: Path, plan: DallePlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of both files; a pickled module's are found along its attributes."""
        with torch.device("meta"):
            names = self.name_tensors(self.make_network(self.spec, plan), plan)
        state: dict[str, Tensor] = {}
        for part in self.FILES:

            def rename(key: str, part: str = part) -> str:
                official = f"{part}." + ATTRIBUTES.sub("", key)
                return names.get(official, official)

            state |= load_state(weights.with_stem(part), rename=rename)
        return state

    @classmethod
    def make_network(cls, spec: Spec, plan: DallePlan) -> DalleNetwork:
        """Return the network with random weights."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        check_facts(
            spec,
            {
                "downsample": (spec.downsample, 1 << (GROUPS - 1)),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
            },
        )
        return DalleNetwork(plan, spec.codebook_size)
