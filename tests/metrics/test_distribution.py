"""Distances between feature sets against the four libraries' own arithmetic, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from vtbench.base.errors import TooFewImages
from vtbench.metrics import distribution
from vtbench.metrics.catalogue import FEATURE_SOURCES, METRICS, SET_METRICS
from vtbench.metrics.distribution import (
    Moments,
    clip_mmd,
    extrapolate_frechet,
    frechet_distance,
    frechet_jackknife,
    inception_score,
    kernel_distance,
    kernel_distances,
    measure_set,
)

Array = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def feature_pair(n: int, dim: int, seed: int = 0) -> tuple[Array, Array]:
    """Return correlated, skewed features of originals and of reconstructions, rectified like
    pool_3's."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(dim, dim)) / math.sqrt(dim)
    reference = random.normal(size=(n, dim)) @ mix + 0.3
    image = reference * 0.9 + 0.2 * random.normal(size=(n, dim)) + 0.05
    return reference.clip(min=0), image.clip(min=0)


@pytest.fixture(scope="module")
def pair() -> tuple[Array, Array]:
    return feature_pair(3000, 48)


def test_frechet_distance_is_the_other_libraries(pair: tuple[Array, Array]) -> None:
    value = frechet_distance(Moments.of(pair[0]), Moments.of(pair[1]))
    assert value > 0.05

    import torch_fidelity.metric_fid as fidelity

    stats = [fidelity.fid_features_to_statistics(torch.from_numpy(side)) for side in pair]
    theirs = fidelity.fid_statistics_to_metric(*stats, verbose=False)
    # Eigenvalues of a non-symmetric product against those of a symmetric one.
    assert value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-9)

    import torchmetrics.image.fid as torchmetrics

    class Given(nn.Module):
        num_features = pair[0].shape[1]

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features

    metric = torchmetrics.FrechetInceptionDistance(feature=Given())
    for side, real in zip(pair, (True, False), strict=True):
        metric.update(torch.from_numpy(side), real=real)
    assert value == pytest.approx(float(metric.compute()), rel=1e-9)

    import scipy.linalg as scipy

    one, two = (np.cov(side, rowvar=False) for side in pair)
    root = scipy.sqrtm(one @ two)  # what pytorch-fid and clean-fid take the trace of
    shift = pair[0].mean(axis=0) - pair[1].mean(axis=0)
    by_root = shift @ shift + np.trace(one + two) - 2 * np.trace(root.real)
    assert value == pytest.approx(by_root, rel=1e-9)

    # The mutant: covariances with n below them, and the mean left out.
    assert abs(by_root - shift @ shift - value) > 1e-3 * value


def test_frechet_distance_of_gaussians_is_known() -> None:
    random = np.random.default_rng(1)
    base = random.normal(size=(500, 3))
    base = (base - base.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T)).T)
    # Unit covariance moved by (3, 0, 4) and stretched twice: 25 + 3·(2 − 1)².
    value = frechet_distance(Moments.of(base), Moments.of(2 * base + np.array([3.0, 0.0, 4.0])))
    assert value == pytest.approx(28.0, rel=1e-12)
    assert frechet_distance(Moments.of(base), Moments.of(base)) == pytest.approx(0, abs=1e-12)


def test_moments_do_not_depend_on_the_way_they_came_in(pair: tuple[Array, Array]) -> None:
    whole = Moments.of(pair[0])
    assert np.allclose(whole.covariance, np.cov(pair[0], rowvar=False), rtol=1e-12, atol=1e-14)
    assert np.allclose(whole.mean, pair[0].mean(axis=0), rtol=1e-13)
    for size in (1, 7, 64):
        parts = Moments(48)
        for start in range(0, 3000, size):
            parts.add(pair[0][start : start + size])
        # float64 sums in another order
        assert np.allclose(parts.covariance, whole.covariance, rtol=1e-9, atol=1e-12)
        other = frechet_distance(parts, Moments.of(pair[1]))
        assert other == pytest.approx(frechet_distance(whole, Moments.of(pair[1])), rel=1e-9)
    halves = Moments.of(pair[0][:1300]) + Moments.of(pair[0][1300:])
    assert np.allclose(halves.covariance, whole.covariance, rtol=1e-12, atol=1e-14)
    without = whole - Moments.of(pair[0][1300:])
    assert without.n == 1300
    assert np.allclose(without.covariance, np.cov(pair[0][:1300], rowvar=False), atol=1e-12)
    # The mutant: moments in float32, as a float32 pipeline would sum them.
    rows = pair[0].astype(np.float32)
    mean = rows.sum(axis=0) / np.float32(3000)
    narrow = (rows.T @ rows - 3000 * np.outer(mean, mean)) / np.float32(2999)
    assert np.abs(narrow - whole.covariance).max() > 1e-8


def test_too_few_images_are_refused() -> None:
    few = Moments.of(feature_pair(48, 48)[0])
    with pytest.raises(TooFewImages, match="at least 49"):
        frechet_distance(few, few)
    enough = Moments.of(feature_pair(49, 48)[0])
    frechet_distance(enough, enough)
    with pytest.raises(TooFewImages, match="of 48 images"):
        frechet_distance(enough, few)
    with pytest.raises(TooFewImages, match="96 are needed"):
        extrapolate_frechet(*feature_pair(95, 48))
    with pytest.raises(TooFewImages):
        kernel_distance(*feature_pair(1, 4))
    with pytest.raises(TooFewImages):
        inception_score(np.zeros((9, 4)))
    assert distribution.warn_few(9_999) is not None
    assert distribution.warn_few(10_000) is None
    with pytest.raises(ValueError, match="no pairs"):
        kernel_distance(np.zeros((8, 4)), np.zeros((9, 4)))


@pytest.mark.slow
def test_kernel_distance_is_the_other_libraries(pair: tuple[Array, Array]) -> None:
    reference, image = pair
    import torch_fidelity.metric_kid as fidelity

    theirs = fidelity.kid_features_to_metric(
        torch.from_numpy(image), torch.from_numpy(reference), kid_subsets=20, verbose=False
    )
    ours = kernel_distance(reference, image, subsets=20)
    # The same subsets, kernels in float64 on both sides.
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours.standard_error is not None

    import torchmetrics.image.kid as torchmetrics

    rows = np.arange(len(image))
    [whole] = kernel_distances(reference, image, iter([(rows, rows)]))
    assert whole == pytest.approx(
        float(torchmetrics.poly_mmd(torch.from_numpy(reference), torch.from_numpy(image))), rel=1e-9
    )
    # Blocks of groups add up to the same.
    value, left = distribution._discrepancy(
        reference, image, distribution._polynomial, groups=7, unbiased=True
    )
    assert value == pytest.approx(whole, rel=1e-9)
    assert len(left) == 7
    keep = rows % 7 != 3
    [alone] = kernel_distances(reference[keep], image[keep], iter([(rows[: keep.sum()],) * 2]))
    assert left[3] == pytest.approx(alone, rel=1e-9)
    # The mutant: with the pairs of an image with itself, which is biased upward.
    biased, _ = distribution._discrepancy(
        reference, image, distribution._polynomial, groups=7, unbiased=False
    )
    assert biased > whole + 1e-4


def test_clip_mmd_is_its_definition() -> None:
    random = np.random.default_rng(5)
    x, y = (random.normal(size=(60, 8)) + shift for shift in (0.0, 0.7))
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))

    def mean(a: Array, b: Array, sigma: float = 10.0) -> float:
        squares = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        return float(np.exp(-squares / (2 * sigma**2)).mean())

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    ours = clip_mmd(x, y)
    assert ours.value == pytest.approx(expected, rel=1e-9)
    assert ours.standard_error is not None and 0 < ours.standard_error < ours.value
    assert clip_mmd(x, x).value == pytest.approx(0, abs=1e-9)
    # The mutant: σ of 1.
    assert abs(1000 * (mean(x, x, 1) + mean(y, y, 1) - 2 * mean(x, y, 1)) - expected) > expected


def test_inception_score_is_the_other_library() -> None:
    random = np.random.default_rng(2)
    logits = 3 * random.normal(size=(1003, 20))
    import torch_fidelity.metric_isc as fidelity

    theirs = fidelity.isc_features_to_metric(torch.from_numpy(logits))
    ours = inception_score(logits)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    spread = theirs["inception_score_std"]
    assert ours.standard_error == pytest.approx(spread / 3, rel=1e-12)  # √(10·9/10) below
    # The mutant: not shuffled.
    plain = fidelity.isc_features_to_metric(torch.from_numpy(logits), shuffle=False)
    assert plain["inception_score_mean"] != pytest.approx(ours.value, rel=1e-6)
    assert inception_score(np.zeros((50, 4))).value == pytest.approx(1.0, rel=1e-12)


@pytest.mark.slow
def test_the_jackknife_tells_how_far_a_distance_strays() -> None:
    """Over many draws of the same populations the spread is about the mean standard error."""
    values, errors, kids, kid_errors = [], [], [], []
    for seed in range(60):
        reference, image = fixed_population(seed)
        fid = frechet_jackknife(reference, image)
        kid = kernel_distance(reference, image, subsets=1, subset_size=len(image))
        assert fid.standard_error is not None and kid.standard_error is not None
        values.append(fid.value)
        errors.append(fid.standard_error)
        kids.append(kid.value)
        kid_errors.append(kid.standard_error)
    # A spread of 60 values is known to a tenth; the jackknife of 10 groups overstates a little.
    assert 0.75 < np.mean(errors) / np.std(values, ddof=1) < 1.5
    assert 0.75 < np.mean(kid_errors) / np.std(kids, ddof=1) < 1.5
    # The mutant: the spread of the groups' values without the (g − 1) of the jackknife.
    assert np.mean(errors) / 9 < 0.5 * np.std(values, ddof=1)


def fixed_population(seed: int, n: int = 240) -> tuple[Array, Array]:
    random = np.random.default_rng(100 + seed)
    reference = random.normal(size=(n, 6)) * np.arange(1, 7)
    return reference, reference + 0.7 * random.normal(size=(n, 6)) + 0.5


def test_the_standard_error_needs_images_left() -> None:
    assert frechet_jackknife(*feature_pair(52, 48)).standard_error is None
    assert frechet_jackknife(*feature_pair(60, 48)).standard_error is not None


def test_extrapolation_takes_the_bias_of_few_images_away() -> None:
    random = np.random.default_rng(11)
    small, large = (
        (random.normal(size=(n, 40)), random.normal(size=(n, 40))) for n in (600, 20_000)
    )
    finite = frechet_distance(*(Moments.of(side) for side in small))
    infinite = extrapolate_frechet(*small)
    assert finite > 1.0  # two samples of one population: the truth is 0
    assert abs(infinite.value) < 0.25 * finite
    assert frechet_distance(*(Moments.of(side) for side in large)) < 0.05 * finite


@pytest.mark.slow
@pytest.mark.parametrize("key", SET_METRICS)
def test_what_float32_features_differ_by_moves_no_distance_by_more_than_its_tolerance(
    key: str,
) -> None:
    """Features of other devices differ by their sums' order: by less than 1e-5 of each (`split_chunks`
    has 5e-6)."""
    metric, random = METRICS[key], np.random.default_rng(1)
    assert metric.tolerance is not None
    reference, image = feature_pair(600, 48)
    sides = [reference, np.concatenate([image, random.normal(size=(600, 1008))], axis=1)]
    if FEATURE_SOURCES[key].distance == "clip-mmd":
        sides = [side[:, :48] / np.linalg.norm(side[:, :48], axis=1)[:, None] for side in sides]
    moved = [side * (1 + 1e-5 * random.normal(size=side.shape)) for side in sides]
    distance = FEATURE_SOURCES[key].distance
    one, other = (
        measure_set(distance, *(side.astype(np.float32) for side in pair), 48, what=key).value
        for pair in (sides, moved)
    )
    assert one != other and other == pytest.approx(one, rel=metric.tolerance)
