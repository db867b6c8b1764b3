"""Image codecs as tokenizers: JPEG, WebP, JPEG 2000 and AVIF, through Pillow.

They are the rows that every learned tokenizer should be read against: a fixed, well-known loss at a
known number of bytes. That a language model can take such bytes as its tokens was shown by JPEG-LM
(Han et al. 2024, https://arxiv.org/abs/2408.08459), which is why a byte counts as a token here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import AvifImagePlugin, Image, features
from torch import Tensor

from vtbench import images as pixels
from vtbench.base.errors import ImageError, RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer

MAX_SIDE = {"jpeg": 65500, "webp": 16383, "jpeg2000": 2**31 - 1, "avif": 32768}
"""Longest side in pixels: libjpeg's and libwebp's encoders refuse more, libavif's decoder too."""

QUALITIES = {"jpeg": range(1, 101), "webp": range(101), "avif": range(101)}
"""The quality settings of each format. They are scales of their own: WebP 50 is not JPEG 50."""

SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


_JPEG2000: Mapping[str, Any] = {
    "quality_mode": "rates",
    "irreversible": True,
    "mct": 1,
    "comment": " ",  # without one OpenJPEG writes 32 bytes about itself
}
_AVIF: Mapping[str, Any] = {
    "codec": "aom",
    "speed": 6,
    "range": "full",
    "autotiling": False,
    "max_threads": 1,
}


def _find_problem(
    format: str,
    quality: object,
    rate: float | None,
    subsampling: str | None,
    *,
    jpeg_only: bool,
    abbreviated: bool,
) -> str | None:
    """Return why there is no such codec, or None. jpeg_only: an option of jpeg alone is used.
    abbreviated: tables of its own, and none in the file, were asked for together."""
    if format not in MAX_SIDE:
        return f"format {format!r} is none of {', '.join(MAX_SIDE)}"
    if jpeg_only and format != "jpeg":
        return "optimize, progressive, restart and abbreviated are options of jpeg only"
    if abbreviated:
        return "abbreviated needs tables that every image has"
    if subsampling is not None and format not in ("jpeg", "avif"):
        return "subsampling is an option of jpeg and avif only"
    if subsampling not in (None, *SUBSAMPLINGS):
        return f"subsampling {subsampling!r} is none of {', '.join(SUBSAMPLINGS)}"
    if format == "jpeg2000":
        if quality is not None or rate is None or not rate >= 1:
            return (
                "jpeg2000 takes rate (a compression ratio ≥ 1), not quality; "
                f"got rate {rate}, quality {quality}"
            )
    elif rate is not None or type(quality) is not int or quality not in QUALITIES[format]:
        allowed = QUALITIES[format]
        return (
            f"{format} takes quality {allowed[0]}…{allowed[-1]}, not rate; "
            f"got quality {quality!r}, rate {rate}"
        )
    if not features.check({"jpeg": "jpg", "jpeg2000": "jpg_2000"}.get(format, format)):
        return f"this Pillow was built without {format}; install a Pillow wheel"
    return None


class PillowCodec(Tokenizer):
    """Encode each image to the bytes of a file in memory, decode the bytes again.

    The whole file counts, headers included: they are 0.6 kB of a JPEG (its tables) and 0.3 kB of an
    AVIF, and a decoder needs them. Nothing else is in it: no EXIF, no ICC profile.

    format: "jpeg", "webp", "jpeg2000" or "avif". The settings that are not options are fixed, so
    that they do not follow a default that changes:

    jpeg      quality 1…100 (scales the tables of ITU T.81 annex K); subsampling "4:2:0" unless
              given; optimize (Huffman tables of the image itself) and progressive off unless given.
              restart: blocks of pixels between two restart markers, 0 for none. abbreviated: the
              tables, which are those of every image, stay with encoder and decoder (T.81, B.4), as
              JPEG-LM has it (xhan77/jpeg-lm, preprocess.py), and are not counted.
    webp      quality 0…100; lossy, method 4; always 4:2:0.
    jpeg2000  rate: the compression ratio, 24 / rate bits per pixel, which is how the literature
              states it (OpenJPEG cuts one quality layer there; an image too small for its headers
              gets a larger file). Irreversible 9/7 wavelet with the colour transform, JP2 file.
    avif      quality 0…100; libaom at speed 6, subsampling "4:2:0" unless given, full range, one
              tile; one thread.

    Bytes and pixels follow from the encoder's version as well; `libraries` has them.
    Decoded images go to device; the codec itself runs on the CPU. dtype and seed have no effect.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        format: str,
        quality: int | None = None,
        rate: float | None = None,
        subsampling: str | None = None,
        optimize: bool = False,
        progressive: bool = False,
        restart: int = 0,
        abbreviated: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        if problem := _find_problem(
            format,
            quality,
            rate,
            subsampling,
            jpeg_only=optimize or progressive or bool(restart) or abbreviated,
            abbreviated=abbreviated and (optimize or progressive),
        ):
            raise RegistryError(f"{spec.name}: {problem}")
        settings: dict[str, dict[str, Any]] = {
            "jpeg": {
                "quality": quality,
                "subsampling": subsampling or "4:2:0",
                "optimize": optimize,
                "progressive": progressive,
                "restart_marker_blocks": restart,
                "streamtype": 2 if abbreviated else 0,
            },
            "webp": {"quality": quality, "lossless": False, "method": 4},
            "jpeg2000": {"quality_layers": [rate], **_JPEG2000},
            "avif": {"quality": quality, "subsampling": subsampling or "4:2:0", **_AVIF},
        }
        self.format = format
        self.settings = settings[format]
        self.tables = b""
        if abbreviated:
            buffer = io.BytesIO()
            Image.new("RGB", (1, 1)).save(buffer, format, **{**self.settings, "streamtype": 1})
            self.tables = buffer.getvalue()[2:-2]  # without the markers of start and end

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return Pillow and the libraries that make the bytes and pixels of options["format"]."""
        found = {"pillow": features.version("pil")}
        format = options.get("format")
        if format == "jpeg":
            turbo = features.version("libjpeg_turbo")
            found["libjpeg-turbo" if turbo else "libjpeg"] = turbo or features.version("jpg")
        elif format == "webp":
            found["libwebp"] = features.version("webp")
        elif format == "jpeg2000":
            found["openjpeg"] = features.version("jpg_2000")
        elif format == "avif":
            found["libavif"] = features.version("avif")
            for codec in ("aom", "dav1d"):  # the encoder, and the decoder that libavif prefers
                found[codec] = AvifImagePlugin.get_codec_version(codec)
        return {library: version for library, version in found.items() if version}

    def _encode(self, images: Tensor) -> Code:
        height, width = images.shape[-2:]
        if max(height, width) > MAX_SIDE[self.format]:
            raise ImageError(
                f"{width}×{height}: {self.format} takes sides up to {MAX_SIDE[self.format]} pixels"
            )
        payload = []
        for picture in pixels.to_rgb8(pixels.to_uint8(images)):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, self.format, **self.settings)
            payload.append(buffer.getvalue())
        return Code.of_bytes(tuple(payload))

    def _decode(self, code: Code) -> Tensor:
        if code.payload is None:
            raise ValueError(f"{self.spec.name} decodes bytes; this Code has none")
        files = [data[:2] + self.tables + data[2:] for data in code.payload]
        pictures = [
            pixels.load_rgb8(io.BytesIO(data), max_pixels=pixels.ANY_PIXELS) for data in files
        ]
        return pixels.to_float(pictures, self.device)
