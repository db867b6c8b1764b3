"""Quantizers in training: gradients through them, and codebooks that follow the vectors.

The indices and the values are those of `tokenizers.nn.quantize`; here is only what inference has no
use for. The gradient goes straight through to a smooth surrogate of the quantizer (Bengio et al.
2013). A codebook is the moving average of the vectors that chose its words (van den Oord et al. 2017,
appendix A.1); a word that hardly any vector chooses starts again as one of the batch's vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.tokenizers.nn.quantize import BinaryCode, Codebook, MultiScale, ScalarCode

DECAY = 0.99
"""Of a codebook's moving averages, a step."""

DEAD_SHARE = 0.03
"""A word chosen less often than this share of the mean word is dead."""

JOINT_BITS = 12
"""Of a lookup-free code whose words are told apart where their balance is measured."""

SHARPNESS = 10.0
"""Logit of a bit that is 1."""


@dataclass
class Quantized:
    """What a quantizer gives in training.

    Attributes:
        vectors: What the decoder takes, with the straight-through gradient.
        commitment: The mean squared distance a value between vectors and codewords, summed over
            both directions where the quantizer has parameters of its own.
        balance: See `measure_imbalance`.
        choices: Pairs of vectors (M×D) and the indices (M) of their words in a codebook.
    """

    vectors: Tensor
    commitment: Tensor
    balance: Tensor
    choices: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def quantize(quantizer: nn.Module, vectors: Tensor) -> Quantized:
    """Return N×D×h×w vectors through the quantizer. Raises TypeError for one that is not known."""
    if isinstance(quantizer, MultiScale):
        return _quantize_scales(quantizer, vectors)
    surrogate = smooth(quantizer, vectors)
    with torch.no_grad():
        indices = quantizer.encode(vectors)  # type: ignore[operator]
        words = quantizer.decode(indices)  # type: ignore[operator]
    done = Quantized(
        surrogate + (words - surrogate).detach(),
        functional.mse_loss(surrogate, words),
        vectors.new_zeros(()),
    )
    if isinstance(quantizer, Codebook):
        rows = surrogate.detach().permute(0, 2, 3, 1).flatten(0, 2)
        done.choices.append((rows, indices.flatten()))
    if isinstance(quantizer, BinaryCode):
        rows = surrogate.permute(0, 2, 3, 1).flatten(0, 2) / quantizer.scale
        done.balance = measure_imbalance(rows)
    return done


def measure_imbalance(bits: Tensor) -> Tensor:
    """Return the share of their entropy that M×D bits lack (−1 to 1, by their signs one and the other
    value), a scalar in [0, 1]; 0 where all words of D bits are as frequent.

    The entropy is that of the mean over the M of the words' probabilities, after lookup-free
    quantization (Yu et al. 2024, MAGVIT-v2, https://arxiv.org/abs/2310.05737), each bit a soft sign.
    Of more than `JOINT_BITS`, as many at once, and the mean over such groups.
    """
    groups = [bits[:, at : at + JOINT_BITS] for at in range(0, bits.shape[1], JOINT_BITS)]
    missing = bits.new_zeros(())
    for group in groups:
        chances = torch.sigmoid(SHARPNESS * group)
        words = torch.ones_like(chances[:, :1])
        for column in chances.unbind(dim=1):
            share = column[:, None]
            words = torch.cat([words * (1 - share), words * share], dim=1)
        mean = words.mean(dim=0)
        entropy = -(mean * mean.clamp_min(1e-12).log()).sum()
        missing = missing + 1 - entropy / (group.shape[1] * math.log(2))
    return missing / len(groups)


def smooth(quantizer: nn.Module, vectors: Tensor) -> Tensor:
    """Return the differentiable values that the quantizer rounds: for a codebook the vectors as they
    are compared, for bits their tanh (on the sphere, the unit vector), for scalars the bound values."""
    if isinstance(quantizer, Codebook):
        return functional.normalize(vectors, dim=1) if quantizer.lookup == "cosine" else vectors
    if isinstance(quantizer, BinaryCode):
        on_sphere = quantizer.scale != 1.0
        return functional.normalize(vectors, dim=1) if on_sphere else vectors.tanh()
    if isinstance(quantizer, ScalarCode):
        levels = torch.tensor(quantizer.levels, device=vectors.device)[:, None, None]
        half, offset = (levels - 1) * 1.001 / 2, (1 - levels % 2) / 2
        return ((vectors + (offset / half).atanh()).tanh() * half - offset) / (levels // 2)
    raise TypeError(f"no way to train through {type(quantizer).__name__}")


def _quantize_scales(quantizer: MultiScale, vectors: Tensor) -> Quantized:
    """As models/quant.py of FoundationVision/VAR trains: what every scale has added up to so far is
    held against the vectors; refinements learn from it, and the gradient goes past all scales."""
    target = vectors.detach()
    rest, total = target, torch.zeros_like(target)
    done = Quantized(vectors, vectors.new_zeros(()), vectors.new_zeros(()))
    for scale, side in enumerate(quantizer.sides):
        small = rest
        if side != quantizer.sides[-1]:
            small = functional.interpolate(rest, size=(side, side), mode="area")
        indices = quantizer.quantizer.encode(small)
        if isinstance(quantizer.quantizer, Codebook):
            rows = small.permute(0, 2, 3, 1).flatten(0, 2)
            done.choices.append((rows, indices.flatten()))
        added = quantizer.contribute(indices, scale)
        rest, total = rest - added.detach(), total + added
        share = functional.mse_loss(vectors, total.detach()) + functional.mse_loss(total, target)
        done.commitment = done.commitment + share / len(quantizer.sides)
    done.vectors = vectors + (total - vectors).detach()
    return done


class CodebookAverage(nn.Module):
    """The moving averages of how often each word is chosen and of the sum of the vectors that did."""

    counts: Tensor
    sums: Tensor

    def __init__(self, codebook: Codebook) -> None:
        super().__init__()
        size, width = codebook.entries.shape
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, width))

    @torch.no_grad()
    def follow(
        self,
        codebook: Codebook,
        choices: list[tuple[Tensor, Tensor]],
        *,
        revive: bool,
        generator: torch.Generator,
    ) -> int:
        """Move the codebook's words after one step's choices, and return how many started again.

        revive: replace dead words by vectors of the step, drawn at random on the CPU."""
        rows = torch.cat([vectors for vectors, _ in choices])
        indices = torch.cat([chosen for _, chosen in choices])
        chosen = torch.bincount(indices, minlength=len(self.counts)).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, rows)
        self.counts.lerp_(chosen, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        alive = self.counts > 0
        codebook.entries[alive] = self.sums[alive] / self.counts[alive, None]
        if not revive:
            return 0
        mean = self.counts.sum() / len(self.counts)
        dead = (self.counts < DEAD_SHARE * mean).nonzero()[:, 0]
        picked = torch.randint(len(rows), (len(dead),), generator=generator).to(rows.device)
        # A word's weight is what it will be judged by: half of the mean's, so that it has about
        # ln(0.5 / 0.03) / (1 − DECAY) = 280 steps to be chosen in.
        self.counts[dead] = 0.5 * mean
        self.sums[dead] = 0.5 * mean * rows[picked]
        codebook.entries[dead] = rows[picked]
        return len(dead)
