"""Quantizers: vectors N×D×h×w → indices and back.

Each has `encode`, whose result is int64 (a tuple, coarse to fine, where there are several scales),
and `decode`, which gives the float32 vectors that the decoder takes. Distances are computed in
float32 whatever the dtype of the network, because indices are compared between machines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

CHUNK_VALUES = 1 << 22
"""Most distances held at once: 32 MiB of float64, whatever the image and the codebook."""

MAX_INDEX_BITS = 62
"""Binary codes of more bits than this are no int64 indices: they are carried bit by bit."""

Lookup = Literal["nearest", "cosine", "dot"]


def nearest_codewords(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return for each vector (M×D) the int64 index of the nearest codeword (K×D) in L2.

    By ‖v − c‖² less its constant ‖v‖², in the dtype given, at most `CHUNK_VALUES` at a time.
    """
    norms = codebook.square().sum(dim=1)
    chunks = torch.split(vectors, max(1, CHUNK_VALUES // len(codebook)))
    return torch.cat([torch.addmm(norms, c, codebook.T, alpha=-2).argmin(dim=1) for c in chunks])


def find_codewords(vectors: Tensor, table: Tensor, lookup: Lookup) -> Tensor:
    """Return the int64 indices N×h×w of N×D×h×w vectors in a float32 table K×D, whose rows are of
    length 1 where the lookup is "cosine"."""
    n, _, height, width = vectors.shape
    rows = vectors.float().permute(0, 2, 3, 1).flatten(0, 2)
    if lookup == "cosine":
        rows = functional.normalize(rows, dim=-1)
    if lookup == "dot":
        chunks = torch.split(rows, max(1, CHUNK_VALUES // len(table)))
        indices = torch.cat([(chunk @ table.T).argmax(dim=1) for chunk in chunks])
    else:
        indices = nearest_codewords(rows, table)
    return indices.reshape(n, height, width)


class Codebook(nn.Module):
    """K vectors of D values; a token is the index of one.

    lookup: "nearest" in L2 (VQ-VAE, VQGAN); "cosine", both sides normalised, and so is what decode
    returns (LlamaGen, ViT-VQGAN); "dot", the largest inner product (IBQ).
    """

    def __init__(self, size: int, width: int, lookup: Lookup = "nearest") -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.empty(size, width))
        nn.init.normal_(self.entries)
        self.lookup = lookup

    def _table(self) -> Tensor:
        entries = self.entries.float()
        return functional.normalize(entries, dim=-1) if self.lookup == "cosine" else entries

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the int64 indices N×h×w of N×D×h×w vectors."""
        return find_codewords(vectors, self._table(), self.lookup)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×D×h×w of int64 indices N×h×w."""
        return self._table()[indices].permute(0, 3, 1, 2).contiguous()


class DirectedCodebook(Codebook):
    """A codebook that is searched by cosine and returns unnormalised codewords (ImageFolder)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size, width, "cosine")

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×D×h×w of int64 indices N×h×w."""
        return self.entries.float()[indices].permute(0, 3, 1, 2).contiguous()


class JointCodebook(nn.Module):
    """Words of several parts, each of length 1; a token is the word whose parts are together nearest to
    those of the vector (TokenFlow, https://arxiv.org/abs/2412.03069). widths: values of each part."""

    def __init__(self, size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.parts = nn.ModuleList(Codebook(size, width, "cosine") for width in widths)

    def _list_parts(self) -> list[Any]:
        return list(self.parts)

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the int64 indices N×h×w of N×(sum of widths)×h×w vectors."""
        parts = torch.split(vectors.float(), self.widths, dim=1)
        unit = torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)
        table = torch.cat([book._table() for book in self._list_parts()], dim=1)
        return find_codewords(unit, table, "nearest")

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×(sum of widths)×h×w of int64 indices N×h×w."""
        return torch.cat([book.decode(indices) for book in self._list_parts()], dim=1)


class ProjectedCodebook(Codebook):
    """A codebook whose words are a linear map of frozen vectors (SimVQ,
    https://arxiv.org/abs/2411.02038). Nearest in L2."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size, width, "nearest")
        self.projection = nn.Linear(width, width)

    def _table(self) -> Tensor:
        weight, bias = self.projection.weight.float(), self.projection.bias.float()
        return functional.linear(self.entries.float(), weight, bias)


class GroupedCodebook(Codebook):
    """Groups of channels with a codebook each (product quantization): a token is a word of each. The
    codebooks of all groups follow one another in `entries`. Indices are N×groups×h×w."""

    def __init__(self, size: int, width: int, lookup: Lookup, *, groups: int) -> None:
        super().__init__(groups * size, width, lookup)
        self.groups = groups

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the int64 indices N×groups×h×w of N×(groups·D)×h×w vectors."""
        parts = zip(vectors.chunk(self.groups, 1), self._table().chunk(self.groups), strict=True)
        return torch.stack([find_codewords(*part, self.lookup) for part in parts], dim=1)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×(groups·D)×h×w."""
        first = torch.arange(self.groups, device=indices.device) * (
            len(self.entries) // self.groups
        )
        rows = self._table()[indices + first[:, None, None]]
        return rows.movedim(-1, 2).flatten(1, 2).contiguous()


class ProductCode(nn.Module):
    """Groups of channels with a quantizer each: a token is a word of each. Indices are N×groups×h×w, or
    a tuple of such for quantizers of several scales; of one group alone they are its own."""

    def __init__(self, books: Iterable[Codebook | MultiScale | ScalarCode]) -> None:
        super().__init__()
        self.books = nn.ModuleList(books)

    def _list_books(self) -> list[Any]:
        return list(self.books)

    def encode(self, vectors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the indices of N×(groups·D)×h×w vectors."""
        parts = vectors.chunk(len(self.books), dim=1)
        found = [book.encode(part) for book, part in zip(self._list_books(), parts, strict=True)]
        if len(found) == 1:
            alone: Tensor | tuple[Tensor, ...] = found[0]
            return alone
        if isinstance(found[0], tuple):
            return tuple(torch.stack(grids, dim=1) for grids in zip(*found, strict=True))
        return torch.stack(found, dim=1)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return the float32 vectors N×(groups·D)×h×w."""
        if len(self.books) == 1:
            alone: Tensor = self._list_books()[0].decode(code)
            return alone
        scales = code if isinstance(code, tuple) else (code,)
        vectors = []
        for group, book in enumerate(self._list_books()):
            own = tuple(grid[:, group] for grid in scales)
            vectors.append(book.decode(own if isinstance(code, tuple) else own[0]))
        return torch.cat(vectors, dim=1)


def pack_bits(bits: Tensor) -> Tensor:
    """Return the int64 numbers N×h×w whose bits, least significant first, are the channels of a
    boolean N×D×h×w, D ≤ 62."""
    places = 2 ** torch.arange(bits.shape[1], device=bits.device)
    return (bits.long() * places[:, None, None]).sum(dim=1)


def unpack_bits(numbers: Tensor, count: int) -> Tensor:
    """Return the boolean N×count×h×w of int64 numbers N×h×w: the inverse of `pack_bits`."""
    places = torch.arange(count, device=numbers.device)[:, None, None]
    return ((numbers[:, None] >> places) & 1).bool()


class BinaryCode(nn.Module):
    """The sign of each of D channels: lookup-free quantization (MAGVIT-2), values ±1; on the unit
    sphere ±1/√D (BSQ, https://arxiv.org/abs/2406.07548). A channel of exactly 0 is negative.

    Indices are int64 N×h×w; first: channel 0 is the lowest bit, as MaskBit and Open-MAGVIT2 number
    them, or the highest (BSQ-ViT). Beyond `MAX_INDEX_BITS` they are the bits themselves, N×D×h×w: D
    codebooks of two words. group: How many channels make a word of its own, N×(D/group)×h×w.
    """

    def __init__(
        self,
        bits: int,
        *,
        sphere: bool = False,
        first: Literal["low", "high"] = "low",
        group: int | None = None,
    ) -> None:
        super().__init__()
        self.bits, self.group = bits, group
        self.scale = 1 / math.sqrt(bits) if sphere else 1.0
        self.first = first

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the indices of N×D×h×w vectors."""
        positive = vectors > 0
        if self.group is not None:
            words = torch.split(positive, self.group, dim=1)
            return torch.stack([pack_bits(word) for word in words], dim=1)
        if self.bits > MAX_INDEX_BITS:
            return positive.long()
        return pack_bits(positive if self.first == "low" else positive.flip(1))

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×D×h×w, each value ± the scale."""
        if self.group is not None:
            words = [unpack_bits(word, self.group) for word in indices.unbind(1)]
            positive = torch.cat(words, dim=1)
        elif self.bits > MAX_INDEX_BITS:
            positive = indices
        else:
            positive = unpack_bits(indices, self.bits)
            positive = positive if self.first == "low" else positive.flip(1)
        return (positive.float() * 2 - 1) * self.scale


class ScalarCode(nn.Module):
    """Finite scalar quantization (https://arxiv.org/abs/2309.15505): each channel is squashed to L
    levels and rounded (half to even); a token numbers the combination, the first channel the lowest
    digit. Decoded values are in [-1, 1]."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    def _column(self, values: list[float] | list[int], device: torch.device) -> Tensor:
        return torch.tensor(values, device=device)[:, None, None]

    def _basis(self, device: torch.device) -> Tensor:
        return self._column([math.prod(self.levels[:i]) for i in range(len(self.levels))], device)

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the int64 indices N×h×w of N×D×h×w vectors."""
        device = vectors.device
        # Wider than the levels by a thousandth, as the paper's code has it.
        half = self._column([(level - 1) * 1.001 / 2 for level in self.levels], device)
        offset = self._column([0.0 if level % 2 else 0.5 for level in self.levels], device)
        bound = (vectors.float() + (offset / half).atanh()).tanh() * half - offset
        digits = bound.round().long() + self._column([level // 2 for level in self.levels], device)
        return (digits * self._basis(device)).sum(dim=1)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the float32 vectors N×D×h×w."""
        levels = self._column(list(self.levels), indices.device)
        digits = (indices[:, None] // self._basis(indices.device)) % levels
        return (digits - levels // 2) / (levels // 2)


class Phi(nn.Conv2d):
    """VAR's refinement of what a scale adds: half of it, and half of its 3×3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + super().forward(x)) / 2


class MultiScale(nn.Module):
    """Residual quantization over grids of growing size: each scale codes what the coarser ones left.

    VAR (https://arxiv.org/abs/2404.02905) and Infinity (https://arxiv.org/abs/2412.04431); with all
    sides equal, RQ-VAE's (https://arxiv.org/abs/2203.01941), which takes any size. The rest
    is shrunk by area means, quantized, enlarged by `enlarge` ("bicubic" or "bilinear") and, with
    `phis`, refined by the one whose tick is nearest to the scale's place among all; then subtracted.
    sides: of the square grids, coarse to fine; the last is that of the vectors, which it takes as
    they are. A tuple of indices N×s×s.
    """

    def __init__(
        self,
        quantizer: Codebook | JointCodebook | BinaryCode,
        sides: tuple[int, ...],
        *,
        enlarge: Literal["bicubic", "bilinear"],
        phis: int = 0,
        width: int = 0,
    ) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.sides = sides
        self.enlarge = enlarge
        self.phis = nn.ModuleList(Phi(width) for _ in range(phis))

    def contribute(self, indices: Tensor, scale: int) -> Tensor:
        """Return what one scale's indices add to the vectors, N×D×s×s with s the last side."""
        added = self.quantizer.decode(indices)
        if self.sides[scale] != self.sides[-1]:
            size = (self.sides[-1], self.sides[-1])
            added = functional.interpolate(added, size=size, mode=self.enlarge)
        if self.phis:
            phi = self.phis[nearest_tick(scale / (len(self.sides) - 1), len(self.phis))]
            # The convolution may be of lower precision; the sum over scales is not.
            added = phi(added.to(next(phi.parameters()).dtype)).float()
        return added

    def encode(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """Return the indices of each scale, of vectors N×D×s×s with s the last side."""
        rest = vectors.float()
        indices = []
        for scale, side in enumerate(self.sides):
            small = rest
            if side != self.sides[-1]:
                small = functional.interpolate(rest, size=(side, side), mode="area")
            indices.append(self.quantizer.encode(small))
            rest = rest - self.contribute(indices[-1], scale)
        return tuple(indices)

    def decode(self, indices: tuple[Tensor, ...]) -> Tensor:
        """Return the float32 sum of what the scales add."""
        first, *others = (self.contribute(grid, scale) for scale, grid in enumerate(indices))
        return sum(others, start=first)


def nearest_tick(place: float, count: int) -> int:
    """Return which of `count` shared convolutions serves a scale at `place` in [0, 1].

    Ticks are spread evenly between 1/(2·count) and 1 − 1/(2·count), but for four, as VAR has them,
    between 1/12 and 11/12. Two of its ten scales, 2/9 and 7/9, lie exactly between two ticks: there
    the rounding of numpy's float64 decides, as in models/quant.py, so it is computed like that.
    """
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(margin, 1 - margin, count)
    return int(np.argmin(np.abs(ticks - place)))
