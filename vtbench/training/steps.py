"""One step of each family: a batch through its network, with gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vtbench.base.errors import RegistryError
from vtbench.registry.recipe import Training
from vtbench.tokenizers.base import Tokenizer
from vtbench.tokenizers.convnet import ConvNetwork
from vtbench.tokenizers.diffusers_vae import WIRINGS, DiffusersVae
from vtbench.tokenizers.reference import SmallDitoNetwork, SmallRaeNetwork
from vtbench.tokenizers.titok import TitokNetwork
from vtbench.training.quantization import quantize, smooth

MASKED = 0.75
"""Of the patches that an encoder does not see while it learns (MAE,
https://arxiv.org/abs/2111.06377)."""


@dataclass
class Reconstruction:
    """images: N×3×H×W in the network's range. penalties: terms of the loss by the recipe's names.
    choices: see `quantization.Quantized`."""

    images: Tensor
    penalties: dict[str, Tensor] = field(default_factory=dict)
    choices: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def reconstruct(
    tokenizer: Tokenizer,
    batch: Tensor,
    *,
    recipe: Training,
    step: int,
    generator: torch.Generator,
) -> Reconstruction:
    """Return a batch (in the network's range) through the tokenizer's network, with gradients.

    generator: of all that is random in it, on the CPU. Raises RegistryError for a network that cannot
    be trained yet.
    """
    model = tokenizer.model  # type: ignore[attr-defined]
    if isinstance(tokenizer, DiffusersVae):
        wiring = WIRINGS[type(model).__name__]
        return Reconstruction(wiring.decode(model, wiring.encode(model, batch, None), 0))
    if isinstance(model, SmallRaeNetwork):
        if step < count_masked(recipe):
            return Reconstruction(fill_masks(model, batch, generator))
        return Reconstruction(draw_features(model, batch, recipe.noise, generator))
    if isinstance(model, SmallDitoNetwork):
        return Reconstruction(estimate_noisy(model, batch, generator))
    if not isinstance(model, ConvNetwork | TitokNetwork):
        raise RegistryError(f"{tokenizer.spec.name}: no way to train a {type(model).__name__}")
    if model.moments:
        mean, log_variance = (part.float() for part in model.compute_moments(batch))
        log_variance = log_variance.clamp(-30, 4)
        divergence = mean.square() + log_variance.exp() - 1 - log_variance
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        sample = mean + (0.5 * log_variance).exp() * noise
        return Reconstruction(model.decode_vectors(sample), {"kl": 0.5 * divergence.mean()})
    vectors = model.compute_latents(batch)
    if model.quantizer is None:
        return Reconstruction(model.decode_vectors(vectors))
    if step < recipe.unquantized:
        inner = getattr(model.quantizer, "quantizer", None)
        passed = vectors if inner is not None else smooth(model.quantizer, vectors)
        return Reconstruction(model.decode_vectors(passed))
    with torch.autocast(vectors.device.type, enabled=False):
        done = quantize(model.quantizer, vectors.float())
    penalties = {"commitment": done.commitment, "entropy": done.balance}
    return Reconstruction(model.decode_vectors(done.vectors), penalties, done.choices)


def estimate_noisy(model: SmallDitoNetwork, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Return the decoder's estimates of the images, each with noise of a time of its own; the times
    are evenly spread over ]0, 1]."""
    n = len(batch)
    times = 1 - (torch.arange(n) + torch.rand(1, generator=generator)) / n
    noise = torch.randn(batch.shape, generator=generator).to(batch)
    share = times.to(batch)[:, None, None, None]
    noisy = (1 - share) * batch + share * noise
    return model.estimate(model.compute_latents(batch), noisy, times)


def count_masked(recipe: Training) -> int:
    """Return how many steps there are before the encoder is frozen."""
    return round(recipe.masked * recipe.steps)


def fill_masks(model: SmallRaeNetwork, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Return the batch with a random `MASKED` of each image's patches as the network draws them from
    the others; where those are, the images are the batch's, and there is nothing to learn.

    The decoder is the tokenizer's own; a masked patch is all zeros to it, the mean of the features
    once they are normalised. So it has learned positions and pixels before the encoder is frozen.
    """
    n, (rows, columns) = len(batch), model.grid
    places = rows * columns
    order = torch.rand(n, places, generator=generator).argsort(dim=1).to(batch.device)
    kept = order[:, : places - round(MASKED * places)]
    seen = model.compute_features(batch, kept)
    at = kept[..., None].expand_as(seen)
    drawn = model.decode_features(seen.new_zeros(n, places, seen.shape[2]).scatter(1, at, seen))
    masked = (
        torch.ones(n, places, device=batch.device).scatter(1, kept, 0).view(n, 1, rows, columns)
    )
    side = batch.shape[-1] // columns
    masked = masked.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    return torch.where(masked > 0, drawn, batch)


def draw_features(
    model: SmallRaeNetwork, batch: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """Return what the decoder draws of the frozen encoder's features; for `noise` see `Training`."""
    with torch.no_grad():
        features = model.compute_features(batch)
        if noise:
            deviations = noise * torch.randn(len(features), 1, 1, generator=generator).abs()
            added = torch.randn(features.shape, generator=generator)
            features = features + (deviations * added).to(features)
    return model.decode_features(features)


@torch.no_grad()
def freeze_encoder(model: SmallRaeNetwork, batches: Iterable[Tensor]) -> None:
    """Set mean and deviation of the features, channel by channel, to those of the batches; from here
    on `draw_features` gives the encoder no gradient, and without one AdamW leaves it as it is."""
    features = torch.cat([model.compute_features(batch) for batch in batches]).flatten(0, 1)
    # They are normalised by what was before.
    model.mean += model.deviation * features.mean(dim=0)
    model.deviation *= features.std(dim=0)
