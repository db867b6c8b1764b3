"""Sanity rows: the unchanged image, and the image at lower resolution. No network.

`identity` is the ceiling of every metric and the proof that the pass itself loses nothing (infinite
PSNR, rFID 0, the OCR engine's own error). `resize-2x` and `resize-4x` say what resolution alone
costs: a tokenizer whose text is harder to read than that of half the pixels a side shows it here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtbench import images as pixels
from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer


class Resample(Tokenizer):
    """Shrink by `factor`, keep 8 bits a value, enlarge again; both bicubic (`images.resize`).

    The code is the small picture: latents float32 N×3×⌈H/factor⌉×⌈W/factor⌉, each value one of the
    256 levels k/255; a pixel is a token, a value 8 bits. factor 1 resamples nothing and returns an
    8-bit image exactly. Shrinking is antialiased. dtype and seed have no effect.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        factor: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        if type(factor) is not int or factor < 1:
            raise RegistryError(f"{spec.name}: factor must be an integer ≥ 1, got {factor!r}")
        if spec.input_range != (0.0, 1.0):
            raise RegistryError(f"{spec.name}: input_range must be [0, 1], got {spec.input_range}")
        self.factor = factor

    def _encode(self, images: Tensor) -> Code:
        n, channels, height, width = images.shape
        size = (-(-height // self.factor), -(-width // self.factor))
        small = images if size == (height, width) else pixels.resize(images, size)
        latents = pixels.to_float(pixels.to_rgb8(pixels.to_uint8(small)), self.device)
        positions = size[0] * size[1]
        return Code((positions,) * n, (8.0 * channels * positions,) * n, latents=latents)

    def _decode(self, code: Code) -> Tensor:
        if code.latents is None or code.fit is None:
            raise ValueError(f"{self.spec.name} decodes latents with a fit; this Code has none")
        if tuple(code.latents.shape[-2:]) == code.fit.fitted:
            return code.latents
        return pixels.resize(code.latents, code.fit.fitted)
