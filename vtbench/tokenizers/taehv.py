"""TAEHV: tiny autoencoders of video latents, on a video of one picture
(https://github.com/madebyollin/taehv, taehv.py).

The official code repeats the last frame until the encoder's time is filled, and throws away the frames
that the decoder gives before it has seen enough: of one picture the last frame is left.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer
from vtbench.tokenizers.nn.conv import Count

STAGES = 3


class TaehvPlan(Strict):
    """One TAEHV.

    Attributes:
        latent: Channels.
        patch: Pixels are taken patch×patch at a time.
        shrink: Whether each of the three stages halves the frames.
        grow: Whether each of the three stages doubles the frames.
        channels: Of the encoder and of the decoder's last stage.
        wide: Whether this is the decoder of the "super" weights, whose blocks are ConvNeXt's.
    """

    latent: Count = 16
    patch: Count = 1
    shrink: tuple[bool, bool, bool] = (True, True, False)
    grow: tuple[bool, bool, bool] = (False, True, True)
    channels: Count = 64
    wide: bool = False


class Soften(nn.Module):
    """3·tanh(x/3): latents beyond ±3 are squeezed."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Memory(nn.Module):
    """A block that sees the frame before, of which the first has none: T×C×h×w → T×C×h×w."""

    def __init__(self, width: int, *, wide: bool = False) -> None:
        super().__init__()
        self.wide = wide
        if wide:
            self.conv = nn.Sequential(
                nn.Conv2d(2 * width, 2 * width, 7, padding=3, groups=2 * width, bias=False),
                nn.Conv2d(2 * width, 4 * width, 1),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
        else:
            first, *others = (make_conv(factor * width, width) for factor in (2, 1, 1))
            self.conv = nn.Sequential(first, nn.ReLU(), others[0], nn.ReLU(), others[1])

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        added: Tensor = self.conv(torch.cat([x, before], dim=1)) + x
        return added if self.wide else functional.relu(added)


class Pool(nn.Module):
    """One frame of each `stride`: T×C×h×w → T/stride×C×h×w."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))
        return out


class Grow(nn.Module):
    """`stride` frames of each: T×C×h×w → T·stride×C×h×w."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out.reshape(-1, x.shape[1], *x.shape[2:])


def make_conv(before: int, after: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Return a 3×3 convolution."""
    return nn.Conv2d(before, after, 3, padding=1, stride=stride, bias=bias)


def make_encoder(plan: TaehvPlan) -> nn.Sequential:
    """Return frames T×(3·patch²)×H×W → T/shrunk×latent×H/8×W/8, numbered as the official file is."""
    width = plan.channels
    parts: list[nn.Module] = [make_conv(3 * plan.patch**2, width), nn.ReLU()]
    for halves in plan.shrink:
        pool = Pool(width, 2 if halves else 1)
        parts += [pool, make_conv(width, width, stride=2, bias=False)]
        parts += [Memory(width) for _ in range(STAGES)]
    return nn.Sequential(*parts, make_conv(width, plan.latent))


def make_decoder(plan: TaehvPlan) -> nn.Sequential:
    """Return latents T×latent×h×w → frames T·grown×(3·patch²)×8h×8w."""
    outputs = 3 * plan.patch**2
    factors = (8, 4, 2, 1) if plan.wide else (4, 2, 1, 1)
    widths = [plan.channels * factor for factor in factors]
    parts: list[nn.Module] = [Soften(), make_conv(plan.latent, widths[0]), nn.ReLU()]
    if plan.wide:
        parts = [nn.Conv2d(plan.latent, widths[0], 1, bias=False)]
    for before, after, doubles in zip(widths[:-1], widths[1:], plan.grow, strict=True):
        parts += [Memory(before, wide=plan.wide) for _ in range(STAGES)]
        stride = 2 if doubles else 1
        if plan.wide:
            parts += [make_conv(before, 4 * after), nn.ReLU(), nn.PixelShuffle(2)]
            parts += [Grow(after, stride)]
        else:
            parts += [nn.Upsample(scale_factor=2), Grow(before, stride)]
            parts += [make_conv(before, after, bias=False)]
    end = [] if plan.wide else [nn.ReLU()]
    return nn.Sequential(*parts, *end, make_conv(widths[-1], outputs))


class TaehvNetwork(Autoencoder):
    """encoder and decoder."""

    def __init__(self, plan: TaehvPlan) -> None:
        super().__init__()
        self.plan = plan
        self.encoder, self.decoder = make_encoder(plan), make_decoder(plan)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×h×w of images N×3×H×W in [0, 1], each by itself: time is the batch's axis."""
        frames = 2 ** sum(self.plan.shrink)
        x = functional.pixel_unshuffle(images, self.plan.patch)
        return torch.cat([self.encoder(image.expand(frames, -1, -1, -1)) for image in x])

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images, nominally in [0, 1]."""
        assert isinstance(code, Tensor)
        latents = code.to(next(self.parameters()).dtype)
        frames = torch.stack([self.decoder(latent[None])[-1] for latent in latents])
        return functional.pixel_shuffle(frames, self.plan.patch)


class Taehv(NetworkTokenizer[TaehvPlan]):
    """One TAEHV. The official code clamps its pixels, as vtbench does to every image."""

    PLAN = TaehvPlan
    INPUT_RANGE = (0.0, 1.0)
    OTHERS: ClassVar[str] = r"$^"

    @classmethod
    def make_network(cls, spec: Spec, plan: TaehvPlan) -> TaehvNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_latents(spec, downsample=2**STAGES * plan.patch, latent=plan.latent)
        return TaehvNetwork(plan)
