"""Feature networks under one interface: 8-bit batches in, a row of features an image out.

A network has its published weights or does not exist: loading is strict, and nothing is downloaded
or stays random. What a network's own evaluator does to a picture before it is part of the features
and stands here beside it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.metrics.inception import CLASSES, FEATURES, Inception, split_chunks
from vtbench.metrics.vit import (
    CLIP_L14_336,
    DINOV2_L14,
    SIGLIP_SO400M_14_384,
    Shape,
    VisionTransformer,
    rename_clip,
)


class Encoder(Protocol):
    """A feature network with its preparation of the input.

    identity: sha256 of each weights file. width: values a row; the first `dim` are the features, the
    others the Inception's logits.
    """

    @property
    def name(self) -> str:
        """What its features are stored under."""
        ...

    @property
    def dim(self) -> int:
        """How many of a row's values are features."""
        ...

    @property
    def width(self) -> int:
        """How many values a row has."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In what its features are stored."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """The sha256 of each weights file, by name."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return N×width of `dtype`, on the CPU, of uint8 N×3×H×W."""
        ...


@dataclass
class InceptionFeatures:
    """The FID Inception under one resizing; with_logits adds the logits to each row."""

    net: Inception
    resizing: str
    with_logits: bool = False
    dim: int = FEATURES

    @property
    def name(self) -> str:
        """The network's name and its resizing."""
        suffix = ".float64" if self.dtype == torch.float64 else ""
        return f"{self.net.name}.{self.resizing}{suffix}"

    @property
    def dtype(self) -> torch.dtype:
        """The network's own."""
        return self.net.dtype

    @property
    def width(self) -> int:
        """The features, and the logits where they are asked for."""
        return FEATURES + (CLASSES if self.with_logits else 0)

    @property
    def identity(self) -> Mapping[str, str]:
        """The network's sha256, by name."""
        return self.net.identity

    def __call__(self, images: Tensor) -> Tensor:
        """Return N×width features of uint8 N×3×H×W."""
        features, logits = self.net(images, resizing=self.resizing)
        return torch.cat([features, logits], dim=1) if self.with_logits else features


@dataclass(frozen=True)
class VitRecipe:
    """A transformer, how its evaluator shows it a picture, and what becomes of its features."""

    shape: Shape
    side: int
    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unit: bool
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _rename_dinov2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != "mask_token"}  # training alone


VITS: dict[str, VitRecipe] = {
    # dgm-eval (Stein et al., NeurIPS 2023): both sides to 224 whatever the shape.
    "dinov2-vitl14": VitRecipe(
        DINOV2_L14,
        side=224,
        crop=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        unit=False,
        rename=_rename_dinov2,
    ),
    # google-research/cmmd: the middle square, to 336; embeddings of length 1.
    "clip-vitl14-336": VitRecipe(
        CLIP_L14_336,
        side=336,
        crop=True,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        unit=True,
        rename=rename_clip,
    ),
    # transformers' image processor for the model: both sides to 384 whatever the shape.
    "siglip-so400m": VitRecipe(
        SIGLIP_SO400M_14_384,
        side=384,
        crop=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        unit=False,
        rename=rename_clip,
    ),
}
"""The transformers by name."""


class VitFeatures:
    """A transformer's class token, or pooled tokens.

    weights: its published checkpoint, .pth, .bin or .safetensors. sha256: the digest that the file
    must have, or its first digits; None: unproven. Raises WeightsMismatch.
    """

    dtype = torch.float32

    def __init__(
        self,
        name: str,
        weights: Path,
        *,
        device: torch.device | str,
        recipe: VitRecipe | None = None,
        sha256: str | None = None,
    ) -> None:
        self.name, self.recipe = name, recipe or VITS[name]
        self.identity: Mapping[str, str] = {weights.name: sha256_file(weights)}
        if sha256 is not None and not self.identity[weights.name].startswith(sha256):
            raise WeightsMismatch(f"{name}: sha256 of {weights} does not start with {sha256}")
        self.dim = self.width = self.recipe.shape.projection or self.recipe.shape.width
        self._device = torch.device(device)
        self._net = _load_vit(self.recipe, weights, name).to(self._device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 N×dim on the CPU, of uint8 N×3×H×W; of length 1 where the recipe says."""
        rows = []
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            for part, count in split_chunks(images, self._device):
                row = self._net(show(part, self.recipe).to(self._device))[:count].cpu()
                rows.append(row / row.norm(dim=1, keepdim=True) if self.recipe.unit else row)
        return torch.cat(rows)


def show(images: Tensor, recipe: VitRecipe) -> Tensor:
    """Return a uint8 N×3×H×W batch as the network takes it: cut to the middle square where the
    recipe says, Pillow's bicubic on 8-bit RGB, then (x/255 − mean) / std, float32."""
    from PIL import Image

    pictures = []
    for array in images.permute(0, 2, 3, 1).cpu().numpy():
        picture = Image.fromarray(np.ascontiguousarray(array))
        if recipe.crop:
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((recipe.side, recipe.side), Image.Resampling.BICUBIC)
        pictures.append(np.array(picture))
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(torch.float32) / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (recipe.mean, recipe.std))
    return (x - mean) / std


def _load_vit(recipe: VitRecipe, path: Path, name: str) -> VisionTransformer:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise WeightsMismatch(f"{name}: {path} is no state dict: {error}") from error
    given = {key: value.to(torch.float32) for key, value in recipe.rename(state).items()}
    with torch.device("meta"):  # no values: what is not loaded cannot stay random
        net = VisionTransformer(recipe.shape)
    wanted = net.state_dict()
    wrong = sorted(wanted.keys() ^ given.keys())
    wrong += [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if wrong:
        raise WeightsMismatch(f"{name}: {path} is another network: {len(wrong)} keys, {wrong[0]}")
    net.load_state_dict(given, assign=True)
    return net.requires_grad_(False).eval()


def cosine_similarity(reference: Tensor, image: Tensor) -> Tensor:
    """Return the cosine between the rows of two N×D tensors, float64 (N,), in [−1, 1]."""
    x, y = (side.to(torch.float64) for side in (reference, image))
    lengths = (x * x).sum(dim=1).sqrt() * (y * y).sum(dim=1).sqrt()
    cosine = (x * y).sum(dim=1) / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return cosine.clamp(-1, 1)
