"""Weights and inputs that follow from names alone, so that two code bases can have the same ones.

README.md beside this file says how a golden is made from them with the official code.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

SAMPLES = 64
"""Values of a tensor that a golden has: evenly spaced over it, flattened."""


def _draw(name: str) -> np.random.RandomState:
    # The legacy generator's stream is frozen (numpy's NEP 19); default_rng's may change.
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def derive_tensor(name: str, shape: Iterable[int]) -> Tensor:
    """Return the float32 tensor of an official name: normal, seeded by the name's sha256.

    Two dimensions and more are scaled by 1/√(fan-in), one dimension is 1 + n/10 for a weight or scale
    and n/10 else, a running variance is exp(n/5). A batch norm's count is an integer 0.
    """
    shape = tuple(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    normal = _draw(name).standard_normal(shape)
    if len(shape) >= 2:
        normal = normal / math.sqrt(math.prod(shape[1:]))
    elif name.endswith("running_var"):
        normal = np.exp(normal / 5)
    else:
        normal = normal / 10 + (1 if name.endswith(("weight", "scale")) else 0)
    return torch.from_numpy(np.asarray(normal, dtype=np.float32))


def derive_images(shape: Iterable[int], value_range: tuple[float, float]) -> Tensor:
    """Return float32 images N×3×H×W in the range: half a smooth wave, half uniform noise."""
    n, channels, height, width = shape
    noise = _draw("images").uniform(size=(n, channels, height, width))
    rows, columns = np.mgrid[:height, :width]
    phase = np.arange(n * channels).reshape(n, channels, 1, 1)
    wave = 0.5 + 0.5 * np.sin(rows / 7 + columns / 11 + phase)
    low, high = value_range
    return torch.from_numpy(((noise + wave) / 2 * (high - low) + low).astype(np.float32))


def derive_noise(shape: Iterable[int]) -> Tensor:
    """Return float32 standard normal noise, what a diffusion decoder starts from."""
    return torch.from_numpy(_draw("noise").standard_normal(tuple(shape)).astype(np.float32))


def digest_shapes(shapes: Mapping[str, Iterable[int]]) -> str:
    """Return the sha256 of the lines `name:a×b×c`, sorted."""
    lines = sorted(f"{name}:{'×'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_indices(indices: Tensor | tuple[Tensor, ...]) -> str:
    """Return the sha256 of the indices, each grid in row-major order, as little-endian int64."""
    grids = indices if isinstance(indices, tuple) else (indices,)
    data = b"".join(grid.cpu().numpy().astype("<i8").tobytes() for grid in grids)
    return hashlib.sha256(data).hexdigest()


def sample_values(tensor: Tensor) -> list[float]:
    """Return `SAMPLES` values of a tensor, evenly spaced over it, flattened."""
    flat = tensor.detach().flatten().double()
    places = torch.linspace(0, len(flat) - 1, SAMPLES).round().long()
    return [float(f"{value:.8g}") for value in flat[places].tolist()]
