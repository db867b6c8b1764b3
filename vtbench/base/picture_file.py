"""Decoding of image files: which frame is the image, and its samples as 8-bit RGB.

`images.load_rgb8` is its door, and turns whatever goes wrong here into an ImageError.
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtbench.base.errors import ImageError
from vtbench.base.picture_parts import MAX_PAGES, find_excess

ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats whose further frames are an animation. Those of JPEG (MPO) and TIFF are other views of the
picture: previews, gain maps, the other eye, further pages."""

NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC = 254, 258, 262
"""Tags of TIFF 6.0, sections 5 and 7."""

STRIP = 1 << 20
"""How many pixels of more than 8 bits are scaled at a time."""

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG that are no pixels; a colour profile is not applied either."""


MAX_FILE_BYTES = 2**30
"""A larger file is not read: no picture of `images.MAX_PIXELS` needs as much."""


def decode_file(
    source: Path | BinaryIO, label: str, *, max_pixels: int, upright: bool, formats: tuple[str, ...]
) -> NDArray[np.uint8]:
    """Return the picture as `images.load_rgb8` does, which documents it.

    Raises:
        ImageError: the file is refused.
        Exception: whatever a decoder raises for a damaged file.
    """
    if isinstance(source, Path):
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(f"{label}: not a regular file")
        if facts.st_size == 0:  # also some of /proc, which wait for what is to come
            raise ImageError(f"{label}: is empty")
        if facts.st_size > MAX_FILE_BYTES:
            raise ImageError(f"{label}: more than {MAX_FILE_BYTES >> 30} GiB")
    if excess := find_excess(source):
        raise ImageError(f"{label}: {excess}; save the picture again")
    try:
        return _decode(source, label, max_pixels=max_pixels, upright=upright, formats=formats)
    except ImageError:
        raise
    except Exception:  # of a PNG, perhaps at a text chunk
        stripped = _drop_text(_read_content(source))
        if stripped is None:
            raise
    whole = io.BytesIO(stripped)
    return _decode(whole, label, max_pixels=max_pixels, upright=upright, formats=formats)


def _decode(
    source: Path | BinaryIO, label: str, *, max_pixels: int, upright: bool, formats: tuple[str, ...]
) -> NDArray[np.uint8]:
    from PIL import Image

    with warnings.catch_warnings(), contextlib.ExitStack() as opened:
        # Of damaged EXIF and of large pictures; the size is checked below, before any pixel is
        # decoded, and refused in our words.
        warnings.simplefilter("ignore")

        def open_primary() -> Any:
            if not isinstance(source, Path):
                source.seek(0)
            image = opened.enter_context(Image.open(source, formats=formats))
            _seek_primary(image, label)
            return image

        image = open_primary()
        if image.width * image.height > max_pixels:
            raise ImageError(
                f"{label}: {image.width}×{image.height} is more than {max_pixels:,} pixels "
                "(`--max-pixels` takes more)"
            )
        pixels = _convert_to_rgb8(image, open_primary, label)
        return _turn_upright(pixels, _read_orientation(image)) if upright else pixels


def convert_held(image: Any, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return a Pillow image that a caller holds as uint8 H×W×3 RGB, converted as that of a file is.

    Its EXIF orientation is not applied: the samples are what the caller sees.

    Raises:
        ImageError: it is too large, has no defined white, or its file cannot be decoded.
    """
    label = "a picture of Pillow"
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{label}: {image.width}×{image.height} is more than {max_pixels:,} pixels"
        )
    try:
        image.load()  # it may have been opened alone
        if image.mode == "I" and image.format is None and max(map(abs, image.getextrema())) > 255:
            raise ImageError(f"{label}: 32-bit samples have no defined white; give 8 or 16 bit")
        if image.mode == "I" and image.format is None:
            image = image.convert("L")
        return _convert_to_rgb8(image, lambda: image, label)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like for damaged files
        why = " ".join(str(error).split()) or "damaged"
        raise ImageError(f"{label}: cannot be decoded ({why})") from error


def _seek_primary(image: Any, label: str) -> None:
    """Go to the frame that is the picture.

    Raises:
        ImageError: the file is an animation, of which no frame is the picture.
    """
    if image.format in ANIMATED:
        # Not the number of a GIF's frames, for which all of them would be gone through.
        if image.format == "GIF" and image.is_animated:
            raise ImageError(f"{label}: animated; save the frame that you mean")
        if image.format != "GIF" and (frames := getattr(image, "n_frames", 1)) > 1:
            raise ImageError(f"{label}: animated ({frames} frames); save the one you mean")
    elif image.format == "TIFF":
        for page in range(MAX_PAGES):
            try:
                image.seek(page)
            except EOFError:
                break
            # Bit 0: a smaller copy of another page. Bit 2: a mask of another page.
            if not int(image.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & 0b101:
                return
        image.seek(0)


def _read_orientation(image: Any) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read.

    Pillow's `exif_transpose` writes all tags anew as well and fails on one that has nothing to do
    with pixels.
    """
    from PIL import ExifTags

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block raises what it likes; the samples are whole
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return H×W×3 samples, stored with an EXIF orientation, as the picture is seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _convert_to_rgb8(image: Any, reopen: Callable[[], Any], label: str) -> NDArray[np.uint8]:
    """Return the samples of an opened picture as uint8 H×W×3 RGB, as they are stored.

    Args:
        image: the open Pillow image, at its primary frame.
        reopen: returns the same image, opened once more.
        label: what messages call the file.

    Raises:
        ImageError: the samples have no defined white.
    """
    from PIL import Image

    if image.mode == "F":
        raise ImageError(f"{label}: float samples have no defined white; save as 8 or 16 bit")
    if image.mode.startswith("I"):
        return _convert_gray(image, label)
    if image.mode in ("RGB", "RGBA") and (wide := _read_wide(image, reopen)) is not None:
        return _scale(wide, 65535)
    image.load()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _convert_gray(image: Any, label: str) -> NDArray[np.uint8]:
    """Return gray of more than 8 bits; Pillow's convert("RGB") would clip it at 255."""
    image.load()
    gray: NDArray[Any] = np.asarray(image)
    if image.format == "TIFF":
        tags = image.tag_v2
        bits = int(np.atleast_1d(tags.get(BITS_PER_SAMPLE, 16))[0])
        if image.mode == "I":  # 32 bits, or 16 with a sign: the file does not say what is white
            if gray.min() < 0 or gray.max() > 255:
                raise ImageError(
                    f"{label}: {bits}-bit samples from {gray.min()} to {gray.max()} have no defined "
                    "white; save as 8 or 16 bit"
                )
            return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white
            gray = (1 << bits) - 1 - gray
        return _scale(gray[:, :, None], (1 << bits) - 1)
    alpha = None
    if isinstance(clear := image.info.get("transparency"), int):
        alpha = np.where(gray == clear, 0, 65535)
    wide = gray[:, :, None] if alpha is None else np.stack([gray, alpha], axis=2)
    return _scale(wide, 65535)


def _read_wide(image: Any, reopen: Callable[[], Any]) -> NDArray[Any] | None:
    """Return 16-bit colour samples, H×W×(1 to 4); None for a file that has none.

    Pillow keeps the more significant byte of each. The decoder hands out the other one when it is
    told the other byte order.
    """
    kinds = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    if len(kinds) != 1 or (kind := next(iter(kinds))) is None:
        return None
    clear = image.info.get("transparency")
    if kind == "LA;16B":  # both bytes of gray and alpha are four of one
        pairs: NDArray[Any] = np.asarray(_tell_raw_mode(image, kind, "RGBA"), dtype=np.uint16)
        both: NDArray[Any] = pairs[:, :, ::2] << 8 | pairs[:, :, 1::2]
        return both
    swapped = {"B": "L", "L": "B"}.get(kind[-1], "B" if sys.byteorder == "little" else "L")
    other = _tell_raw_mode(reopen(), kind, kind[:-1] + swapped)
    image.load()
    wide: NDArray[Any] = np.asarray(image).astype(np.uint16) << 8 | np.asarray(other)
    if isinstance(clear, tuple):
        alpha = np.where((wide == np.array(clear)).all(axis=2), 0, 65535)
        wide = np.dstack([wide, alpha.astype(np.uint16)])
    return wide


def _raw_mode(tile: Any) -> str | None:
    arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    wide = ("RGB;16", "RGBA;16", "LA;16")
    names = [a for a in arguments if isinstance(a, str) and a[:-1] in wide]
    return names[0] if len(names) == 1 else None


def _tell_raw_mode(image: Any, old: str, new: str) -> Any:
    """Return the image with its samples decoded as another raw mode says."""

    def change(arguments: Any) -> Any:
        if isinstance(arguments, tuple):
            return tuple(change(argument) for argument in arguments)
        return new if arguments == old else arguments

    image.tile = [(*tile[:3], change(tile[3])) for tile in image.tile]
    image.load()
    return image


def _scale(wide: NDArray[Any], white: int) -> NDArray[np.uint8]:
    """Return H×W×C samples of 0 to `white` as 8-bit RGB, rounded half up; the last of 2 or 4 channels
    is alpha, composited over white before the rounding."""
    height, width, channels = wide.shape
    colours = channels - 1 if channels in (2, 4) else channels
    rgb = np.empty((height, width, colours), dtype=np.uint8)
    rows = max(1, STRIP // max(width, 1))
    for top in range(0, height, rows):
        strip = wide[top : top + rows].astype(np.int64)
        seen, full = strip[:, :, :colours], white
        if colours < channels:
            alpha = strip[:, :, colours:]
            seen, full = seen * alpha + white * (white - alpha), white * white
        rgb[top : top + rows] = (seen * 510 + full) // (2 * full)
    return np.repeat(rgb, 3, axis=2) if colours == 1 else rgb


def _drop_text(content: bytes) -> bytes | None:
    """Return a PNG without its text and profiles, of which Pillow takes a megabyte at most; None for
    what is no PNG or has none."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    kept, place = [content[:8]], 8
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if kind not in TEXT_CHUNKS:
            kept.append(content[place:end])
        place = end
    stripped = b"".join([*kept, content[place:]])
    return stripped if len(stripped) < len(content) else None


def _read_content(source: Path | BinaryIO) -> bytes:
    """Return all bytes of a file, open or not."""
    if isinstance(source, Path):
        return source.read_bytes()
    source.seek(0)
    return source.read()
