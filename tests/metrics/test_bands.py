"""Energy lost and invented by octave: blur, noise, both, and what adds up."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import add_noise, blur, jpeg, texture, to_levels
from numpy.typing import NDArray

from vtbench.images import RGB8
from vtbench.metrics.bands import OCTAVES, SEGMENT, Bands, measure_bands, measure_blur

TEXTURES = ("brick", "grass", "gravel")


def ring_of(octave: int) -> NDArray[np.bool_]:
    """Return which coefficients of a 512×512 transform are in an octave."""
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(512)] * 2))
    low, high = OCTAVES[octave]
    return (radius >= low) & (radius < high)


RING_SHARES = np.array([ring_of(octave).mean() for octave in range(len(OCTAVES))])


def bands_of(reference: RGB8, image: RGB8) -> Bands:
    bands = measure_bands(reference, image)
    assert bands is not None
    return bands


@pytest.mark.parametrize("name", TEXTURES)
def test_blur_loses_and_invents_nothing(name: str) -> None:
    pixels = texture(name)
    lost = []
    for sigma in (0.7, 1.0, 2.0):
        bands = bands_of(pixels, blur(pixels, sigma))
        # What a cell of 1/16 cycles per pixel makes of a transfer that is not flat in it.
        assert (bands.invented / bands.original).max() < 0.02
        lost.append(bands.lost / bands.original)
    assert (np.diff(lost, axis=0) > 0).all()  # more of every octave with every σ
    assert (np.diff(lost, axis=1) > 0).all()  # and more of the finer octaves


def test_the_loss_of_a_blur_is_one_minus_its_squared_transfer() -> None:
    # White noise has the same energy at each frequency of a band: the mean over the ring is theory.
    random = np.random.default_rng(0)
    pixels = to_levels(np.repeat(random.normal(127.5, 30, (512, 512, 1)), 3, axis=2))
    bands = bands_of(pixels, blur(pixels, 1.0))
    alias = np.exp(-2 * (np.pi * (np.abs(np.fft.fftfreq(512)) - 1)) ** 2)
    line = np.exp(-2 * (np.pi * np.fft.fftfreq(512)) ** 2) + alias
    kept = np.outer(line, line) ** 2
    for octave in range(len(OCTAVES)):
        ring = ring_of(octave)
        expected = 1 - kept[ring].mean()
        # One picture of noise: its lowest ring has few coefficients.
        assert bands.lost[octave] / bands.original[octave] == pytest.approx(expected, abs=0.015)
        # Three standard deviations of half the ring's coefficients, which are independent; the
        # windows see the picture's border less than its middle: 1 %.
        tolerance = 3 / np.sqrt(ring.sum() / 2) + 0.01
        energy = pixels[..., 0].var() * RING_SHARES[octave]
        assert bands.original[octave] == pytest.approx(energy, rel=tolerance)


@pytest.mark.parametrize("name", TEXTURES)
def test_noise_invents_and_loses_nothing(name: str) -> None:
    pixels = texture(name)
    before = 0.0
    for deviation in (4.0, 8.0, 16.0):
        bands = bands_of(pixels, add_noise(pixels, deviation))
        # The noise's share of each octave's part of the frequency plane. What it happens to have in
        # common with the picture's own energy is seen as a gain: some permille of that energy.
        noise = deviation**2 * RING_SHARES
        excess = np.abs(bands.invented - noise) - 0.06 * noise
        assert (excess < np.array([0.01, 0.01, 0.003, 0.003]) * bands.original).all()
        assert (bands.lost < 0.01 * bands.original + 0.03 * noise).all()
        assert (bands.invented > before).all()
        before = bands.invented
    both = bands_of(pixels, add_noise(blur(pixels, 2.0), 8.0))
    blurred = bands_of(pixels, blur(pixels, 2.0))
    fine = slice(2, None)
    assert both.lost[fine] == pytest.approx(blurred.lost[fine], rel=0.05)
    assert both.invented[fine].sum() > 20 * blurred.invented[fine].sum()


@pytest.mark.slow
def test_energies_add_up_and_sharpening_is_invention() -> None:
    pixels = texture("gravel")
    sharper = to_levels(128 + 1.2 * (pixels.astype(np.float64) - 128))
    for image in (jpeg(pixels, 10), blur(pixels, 1), sharper, np.roll(pixels, 3, axis=1)):
        bands = bands_of(pixels, image)
        own = bands_of(image, image)
        output = bands.original - bands.lost + bands.invented
        assert output == pytest.approx(own.original, rel=1e-9)
    bands = bands_of(pixels, sharper)
    assert bands.lost.max() < 0.02 * bands.original.min()
    assert bands.invented / bands.original == pytest.approx(np.full(4, 1.2**2 - 1), abs=0.02)
    same = bands_of(pixels, pixels)
    assert not same.lost.any() and not same.invented.any() and not same.error.any()


def test_jpeg_loses_more_and_more() -> None:
    pixels = texture("coffee")
    shares = []
    for quality in (90, 50, 20, 5):
        bands = bands_of(pixels, jpeg(pixels, quality))
        shares.append((bands.lost / bands.original)[1:])
    assert (np.diff(shares, axis=0) > 0).all()


def test_one_gain_for_a_whole_octave_would_call_blur_invention() -> None:
    """The mutant: one real gain an octave over the picture."""
    pixels = texture("grass").astype(np.float64)[..., 0]
    image = blur(texture("grass"), 1.0).astype(np.float64)[..., 0]
    x, y = np.fft.fft2(pixels), np.fft.fft2(image)
    ring = ring_of(2)
    energy = (np.abs(x[ring]) ** 2).sum()
    gain = (x[ring].conj() * y[ring]).real.sum() / energy
    residual = (np.abs(y[ring] - gain * x[ring]) ** 2).sum() / energy
    bands = bands_of(texture("grass"), blur(texture("grass"), 1.0))
    assert residual > 3 * bands.invented[2] / bands.original[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TEXTURES, "coffee"])
def test_the_blur_is_the_sigma_that_made_it(name: str) -> None:
    pixels = texture(name)
    assert measure_blur(pixels, pixels) == 0.0
    for sigma in (0.7, 1.0, 1.5, 2.0, 3.0):
        # A sampled gaussian of σ 0.7 is wider in frequency than the continuous one by 1 %.
        assert measure_blur(pixels, blur(pixels, sigma)) == pytest.approx(sigma, rel=0.05)
    assert measure_blur(pixels, add_noise(blur(pixels, 2.0), 4)) == pytest.approx(2.0, rel=0.05)
    assert measure_blur(pixels, add_noise(pixels, 8)) == pytest.approx(0, abs=0.1)


def test_what_is_too_small_or_no_pair() -> None:
    small = texture("brick")[: SEGMENT - 1]
    assert measure_bands(small, small) is None and measure_blur(small, small) is None
    odd = texture("brick")[:SEGMENT, : SEGMENT + 37]
    assert measure_bands(odd, odd) is not None
    with pytest.raises(ValueError, match="one size"):
        measure_bands(odd, small)
    with pytest.raises(ValueError, match="uint8"):
        measure_blur(odd, odd / 255)  # type: ignore[arg-type]
    flat = np.full((SEGMENT, SEGMENT, 3), 7, dtype=np.uint8)
    assert measure_blur(flat, flat) == 0.0
    assert bands_of(flat, flat).original.sum() == pytest.approx(0, abs=1e-12)
