"""One VAE, eleven protocols: `python benchmarks/psnr_of_one_vae.py` prints its PSNR under each.

Tokenizer (`ref-kl-f8`), weights and images are the same in every line: the whole photographs and the
Chinese pages of the suite `embedded`. What differs is what papers and repositories of the field do
between the image and the number. Prints the mean, in dB, of the photographs and of the pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtbench.base.records import Preprocess
from vtbench.evaluation.catalogue import load
from vtbench.images import RGB8, preprocess_rgb8, to_float, to_uint8
from vtbench.metrics.luma import luma
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite
from vtbench.tokenizers.base import Tokenizer

NAME = "ref-kl-f8"
SIDE = 256


def main() -> None:
    """Print a Markdown table, a line a protocol."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        columns = [measure(originals) for originals in (photographs(), pages())]
    print("| protocol | photographs (dB) | Chinese pages (dB) |\n|---|---:|---:|")
    for label in columns[0]:
        print(f"| {label} | " + " | ".join(f"{column[label]:.2f}" for column in columns) + " |")


def photographs() -> list[RGB8]:
    """Return the photographs of the suite that are not cut to 256 px."""
    samples = load_suite("embedded").samples
    return [load_pixels(s) for s in samples if s.task == "reconstruction" and s.subset != "crop256"]


def pages() -> list[RGB8]:
    """Return the pages of Chinese text."""
    samples = load_suite("embedded").samples
    return [load_pixels(s) for s in samples if s.task == "text" and s.subset == "chinese"]


def measure(originals: Sequence[RGB8]) -> dict[str, float]:
    """Return the PSNR of each protocol over the same images."""
    tokenizer, sampling = load(NAME), load_sampling()
    pairs = [(to_float([pixels]), rebuild(tokenizer, pixels)) for pixels in originals]
    cropped = [preprocess_rgb8(pixels, Preprocess("adm", SIDE)) for pixels in originals]
    resized = [squash(pixels, (SIDE, SIDE)) for pixels in originals]
    shrunk = [
        (to_float([p]), rebuild(tokenizer, s)) for p, s in zip(originals, resized, strict=True)
    ]
    errors = [(mean_square(x, quantize(y)), x.numel()) for x, y in pairs]
    pooled = sum(error * n for error, n in errors) / sum(n for _, n in errors)
    return {
        "native size, 8-bit RGB, mean over images (vtbench)": mean(pairs, psnr),
        "squared errors pooled over all pixels": -10 * math.log10(pooled),
        "luma alone (PSNR-Y)": mean(pairs, lambda x, y: psnr(as_luma(x), as_luma(quantize(y)))),
        "truncated to 8 bits instead of rounded": mean(pairs, lambda x, y: psnr(x, truncate(y), 0)),
        "float output, neither clamped nor rounded": mean(pairs, lambda x, y: psnr(x, y, 0)),
        "data range 2 for images in [0, 1]": mean(pairs, psnr) + 20 * math.log10(2),
        "a sample of the posterior": mean(
            [(x, rebuild(sampling, p)) for (x, _), p in zip(pairs, originals, strict=True)], psnr
        ),
        "centre crop of 256 px (ADM) before the tokenizer": mean(
            [(to_float([p]), rebuild(tokenizer, p)) for p in cropped], psnr
        ),
        "both images squashed to 256×256 before the metric": mean(
            pairs, lambda x, y: psnr(squashed(x), squashed(quantize(y)))
        ),
        "image squashed to 256×256 and compared there": mean(
            [(to_float([p]), rebuild(tokenizer, p)) for p in resized], psnr
        ),
        "tokenizer at 256×256, compared at native size": mean(
            shrunk, lambda x, y: psnr(x, squashed(quantize(y), (x.shape[2], x.shape[3])))
        ),
    }


def load_sampling() -> Tokenizer:
    """Return the tokenizer with a sampled posterior."""
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import sample_posterior
    from vtbench.tokenizers import build_tokenizer

    return build_tokenizer(sample_posterior(load_registry()[NAME]))


def rebuild(tokenizer: Tokenizer, pixels: RGB8) -> Tensor:
    """Return the reconstruction, float, as the tokenizer gives it."""
    return tokenizer.decode(tokenizer.encode(to_float([pixels])))


def mean(pairs: Sequence[tuple[Tensor, Tensor]], measure_one: Callable[..., float]) -> float:
    """Return the mean over the pairs."""
    return float(np.mean([measure_one(x, y) for x, y in pairs]))


def mean_square(x: Tensor, y: Tensor) -> float:
    """Return the mean squared difference of two float batches."""
    return float((x.double() - y.double()).square().mean())


def psnr(x: Tensor, y: Tensor, levels: int = 255) -> float:
    """Return PSNR in dB for the range [0, 1]; levels: y is rounded to so many first, 0 for not."""
    return -10 * math.log10(mean_square(x, quantize(y) if levels else y))


def quantize(y: Tensor) -> Tensor:
    """Return float images rounded to 8 bits."""
    return to_uint8(y).float() / 255


def truncate(y: Tensor) -> Tensor:
    """Return float images cut to 8 bits, as `(255 * y).byte()` does."""
    return (y.clamp(0, 1) * 255).floor() / 255


def as_luma(x: Tensor) -> Tensor:
    """Return Rec. 601 luma, rounded to levels, in three equal channels."""
    levels = luma(to_uint8(x)).round().float() / 255
    return levels[:, None].expand(-1, 3, -1, -1)


def squash(pixels: RGB8, size: tuple[int, int]) -> RGB8:
    """Return an image resampled to (height, width) by Pillow's Lanczos, whatever its aspect."""
    height, width = size
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def squashed(x: Tensor, size: tuple[int, int] = (SIDE, SIDE)) -> Tensor:
    """Return `squash` of a float batch of one image."""
    pixels = to_uint8(x)[0].permute(1, 2, 0).numpy()
    return to_float([squash(pixels, size)])


if __name__ == "__main__":
    main()
