"""The fastest form of a network that gives the same images: channels-last layout on a CPU.

oneDNN's convolutions work on channels-last tensors; in torch's default layout each converts its input
and its output. A network is put into that layout only where a picture that is made here comes out the
same both ways: the same tokens, and pixels that differ by less than an eighth of an 8-bit level. The
picture is the same in every run, so the choice depends on the network and the machine alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vtbench.tokenizers.base import Code, Tokenizer

SAME = 1 / 255 / 8
"""How far apart two reconstructions in [0, 1] may be to count as the same: far more than float32 sums
in another order move them, and an eighth of a level."""

_SIDE = (
    64  # of the picture, at least: convolutions of 3×3 at a stride of 32 still see more than one
)


def choose_layout(tokenizer: Tokenizer) -> bool:
    """Put a tokenizer's networks into channels-last layout where that changes nothing; return whether
    it did. Only float32 on a CPU is tried: rounding to 16 bits makes differences of its own."""
    kernels = list(_find_kernels(tokenizer))
    if tokenizer.device.type != "cpu" or tokenizer.dtype != torch.float32 or not kernels:
        return False
    picture = make_picture(tokenizer)
    try:
        plain = _go_through(tokenizer, picture)
        _lay_out(kernels, torch.channels_last)
        if is_same(plain, _go_through(tokenizer, picture)):
            return True
    except Exception:  # a view that the layout does not allow; what is wrong otherwise shows later
        pass
    _lay_out(kernels, torch.contiguous_format)
    return False


def make_picture(tokenizer: Tokenizer) -> Tensor:
    """Return the picture that forms are compared on, float32 1×3×H×W: slopes with noise, in a size that
    the tokenizer takes."""
    size = tokenizer.spec.size
    side = math.ceil(_SIDE / size.multiple) * size.multiple
    height, width = size.fixed or (side, side)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.rand((1, 3, height, width), generator=generator)
    slope = torch.linspace(0, 1, width).expand(1, 3, height, width)
    return 0.75 * slope + 0.25 * noise


def is_same(one: tuple[Code, Tensor], other: tuple[Code, Tensor]) -> bool:
    """Return whether two codes have the same tokens and their images differ by less than SAME."""
    scales = [code.indices for code, _ in (one, other)]
    pairs = [s if isinstance(s, tuple) else (s,) for s in scales if s is not None]
    if len(pairs) == 2 and not all(map(torch.equal, *pairs)):
        return False
    return one[1].shape == other[1].shape and bool((one[1] - other[1]).abs().max() < SAME)


def _go_through(tokenizer: Tokenizer, picture: Tensor) -> tuple[Code, Tensor]:
    code = tokenizer.encode(picture)
    return code, tokenizer.decode(code)


def _find_kernels(tokenizer: Tokenizer) -> Iterator[Tensor]:
    """Yield the kernels of two-dimensional convolutions that are larger than 1×1."""
    networks = [own for own in vars(tokenizer).values() if isinstance(own, nn.Module)]
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and max(module.kernel_size) > 1:
            yield module.weight


def _lay_out(kernels: list[Tensor], layout: torch.memory_format) -> None:
    for kernel in kernels:
        kernel.data = kernel.data.contiguous(memory_format=layout)
