"""JPEG XL as a tokenizer, through imagecodecs (BSD-3-Clause, its wheel carries libjxl).

It is a package of its own (`pip install "vtbench[jxl]"`): Pillow has no JPEG XL.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vtbench import images as pixels
from vtbench.base.errors import ImageError, RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer

MIN_DISTANCE, MAX_DISTANCE = 0.01, 25.0
"""Of libjxl's encoder, in Butteraugli; 0 would be lossless."""

MAX_SIDE = 2**18
"""Longest side in pixels of level 5 of the format."""


class JpegXl(Tokenizer):
    """Encode each image to a JPEG XL codestream in memory, decode the bytes again.

    Lossy VarDCT in the XYB colours, effort 7, one thread, no container and no metadata. The settings
    that are not options are fixed, so that they do not follow a default that changes.

    distance: the target in Butteraugli, 0.01 to 25; 1 is what its authors call visually lossless.

    Decoded images go to device; the codec itself runs on the CPU. dtype and seed have no effect.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        distance: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        if isinstance(distance, bool) or not MIN_DISTANCE <= distance <= MAX_DISTANCE:
            raise RegistryError(
                f"{spec.name}: jpeg xl takes distance {MIN_DISTANCE:g}…{MAX_DISTANCE:g}, "
                f"got {distance!r}"
            )
        try:
            from imagecodecs import jpegxl_decode, jpegxl_encode
        except ImportError:
            raise RegistryError(
                f'{spec.name} needs imagecodecs: `pip install "vtbench[jxl]"`'
            ) from None
        self.distance = float(distance)
        self._encode_file, self._decode_file = jpegxl_encode, jpegxl_decode

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return imagecodecs and the libjxl of its wheel."""
        import imagecodecs

        found = str(imagecodecs.jpegxl_version())
        return {"imagecodecs": imagecodecs.__version__, "libjxl": found.removeprefix("libjxl ")}

    def _encode(self, images: Tensor) -> Code:
        height, width = images.shape[-2:]
        if max(height, width) > MAX_SIDE:
            raise ImageError(f"{width}×{height}: jpeg xl takes sides up to {MAX_SIDE} pixels")
        payload = [
            bytes(
                self._encode_file(
                    picture, distance=self.distance, effort=7, usecontainer=False, numthreads=1
                )
            )
            for picture in pixels.to_rgb8(pixels.to_uint8(images))
        ]
        return Code.of_bytes(tuple(payload))

    def _decode(self, code: Code) -> Tensor:
        if code.payload is None:
            raise ValueError(f"{self.spec.name} decodes bytes; this Code has none")
        pictures = [self._decode_file(data, numthreads=1) for data in code.payload]
        return pixels.to_float(pictures, self.device)
