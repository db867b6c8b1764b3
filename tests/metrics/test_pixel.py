"""PSNR, SSIM and MS-SSIM against skimage, pytorch-msssim, piq and torchmetrics; and mutants."""

from __future__ import annotations

import numpy as np
import piq
import pytest
import pytorch_msssim
import skimage.data
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from vtbench.images import RGB8, resize, to_float, to_rgb8, to_uint8
from vtbench.metrics import pixel

# skimage, piq and torchmetrics in float64 differ by the order of their sums, magnified by E[x²] − μ².
EXACT = 1e-11
# pytorch-msssim makes its window in float32: wrong by 6e-8 of its sum, magnified in the same way.
SINGLE = 2e-5


def photo(name: str, height: int, width: int, offset: int = 0) -> Tensor:
    """Return a 1×3×H×W uint8 crop of a photo of scikit-image."""
    array: RGB8 = getattr(skimage.data, name)()
    crop = array[offset : offset + height, offset : offset + width]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]


def noisy(image: Tensor, spread: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(-spread, spread + 1, image.shape, generator=generator)
    return (image.to(torch.int16) + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(("name", "height", "width"), [("astronaut", 64, 64), ("coffee", 97, 131)])
def test_psnr_of_luma_is_skimages(name: str, height: int, width: int) -> None:
    original = photo(name, height, width)
    image = noisy(original, 12)
    weights = np.array([0.299, 0.587, 0.114])
    x, y = (to_rgb8(batch)[0].astype(np.float64) @ weights for batch in (original, image))
    expected = peak_signal_noise_ratio(x, y, data_range=255)
    assert float(pixel.psnr_y_db(original, image)[0]) == pytest.approx(expected, abs=EXACT)
    assert float(pixel.psnr_y_db(original, original)[0]) == 100.0
    # The mutant: the mean of the channels is another luma.
    x, y = (to_rgb8(batch)[0].astype(np.float64).mean(axis=2) for batch in (original, image))
    assert abs(expected - peak_signal_noise_ratio(x, y, data_range=255)) > 0.1


def blurred(image: Tensor) -> Tensor:
    small = resize(image / 255.0, (image.shape[2] // 3, image.shape[3] // 3))
    return to_uint8(resize(small, (image.shape[2], image.shape[3])))


def random_image(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def flat(side: int, level: int) -> Tensor:
    return torch.full((1, 3, side, side), level, dtype=torch.uint8)


PAIRS = {
    "photo 64": (photo("astronaut", 64, 64, 100), noisy(photo("astronaut", 64, 64, 100), 12)),
    "photo 256": (photo("astronaut", 256, 256), blurred(photo("astronaut", 256, 256))),
    "photo large": (photo("astronaut", 400, 512), blurred(photo("astronaut", 400, 512))),
    "photo odd": (photo("astronaut", 301, 451), blurred(photo("astronaut", 301, 451))),
    "random 64": (random_image(64, 64, 1), random_image(64, 64, 2)),
    "random 171×200": (random_image(171, 200, 3), noisy(random_image(171, 200, 3), 40)),
    "inverted": (photo("chelsea", 161, 161), 255 - photo("chelsea", 161, 161)),
    "flat": (flat(170, 255), flat(170, 254)),
}
pairs = pytest.mark.parametrize("pair", list(PAIRS.values()), ids=list(PAIRS))


def arrays(pair: tuple[Tensor, Tensor]) -> tuple[RGB8, RGB8]:
    return to_rgb8(pair[0])[0], to_rgb8(pair[1])[0]


@pairs
def test_psnr_is_skimage(pair: tuple[Tensor, Tensor]) -> None:
    reference, image = arrays(pair)
    expected = peak_signal_noise_ratio(reference, image, data_range=255)
    assert pixel.psnr_db(*pair).item() == pytest.approx(expected, abs=EXACT)


@pairs
def test_mse_and_mae_are_numpys(pair: tuple[Tensor, Tensor]) -> None:
    reference, image = (array.astype(np.float64) for array in arrays(pair))
    # Integers below 2⁵³ divided once: exact, so equal.
    assert pixel.mse(*pair).item() == mean_squared_error(reference, image)
    assert pixel.mae(*pair).item() == np.abs(reference - image).mean()
    assert torch.equal(pixel.psnr_of_mse(pixel.mse(*pair)), pixel.psnr_db(*pair))
    # Mutant: uint8 differences wrap around.
    wrapped = (pair[0] - pair[1]).double().mean().item()
    if not torch.equal(pair[0].maximum(pair[1]), pair[0]):
        assert wrapped > 1.2 * pixel.mae(*pair).item()


@pairs
def test_ssim_is_skimage(pair: tuple[Tensor, Tensor]) -> None:
    reference, image = arrays(pair)
    _, full = structural_similarity(
        reference.astype(np.float64),
        image.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        truncate=3.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
        full=True,
    )
    value = pixel.ssim(*pair)
    assert value is not None
    assert value.item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=EXACT)


@pytest.mark.slow
@pairs
def test_ssim_is_pytorch_msssim_piq_torchmetrics(pair: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds

    x, y = (image.to(torch.float64) for image in pair)
    value = pixel.ssim(*pair)
    assert value is not None
    # torchmetrics 1.9 averages over a reflected border, too; its map without that is the same.
    _, full = structural_similarity_index_measure(
        x, y, data_range=255.0, sigma=1.5, return_full_image=True
    )
    others = {
        "pytorch-msssim": (pytorch_msssim.ssim(x, y, data_range=255, size_average=True), SINGLE),
        "piq": (piq.ssim(x, y, data_range=255.0, downsample=False), EXACT),
        "torchmetrics, valid region": (full[..., 5:-5, 5:-5].mean(), EXACT),
    }
    for name, (other, tolerance) in others.items():
        assert value.item() == pytest.approx(float(other), abs=tolerance), name


@pairs
def test_ms_ssim_is_pytorch_msssim(pair: tuple[Tensor, Tensor]) -> None:
    value = pixel.ms_ssim(*pair)
    if min(pair[0].shape[2:]) <= 160:
        assert value is None
        return
    assert value is not None
    x, y = (image.to(torch.float64) for image in pair)
    expected = float(pytorch_msssim.ms_ssim(x, y, data_range=255, size_average=True))
    assert value.item() == pytest.approx(expected, abs=SINGLE)


@pairs
def test_one_pass_gives_the_same_as_two(pair: tuple[Tensor, Tensor]) -> None:
    both = pixel.ssim_and_ms_ssim(*pair)
    for one, other in zip(both, (pixel.ssim(*pair), pixel.ms_ssim(*pair)), strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)


def test_identical_images_score_exactly_the_best() -> None:
    image = photo("astronaut", 200, 256)
    assert pixel.psnr_db(image, image).item() == pixel.PSNR_CAP_DB
    ssim, ms_ssim = pixel.ssim_and_ms_ssim(image, image)
    assert ssim is not None and ms_ssim is not None
    assert ssim.item() == 1.0
    assert ms_ssim.item() == 1.0


def test_psnr_by_hand_and_at_the_cap() -> None:
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert pixel.psnr_db(black, black + 255).item() == 0.0
    assert pixel.psnr_db(black, black + 1).item() == pytest.approx(48.1308036087, abs=1e-9)
    wide = torch.zeros(1, 3, 1024, 1024, dtype=torch.uint8)
    almost = wide.clone()
    almost[0, 0, 0, 0] = 1  # 113 dB
    assert pixel.psnr_db(wide, almost).item() == pixel.PSNR_CAP_DB


def test_values_do_not_depend_on_the_batch() -> None:
    image = torch.cat([photo("astronaut", 200, 180, offset) for offset in (0, 90, 300)])
    other = torch.cat([noisy(image[:1], 3), blurred(image[1:2]), image[2:]])
    for metric in (pixel.psnr_db, pixel.mse, pixel.mae, pixel.ssim, pixel.ms_ssim):
        batch = metric(image, other)
        alone = [metric(image[i : i + 1], other[i : i + 1]) for i in range(3)]
        assert batch is not None and batch.shape == (3,) and batch.dtype == torch.float64
        assert torch.equal(batch, torch.cat([value for value in alone if value is not None]))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(161, 170), (64, 43)])
def test_images_side_by_side_score_as_alone(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's arithmetic on the CPU, float64 too: 1e-12 for the order of sums, at any batch size."""
    image = torch.cat([random_image(*shape, seed) for seed in range(6)])
    image[1] = 0  # flat: where float32 is off by 1e-4
    other = image.clone()
    other[..., ::3] = 255 - other[..., ::3] // 2
    other[1] = 1
    scales = 5 if min(shape) >= pixel.MS_SSIM_MIN_SIDE else 1
    alone = torch.stack(
        [
            pixel._of_images(x[None], y[None], scales=scales)[0]
            for x, y in zip(image, other, strict=True)
        ]
    )
    monkeypatch.setattr(pixel, "_sum_planes", pixel._sum_slab)  # as on a device
    for size in (1, 4, 6):
        parts = zip(image.split(size), other.split(size), strict=True)
        found = torch.cat([pixel._of_images(x, y, scales=scales) for x, y in parts])
        assert (found - alone).abs().max() < 1e-12
    same = pixel._of_images(image, image, scales=scales)
    assert torch.equal(same, torch.ones(6, 2, dtype=torch.float64))


def test_small_images_have_no_ssim() -> None:
    tall = random_image(200, 10, 0)
    assert pixel.ssim_and_ms_ssim(tall, tall) == (None, None)
    least = random_image(11, 12, 0)
    assert pixel.ssim(least, least) is not None
    assert pixel.ms_ssim(random_image(160, 300, 0), random_image(160, 300, 1)) is None
    assert pixel.ms_ssim(random_image(161, 161, 0), random_image(161, 161, 1)) is not None


def test_slabs_side_by_side_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    original = photo("astronaut", 400, 512)
    assert original[0, 0].numel() > 1.2 * pixel._SEVERAL
    together = pixel.ssim_and_ms_ssim(original, blurred(original))
    monkeypatch.setattr(pixel, "_open_pool", None)  # calling it would fail
    monkeypatch.setattr(pixel, "_SEVERAL", 10**9)
    alone = pixel.ssim_and_ms_ssim(original, blurred(original))
    assert [value.tolist() for value in together] == [value.tolist() for value in alone]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (random_image(64, 63, 0), "never resize"),
        (random_image(64, 64, 0).to(torch.float32), "torch.float32"),
        (random_image(64, 64, 0)[:, :1], "N×3×H×W"),
        (random_image(64, 64, 0)[0], "N×3×H×W"),
    ],
)
def test_other_shapes_and_dtypes_are_refused(other: Tensor, words: str) -> None:
    image = random_image(64, 64, 0)
    for metric in (pixel.psnr_db, pixel.mae, pixel.ssim, pixel.ssim_and_ms_ssim):
        with pytest.raises(ValueError, match=words):
            metric(image, other)


def test_float32_is_not_enough_where_the_image_is_flat() -> None:
    # Why ours is float64: E[x²] − E[x]² of a white page is noise beside C2.
    x, y = (image.to(torch.float32) for image in PAIRS["flat"])
    expected = (2 * 255 * 254 + 0.01**2 * 255**2) / (255**2 + 254**2 + 0.01**2 * 255**2)
    value = pixel.ssim(*PAIRS["flat"])
    assert value is not None and value.item() == pytest.approx(expected, abs=EXACT)
    assert abs(float(pytorch_msssim.ssim(x, y, data_range=255)) - expected) > SINGLE


def test_it_works_on_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, threads, means = PAIRS["photo 64"], torch.get_num_threads(), pixel._means
    seen = []

    def spy(s: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(torch.get_num_threads())
        return means(s, d)

    monkeypatch.setattr(pixel, "_means", spy)
    try:
        torch.set_num_threads(2)
        pixel.ssim(*pair)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)


# Mutants: what other benchmarks did. Each check that ours passes must catch them.


def test_truncation_is_not_rounding() -> None:
    original = photo("astronaut", 128, 128)
    # Float noise of a decoder that is almost perfect: rounding gives the image back, exactly.
    decoded = to_float(to_rgb8(original)) - 1e-4
    truncated = (decoded.clamp(0, 1) * 255).to(torch.uint8)
    assert pixel.psnr_db(original, to_uint8(decoded)).item() == pixel.PSNR_CAP_DB
    assert pixel.psnr_db(original, truncated).item() < 49
    # A decoder at 40 dB loses measurably to the bias, too.
    generator = torch.Generator().manual_seed(0)
    soft = to_float(to_rgb8(original)) + torch.randn(original.shape, generator=generator) * 0.01
    lost = pixel.psnr_db(original, to_uint8(soft)) - pixel.psnr_db(
        original, (soft.clamp(0, 1) * 255).to(torch.uint8)
    )
    assert lost.item() > 0.1


def test_a_data_range_off_by_two_shows() -> None:
    x, y = PAIRS["photo 256"]
    reference, image = arrays((x, y))
    wrong = peak_signal_noise_ratio(reference, image, data_range=127.5)  # [−1, 1] taken for [0, 1]
    assert pixel.psnr_db(x, y).item() - wrong == pytest.approx(20 * np.log10(2), abs=1e-9)
    ssim = pixel.ssim(x, y)
    mutant = pytorch_msssim.ssim(x.double(), y.double(), data_range=127.5, size_average=True)
    assert ssim is not None
    assert abs(ssim.item() - float(mutant)) > 50 * SINGLE


def test_psnr_is_not_pooled_over_the_batch() -> None:
    image = torch.cat([photo("astronaut", 64, 64), photo("chelsea", 64, 64)])
    other = torch.cat([noisy(image[:1], 40), noisy(image[1:], 2)])
    mse = (image.double() - other.double()).square().mean()
    pooled = 10 * torch.log10(255**2 / mse)
    assert pixel.psnr_db(image, other).mean().item() - pooled.item() > 3


def test_a_squash_before_the_metric_shows() -> None:
    # Stripes of one pixel, and the gray that a tokenizer made of them.
    stripes = torch.zeros(1, 3, 512, 512, dtype=torch.uint8)
    stripes[..., ::2] = 255
    gray = torch.full_like(stripes, 128)
    small = [to_uint8(resize(image / 255.0, (256, 256))) for image in (stripes, gray)]
    ours, squashed = pixel.ssim(stripes, gray), pixel.ssim(small[0], small[1])
    assert ours is not None and squashed is not None
    assert ours.item() < 0.01
    assert squashed.item() > 0.9
    assert pixel.psnr_db(small[0], small[1]).item() - pixel.psnr_db(stripes, gray).item() > 20


def test_the_window_is_the_gaussian() -> None:
    reference, image = arrays(PAIRS["photo 256"])
    uniform = structural_similarity(reference, image, data_range=255, channel_axis=2)
    value = pixel.ssim(*PAIRS["photo 256"])
    assert value is not None and abs(value.item() - uniform) > 50 * SINGLE
