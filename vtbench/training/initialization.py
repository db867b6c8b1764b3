"""Initial values of networks beyond the defaults of their layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.tokenizers.nn.conv import ResidualBlock
from vtbench.tokenizers.nn.vit import Attention
from vtbench.tokenizers.titok import TitokNetwork

REACH = 1.0
"""Distance, in patches, over which the likeness of two positions falls to e^-½."""

SHARPNESS = 6.0
"""Logit of a token's attention to its own position over that to one far away."""

COPIED = 0.5
"""Share of what a token attends to that is added to it as it is."""

LOUDER = 4.0
"""How much larger than torch's own what depends on the image begins, beside positions."""

MEAN = 0.45
"""About the mean value of images in [0, 1]."""

OFFSET = 2.0
"""What is added to DC-AE's last channels at first, beside which the image is small."""


@torch.no_grad()
def initialize(network: nn.Module, seed: int) -> None:
    """Give a network with random weights a better start: each residual block of convolutions begins as
    the identity (Zhang et al. 2019, Fixup), TiTok's tokens begin as if they had places, and DC-AE as
    little more than its shortcuts."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
    if isinstance(network, TitokNetwork):
        _spread_tokens(network, torch.Generator().manual_seed(seed))
    if type(network).__name__ == "AutoencoderDC":
        _open_shortcuts(network)


def _open_shortcuts(network: Any) -> None:
    """Let the blocks of diffusers' AutoencoderDC begin as the identity, and its last norm and ReLU as
    all but linear.

    A block ends in a norm, so that what a random one adds is as large as an image, and the last norm
    divides every place by its own contrast.
    """
    for name, module in network.named_modules():
        if type(module).__name__ == "RMSNorm" and name != "decoder.norm_out":
            nn.init.zeros_(module.weight)
    last = next(block for block in network.decoder.up_blocks if len(block))[0]
    nn.init.constant_(last.conv.bias, OFFSET)
    out = getattr(network.decoder.conv_out, "conv", network.decoder.conv_out)
    out.bias.copy_(-out.weight.flatten(1).sum(1))


def _spread_tokens(network: TitokNetwork, generator: torch.Generator) -> None:
    """Let each token and patch copy from what is near, the tokens spread over the image.

    From a random start, a small network on little data finds no way to get pixels into tokens: all
    images have the same code. So positions are random Fourier features of coordinates (Rahimi and
    Recht 2007), whose products fall with the distance, and queries meet keys as positions meet
    positions, values pass as they are (mimetic initialization, Trockman and Kolter 2023). Nothing
    holds the tokens there.
    """
    rows, columns = network.grid
    for transformer in (network.encoder, network.detokenizer):
        assert transformer.positions is not None
        width, count = transformer.positions.shape[1], len(transformer.token_positions)
        frequencies = torch.randn(2, width // 2, generator=generator) / REACH
        side = math.ceil(math.sqrt(count))
        tokens = _list_centres(side, side) * torch.tensor([rows / side, columns / side])
        transformer.positions.zero_()
        transformer.positions[1:] = _make_features(_list_centres(rows, columns), frequencies)
        transformer.token_positions.copy_(_make_features(tokens[:count], frequencies))
        transformer.class_token.zero_()
        for module in transformer.modules():
            if isinstance(module, Attention):
                _compare_and_copy(module, generator)
    network.tokens.zero_()
    network.mask.zero_()
    weight, bias = network.embedding.weight, network.embedding.bias
    assert bias is not None
    weight.mul_(LOUDER)
    bias.copy_(-MEAN * weight.flatten(1).sum(1))
    # A code that is normalised must not be mostly what all images share.
    shared = torch.linalg.svd(network.encoder.token_positions, full_matrices=False)[2]
    shared = shared[: shared.shape[1] // 2]
    out = network.tokens_out.weight[..., 0, 0]
    network.tokens_out.weight.copy_((out - out @ shared.T @ shared)[..., None, None])
    network.tokens_in.weight.mul_(LOUDER)
    for layer in (network.tokens_out, network.tokens_in):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


def _compare_and_copy(attention: Attention, generator: torch.Generator) -> None:
    width = attention.out.in_features
    part = width // attention.heads
    # A normalised token has a squared length of its width, and so of `part` in a head.
    scale = math.sqrt(SHARPNESS / math.sqrt(part))
    if attention.apart:
        layers = (attention.q, attention.k, attention.v)
        weights = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
    else:
        weights = list(attention.qkv.weight.chunk(3))
        biases = [attention.qkv.bias]
    for head in range(attention.heads):
        basis, _ = torch.linalg.qr(torch.randn(width, part, generator=generator))
        rows = slice(head * part, (head + 1) * part)
        for weight, size in zip(weights, (scale, scale, math.sqrt(COPIED)), strict=True):
            weight[rows] = size * basis.T
        attention.out.weight[:, rows] = math.sqrt(COPIED) * basis
    for bias in (*biases, attention.out.bias):
        if bias is not None:
            nn.init.zeros_(bias)


def _list_centres(rows: int, columns: int) -> Tensor:
    """Return rows·columns×2 coordinates, row by row."""
    return torch.cartesian_prod(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5)


def _make_features(places: Tensor, frequencies: Tensor) -> Tensor:
    angles = places @ frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
