"""The two textbook tokenizers of raw patches: principal components, and k-means.

Every learned tokenizer of the same grid and width should beat them: PCA is the best linear
autoencoder (the Karhunen-Loève transform), k-means over patches the plain vector quantizer (both in
Gersho and Gray, Vector Quantization and Signal Compression, 1992). Their small weights ship with
vtbench; `data/weights/fit_patch.py` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.nn.quantize import nearest_codewords
from vtbench.weights.states import has_nan, load_state


def split_patches(images: Tensor, side: int) -> Tensor:
    """Return N×3×H×W images as N×h×w×D patches, D = 3·side² in the order channel, row, column."""
    return functional.pixel_unshuffle(images, side).permute(0, 2, 3, 1)


def join_patches(patches: Tensor, side: int) -> Tensor:
    """Return the N×3×H×W images of N×h×w×D patches: the inverse of `split_patches`."""
    return functional.pixel_shuffle(patches.permute(0, 3, 1, 2), side)


def load_strict(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the float32 tensors of a safetensors file that must have these keys and shapes."""
    if not path.is_file():
        raise WeightsMissing(f"{path}: no such file; the weights of patch tokenizers are one file")
    tensors = load_state(path)
    wrong = [f"{key} is missing" for key in shapes if key not in tensors]
    if unexpected := [key for key in tensors if key not in shapes]:
        more = f" and {len(unexpected) - 1} more are" if len(unexpected) > 1 else " is"
        wrong.append(f"{unexpected[0]}{more} unexpected")
    for key, shape in shapes.items():
        if key in tensors and tuple(tensors[key].shape) != shape:
            wrong.append(f"{key} is {tuple(tensors[key].shape)} and not {shape}")
        elif key in tensors and not tensors[key].is_floating_point():
            wrong.append(f"{key} is {tensors[key].dtype} and no float")
        elif key in tensors and has_nan(tensors[key]):
            wrong.append(f"{key} has NaN")
    if wrong:
        raise WeightsMismatch(f"{path}: {'; '.join(wrong)}")
    return {key: tensor.to(torch.float32) for key, tensor in tensors.items()}


def _patch_side(spec: Spec) -> int:
    side = spec.downsample
    if side is None or side < 1 or spec.size.fixed is not None or spec.size.multiple % side:
        raise RegistryError(
            f"{spec.name}: downsample is the patch side and must divide size.multiple; "
            f"got downsample {side}, multiple {spec.size.multiple}, fixed {spec.size.fixed}"
        )
    return side


class PatchPca(Tokenizer):
    """Principal components of f×f×3 patches, f = spec.downsample, c = spec.latent_channels.

    Latents are dtype N×c×H/f×W/f: (patch − mean) · componentsᵀ, largest variance first, not scaled;
    decoding is latents · components + mean. The components are orthonormal, so decode ∘ encode
    is the orthogonal projection. weights: safetensors with mean (3f²) and components (c×3f²).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        weights: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self.side = _patch_side(spec)
        width = 3 * self.side**2
        if spec.latent_channels is None or not 1 <= spec.latent_channels <= width:
            raise RegistryError(
                f"{spec.name}: latent_channels must be 1…{width}, got {spec.latent_channels}"
            )
        shapes = {"mean": (width,), "components": (spec.latent_channels, width)}
        tensors = load_strict(weights, shapes)
        self.mean = tensors["mean"].to(self.device, dtype)
        self.components = tensors["components"].to(self.device, dtype)

    def _encode(self, images: Tensor) -> Code:
        patches = split_patches(images.to(self.dtype), self.side)
        latents = (patches - self.mean) @ self.components.T
        return Code.continuous(latents.permute(0, 3, 1, 2).contiguous())

    def _decode(self, code: Code) -> Tensor:
        if code.latents is None:
            raise ValueError(f"{self.spec.name} decodes latents; this Code has none")
        latents = code.latents.to(self.device, self.dtype).permute(0, 2, 3, 1)
        return join_patches(latents @ self.components + self.mean, self.side)


class PatchVq(Tokenizer):
    """k-means of f×f×3 patches, f = spec.downsample, K = spec.codebook_size; nearest in L2.

    Indices are int64 N×H/f×W/f; decoding looks the codewords up. Patches and codebook are of dtype;
    distances are float64, so that the nearest codeword is the same on every machine, and each image
    is searched by itself, so that it is the same in every batch. weights: safetensors with
    codebook (K×3f²).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        weights: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self.side = _patch_side(spec)
        if spec.codebook_size is None or spec.codebook_size < 2:
            raise RegistryError(f"{spec.name}: codebook_size must be ≥ 2, got {spec.codebook_size}")
        self.codebook_size = spec.codebook_size
        tensors = load_strict(weights, {"codebook": (spec.codebook_size, 3 * self.side**2)})
        self.codebook = tensors["codebook"].to(self.device, dtype)

    def _encode(self, images: Tensor) -> Code:
        patches = split_patches(images.to(self.dtype), self.side)
        n, height, width, _ = patches.shape
        # Metal has no float64.
        device = torch.device("cpu") if self.device.type == "mps" else self.device
        vectors = patches.flatten(1, 2).to(device).to(torch.float64)
        codebook = self.codebook.to(device).to(torch.float64)
        found = torch.stack([nearest_codewords(image, codebook) for image in vectors])
        indices = found.reshape(n, height, width).to(self.device)
        return Code.discrete(indices, self.codebook_size)

    def _decode(self, code: Code) -> Tensor:
        if not isinstance(code.indices, Tensor):
            raise ValueError(f"{self.spec.name} decodes one grid of indices; this Code has none")
        return join_patches(self.codebook[code.indices.to(self.device)], self.side)
