"""Fit the patch tokenizers' weights: `python data/weights/fit_patch.py [--out DIR]`, 2–5 minutes.

Principal components and k-means codebooks (Lloyd 1982) of raw patches in [−1, 1], of images that no
suite evaluates: three photographs that come with scikit-learn and matplotlib, and pictures drawn
here. The photographs are two thirds of the pixels.
Seeded: the same machine and versions write the same bytes. Prints what README.md reports.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save
from sklearn.datasets import load_sample_image
from torch import Tensor

from vtbench import __version__
from vtbench import images as pixels
from vtbench.tokenizers.patch import nearest_codewords, split_patches

SEED = 1000  # the suites draw their own dead leaves with seeds 0 and 1
SIZE = 384  # of a drawn picture, pixels
ROUNDS = 20  # of Lloyd's iteration

PCA = {"f8c4": (8, 4, 100_000), "f8c16": (8, 16, 100_000)}
PCA |= {"f16c16": (16, 16, 60_000), "f32c32": (32, 32, 30_000)}
"""name: (patch side, components, patches to fit on)."""

VQ = {"f4": (4, 1024, 250_000), "f8": (8, 4096, 200_000), "f16": (16, 2048, 100_000)}
"""name: (patch side, codewords, patches to fit on)."""

PASSAGES = (
    "The ferry left at a quarter past seven, and nobody on the quay had thought to wave.",
    "Mix 250 g of flour with 4 eggs, 0.5 l of milk and a pinch of salt; let it rest.",
    "Invoice No. 20417 (due 31/08): 12 x hinges @ 3.95, 6 x brackets @ 7.10, VAT 19%.",
    "QUIET PLEASE: RECORDING IN PROGRESS",
    "What do we keep of a picture when we keep only a few hundred numbers of it?",
    "Jov waxed the fjord-blue sphinx; my quartz clock ticked & buzzed, [why?] {who} knows!",
)


def draw_leaves(rng: np.random.Generator) -> Image.Image:
    """Return opaque discs whose radii follow r⁻³ (the dead leaves model, Lee et al. 2001)."""
    picture = Image.new("RGB", (SIZE, SIZE))
    draw = ImageDraw.Draw(picture)
    for _ in range(3000):
        radius = (rng.uniform(200.0**-2, 3.0**-2)) ** -0.5
        x, y = rng.uniform(0, SIZE, size=2)
        colour = tuple(int(v) for v in rng.integers(0, 256, size=3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return picture


def draw_gradient(rng: np.random.Generator) -> Image.Image:
    """Return a bilinear blend of four random corner colours."""
    x = np.linspace(0, 1, SIZE)[None, :, None]
    y = np.linspace(0, 1, SIZE)[:, None, None]
    a, b, c, d = rng.uniform(0, 255, size=(4, 3))
    return _picture((1 - y) * ((1 - x) * a + x * b) + y * ((1 - x) * c + x * d))


def draw_noise(rng: np.random.Generator) -> Image.Image:
    """Return noise of amplitude 1/f, the spectrum of natural images (Field 1987), mostly gray."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    frequency[0, 0] = np.inf
    white = rng.normal(size=(4, SIZE, SIZE))
    gray, *colour = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    field = np.stack([gray + 0.3 * c for c in colour], axis=2)
    return _picture(rng.uniform(80, 176) + rng.uniform(20, 60) * field / field.std())


def draw_text(rng: np.random.Generator) -> Image.Image:
    """Return lines of `PASSAGES` in Pillow's own font: black and white, or in random colours."""
    colours = (
        rng.integers(0, 256, size=(2, 3)) if rng.random() < 0.5 else np.array([[0] * 3, [255] * 3])
    )
    ink, paper = (tuple(int(v) for v in c) for c in rng.permutation(colours))
    picture = Image.new("RGB", (SIZE, SIZE), paper)
    draw = ImageDraw.Draw(picture)
    top = 4.0
    while top < SIZE:
        size = float(rng.choice([10, 12, 14, 18, 24, 32, 48]))
        words = " ".join(str(p) for p in rng.permutation(PASSAGES))
        draw.text((rng.uniform(-40, 20), top), words, ink, ImageFont.load_default(size))
        top += 1.3 * size
    return picture


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))


def make_images(rng: np.random.Generator) -> list[Tensor]:
    """Return the fitting images, float32 1×3×H×W in [0, 1]: 144 of photographs and 64 drawn."""
    hopper = pixels.load_rgb8(Path(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    photographs = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), hopper]
    made = []
    for photograph in photographs:
        original = pixels.to_float([photograph])
        for shrink in (1, 2, 3):
            size = (original.shape[2] // shrink, original.shape[3] // shrink)
            for _ in range(16):
                image = pixels.resize(original, size).clamp(0, 1)
                flips = [axis for axis in (2, 3) if rng.random() < 0.5]
                image = image.flip(flips)
                if rng.random() < 0.5:
                    image = image.transpose(2, 3)
                if rng.random() < 0.5:
                    image = image[:, rng.permutation(3).tolist()]
                gain, offset = rng.uniform(0.6, 1.2), rng.uniform(-0.2, 0.2)
                made.append(((image - 0.5) * gain + 0.5 + offset).clamp(0, 1))
    for draw in (draw_leaves, draw_gradient, draw_noise, draw_text):
        made += [pixels.to_float([np.asarray(draw(rng))]) for _ in range(16)]
    return made


def sample_patches(images: list[Tensor], side: int, n: int, rng: np.random.Generator) -> Tensor:
    """Return n patches at random places as n×3·side² in [−1, 1]; an image's share is its area."""
    areas = np.array([image.shape[2] * image.shape[3] for image in images], dtype=np.float64)
    shares = rng.multinomial(n, areas / areas.sum())
    chosen = []
    for image, share in zip(images, shares, strict=True):
        windows = image[0].unfold(1, side, 1).unfold(2, side, 1)
        tops = torch.from_numpy(rng.integers(0, windows.shape[1], size=share))
        lefts = torch.from_numpy(rng.integers(0, windows.shape[2], size=share))
        crops = windows[:, tops, lefts].transpose(0, 1)
        chosen.append(split_patches(crops, side).reshape(share, -1))
    return torch.cat(chosen) * 2 - 1


def fit_pca(patches: Tensor, components: int) -> tuple[dict[str, Tensor], float]:
    """Return mean and orthonormal components (float32), and the share of variance they explain."""
    mean = patches.mean(dim=0, dtype=torch.float64)
    centred = (patches - mean).to(torch.float32)
    covariance = (centred.T @ centred).to(torch.float64) / len(patches)
    values, vectors = torch.linalg.eigh(covariance)
    rows = vectors.T.flip(0)[:components]
    # An eigenvector's sign is free: make the largest entry positive.
    rows = rows * rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)).sign()
    explained = float(values.flip(0)[:components].sum() / values.sum())
    weights = {"mean": mean.float(), "components": rows.float().contiguous()}
    return weights, explained


def fit_kmeans(patches: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Return codebook (float16), the patches of each codeword, and the mean squared error a value.

    Lloyd's iteration from random patches; a codeword that nothing chose starts again as one of the
    worst represented patches.
    """
    codebook = patches[torch.randperm(len(patches), generator=generator)[:k]].clone()
    for _ in range(ROUNDS):
        nearest = nearest_codewords(patches, codebook)
        counts = torch.bincount(nearest, minlength=k)
        sums = torch.zeros_like(codebook, dtype=torch.float64)
        sums.index_add_(0, nearest, patches.to(torch.float64))
        dead = counts == 0
        error = (patches - codebook[nearest]).square().sum(dim=1)
        codebook = (sums / counts.clamp(min=1)[:, None]).to(torch.float32)
        codebook[dead] = patches[error.topk(int(dead.sum())).indices]
    # What ships is measured: float16 codewords.
    stored = codebook.to(torch.float16)
    nearest = nearest_codewords(patches, stored.float())
    error = (patches - stored.float()[nearest]).square().mean()
    return stored, torch.bincount(nearest, minlength=k), float(error)


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    # One key only: safetensors writes several in a random order.
    metadata = {"made_by": f"data/weights/fit_patch.py, seed {SEED}, vtbench {__version__}"}
    content = save(tensors, metadata)
    path.write_bytes(content)
    print(f"  {path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images = make_images(rng)
    megapixels = sum(image.shape[2] * image.shape[3] for image in images) / 1e6
    print(f"{len(images)} images, {megapixels:.1f} megapixels")
    for name, (side, components, n) in PCA.items():
        weights, explained = fit_pca(sample_patches(images, side, n, rng), components)
        print(f"patch-pca-{name}: {n:,} patches, {100 * explained:.2f} % of the variance explained")
        write(out / f"patch-pca-{name}.safetensors", weights)
    for name, (side, k, n) in VQ.items():
        codebook, counts, error = fit_kmeans(sample_patches(images, side, n, rng), k, generator)
        share = counts[counts > 0] / n
        perplexity = 2 ** float(-(share * share.log2()).sum())
        print(
            f"patch-vq-{name}: {n:,} patches, PSNR {10 * math.log10(4 / error):.2f} dB, "
            f"{int((counts > 0).sum())} of {k} codewords used, perplexity {perplexity:.0f}"
        )
        write(out / f"patch-vq-{name}.safetensors", {"codebook": codebook})


if __name__ == "__main__":
    main()
