"""Every pixel convention of vtbench, in one place.

Files become uint8 H×W×3 RGB arrays (`load_rgb8`); batches are float32 N×3×H×W in [0, 1]
(`to_float`); what a metric sees is uint8 again (`to_uint8`: clamp, then round half up, never
truncate). Padding, cropping, cutting and resizing to a network's sizes (`fit`, `cut_tiles`) and back
(`unfit`, `join_tiles`) are here too. Nothing else in the package loads, orients, resizes, crops,
pads, clamps or rounds an image.

torch is imported inside the functions that need it: `vtbench validate` checks pixels without it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtbench.base.errors import ImageError
from vtbench.base.names import printable
from vtbench.base.padding import pad_to_square
from vtbench.base.picture_file import decode_file
from vtbench.base.records import Preprocess, SizePolicy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RGB8 = NDArray[np.uint8]

MAX_PIXELS = 24_500_000
"""A picture of more is refused before it is decoded, unless a larger number is given. Cameras of 24
megapixels make up to 6048×4024."""

ANY_PIXELS = 2**40
"""For pictures that vtbench has written itself."""

SUFFIXES: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
}
"""File endings that `vtbench run --images` takes for pictures, with Pillow's name of the format."""

FORMATS = tuple(sorted(set(SUFFIXES.values())))
"""The formats that are opened, whatever a file's ending says. Pillow knows some thirty more; one of
them, EPS, is a program that it hands to Ghostscript."""

CROPS: dict[str, str] = {
    "none": "whole, at its own size",
    "center": "the middle square, not resized",
    "adm": (
        "ADM centre crop: halved with a box filter while the short side is at least twice the "
        "target, bicubic to the target, middle square"
    ),
    "resize-crop-bicubic": "short side resized by Pillow's bicubic, middle square",
    "resize-crop-bilinear": "short side resized by Pillow's bilinear, middle square",
    "resize-crop-lanczos": "short side resized by Pillow's Lanczos, middle square",
    "pad-lanczos": (
        "in the middle of a black square, longer side resized by Pillow's Lanczos, nothing cut off"
    ),
    "tensor-resize-crop-bicubic": (
        "short side resized on the float tensor by antialiased bicubic, middle square"
    ),
    "tensor-resize-crop-bilinear": (
        "short side resized on the float tensor by antialiased bilinear, middle square"
    ),
}
"""How an original may become the picture that is measured, by the name that a suite gives it."""


def load_rgb8(
    source: Path | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    upright: bool = True,
    formats: tuple[str, ...] = FORMATS,
) -> RGB8:
    """Return the picture in a file, or in an open binary file, as uint8 H×W×3 RGB as it is seen.

    EXIF orientation is applied, unless not `upright`: most published evaluations ignore it. Gray is
    replicated to three channels. Palettes are expanded. Alpha and transparent colours are composited
    over white. Samples of 9 to 16 bits are scaled by 255/(2^bits − 1) and rounded half up, the bits
    being those that the file states (12 of them in a 16-bit file are dark); of CMYK, of associated
    alpha and of JPEG 2000 colour the decoder keeps the first 8. Gray of 32 bits has no defined white:
    levels of 0 to 255 are taken as they are, others refused. CMYK and the other colour modes go
    through Pillow's conversion; an embedded ICC profile is not applied (the code values are the
    picture). Of a JPEG or TIFF that holds further views (previews, pages), the picture is the first
    that is no smaller copy or mask of another. Text in a file, of whatever length, is no pixel.

    Args:
        source: the file; what is no regular file is no image.
        max_pixels: a larger picture is refused before it is decoded.
        upright: whether the EXIF orientation is applied.
        formats: Pillow's names of the formats that are read, whatever the file's ending.

    Raises:
        ImageError: the file is no image, is truncated, animated or too large, or its samples have no
            defined white.
    """
    from PIL import Image, UnidentifiedImageError

    path = printable(str(source if isinstance(source, Path) else getattr(source, "name", "image")))
    try:
        return decode_file(source, path, max_pixels=max_pixels, upright=upright, formats=formats)
    except UnidentifiedImageError as error:
        known = ", ".join(formats)
        raise ImageError(f"{path}: not an image of a format that is read ({known})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: more than {max_pixels:,} pixels") from error
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"{path}: cannot be decoded ({error.strerror or error})") from error
    except Exception as error:
        # Pillow's decoders raise what they like for damaged files: struct.error, KeyError,
        # ZeroDivisionError, MemoryError of a size that a header claims.
        why = " ".join(str(error).split()) or "damaged"
        raise ImageError(f"{path}: cannot be decoded ({type(error).__name__}: {why})") from error


def crop_rgb8(pixels: RGB8, box: tuple[int, int, int, int]) -> RGB8:
    """Return the (left, top, width, height) part of an H×W×3 array; it must lie inside."""
    left, top, width, height = box
    if left < 0 or top < 0 or left + width > pixels.shape[1] or top + height > pixels.shape[0]:
        raise ImageError(f"crop {box} leaves the {pixels.shape[1]}×{pixels.shape[0]} image")
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def preprocess_rgb8(pixels: RGB8, preprocess: Preprocess) -> RGB8:
    """Return the picture that is measured: `preprocess.size` pixels a side, or the whole one ("none").

    Each crop gives the bytes of its origin. adm: `center_crop_arr` of openai/guided-diffusion
    (image_datasets.py at 22e0df8). resize-crop-*: torchvision's Resize(size) and CenterCrop(size)
    on a Pillow image. tensor-resize-crop-*: ToTensor, then the same two on the float tensor with
    antialias=True, then 8 bit as `to_uint8`; it is float32 arithmetic, so that another processor may
    round a pixel on the edge between two levels to the other one. Raises ImageError for a picture
    smaller than "center" asks for (torchvision would pad it with black), and for one so narrow that
    its resized whole would have more than MAX_PIXELS.
    """
    if preprocess.crop == "none":
        return pixels
    if preprocess.crop not in CROPS or preprocess.size is None:
        raise ValueError(f"no crop {preprocess.crop!r} of size {preprocess.size}")
    height, width = pixels.shape[:2]
    size, short = preprocess.size, min(height, width)
    if preprocess.crop == "center":
        if short < size:
            raise ImageError(f"{width}×{height} is smaller than the {size}×{size} centre crop")
        return _crop_middle(pixels, size)
    if preprocess.crop == "pad-lanczos":
        return pad_to_square(pixels, size)[0]
    if max(height, width) * size * size > MAX_PIXELS * short:
        raise ImageError(f"{width}×{height} is too narrow to be resized to {size} px a side")
    if preprocess.crop == "adm":
        return _crop_adm(pixels, size)
    # torchvision's Resize: the long side is truncated, not rounded.
    longer = int(size * max(height, width) / short)
    target = (size, longer) if height <= width else (longer, size)
    kind, _, filter_name = preprocess.crop.rpartition("resize-crop-")
    if kind == "tensor-":
        batch = _resize_float(to_float([pixels]), target, filter_name)
        return _crop_middle(to_rgb8(to_uint8(batch))[0], size)
    return _crop_middle(_resize_pillow(pixels, target, filter_name), size)


def _crop_middle(pixels: RGB8, size: int) -> RGB8:
    """Cut as torchvision's CenterCrop: half a pixel of offset goes to the even neighbour."""
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return crop_rgb8(pixels, (left, top, size, size))


def _crop_adm(pixels: RGB8, size: int) -> RGB8:
    height, width = pixels.shape[:2]
    while min(height, width) >= 2 * size:
        height, width = height // 2, width // 2
        pixels = _resize_pillow(pixels, (height, width), "box")
    scale = size / min(height, width)
    height, width = round(height * scale), round(width * scale)
    pixels = _resize_pillow(pixels, (height, width), "bicubic")
    return crop_rgb8(pixels, ((width - size) // 2, (height - size) // 2, size, size))


def _resize_pillow(pixels: RGB8, target: tuple[int, int], filter_name: str) -> RGB8:
    from PIL import Image

    image = Image.fromarray(pixels).resize(target[::-1], Image.Resampling[filter_name.upper()])
    return np.array(image, dtype=np.uint8)


def _resize_float(images: Tensor, target: tuple[int, int], mode: str) -> Tensor:
    import torch.nn.functional as functional

    if images.shape[-2:] == target:
        return images
    return functional.interpolate(
        images, size=target, mode=mode, antialias=True, align_corners=False
    )


ORIGINAL = "vtbench-original"
"""The text of a PNG that holds the hash of the picture it was made of."""


def pixel_sha256(pixels: RGB8) -> str:
    """Return the sha256 of the size and of the RGB bytes: of what is seen, not of the file."""
    height, width, channels = pixels.shape
    digest = hashlib.sha256(f"{width}x{height}x{channels}:uint8:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def encode_png(pixels: RGB8, *, original: str | None = None) -> bytes:
    """Return the lossless PNG of an H×W×3 (or H×W) uint8 array.

    Args:
        pixels: the array.
        original: `pixel_sha256` of the picture that it was made of, kept in the file.
    """
    from PIL import Image, PngImagePlugin

    buffer, text = io.BytesIO(), PngImagePlugin.PngInfo()
    if original is not None:
        text.add_text(ORIGINAL, original)
    # Higher levels of zlib take much longer for little.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3, pnginfo=text)
    return buffer.getvalue()


def read_png_original(path: Path) -> str | None:
    """Return the hash that `encode_png` kept in a file, None where there is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            found = image.info.get(ORIGINAL)
    except Exception:  # a damaged picture is of no known original
        return None
    return found if isinstance(found, str) else None


def to_batch8(pixels: Sequence[RGB8]) -> Tensor:
    """Return equally sized uint8 H×W×3 arrays as one uint8 N×3×H×W batch."""
    import torch

    pictures = np.stack(pixels)
    planes = np.empty((len(pictures), pictures.shape[3], *pictures.shape[1:3]), np.uint8)
    for channel, plane in enumerate(np.moveaxis(pictures, 3, 0)):
        planes[:, channel] = plane
    return torch.from_numpy(planes)


def to_float(pixels: Sequence[RGB8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return uint8 pixels, a list of H×W×3 arrays or a batch, as float32 N×3×H×W in [0, 1]."""
    batch = to_batch8(pixels) if isinstance(pixels, Sequence) else pixels.cpu()
    return (batch.float() / 255.0).to(
        device
    )  # divided on the CPU: CUDA multiplies by a rounded 1/255


def require_unit_range(batch: Tensor) -> None:
    """Raise ImageError unless float images are finite and not plainly of another range than [0, 1]."""
    import torch

    if not torch.isfinite(batch).all():
        raise ImageError("images have NaN or infinite values")
    low, high = float(batch.min()), float(batch.max())
    # Reconstructions overshoot [0, 1] by some tenths; 0…255 and −1…1 do not end there.
    if high > 2.0:
        raise ImageError(f"floats up to {high:.4g}: images are in [0, 1]; divide 0…255 by 255")
    if low < -0.75:
        raise ImageError(f"floats down to {low:.4g}: images are in [0, 1]; map −1…1 by x / 2 + 0.5")


def to_uint8(images: Tensor) -> Tensor:
    """Return a float N×3×H×W batch in [0, 1] as uint8: clamped, then rounded half up.

    Truncation instead would bias every reconstruction by half a level (up to 0.4 dB at 40 dB).
    """
    import torch

    return images.to(torch.float32).clamp(0.0, 1.0).mul_(255.0).add_(0.5).floor_().to(torch.uint8)


def to_rgb8(images: Tensor) -> list[RGB8]:
    """Return a uint8 N×3×H×W batch as a list of H×W×3 arrays."""
    planes: NDArray[np.uint8] = images.cpu().numpy()
    pictures = np.empty((len(planes), *planes.shape[2:], planes.shape[1]), np.uint8)
    for channel, plane in enumerate(np.moveaxis(planes, 1, 0)):  # faster than one permuted copy
        pictures[..., channel] = plane
    return list(pictures)


@dataclass(frozen=True)
class Fit:
    """What was done to a batch so that the network could take it; `unfit` undoes it.

    size: the (height, width) that came in and must come back. fitted: what the network saw; of
    tiles, all of them together. policy: "none", "pad", "resize" or "tile". tiles: rows and columns.
    """

    size: tuple[int, int]
    fitted: tuple[int, int]
    policy: str
    tiles: tuple[int, int] = (1, 1)


def fit(images: Tensor, size: SizePolicy) -> tuple[Tensor, Fit]:
    """Return the batch in a size that the network takes, and the record of how.

    pad: reflection at the right and bottom edge up to the next multiple (repeated where the image is
    smaller than the padding; a one-pixel side is replicated). resize: antialiased bicubic. tile: the
    same reflection up to a whole number of tiles on either axis, which `cut_tiles` then cuts.
    """
    height, width = images.shape[-2:]
    tiles = (1, 1)
    if size.fixed is not None and size.policy == "tile":
        tiles = (-(-height // size.fixed[0]), -(-width // size.fixed[1]))
        target = (tiles[0] * size.fixed[0], tiles[1] * size.fixed[1])
    elif size.fixed is not None:
        target = size.fixed
    else:
        step = size.multiple
        target = (-(-height // step) * step, -(-width // step) * step)
    if target == (height, width):
        return images, Fit(target, target, "none" if tiles == (1, 1) else "tile", tiles)
    if size.policy == "resize":
        return resize(images, target), Fit((height, width), target, "resize")
    if target[0] < height or target[1] < width:
        raise ImageError(f"{width}×{height} is larger than the {target[1]}×{target[0]} taken")
    rows = _reflect_index(height, target[0], images)
    columns = _reflect_index(width, target[1], images)
    return images[..., rows, :][..., columns], Fit((height, width), target, size.policy, tiles)


def unfit(images: Tensor, fitted: Fit) -> Tensor:
    """Return the batch in the size that `fit` was given: cropped or resized back."""
    if fitted.policy == "resize":
        return resize(images, fitted.size)
    return images[..., : fitted.size[0], : fitted.size[1]]


def cut_tiles(images: Tensor, fitted: Fit) -> list[Tensor]:
    """Return the tiles of a fitted batch, each a batch of the network's size, row by row."""
    rows, columns = fitted.tiles
    return [tile for row in images.chunk(rows, dim=-2) for tile in row.chunk(columns, dim=-1)]


def join_tiles(tiles: Sequence[Tensor], fitted: Fit) -> Tensor:
    """Return the fitted batch of which these are the tiles, side by side; nothing is blended."""
    import torch

    rows, columns = fitted.tiles
    return torch.cat(
        [torch.cat([*tiles[row * columns :][:columns]], dim=-1) for row in range(rows)], dim=-2
    )


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the float batch resampled to (height, width): bicubic (a = −0.5) with antialiasing,
    half-pixel centres, as Pillow's BICUBIC; values may overshoot [0, 1]."""
    return _resize_float(images, size, "bicubic")


def _reflect_index(side: int, padded: int, like: Tensor) -> Tensor:
    import torch

    index = torch.arange(padded, device=like.device)
    if side == 1:
        return torch.zeros_like(index)
    period = 2 * (side - 1)
    index = index % period
    return torch.where(index < side, index, period - index)


def error_map(original: RGB8, reconstruction: RGB8, *, gain: int = 4) -> RGB8:
    """Return |original − reconstruction|, largest channel, times `gain`, clamped, as H×W gray."""
    difference = np.abs(original.astype(np.int16) - reconstruction.astype(np.int16)).max(axis=2)
    clamped: RGB8 = np.minimum(difference * gain, 255).astype(np.uint8)
    return clamped
