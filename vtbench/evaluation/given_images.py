"""Images that a caller passes (tensors, arrays, Pillow images, paths), written to a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtbench.base.errors import ImageError
from vtbench.base.files import write_atomic
from vtbench.base.names import printable
from vtbench.base.picture_file import convert_held
from vtbench.images import (
    MAX_PIXELS,
    RGB8,
    encode_png,
    load_rgb8,
    require_unit_range,
    to_rgb8,
    to_uint8,
)


def write_images(images: object, folder: Path, *, max_pixels: int | None = None) -> None:
    """Write images as lossless 8-bit PNG files into a folder, named 000000.png, 000001.png and so on.

    Args:
        images: a batch N×3×H×W, or an iterable of images 3×H×W, N×3×H×W, arrays H×W×3, pictures of
            Pillow, or paths. Floats are RGB in [0, 1], integers are uint8. A mapping names the files
            by its keys, an image each.
        folder: a new folder.
        max_pixels: a file of more pixels is refused; `images.MAX_PIXELS` by default.

    Raises:
        ImageError: an image is not finite, plainly not in [0, 1], of another shape, or unreadable.
    """
    if isinstance(images, Mapping):
        named = [_name_one(key, one, max_pixels) for key, one in images.items()]
        if len({name for name, _ in named}) < len(named):
            raise ImageError("two images have one name")
    elif not isinstance(images, Iterable):
        raise ImageError(f"images are a batch, or a list of them, not {type(images).__name__}")
    else:
        single = isinstance(images, Tensor | np.ndarray)
        each: Iterable[Any] = [images] if single else images
        flat = (rgb8 for image in each for rgb8 in as_rgb8(image, max_pixels))
        named = [(f"{index:06d}", rgb8) for index, rgb8 in enumerate(flat)]
    if not named:
        raise ImageError("no images were given")
    for name, rgb8 in named:
        write_atomic(folder / f"{name}.png", encode_png(rgb8))


def _name_one(key: object, image: Any, max_pixels: int | None) -> tuple[str, RGB8]:
    """Return the name of an image's file below the folder, without its ending, and the image.

    Raises ImageError for a name that is no file below it, or would not be found there."""
    name = str(key)
    parts = name.split("/")
    if not name.isprintable() or any(
        part.startswith(".") or not 0 < len(part.encode()) <= MAX_NAME_BYTES for part in parts
    ):
        raise ImageError(f"{printable(name[:80])!r} is no name of an image")
    pictures = as_rgb8(image, max_pixels)
    if len(pictures) > 1:
        raise ImageError(f"{printable(name[:80])!r}: {len(pictures)} images of one name")
    return name, pictures[0]


MAX_NAME_BYTES = 200
"""Of a part of a name: a file system takes 255, with the ending and what a temporary file adds."""


def as_rgb8(image: Any, max_pixels: int | None = None) -> list[RGB8]:
    """Return one image, or those of a batch, as uint8 H×W×3. Raises ImageError."""
    if isinstance(image, str | Path):
        return [load_rgb8(Path(image), max_pixels=max_pixels or MAX_PIXELS)]
    if isinstance(image, Image.Image):
        return [convert_held(image, max_pixels=max_pixels or MAX_PIXELS)]
    if not isinstance(image, Tensor | np.ndarray):
        raise ImageError(
            f"an image is a tensor, an array, a picture of Pillow or a path, not "
            f"{type(image).__name__}"
        )
    if isinstance(image, np.ndarray):
        try:
            image = torch.from_numpy(
                np.require(image, requirements=["C", "W"])
            )  # read-only: copied
        except (TypeError, ValueError):
            raise ImageError(f"images are uint8, or floats in [0, 1], not {image.dtype}") from None
        if image.ndim in (3, 4) and image.shape[-1] == 3 and image.shape[-3] != 3:
            image = image.movedim(-1, -3)  # arrays have their channels last
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape:
        raise ImageError(f"expected RGB images N×3×H×W, got {tuple(image.shape)}")
    return to_rgb8(as_uint8(batch))


def as_uint8(batch: Tensor) -> Tensor:
    """Return a batch as uint8: floats in [0, 1] are clamped and rounded half up.

    Raises ImageError for NaN or infinite values, for floats that are plainly 0…255 or −1…1, and for
    integers other than uint8.
    """
    if batch.dtype == torch.uint8:
        return batch
    if not batch.is_floating_point():
        raise ImageError(f"images are uint8, or floats in [0, 1], not {batch.dtype}")
    require_unit_range(batch)
    return to_uint8(batch)
