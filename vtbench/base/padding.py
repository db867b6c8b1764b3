"""Pictures in the middle of a black square, and back at their own size. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RGB8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Padding:
    """Where a picture lies in its square. size: the picture's own; scaled: in the square, at `place`."""

    size: tuple[int, int]
    scaled: tuple[int, int]
    place: tuple[int, int]


def pad_to_square(image: RGB8, side: int) -> tuple[RGB8, Padding]:
    """Return the picture in the middle of a black square, and where it lies.

    The longer side becomes `side`, the other is rounded up; Pillow's Lanczos on 8 bits. As TokBench
    gives pictures to tokenizers (resize_rec.py of github.com/LeapLabTHU/InsightTok at 01661ba).
    """
    from PIL import Image

    height, width = image.shape[:2]
    padding = find_padding(width, height, side)
    square = Image.new("RGB", (side, side))
    scaled = Image.fromarray(image).resize(padding.scaled, Image.Resampling.LANCZOS)
    square.paste(scaled, padding.place)
    return np.asarray(square), padding


def find_padding(width: int, height: int, side: int) -> Padding:
    """Return where a picture of this size lies in its square."""
    ratio = min(side / width, side / height)
    scaled = (math.ceil(width * ratio), math.ceil(height * ratio))
    return Padding((width, height), scaled, ((side - scaled[0]) // 2, (side - scaled[1]) // 2))


def unpad_square(square: RGB8, padding: Padding) -> RGB8:
    """Return the picture of a reconstructed square at its own size again, by Lanczos."""
    from PIL import Image

    left, top = padding.place
    box = (left, top, left + padding.scaled[0], top + padding.scaled[1])
    picture = Image.fromarray(square).crop(box)
    return np.asarray(picture.resize(padding.size, Image.Resampling.LANCZOS))
