"""LPIPS v0.1 of 8-bit RGB batches, with the published weights or not at all.

The linear heads come with the `lpips` package; the ImageNet backbone is a torchvision checkpoint on
this machine. Nothing is downloaded and nothing stays random.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.metrics.inception import split_chunks
from vtbench.metrics.pixel import require_pair
from vtbench.weights.metrics import (
    check_metric_weights,
    file_names,
    find_metric_weights,
    get_metric_weights,
    stated_digests,
)

TOGETHER_PIXELS = 8 * 256 * 256
"""Of the images that go through a network together on an accelerator; VGG's maps of them take memory."""

MIN_SIDE = {"alex": 31, "vgg": 16}
"""Below it the backbone's last feature map is empty."""


def check_backbone(path: Path, net: str, *, expected_sha8: str | None = None) -> None:
    """Raise WeightsMissing or WeightsMismatch unless `path` is torchvision's checkpoint for `net`.

    expected_sha8: the first digits that its sha256 must have in place of the catalogue's.
    """
    entry = get_metric_weights(f"lpips-{net}")
    (file,) = file_names(entry)
    if not path.is_file():
        raise WeightsMissing(f"LPIPS ({net}): {path} is not here: run `{entry.command}`")
    expected = expected_sha8 or stated_digests(entry, file)[0] or ""
    if not (found := sha256_file(path)).startswith(expected):
        raise WeightsMismatch(
            f"LPIPS ({net}): sha256 of {path} starts with {found[:8]}, not {expected[:8]}: "
            f"not torchvision's {file}, or damaged; fetch it again"
        )


class Lpips:
    """LPIPS v0.1 (Zhang et al. 2018) on one device; `net` is "alex" or "vgg".

    backbone: torchvision's checkpoint. expected_sha8: the first hex digits that its sha256 must have
    in place of the catalogue's (tests use small stand-ins). Raises WeightsMissing, WeightsMismatch,
    and ValueError for another net.
    """

    def __init__(
        self,
        net: str,
        backbone: Path,
        *,
        device: torch.device | str,
        expected_sha8: str | None = None,
    ) -> None:
        if net not in MIN_SIDE:
            raise ValueError(f"LPIPS net {net!r}: it is one of {', '.join(MIN_SIDE)}")
        check_backbone(backbone, net, expected_sha8=expected_sha8)
        self.net = net
        self._device = torch.device(device)
        self._model = _build(net)
        _fill_backbone(self._model.get_submodule("net"), backbone, net)
        # The layout in which CPU convolutions are fast.
        layout = torch.channels_last if self._device.type == "cpu" else torch.contiguous_format
        self._model.to(self._device).to(memory_format=layout)

    @torch.inference_mode()
    def __call__(self, reference: Tensor, image: Tensor) -> Tensor | None:
        """Return the distance, float64 (N,), ≥ 0, per image, on the CPU; None below MIN_SIDE.

        Both are uint8 N×3×H×W; they are scaled to [−1, 1] and never resized. Images go one by one on a
        CPU, and in parts of one size elsewhere (`split_chunks`): a convolution's algorithm may depend
        on the batch, and with it the last digits. TF32 is off meanwhile.
        """
        require_pair(reference, image)
        if min(reference.shape[-2:]) < MIN_SIDE[self.net]:
            return None
        values = []
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            most = self._count_together(*reference.shape[-2:])
            parts = (split_chunks(side, self._device, most) for side in (reference, image))
            for (x, count), (y, _) in zip(*parts, strict=True):
                distance = self._model(self._scale(x), self._scale(y))
                values.append(distance.flatten()[:count].cpu().to(torch.float64))
        return torch.cat(values)

    def _count_together(self, height: int, width: int) -> int:
        """Return how many images of a size go through the network together on an accelerator."""
        return max(1, TOGETHER_PIXELS // (height * width))

    def _scale(self, images: Tensor) -> Tensor:
        return images.to(self._device).to(torch.float32) / 127.5 - 1.0


def open_alex(backbone: Path, *, device: torch.device | str) -> Lpips:
    """Return LPIPS (Alex) with torchvision's checkpoint at `backbone`."""
    return Lpips("alex", backbone, device=device)


def open_vgg(backbone: Path, *, device: torch.device | str) -> Lpips:
    """Return LPIPS (VGG) with torchvision's checkpoint at `backbone`."""
    return Lpips("vgg", backbone, device=device)


def _build(net: str) -> torch.nn.Module:
    """Return the package's module with its heads loaded and its backbone still without values."""
    import lpips

    shipped = find_metric_weights("lpips-heads")
    check_metric_weights("lpips-heads", shipped)
    path = shipped.path / f"{net}.pth"
    heads = torch.load(path, map_location="cpu", weights_only=True)
    # On "meta" there are no values: what is not loaded below cannot stay random, and VGG's unused
    # classifier (0.5 GB) is not filled. The package itself loads with strict=False.
    with torch.device("meta"), warnings.catch_warnings():
        # lpips 0.1.4 calls torchvision in the way of before 0.13.
        for message in ("The parameter 'pretrained' is", "Arguments other than a weight enum or"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        model: torch.nn.Module = lpips.LPIPS(
            net=net, pnet_rand=True, pretrained=False, verbose=False
        )
    model.scaling_layer = lpips.ScalingLayer()
    unexpected = model.load_state_dict(heads, strict=False, assign=True).unexpected_keys
    empty = [
        key
        for key, value in model.state_dict().items()
        if value.is_meta and not key.startswith("net.")
    ]
    if unexpected or empty:
        raise WeightsMismatch(
            f"LPIPS ({net}): the installed lpips does not take its own heads: {unexpected + empty}"
        )
    return model


def _fill_backbone(slices: torch.nn.Module, path: Path, net: str) -> None:
    """Load the `features.*` of a torchvision checkpoint into lpips' slices, every one, strictly."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsMismatch(f"LPIPS ({net}): {path} is no state dict: {error}") from error
    given = {
        key: value.to(torch.float32)
        for key, value in checkpoint.items()
        if key.startswith("features.")
    }
    # A slice names its layers by their place in `features`: slice2.3.weight is features.3.weight.
    wanted = {
        f"features.{key.split('.', 1)[1]}": (key, value.shape)
        for key, value in slices.state_dict().items()
    }
    wrong = dict.fromkeys(wanted.keys() - given.keys(), "missing")
    wrong |= dict.fromkeys(given.keys() - wanted.keys(), "unexpected")
    for key in wanted.keys() & given.keys():
        if given[key].shape != wanted[key][1]:
            wrong[key] = f"{tuple(given[key].shape)}, not {tuple(wanted[key][1])}"
    if wrong:
        listing = ", ".join(f"{key} ({what})" for key, what in sorted(wrong.items()))
        raise WeightsMismatch(f"LPIPS ({net}): {path} does not fit: {listing}")
    state = {wanted[key][0]: value for key, value in given.items()}
    slices.load_state_dict(state, strict=True, assign=True)
