"""Metrics as functions of two batches of images, and as objects that collect whole sets.

Images are N×3×H×W RGB: uint8, or floats in [0, 1]. Floats are clamped and rounded to 8 bits first, since
a metric measures the image that a person would see. Originals and images have the same shape. The
runs use the same functions; `metrics.catalogue` has their definitions and sources.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vtbench.base.errors import TooFewImages, UnknownName, VtbenchError
from vtbench.images import require_unit_range, to_uint8
from vtbench.metrics import haar_similarity, pixel
from vtbench.metrics.catalogue import FEATURE_SOURCES, METRICS, SET_METRICS
from vtbench.metrics.distribution import Estimate, measure_set, require_images
from vtbench.metrics.encoders import open_encoder
from vtbench.metrics.perceptual import open_alex, open_vgg
from vtbench.weights.metrics import find_metric_weights


def as_uint8(images: Tensor) -> Tensor:
    """Return a batch as uint8 N×3×H×W; floats are clamped to [0, 1] and rounded half up.

    Raises:
        ImageError: Floats are not finite, or plainly in another range such as [-1, 1] or [0, 255].
        VtbenchError: The images are integers other than uint8.
    """
    if images.dtype == torch.uint8:
        return images
    if images.is_floating_point():
        require_unit_range(images)
        return to_uint8(images)
    raise VtbenchError(f"images are uint8, or floats in [0, 1], not {images.dtype}")


def psnr_db(original: Tensor, image: Tensor) -> Tensor:
    """Return PSNR in dB of 8-bit RGB with peak 255, float64 (N,); 100 for identical images."""
    return pixel.psnr_db(as_uint8(original), as_uint8(image))


def mae(original: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute error over pixels and channels in 8-bit levels, float64 (N,)."""
    return pixel.mae(as_uint8(original), as_uint8(image))


def ssim(original: Tensor, image: Tensor) -> Tensor:
    """Return SSIM in [-1, 1], float64 (N,). Raises VtbenchError if a side is below 11 px."""
    return _applicable("ssim", pixel.ssim(as_uint8(original), as_uint8(image)))


def ms_ssim(original: Tensor, image: Tensor) -> Tensor:
    """Return MS-SSIM in [0, 1], float64 (N,). Raises VtbenchError if a side is below 161 px."""
    return _applicable("ms_ssim", pixel.ms_ssim(as_uint8(original), as_uint8(image)))


def haarpsi(original: Tensor, image: Tensor) -> Tensor:
    """Return HaarPSI in [0, 1], float64 (N,). Raises VtbenchError if a side is too small."""
    return _applicable("haarpsi", haar_similarity.haarpsi(as_uint8(original), as_uint8(image)))


def lpips(original: Tensor, image: Tensor, *, net: Literal["alex", "vgg"] = "alex") -> Tensor:
    """Return LPIPS v0.1, float64 (N,); 0 for identical images, lower is better.

    Args:
        original: The originals.
        image: The reconstructions. The network runs on their device.
        net: The backbone, "alex" or "vgg".

    Raises:
        UnknownName: `net` is another name.
        WeightsMissing: The network is not here; the message has the command that fetches it.
        VtbenchError: A side is too small.
    """
    openers = {"alex": open_alex, "vgg": open_vgg}
    if net not in openers:
        raise UnknownName("LPIPS network", net, list(openers))
    backbone = find_metric_weights(f"lpips-{net}").path
    measure = openers[net](backbone, device=image.device)
    return _applicable(f"lpips_{net}", measure(as_uint8(original), as_uint8(image)))


def _applicable(key: str, values: Tensor | None) -> Tensor:
    if values is None:
        raise VtbenchError(f"{key} does not apply to images this small: {METRICS[key].definition}")
    return values


class SetMetric:
    """A distance between the features of a set of originals and of their reconstructions, such as rFID.

    Call `update` with batches, then `compute`. Features are kept in memory: for the FID Inception 8 kB
    for each original and each reconstruction. `merge` adds the images of another process.

    Args:
        key: A set metric of the catalogue, such as "rfid", "kid", "fd_dinov2" or "rfid@clean-fid".
        device: The device of the network.

    Raises:
        UnknownName: There is no such set metric.
        WeightsMissing: The network is not here; the message has the command that fetches it.
    """

    def __init__(self, key: str, *, device: str = "cpu") -> None:
        if key not in SET_METRICS:
            raise UnknownName("set metric", key, list(SET_METRICS))
        self.key = key
        self._encoder = open_encoder(FEATURE_SOURCES[key], device=device)
        self._sides: tuple[list[Tensor], list[Tensor]] = ([], [])

    @property
    def n(self) -> int:
        """The number of pairs of images so far."""
        return sum(map(len, self._sides[0]))

    def update(self, original: Tensor, image: Tensor) -> None:
        """Add a batch of originals and their reconstructions. Raises VtbenchError if shapes differ."""
        if original.shape != image.shape:
            raise VtbenchError(f"{tuple(original.shape)} originals, {tuple(image.shape)} images")
        reference = self._encoder(as_uint8(original))
        self._sides[0].append(reference[:, : self._encoder.dim].cpu())
        self._sides[1].append(self._encoder(as_uint8(image)).cpu())

    def merge(self, other: SetMetric) -> None:
        """Add the images of another object of this metric. Raises VtbenchError for another metric."""
        if other.key != self.key:
            raise VtbenchError(f"{self.key} and {other.key} do not merge")
        for own, more in zip(self._sides, other._sides, strict=True):
            own += more

    def reset(self) -> None:
        """Forget every image."""
        self._sides = ([], [])

    def compute(self) -> Estimate:
        """Return the value with its standard error, where it has one.

        Raises:
            TooFewImages: There are fewer images than the metric's minimum.
        """
        metric = METRICS[self.key]
        if not self.n:
            raise TooFewImages(f"{metric.label}: no images were given")
        if metric.minimum_n > 1:
            require_images(self.n, metric.minimum_n - 1, metric.label)
        reference, image = (np.asarray(torch.cat(side)) for side in self._sides)
        distance = FEATURE_SOURCES[self.key].distance
        return measure_set(distance, reference, image, self._encoder.dim, what=metric.label)


class Rfid(SetMetric):
    """Reconstruction FID: the Fréchet distance between Inception features of originals and images.

    Args:
        convention: Which program's resizing and precision are used: "torch-fidelity", "pytorch-fid",
            "clean-fid", "torchmetrics" or "float64". None is vtbench's own.
        device: The device of the network.
    """

    def __init__(self, convention: str | None = None, *, device: str = "cpu") -> None:
        super().__init__("rfid" if convention is None else f"rfid@{convention}", device=device)


class Kid(SetMetric):
    """Kernel Inception distance between Inception features of originals and images."""

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__("kid", device=device)
