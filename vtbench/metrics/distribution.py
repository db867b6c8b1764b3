"""Distances between two sets of features, in float64 whatever came in. Imports no torch.

Features are n×d arrays, one row an image; row i of both sides is the same image, original and
reconstruction, where a standard error is asked for: they leave the jackknife together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtbench.base.errors import TooFewImages

Array = NDArray[np.float64]
Features = NDArray[np.float32] | NDArray[np.float64]

SEED = 2020
"""Of every random choice here: torch-fidelity's default, so that its subsets are ours."""

ROWS = 1000
"""Rows that are added to the moments together. It is fixed, so sums do not depend on batches."""

FEW_IMAGES = 10_000
"""Below this many images a Fréchet distance carries a warning."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error (None where it was not asked for)."""

    value: float
    standard_error: float | None = None


# Fréchet distance


class Moments:
    """n, Σx and Σxxᵀ of features in float64, added to as they come and merged by +.

    The mean is d values, the covariance d×d with n − 1 below it, as numpy.cov.
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.total: Array = np.zeros(dim)
        self.products: Array = np.zeros((dim, dim))

    @classmethod
    def of(cls, features: Features, rows: NDArray[np.int64] | None = None) -> Moments:
        """Return the moments of an array, which may be mapped from disk, or of some of its rows."""
        moments = cls(features.shape[1])
        for start in range(0, len(features) if rows is None else len(rows), ROWS):
            part = slice(start, start + ROWS)
            moments.add(features[part] if rows is None else features[rows[part]])
        return moments

    def add(self, features: Features) -> None:
        """Add the rows of an n×d array."""
        rows = np.asarray(features, dtype=np.float64)
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self.products += rows.T @ rows

    def __add__(self, other: Moments) -> Moments:
        return self._with(other, 1)

    def __sub__(self, other: Moments) -> Moments:
        """Return the moments without a part that was added."""
        return self._with(other, -1)

    def _with(self, other: Moments, sign: int) -> Moments:
        merged = Moments(len(self.total))
        merged.n = self.n + sign * other.n
        merged.total = self.total + sign * other.total
        merged.products = self.products + sign * other.products
        return merged

    @property
    def mean(self) -> Array:
        """The mean of the features."""
        return self.total / self.n

    @property
    def covariance(self) -> Array:
        """The covariance, unbiased."""
        covariance: Array = (self.products - self.n * np.outer(self.mean, self.mean)) / (self.n - 1)
        return covariance


def require_images(n: int, dim: int, what: str) -> None:
    """Raise TooFewImages unless n > dim: else the covariance is singular and the distance is of the
    sample's size, not of the images."""
    if n <= dim:
        raise TooFewImages(
            f"{what} of {n} images is refused: its {dim} features need more images than that "
            f"(at least {dim + 1}, better {FEW_IMAGES:,}); KID and CMMD take fewer"
        )


def warn_few(n: int) -> str | None:
    """Return what must be said beside a Fréchet distance of n images, None from FEW_IMAGES on."""
    if n >= FEW_IMAGES:
        return None
    return f"from {n:,} images: biased upward, comparable at this n alone"


def frechet_distance(reference: Moments, image: Moments, *, what: str = "FID") -> float:
    """Return |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), ≥ 0 (Heusel et al., NeurIPS 2017).

    The trace of the root is Σ√λ of the symmetric Σ₁^½ Σ₂ Σ₁^½, whose eigenvalues are those of Σ₁Σ₂:
    no complex parts and no iteration that may fail. Raises TooFewImages for n ≤ d on a side.
    """
    for side in (reference, image):
        require_images(side.n, len(side.total), what)
    return _frechet(reference, image)


def _frechet(reference: Moments, image: Moments) -> float:
    one, two = reference.covariance, image.covariance
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = root @ two @ root
    shared = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0))
    difference = reference.mean - image.mean
    distance = difference @ difference + np.trace(one) + np.trace(two) - 2 * shared.sum()
    return max(float(distance), 0.0)


def frechet_jackknife(
    reference: Features, image: Features, *, groups: int = 10, what: str = "FID"
) -> Estimate:
    """Return the Fréchet distance with its delete-one-group jackknife standard error.

    Row i goes into group i mod `groups`, on both sides. Costs `groups` further pairs of eigenvalue
    problems of size d (3 s each for d = 2048 on one core). Raises TooFewImages for n ≤ d; no standard
    error where n less one group is not above d.
    """
    n, dim = _require_pairs(reference, image), image.shape[1]
    whole = Moments.of(reference), Moments.of(image)
    value = frechet_distance(*whole, what=what)
    if n - -(-n // groups) <= dim:
        return Estimate(value)
    left = []
    for group in range(groups):
        without = [
            side - Moments.of(rows[group::groups])
            for side, rows in zip(whole, (reference, image), strict=True)
        ]
        left.append(_frechet(*without))
    return Estimate(value, _jackknife_error(left))


def _require_pairs(reference: Features, image: Features) -> int:
    if reference.shape != image.shape:
        raise ValueError(f"features of {reference.shape} and {image.shape} are no pairs")
    return len(image)


def _jackknife_error(left: list[float]) -> float:
    mean = math.fsum(left) / len(left)
    return math.sqrt((len(left) - 1) / len(left) * math.fsum((v - mean) ** 2 for v in left))


def extrapolate_frechet(
    reference: Features, image: Features, *, points: int = 8, seed: int = SEED, what: str = "FID"
) -> Estimate:
    """Return the Fréchet distance at infinite n: the intercept of a straight line through the
    distances of random subsets against 1/n, with the intercept's standard error of regression.

    After Chong and Forsyth (CVPR 2020), who draw one side; here both sides are samples of the same
    images and are drawn together. Sizes are even between half of n (or d + 1) and n. Costs `points`
    pairs of eigenvalue problems. Raises TooFewImages below 2d images, where the line is too short.
    """
    n, dim = _require_pairs(reference, image), image.shape[1]
    if n < 2 * dim:
        raise TooFewImages(
            f"{what} at infinite n from {n} images is refused: at least {2 * dim} are needed"
        )
    random = np.random.RandomState(seed)
    sizes = np.linspace(max(n // 2, dim + 1), n, points).astype(int)
    distances = []
    for size in sizes:
        chosen = np.sort(random.choice(n, size, replace=False))
        distances.append(_frechet(Moments.of(reference, chosen), Moments.of(image, chosen)))
    x, y = 1.0 / sizes, np.array(distances)
    spread = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    intercept = float(y.mean() - slope * x.mean())
    noise = float(((y - intercept - slope * x) ** 2).sum()) / (points - 2)
    return Estimate(intercept, math.sqrt(noise * (1 / points + float(x.mean()) ** 2 / spread)))


# Kernel distances

_Kernel = Callable[[Array, Array], Array]


def _polynomial(x: Array, y: Array) -> Array:
    base: Array = x @ y.T / x.shape[1] + 1.0
    return base * base * base  # numpy's power is many times slower


def kernel_distance(
    reference: Features,
    image: Features,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = SEED,
    groups: int = 20,
) -> Estimate:
    """Return KID: the squared maximum mean discrepancy under (x·y/d + 1)³, unbiased, the mean over
    random subsets (Bińkowski et al., ICLR 2018). Can be below 0.

    Subsets are torch-fidelity's: RandomState(2020), the reconstructions first. subset_size is cut to
    n. The standard error joins two parts: the delete-one-group jackknife of the distance of all n
    images, which costs 2n²d multiplications, and what the choice of subsets adds.
    The field's "±" is another number: the spread of the subsets. Raises TooFewImages below 2.
    """
    size = min(subset_size, _require_pairs(reference, image))
    if size < 2:
        raise TooFewImages(f"KID of {size} images is refused: it needs two")
    random = np.random.RandomState(seed)
    draws = (
        (random.choice(len(image), size, replace=False), random.choice(len(image), size, False))
        for _ in range(subsets)
    )
    values = kernel_distances(reference, image, draws)
    sampling = float(np.var(values)) / subsets if size < len(image) else 0.0
    error = None
    if len(image) >= 2 * groups:
        _, left = _discrepancy(reference, image, _polynomial, groups=groups, unbiased=True)
        error = math.sqrt(_jackknife_error(left) ** 2 + sampling)
    return Estimate(math.fsum(values) / subsets, error)


def kernel_distances(
    reference: Features,
    image: Features,
    draws: Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[float]:
    """Return KID of each pair of subsets: row numbers of `image` and of `reference`."""
    values = []
    for of_image, of_reference in draws:
        x, y = (
            np.asarray(side[np.sort(rows)], dtype=np.float64)  # sorted: the sum is of a set
            for side, rows in ((image, of_image), (reference, of_reference))
        )
        m, k_xx, k_yy = len(x), _polynomial(x, x), _polynomial(y, y)
        same = k_xx.sum() - np.trace(k_xx) + k_yy.sum() - np.trace(k_yy)
        values.append(float(same / (m * (m - 1)) - 2 * _polynomial(x, y).sum() / (m * m)))
    return values


def clip_mmd(
    reference: Features, image: Features, *, sigma: float = 10.0, groups: int = 20
) -> Estimate:
    """Return CMMD: 1000 times the squared maximum mean discrepancy under exp(−|x − y|²/2σ²), biased,
    of unit-length CLIP embeddings of all n images (Jayasumana et al., CVPR 2024; google-research).

    The standard error is the delete-one-group jackknife's. Costs 2n²d multiplications.
    """

    def gaussian(x: Array, y: Array) -> Array:
        squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T
        kernel: Array = np.exp(-squares / (2 * sigma**2))
        return kernel

    if len(image) < 1:
        raise TooFewImages("CMMD of 0 images is refused")
    value, left = _discrepancy(reference, image, gaussian, groups=groups, unbiased=False)
    error = _jackknife_error(left) if len(image) >= 2 * groups else None
    return Estimate(1000 * value, 1000 * error if error is not None else None)


def _discrepancy(
    reference: Features, image: Features, kernel: _Kernel, *, groups: int, unbiased: bool
) -> tuple[float, list[float]]:
    """Return the squared maximum mean discrepancy of all rows, and without each group (i mod groups).

    unbiased: without the pairs of an image with itself. Memory is (n / groups)², not n².
    """
    n = _require_pairs(reference, image)
    groups = min(groups, n)
    sums = np.zeros((3, groups, groups))  # of the kernel over image², reference², image×reference
    same, counts = np.zeros((2, groups)), np.zeros(groups)
    for a in range(groups):
        x_a, y_a = (np.asarray(side[a::groups], dtype=np.float64) for side in (image, reference))
        counts[a] = len(x_a)
        for b in range(groups):
            x_b, y_b = (np.asarray(side[b::groups], np.float64) for side in (image, reference))
            sums[2, a, b] = kernel(x_a, y_b).sum()
            for side, (one, other) in enumerate(((x_a, x_b), (y_a, y_b))):
                if b < a:
                    sums[side, a, b] = sums[side, b, a]
                    continue
                values = kernel(one, other)
                sums[side, a, b] = values.sum()
                if a == b:
                    same[side, a] = np.trace(values)

    def of(keep: NDArray[np.bool_]) -> float:
        m = counts[keep].sum()
        xx, yy, xy = sums[:, keep][:, :, keep].sum(axis=(1, 2))
        if not unbiased:
            return float((xx + yy - 2 * xy) / (m * m))
        apart = xx + yy - same[:, keep].sum()
        return float(apart / (m * (m - 1)) - 2 * xy / (m * m))

    every = np.ones(groups, dtype=bool)
    if groups < 2:
        return of(every), []
    return of(every), [of(np.arange(groups) != group) for group in range(groups)]


# Inception Score


def inception_score(logits: Features, *, splits: int = 10, seed: int = SEED) -> Estimate:
    """Return exp of the mean Kullback–Leibler divergence of p(class|image) from its mean over a
    split, averaged over splits of the shuffled images (Salimans et al., NeurIPS 2016).

    logits: n×1008 without the bias. Shuffled and split as torch-fidelity does. The standard error is
    that of a mean of `splits` values; the field's "±" is their spread. Raises TooFewImages where a
    split would be empty.
    """
    n = len(logits)
    if n < splits:
        raise TooFewImages(f"Inception Score of {n} images is refused: {splits} splits need more")
    order = np.random.RandomState(seed).permutation(n)
    scores = []
    for split in range(splits):
        rows = order[split * n // splits : (split + 1) * n // splits]
        x = np.asarray(logits[np.sort(rows)], dtype=np.float64)
        x = x - x.max(axis=1, keepdims=True)
        log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        scores.append(math.exp((p * (log_p - np.log(p.mean(axis=0)))).sum(axis=1).mean()))
    error = float(np.std(scores, ddof=1)) / math.sqrt(splits)
    return Estimate(math.fsum(scores) / splits, error)


def measure_set(
    distance: str, reference: Features, image: Features, dim: int, *, what: str
) -> Estimate:
    """Return a distance between two paired sets of features.

    Args:
        distance: as in `catalogue.FeatureSource`.
        reference: n×dim, of the originals.
        image: n×width, of the reconstructions: `dim` features, the others logits.
        dim: the number of features.
        what: the metric's label, for messages.

    Raises:
        TooFewImages: n is not above dim, for a Fréchet distance.
        ValueError: the features have NaN or infinite values.
    """
    logits, image = image[:, dim:], image[:, :dim]
    for side in (reference, image):
        for start in range(0, len(side), ROWS):
            if not np.isfinite(side[start : start + ROWS]).all():
                raise ValueError("the features have NaN or infinite values")
    measures: dict[str, Callable[[], Estimate]] = {
        "frechet": lambda: Estimate(
            frechet_distance(Moments.of(reference), Moments.of(image), what=what)
        ),
        "frechet-jackknife": lambda: frechet_jackknife(reference, image, what=what),
        "frechet-limit": lambda: extrapolate_frechet(reference, image, what=what),
        "kernel": lambda: kernel_distance(reference, image),
        "clip-mmd": lambda: clip_mmd(reference, image),
        "inception-score": lambda: inception_score(logits),
    }
    return measures[distance]()
