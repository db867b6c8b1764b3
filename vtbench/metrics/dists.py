"""DISTS of 8-bit RGB batches, with the published weights or not at all.

Ding, Ma, Wang and Simoncelli 2020: means and covariances of VGG-16 features, each channel weighted
by the authors' α and β. The network is torchvision's checkpoint (the one under LPIPS-VGG) with every
max pooling replaced by a hanning-weighted root mean square.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.metrics.device_arithmetic import choose_arithmetic
from vtbench.metrics.inception import split_chunks
from vtbench.metrics.perceptual import TOGETHER_PIXELS, check_backbone
from vtbench.metrics.pixel import require_pair
from vtbench.weights.metrics import file_names, get_metric_weights, stated_digests

MIN_SIDE = 17
"""Below it the last feature map is a single position, which has no variance to compare."""

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Places in torchvision's `features` of the convolutions of each stage; a pooling lies between."""

CHANNELS = (3, 64, 128, 256, 512, 512)
"""Of the image and of each stage's last feature map; as many α and as many β."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_C = 1e-6  # the authors' c1 and c2
_CHUNK = 2**24  # values of a level that are compared at a time, 128 MiB in float64


class Dists:
    """DISTS on one device.

    backbone: torchvision's VGG-16 checkpoint; weights: the authors' weights.pt. expected_sha8 and
    expected_sha256 replace the catalogue's digests (tests use random stand-ins). Raises
    WeightsMissing and WeightsMismatch.
    """

    def __init__(
        self,
        backbone: Path,
        weights: Path,
        *,
        device: torch.device | str,
        expected_sha8: str | None = None,
        expected_sha256: str | None = None,
    ) -> None:
        check_backbone(backbone, "vgg", expected_sha8=expected_sha8)
        if not weights.is_file():
            raise WeightsMissing(f"DISTS: {weights} is not here: `vtbench fetch dists`")
        entry = get_metric_weights("dists")
        expected = expected_sha256 or stated_digests(entry, *file_names(entry))[0]
        if (found := sha256_file(weights)) != expected:
            raise WeightsMismatch(
                f"DISTS: sha256 of {weights} starts with {found[:8]}, not {str(expected)[:8]}: "
                "not the authors' weights.pt, or damaged; fetch it again"
            )
        self._device = torch.device(device)
        self._arithmetic = choose_arithmetic(self._device)
        self._features = {
            key: value.to(self._device) for key, value in _read_features(backbone).items()
        }
        # α and β sum to one together, so that the distance is in [0, 1].
        alpha, beta = (value.to(torch.float64).flatten() for value in _read_factors(weights))
        total = alpha.sum() + beta.sum()
        self._alpha, self._beta = (torch.split(v / total, list(CHANNELS)) for v in (alpha, beta))
        window = torch.tensor([0.25, 0.5, 0.25], device=self._device)
        self._window = torch.outer(window, window)

    @torch.inference_mode()
    def __call__(self, reference: Tensor, image: Tensor) -> Tensor | None:
        """Return the distance, float64 (N,) in [0, 1], per image, on the CPU; None below MIN_SIDE.

        Both are uint8 N×3×H×W at their full size: the authors' demonstration and piq first bring the
        shorter side to 256 px, this does not. Features are float32 without TF32, their moments as
        `choose_arithmetic` says. Images go one by one on a CPU, and in parts of one size elsewhere
        (`split_chunks`), so that a value does not depend on its batch.
        """
        require_pair(reference, image)
        if min(reference.shape[-2:]) < MIN_SIDE:
            return None
        most = max(1, TOGETHER_PIXELS // reference[0, 0].numel())
        sides = (split_chunks(side, self._device, most) for side in (reference, image))
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            parts = zip(*sides, strict=True)
            return torch.cat([self._of_images(x, y)[:count] for (x, count), (y, _) in parts])

    def _of_images(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = (v.to(self._device).to(torch.float32) / 255 for v in (x, y))
        distance = self._compare(a, b, 0)
        mean, std = (torch.tensor(v, device=self._device)[:, None, None] for v in (_MEAN, _STD))
        a, b = (a - mean) / std, (b - mean) / std
        # Both stage by stage: no more than two feature maps exist at a time.
        for stage in range(len(STAGES)):
            a, b = self._run(a, stage), self._run(b, stage)
            distance += self._compare(a, b, stage + 1)
        return distance

    def _run(self, x: Tensor, stage: int) -> Tensor:
        if stage > 0:
            channels = x.shape[1]
            window = self._window.expand(channels, 1, 3, 3)
            x = functional.conv2d(x.square(), window, stride=2, padding=1, groups=channels)
            x = x.add_(1e-12).sqrt_()
        for place in STAGES[stage]:
            weight, bias = (self._features[f"{place}.{part}"] for part in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, padding=1).relu_()
        return x

    def _compare(self, a: Tensor, b: Tensor, level: int) -> Tensor:
        """Return Σ α (1 − structure of means) + β (1 − structure of variations) of a level, (N,)."""
        average = self._arithmetic.average
        total = torch.zeros(len(a), dtype=torch.float64)
        size = max(1, _CHUNK // a[:, 0].numel())
        parts = (torch.split(v, size, dim=1) for v in (a, b))
        factors = (torch.split(v[level], size) for v in (self._alpha, self._beta))
        for x, y, alpha, beta in zip(*parts, *factors, strict=True):
            x, y = x.to(self._arithmetic.real), y.to(self._arithmetic.real)
            mean_x, mean_y = average(x), average(y)
            x, y = (v - mean.to(v)[..., None, None] for v, mean in ((x, mean_x), (y, mean_y)))
            var_x, var_y, covariance = average(x.square()), average(y.square()), average(x * y)
            luminance = (2 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)
            structure = (2 * covariance + _C) / (var_x + var_y + _C)
            total += (alpha * (1 - luminance) + beta * (1 - structure)).sum(dim=1)
        return total


def _read_features(path: Path) -> dict[str, Tensor]:
    """Return the convolutions of a torchvision VGG-16 by place and part, float32, every one."""
    checkpoint = _load(path)
    wanted = [f"{place}.{part}" for s in STAGES for place in s for part in ("weight", "bias")]
    given = {k.removeprefix("features."): v for k, v in checkpoint.items() if "features." in k}
    wrong = sorted(given.keys() ^ set(wanted))
    if wrong:
        raise WeightsMismatch(f"DISTS: {path} is no VGG-16: features.{wrong[0]}")
    return {key: given[key].to(torch.float32) for key in wanted}


def _read_factors(path: Path) -> tuple[Tensor, Tensor]:
    """Return the authors' α and β, 1×1475×1×1 each."""
    weights, shape = _load(path), (1, sum(CHANNELS), 1, 1)
    shapes = {key: tuple(getattr(value, "shape", ())) for key, value in weights.items()}
    if shapes != {"alpha": shape, "beta": shape}:
        raise WeightsMismatch(f"DISTS: {path} should hold alpha and beta of {shape}, not {shapes}")
    return weights["alpha"], weights["beta"]


def _load(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsMismatch(f"DISTS: {path} is no state dict: {error}") from error
    if not isinstance(loaded, dict):
        raise WeightsMismatch(f"DISTS: {path} is no state dict but a {type(loaded).__name__}")
    return loaded
