"""HaarPSI against its authors' values and piq; and mutants."""

from __future__ import annotations

import piq
import pytest
import skimage.data
import torch
from torch import Tensor

from vtbench.metrics import haar_similarity as module
from vtbench.metrics.haar_similarity import MIN_SIDE, haarpsi

# Sums in another order; the final logarithm of s / (1 − s) magnifies by no more than 30.
EXACT = 1e-12
# piq has the YIQ matrix to four digits, the authors to three.
OTHER_MATRIX = 2e-4


def photo(height: int, width: int) -> Tensor:
    return torch.from_numpy(skimage.data.astronaut()[:height, :width].copy()).permute(2, 0, 1)[None]


def noise(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def noisy(image: Tensor, spread: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    added = torch.randint(-spread, spread + 1, image.shape, generator=generator)
    return (image.to(torch.int16) + added).clamp(0, 255).to(torch.uint8)


PAIRS = {
    "photo 16": (photo(16, 16), noisy(photo(16, 16), 40)),
    "photo 17×33": (photo(17, 33), noisy(photo(17, 33), 40)),
    "photo 64": (photo(64, 64), noisy(photo(64, 64), 12)),
    "photo 301×451": (photo(301, 451), noisy(photo(301, 451), 60)),
    "photo 200×155": (photo(200, 155), noisy(photo(200, 155), 5)),
    "inverted": (photo(128, 128), 255 - photo(128, 128)),
    "hue": (photo(128, 128), photo(128, 128)[:, [2, 0, 1]]),
    "random": (noise(90, 70, 1), noise(90, 70, 2)),
}
pairs = pytest.mark.parametrize("name", list(PAIRS))

GOLDEN = {
    "photo 16": 0.830717292917105,
    "photo 17×33": 0.7897406649210459,
    "photo 64": 0.9506808152423082,
    "photo 301×451": 0.6075033170240639,
    "photo 200×155": 0.9875889727590554,
    "inverted": 0.7973216176769569,
    "hue": 0.6626708994060275,
    "random": 0.43757493031215,
}
"""Of haar_psi(..., preprocess_with_subsampling=True) in haarPsi.py of rgcda/haarpsi, commit
2c2793108477deb81971658a7666d5f85ba2587b, under NumPy 2.4 and SciPy 1.17."""


@pairs
def test_it_is_the_authors_code(name: str) -> None:
    value = haarpsi(*PAIRS[name])
    assert value is not None and value.dtype == torch.float64
    assert value.item() == pytest.approx(GOLDEN[name], abs=EXACT)


@pairs
def test_it_is_piq_with_the_authors_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = PAIRS[name]
    if (x.shape[2] - x.shape[3]) % 2:  # piq pads both sides where one of them is odd
        x, y = x[..., 1:], y[..., 1:]
    value = haarpsi(x, y)
    assert value is not None
    theirs = piq.haarpsi(x.double(), y.double(), data_range=255.0)
    assert value.item() == pytest.approx(float(theirs), abs=OTHER_MATRIX)
    matrix = torch.tensor(module._YIQ, dtype=torch.float64)
    monkeypatch.setitem(
        piq.haarpsi.__globals__, "rgb2yiq", lambda v: torch.einsum("ij,njhw->nihw", matrix, v)
    )
    theirs = piq.haarpsi(x.double(), y.double(), data_range=255.0)
    assert value.item() == pytest.approx(float(theirs), abs=EXACT)


def test_identical_images_score_one_and_others_less() -> None:
    image = photo(65, 50)
    black = torch.zeros_like(image)
    for same in (image, black, black + 255):
        value = haarpsi(same, same)
        assert value is not None and value.item() == 1.0
    almost = image.clone()
    almost[0, 0, 20, 20] += 40
    value = haarpsi(image, almost)
    assert value is not None and 0.9 < value.item() < 1.0
    # Black has no weights of its own; the other image's are taken.
    value = haarpsi(black, image)
    assert value is not None and 0.0 <= value.item() < 0.5


def test_small_images_have_none() -> None:
    assert haarpsi(noise(MIN_SIDE - 1, 40, 0), noise(MIN_SIDE - 1, 40, 1)) is None
    assert haarpsi(noise(40, MIN_SIDE, 0), noise(40, MIN_SIDE, 1)) is not None
    with pytest.raises(ValueError, match="uint8"):
        haarpsi(noise(32, 32, 0), noise(32, 32, 0).double())
    with pytest.raises(ValueError, match="never resize"):
        haarpsi(noise(32, 32, 0), noise(32, 33, 0))


def test_values_do_not_depend_on_the_batch() -> None:
    image = torch.cat([photo(60, 41), noise(60, 41, 5), photo(60, 41).flip(3)])
    other = noisy(image, 25)
    batch = haarpsi(image, other)
    assert batch is not None and batch.shape == (3,)
    for index in range(3):
        alone = haarpsi(image[index : index + 1], other[index : index + 1])
        assert alone is not None and torch.equal(alone[0], batch[index])


# Mutants: each must be far outside the tolerances above.


@pytest.mark.slow
def test_the_range_the_colours_and_the_halving_show() -> None:
    x, y = PAIRS["photo 301×451"]
    value = haarpsi(x, y)
    assert value is not None
    # [0, 1] images against constants for [0, 255].
    unscaled = piq.haarpsi(x.double() / 255, y.double() / 255, data_range=255.0)
    assert abs(float(unscaled) - value.item()) > 100 * OTHER_MATRIX
    whole = piq.haarpsi(x.double(), y.double(), data_range=255.0, subsample=False)
    assert abs(float(whole) - value.item()) > 100 * OTHER_MATRIX
    # BGR taken for RGB; luma alone.
    swapped = haarpsi(x.flip(1), y.flip(1))
    assert swapped is not None and abs(swapped.item() - value.item()) > 5 * OTHER_MATRIX
    hue = haarpsi(*PAIRS["hue"])
    gray = [v.double().mean(dim=1, keepdim=True) for v in PAIRS["hue"]]
    assert float(piq.haarpsi(*gray, data_range=255.0)) > 0.999
    assert hue is not None and hue.item() < 0.9
