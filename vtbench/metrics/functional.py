"""The metrics as functions of two batches of images, and of two growing sets.

Images are N×3×H×W, uint8, or floats in [0, 1], which are rounded to 8 bits first: a metric sees what
a person would see. They are the functions that the runs use (`metrics.catalogue`).
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
    """Return a batch as uint8. Raises ImageError for floats that are not finite or plainly of another
    range than [0, 1]."""
    if images.dtype == torch.uint8:
        return images
    if images.is_floating_point():
        require_unit_range(images)
        return to_uint8(images)
    raise VtbenchError(f"images are uint8, or floats in [0, 1], not {images.dtype}")


def psnr_db(original: Tensor, image: Tensor) -> Tensor:
    """Return the PSNR in dB, float64 (N,); 100 for identical images."""
    return pixel.psnr_db(as_uint8(original), as_uint8(image))


def mae(original: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute error in 8-bit levels, float64 (N,)."""
    return pixel.mae(as_uint8(original), as_uint8(image))


def ssim(original: Tensor, image: Tensor) -> Tensor:
    """Return SSIM, float64 (N,). Raises VtbenchError where a side is below 11 px."""
    return _applicable("ssim", pixel.ssim(as_uint8(original), as_uint8(image)))


def ms_ssim(original: Tensor, image: Tensor) -> Tensor:
    """Return MS-SSIM, float64 (N,). Raises VtbenchError where a side is below 161 px."""
    return _applicable("ms_ssim", pixel.ms_ssim(as_uint8(original), as_uint8(image)))


def haarpsi(original: Tensor, image: Tensor) -> Tensor:
    """Return HaarPSI, float64 (N,). Raises VtbenchError where a side is too small."""
    return _applicable("haarpsi", haar_similarity.haarpsi(as_uint8(original), as_uint8(image)))


def lpips(original: Tensor, image: Tensor, *, net: Literal["alex", "vgg"] = "alex") -> Tensor:
    """Return LPIPS v0.1, float64 (N,), computed where `image` is.

    Raises:
        WeightsMissing: the network is not on this machine; the message has the command.
        VtbenchError: a side is too small.
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
    """A distance between the features of originals and reconstructions: rFID, KID, and their kin.

    `update` with batches, then `compute`. Features are kept in memory, 8 kB an image and side for the
    FID Inception. `merge` adds what another process or worker has seen.

    Args:
        key: a set metric of the catalogue ("rfid", "kid", "fd_dinov2", "rfid@clean-fid", …).
        device: of the network.

    Raises:
        UnknownName: there is no such set metric.
        WeightsMissing: the network is not on this machine; the message has the command.
    """

    def __init__(self, key: str, *, device: str = "cpu") -> None:
        if key not in SET_METRICS:
            raise UnknownName("set metric", key, list(SET_METRICS))
        self.key = key
        self._encoder = open_encoder(FEATURE_SOURCES[key], device=device)
        self._sides: tuple[list[Tensor], list[Tensor]] = ([], [])

    @property
    def n(self) -> int:
        """How many pairs of images were seen."""
        return sum(map(len, self._sides[0]))

    def update(self, original: Tensor, image: Tensor) -> None:
        """Add a batch of originals and their reconstructions."""
        if original.shape != image.shape:
            raise VtbenchError(f"{tuple(original.shape)} originals, {tuple(image.shape)} images")
        reference = self._encoder(as_uint8(original))
        self._sides[0].append(reference[:, : self._encoder.dim].cpu())
        self._sides[1].append(self._encoder(as_uint8(image)).cpu())

    def merge(self, other: SetMetric) -> None:
        """Add the images that another has seen. Raises VtbenchError for another metric."""
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
            TooFewImages: there are none, or fewer than the metric's minimum.
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
    """Reconstruction FID. convention: None for vtbench's own, or "torch-fidelity", "pytorch-fid",
    "clean-fid", "torchmetrics", "float64"."""

    def __init__(self, convention: str | None = None, *, device: str = "cpu") -> None:
        super().__init__("rfid" if convention is None else f"rfid@{convention}", device=device)


class Kid(SetMetric):
    """Kernel Inception distance."""

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__("kid", device=device)
