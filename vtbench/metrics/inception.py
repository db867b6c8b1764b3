"""The Inception-v3 of the FID, with every resizing that the field gives to its input.

The network is the one that Heusel et al. (NeurIPS 2017) ran in TensorFlow, as pytorch-fid ported it:
torchvision's layout and names, but averages that leave the padding out, a maximum in the last block,
and 1008 classes. Weights come from pytorch-fid's file or not at all.

What the four libraries do to a picture before the network differs, and with it the number:

    tf1            TensorFlow 1 bilinear, corner-aligned grid i·(in/out)    torch-fidelity, ADM, TTUR
    half-pixel     bilinear with half-pixel centres, no antialiasing        pytorch-fid
    pil-bicubic    Pillow's antialiased bicubic of float channels, clipped  clean-fid
    antialias      antialiased bilinear                                     torchmetrics
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.metrics.device_arithmetic import choose_arithmetic

SIDE = 299
"""The network's input, pixels a side."""

FEATURES = 2048
CLASSES = 1008

CHUNK = 16
"""Images that go through a network together on an accelerator."""


def split_chunks(
    images: Tensor, device: torch.device, most: int | None = None
) -> Iterator[tuple[Tensor, int]]:
    """Yield a batch in parts of one size, the last filled up with copies, and how many of each count.

    A library chooses its kernels by the batch, and with them the last digits of a feature (5e-6 of
    the largest, between 1 and 24 images on a CPU): with parts of one size whatever the caller's
    batches, it cannot. On a CPU the size is 1, which is no slower there, elsewhere `most` or CHUNK.
    """
    size = 1 if device.type == "cpu" else most or CHUNK
    for part in torch.split(images, size):
        count = len(part)
        if count < size:
            part = torch.cat([part, part[-1:].expand(size - count, -1, -1, -1)])
        yield part, count


class Inception:
    """The FID Inception-v3 on one device.

    weights: pytorch-fid's checkpoint, loaded strictly. dtype: float32, or float64, which is some ten
    times slower. sha256: the digest that the file must have, or its first digits; None: unproven.
    Raises WeightsMismatch.
    """

    name = "fid-inception"
    dim = FEATURES

    def __init__(
        self,
        weights: Path,
        *,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        sha256: str | None = None,
    ) -> None:
        self.identity: dict[str, str] = {weights.name: sha256_file(weights)}
        found = self.identity[weights.name]
        if sha256 is not None and not found.startswith(sha256):
            raise WeightsMismatch(
                f"FID Inception: sha256 of {weights} starts with {found[:8]}, not {sha256}: "
                "another file, or damaged; fetch it again"
            )
        self.device, self.dtype = torch.device(device), dtype
        if dtype == torch.float64 and not choose_arithmetic(self.device).float64_sums:
            self.device = torch.device("cpu")  # Metal has no float64
        net = _load(weights)
        # The layout in which CPU convolutions are fast.
        layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self._net = net.to(self.device, dtype).to(memory_format=layout)

    @torch.inference_mode()
    def __call__(self, images: Tensor, *, resizing: str) -> tuple[Tensor, Tensor]:
        """Return the pool_3 features (N×2048) and the logits without bias (N×1008), on the CPU.

        images: uint8 N×3×H×W, any size. resizing: a key of RESIZINGS. TF32 is off meanwhile.
        Logits leave the bias out, as TTUR's and torch-fidelity's Inception Score do.
        """
        prepare = RESIZINGS[resizing]
        features, logits = [], []
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            for part, count in split_chunks(images, self.device):
                pooled = self._net(prepare(part.to(self.device), self.dtype))[:count]
                features.append(pooled.cpu())
                logits.append((pooled @ self._net.fc.weight.T).cpu())
        return torch.cat(features), torch.cat(logits)


# Resizings: uint8 N×3×H×W → N×3×299×299 as the network takes it, about [−1, 1].


def resize_tf1(images: Tensor, dtype: torch.dtype) -> Tensor:
    """TensorFlow 1's resize_bilinear without align_corners: output i looks at i·in/out, computed in
    float32, and blends it with its right neighbour; then (x − 128) / 128."""
    x = images.to(dtype)
    for axis in (3, 2):  # along rows first: the order of the roundings is TensorFlow's
        side = x.shape[axis]
        at = torch.arange(SIDE, dtype=dtype, device=x.device) * torch.tensor(
            side / SIDE, dtype=torch.float32
        )
        low = at.long()
        high = (low + 1).clamp_max(side - 1)
        share = (at - low.to(torch.float32)).reshape(-1, *[1] * (3 - axis))
        left = x.index_select(axis, low)
        x = left + (x.index_select(axis, high) - left) * share
    return (x - 128) / 128


def resize_half_pixel(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bilinear with half-pixel centres and no antialiasing, of x/255; then 2x − 1."""
    x = images.to(dtype) / 255
    return 2 * functional.interpolate(x, size=(SIDE, SIDE), mode="bilinear") - 1


def resize_antialias(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Antialiased bilinear; then (x − 128) / 128."""
    x = functional.interpolate(images.to(dtype), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return (x - 128) / 128


def resize_pil_bicubic(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pillow's bicubic (antialiased) of each channel in float32, clipped to [0, 255]; then
    (x − 128) / 128."""
    from PIL import Image

    resized = np.empty((*images.shape[:2], SIDE, SIDE), dtype=np.float32)
    for target, channel in zip(
        resized.reshape(-1, SIDE, SIDE),
        images.cpu().numpy().reshape(-1, *images.shape[2:]),
        strict=True,
    ):
        picture = Image.fromarray(channel.astype(np.float32))
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        target[:] = np.asarray(picture).clip(0, 255)
    return (torch.from_numpy(resized).to(images.device, dtype) - 128) / 128


RESIZINGS: Mapping[str, Callable[[Tensor, torch.dtype], Tensor]] = MappingProxyType(
    {
        "tf1": resize_tf1,
        "half-pixel": resize_half_pixel,
        "pil-bicubic": resize_pil_bicubic,
        "antialias": resize_antialias,
    }
)
"""What the field does to a picture before the network."""


# The network


class _Conv(nn.Module):
    """Convolution, batch norm with its trained statistics, ReLU. Odd kernels of stride 1 keep the
    size unless `padded` is False; stride 2 takes no padding.

    The batch norm stays: folded into the kernel it moves float32 features by more than the libraries
    differ by."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: tuple[int, int],
        stride: int = 1,
        *,
        padded: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(x))
        return functional.relu_(normed)


_Step = tuple[int, int, int, int]
"""Channels out, kernel height, kernel width, stride."""

_SPLIT: tuple[_Step, _Step] = ((384, 1, 3, 1), (384, 3, 1, 1))
"""The last step of two of an E block's branches: a row and a column kernel side by side."""

_Chain = Sequence[_Step | tuple[_Step, _Step]]


def _average(x: Tensor) -> Tensor:
    # TensorFlow does not count the padding in its mean; torchvision's network does.
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


def _halve(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2)


class _Mixed(nn.Module):
    """Branches side by side: chains of convolutions, and a pooling with a convolution behind it
    unless `pooled` is 0. Names are torchvision's: a number for each step of a longer chain."""

    def __init__(
        self,
        channels: int,
        chains: Mapping[str, _Chain],
        pool: Callable[[Tensor], Tensor],
        pooled: int = 0,
    ) -> None:
        super().__init__()
        self._pool = pool
        self._chains: list[list[tuple[str, ...]]] = []
        for branch, chain in chains.items():
            width, names = channels, []
            for number, step in enumerate(chain, start=1):
                name = f"{branch}_{number}" if len(chain) > 1 else branch
                parts = (
                    {f"{name}a": step[0], f"{name}b": step[1]} if step is _SPLIT else {name: step}
                )
                for key, (out, height, across, stride) in parts.items():  # type: ignore[misc]
                    self.add_module(key, _Conv(width, out, (height, across), stride))
                names.append(tuple(parts))
                width = step[0] if isinstance(step[0], int) else 0  # a split is the last step
            self._chains.append(names)
        self.branch_pool = _Conv(channels, pooled, (1, 1)) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self._chains:
            y = x
            for names in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        return torch.cat([*outputs, self.branch_pool(self._pool(x))], 1)


def _block_a(channels: int, pooled: int) -> _Mixed:
    chains: dict[str, _Chain] = {
        "branch1x1": [(64, 1, 1, 1)],
        "branch5x5": [(48, 1, 1, 1), (64, 5, 5, 1)],
        "branch3x3dbl": [(64, 1, 1, 1), (96, 3, 3, 1), (96, 3, 3, 1)],
    }
    return _Mixed(channels, chains, _average, pooled)


def _block_b(channels: int) -> _Mixed:
    chains: dict[str, _Chain] = {
        "branch3x3": [(384, 3, 3, 2)],
        "branch3x3dbl": [(64, 1, 1, 1), (96, 3, 3, 1), (96, 3, 3, 2)],
    }
    return _Mixed(channels, chains, _halve)


def _block_c(width: int) -> _Mixed:
    w = width
    chains: dict[str, _Chain] = {
        "branch1x1": [(192, 1, 1, 1)],
        "branch7x7": [(w, 1, 1, 1), (w, 1, 7, 1), (192, 7, 1, 1)],
        "branch7x7dbl": [
            *((w, 1, 1, 1), (w, 7, 1, 1), (w, 1, 7, 1), (w, 7, 1, 1), (192, 1, 7, 1)),
        ],
    }
    return _Mixed(768, chains, _average, 192)


def _block_d() -> _Mixed:
    chains: dict[str, _Chain] = {
        "branch3x3": [(192, 1, 1, 1), (320, 3, 3, 2)],
        "branch7x7x3": [(192, 1, 1, 1), (192, 1, 7, 1), (192, 7, 1, 1), (192, 3, 3, 2)],
    }
    return _Mixed(768, chains, _halve)


def _block_e(channels: int, pool: Callable[[Tensor], Tensor]) -> _Mixed:
    chains: dict[str, _Chain] = {
        "branch1x1": [(320, 1, 1, 1)],
        "branch3x3": [(384, 1, 1, 1), _SPLIT],
        "branch3x3dbl": [(448, 1, 1, 1), (384, 3, 3, 1), _SPLIT],
    }
    return _Mixed(channels, chains, pool, 192)


class FidInceptionV3(nn.Module):
    """299×299 in about [−1, 1] → pool_3 features N×2048. `fc` holds the 1008 classes' weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, (3, 3), 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = _Conv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Conv(80, 192, (3, 3), padded=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = _block_d()
        self.Mixed_7b = _block_e(1280, _average)
        # TensorFlow's graph has a maximum here, where the paper's figure has a mean.
        self.Mixed_7c = _block_e(2048, _maximum)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled features of prepared images, N×3×299×299."""
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))


def _load(path: Path) -> FidInceptionV3:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsMismatch(f"FID Inception: {path} is no state dict: {error}") from error
    with torch.device("meta"):  # no values: what is not loaded cannot stay random
        net = FidInceptionV3()
    wanted = net.state_dict()
    # A counter of training steps, which files of old torch versions lack; evaluation ignores it.
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    given = {key: value for key, value in state.items() if key not in counters}
    wrong = dict.fromkeys(wanted.keys() - counters - given.keys(), "missing")
    wrong |= dict.fromkeys(given.keys() - wanted.keys(), "unexpected")
    for key in given.keys() & wanted.keys():
        if given[key].shape != wanted[key].shape:
            wrong[key] = f"{tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
    if wrong:
        key = min(wrong)
        raise WeightsMismatch(
            f"FID Inception: {path} is not pytorch-fid's file: {len(wrong)} keys differ; "
            f"{key}: {wrong[key]}"
        )
    given |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
    net.load_state_dict(given, assign=True)
    return net.requires_grad_(False).eval()
