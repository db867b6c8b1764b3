"""The interface of all tokenizers: encode(images) -> Code, decode(Code) -> images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtbench import images as pixels
from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.images import Fit

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The names that the command line and result files use."""

NOMINAL_BITS = 16
"""Bits a value of a continuous latent is counted with: what a generator would store it in."""

RANGE_BITS = 64
"""Bits of a quantized channel's minimum and maximum, float32 each."""


@dataclass(frozen=True)
class Code:
    """The code of a batch of N images. Exactly one of indices, latents and payload is set.

    Tiled codes have one extra axis over tiles, placed after the codebook axis (indices) or the channel
    axis (latents).

    Attributes:
        tokens: The tokens of each image.
        bits: The nominal bits of each image: discrete tokens × log2(codebook size), continuous values
            × 16, codec bytes × 8.
        indices: int64, N×…, or a tuple of such (multi-scale).
        latents: float, N×….
        payload: N byte strings.
        fit: How the images were brought to the network's size; set by `Tokenizer.encode`.
        codebooks: The size of each codebook. With one, all indices and scales are of it. With several
            (product and residual quantizers, bits), axis 1 of every tensor runs over the codebooks, and
            a token holds one index into each.
    """

    tokens: tuple[int, ...]
    bits: tuple[float, ...]
    indices: Tensor | tuple[Tensor, ...] | None = None
    latents: Tensor | None = None
    payload: tuple[bytes, ...] | None = None
    fit: Fit | None = None
    codebooks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        carried = [c for c in (self.indices, self.latents, self.payload) if c is not None]
        if len(carried) != 1:
            raise ValueError("a Code carries exactly one of indices, latents, payload")
        if len(self.tokens) != len(self.bits):
            raise ValueError(f"{len(self.tokens)} token counts but {len(self.bits)} bit counts")

    @classmethod
    def discrete(
        cls, indices: Tensor | tuple[Tensor, ...], codebook_size: int | tuple[int, ...]
    ) -> Code:
        """Return the code of integer tokens, with tokens × log2(codebook size) bits for each image.

        Args:
            indices: int64 N×…, or a tuple of such for several scales. With K codebooks N×K×….
            codebook_size: The number of codewords, or one number for each of K codebooks. A token then
                has the bits of all K together.

        Raises:
            ValueError: Axis 1 does not have K entries.
        """
        sizes = (codebook_size,) if isinstance(codebook_size, int) else codebook_size
        scales = indices if isinstance(indices, tuple) else (indices,)
        n = scales[0].shape[0]
        if len(sizes) > 1 and any(scale.shape[1] != len(sizes) for scale in scales):
            raise ValueError(f"{len(sizes)} codebooks, but axis 1 is {scales[0].shape[1]}")
        tokens = sum(scale[0].numel() for scale in scales) // len(sizes) if n else 0
        bits = tokens * math.fsum(map(math.log2, sizes))
        return cls((tokens,) * n, (bits,) * n, indices=indices, codebooks=sizes)

    @classmethod
    def continuous(cls, latents: Tensor, *, bits_per_value: int = NOMINAL_BITS) -> Code:
        """Return the code of a float latent N×C×h×w, with h·w tokens and 16 bits for each value."""
        n = latents.shape[0]
        values = latents[0].numel() if n else 0
        tokens = values // latents.shape[1]
        return cls((tokens,) * n, (float(values * bits_per_value),) * n, latents=latents)

    @classmethod
    def of_tiles(cls, codes: Sequence[Code]) -> Code:
        """Return the code of images from those of their tiles, in order: tokens and bits add up."""
        first = codes[0]
        if len(codes) == 1:
            return first
        if first.payload is not None:
            raise ValueError("compressed files of tiles are not one file")
        tokens = tuple(map(sum, zip(*(code.tokens for code in codes), strict=True)))
        bits = tuple(map(math.fsum, zip(*(code.bits for code in codes), strict=True)))
        if first.latents is not None:
            latents = [code.latents for code in codes if code.latents is not None]
            return cls(tokens, bits, latents=torch.stack(latents, dim=2))
        scales = zip(*(code._scales() for code in codes), strict=True)
        stacked = tuple(torch.stack(tiles, dim=first._tile_axis()) for tiles in scales)
        indices = stacked if isinstance(first.indices, tuple) else stacked[0]
        return cls(tokens, bits, indices=indices, codebooks=first.codebooks)

    def split_tiles(self, fit: Fit) -> list[Code]:
        """Return the codes of the tiles that `of_tiles` put together."""
        count = math.prod(fit.tiles)
        return [self] if count == 1 else [self._tile(index, count, fit) for index in range(count)]

    def _tile(self, index: int, count: int, fit: Fit) -> Code:
        side = (fit.fitted[0] // fit.tiles[0], fit.fitted[1] // fit.tiles[1])
        counted: dict[str, Any] = {
            "tokens": tuple(n // count for n in self.tokens),
            "bits": tuple(n / count for n in self.bits),
            "fit": Fit(side, side, "none"),
        }
        if self.latents is not None:
            return replace(self, latents=self.latents.select(2, index), **counted)
        own = tuple(scale.select(self._tile_axis(), index) for scale in self._scales())
        return replace(self, indices=own if isinstance(self.indices, tuple) else own[0], **counted)

    def _scales(self) -> tuple[Tensor, ...]:
        if self.indices is None:
            return ()
        return self.indices if isinstance(self.indices, tuple) else (self.indices,)

    def _tile_axis(self) -> int:
        return 1 if len(self.codebooks) == 1 else 2

    def words(self, image: int) -> tuple[Tensor, ...]:
        """Return an image's indices, flat, on the CPU, for each of `codebooks`; all scales."""
        if self.indices is None:
            return ()
        own = [scale[image].cpu() for scale in self._scales()]
        if len(self.codebooks) == 1:
            return (torch.cat([scale.flatten() for scale in own]),)
        return tuple(
            torch.cat([scale[place].flatten() for scale in own])
            for place in range(len(self.codebooks))
        )

    def quantize_8bit(self) -> Code:
        """Return the code with its latents rounded to 256 even levels.

        The levels run from the minimum to the maximum of each image and channel (axis 1). Both are part
        of the code: bits = values × 8 + channels × 64. Raises ValueError without latents.
        """
        if self.latents is None:
            raise ValueError("only latents are quantized")
        n, channels = self.latents.shape[:2]
        values = self.latents.to(torch.float32).reshape(n, channels, -1)
        low, high = values.amin(dim=2, keepdim=True), values.amax(dim=2, keepdim=True)
        step = (high - low) / 255
        levels = torch.where(step > 0, (values - low) / step, 0.0).round()
        latents = (low + levels * step).reshape(self.latents.shape).to(self.latents.dtype)
        bits = float(8 * values[0].numel() + RANGE_BITS * channels) if n else 0.0
        return replace(self, latents=latents, bits=(bits,) * n)

    @classmethod
    def of_bytes(cls, payload: tuple[bytes, ...]) -> Code:
        """Return the code of N compressed files. Its tokens are bytes, as in JPEG-LM."""
        sizes = tuple(len(data) for data in payload)
        return cls(sizes, tuple(8.0 * size for size in sizes), payload=payload)


def draw_latents(mean: Tensor, deviation: Tensor, seed: int) -> Tensor:
    """Return one sample of each image's Gaussian posterior, from N×C×… means and deviations.

    The noise comes from one generator an image, so that a result does not depend on the batch; on the
    CPU and in float32, so that it depends neither on device nor dtype.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return mean + deviation * torch.randn(mean.shape[1:], generator=generator).to(mean)


def check_posterior(
    spec: Spec, posterior: object, *, exists: bool, stochastic: bool = False
) -> None:
    """Raise RegistryError for an entry whose posterior or `stochastic` is wrong.

    `options.posterior` must be "mode", or "sample" if there is a Gaussian posterior (`exists`).
    `spec.stochastic` must be true for a sample or a stochastic decoder, and false otherwise.
    """
    if posterior not in ("mode", "sample") or (posterior == "sample" and not exists):
        raise RegistryError(
            f"{spec.name}: options.posterior is {posterior!r}; it is mode, or sample where there is a "
            "Gaussian posterior"
        )
    if spec.stochastic != (needed := stochastic or posterior == "sample"):
        raise RegistryError(
            f"{spec.name}: stochastic is {spec.stochastic}, but its options make it {needed}"
        )


class Tokenizer(ABC):
    """Base class of all tokenizers.

    A subclass implements `_encode` and `_decode` on images that are already in its `spec.input_range`
    and of a size that it takes. The public methods convert range and size, so no subclass can forget
    them, and decode(encode(x)) has the size of x.

    Args:
        spec: What the entry declares: kind, sizes, range.
        device: The device of the network.
        dtype: The dtype of the network. Images stay float32.
        seed: The seed of a stochastic decoder. Each image has a generator of its own, so results do not
            depend on the batch.
    """

    read_beside: ClassVar[tuple[str, ...]] = ()
    """Files that are read beside a single file of weights, where they are there; they are hashed too."""

    def __init__(
        self,
        spec: Spec,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.dtype = dtype
        self.seed = seed

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return name and version of each library, beyond torch, that can change a result made with
        these options; they go into the run's record and key."""
        return {}

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Code:
        """Return the code of float32 N×3×H×W RGB images in [0, 1]."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"expected float N×3×H×W, got {images.dtype} {tuple(images.shape)}")
        fitted, fit = pixels.fit(images.to(self.device, torch.float32), self.spec.size)
        low, high = self.spec.input_range
        ranged = (fitted * (high - low)).add_(low)
        codes = [self._encode(tile) for tile in pixels.cut_tiles(ranged, fit)]
        code = codes[0] if len(codes) == 1 else Code.of_tiles(codes)
        return replace(code, fit=fit)

    @torch.inference_mode()
    def decode(self, code: Code) -> Tensor:
        """Return float32 N×3×H×W images, nominally in [0, 1] (not clamped), in the size encoded."""
        if code.fit is None:
            raise ValueError("this Code did not come from Tokenizer.encode: it has no fit")
        low, high = self.spec.input_range
        codes = [code] if code.fit.tiles == (1, 1) else code.split_tiles(code.fit)
        tiles = [self._decode(own) for own in codes]
        decoded = pixels.join_tiles(tiles, code.fit).to(torch.float32).sub(low).div_(high - low)
        return pixels.unfit(decoded, code.fit)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the reconstructions of float32 N×3×H×W RGB images in [0, 1]: `decode(encode(images))`.

        Raises ImageError for images that are plainly in 0…255 or −1…1, or not finite.
        """
        pixels.require_unit_range(images)
        return self.decode(self.encode(images))

    def __repr__(self) -> str:
        spec = self.spec
        facts = [f"{spec.kind} ({spec.family})"]
        facts += [f"f{spec.downsample}"] if spec.downsample else []
        facts += [f"{spec.codebook_size} codewords"] if spec.codebook_size else []
        facts += [f"{spec.latent_channels} channels"] if spec.latent_channels else []
        dtype = str(self.dtype).removeprefix("torch.")
        return f"<tokenizer {spec.name}: {', '.join(facts)}; {dtype} on {self.device}>"

    @abstractmethod
    def _encode(self, images: Tensor) -> Code:
        """Return the code of float32 images in `spec.input_range`, in a size the network takes."""

    @abstractmethod
    def _decode(self, code: Code) -> Tensor:
        """Return images in `spec.input_range`, in the size that `_encode` saw."""
