"""What accelerators compute: values equal the CPU's within the tolerance of the metric's record, in
float32 too and at any batch size, and without a float64 on a device that has none.

No accelerator is here: its arithmetic runs on the CPU, and its devices are those of FakeTensorMode,
which knows of every tensor where it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vtbench.metrics import haar_similarity, pixel
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.device_arithmetic import (
    ON_CPU,
    WITH_SLOW_FLOAT64,
    WITHOUT_FLOAT64,
    Arithmetic,
    choose_arithmetic,
    measure_windows,
)

SHARE = 1 / 4
"""Of a record's tolerance, that float32 may take on the CPU: Metal's divisions and exponentials are up
to four times as coarse as IEEE's."""

FLOATS = pytest.mark.parametrize(
    "arithmetic", [WITH_SLOW_FLOAT64, WITHOUT_FLOAT64], ids=["consumer GPU", "Metal"]
)


def tolerance(key: str) -> float:
    found = METRICS[key].tolerance
    assert found is not None
    return found


def make_originals(height: int = 162, width: int = 171) -> dict[str, Tensor]:
    """Return pictures on which float32 loses most: white, sharp edges, one value again and again."""
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(3, height, width, dtype=torch.uint8)
    checks = zeros.clone()
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 255
    letters = torch.rand(1, height // 6 + 1, width // 6 + 1, generator=generator) < 0.3
    letters = letters.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, :height, :width]
    slope = (torch.arange(width) * 255 // width).to(torch.uint8).expand(3, height, width)
    photo = torch.from_numpy(skimage.data.astronaut()[:height, :width].copy()).permute(2, 0, 1)
    return {
        "white": zeros + 255,
        "checks": checks,
        "letters": torch.where(letters, 0, 255).to(torch.uint8).expand(3, -1, -1).contiguous(),
        "slope": slope.contiguous(),
        "photo": photo.contiguous(),
        "noise": torch.randint(0, 256, zeros.shape, generator=generator).to(torch.uint8),
    }


def make_pairs() -> tuple[Tensor, Tensor]:
    """Return 30 originals and what became of them, from almost nothing lost to nothing kept."""
    generator = torch.Generator().manual_seed(1)
    pairs = []
    for original in make_originals().values():
        x = original.int()
        noise = torch.randint(-3, 4, x.shape, generator=generator)
        blurred = torch.nn.functional.avg_pool2d(x.float()[None], 5, 1, 2)[0].int()
        for image in (x - 1, x + noise, x // 2 + 60, blurred, 255 - x):
            pairs.append((original, image.clamp(0, 255).to(torch.uint8)))
    one, other = zip(*pairs, strict=True)
    return torch.stack(one), torch.stack(other)


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    return make_pairs()


@pytest.fixture(scope="module")
def on_cpu(pairs: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Return what the CPU gives: float64, image by image."""
    ssim, ms_ssim = pixel.ssim_and_ms_ssim(*pairs)
    haarpsi = haar_similarity.haarpsi(*pairs)
    assert ssim is not None and ms_ssim is not None and haarpsi is not None
    return {"ssim": ssim, "ms_ssim": ms_ssim, "haarpsi": haarpsi}


def test_a_device_computes_in_float64_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert choose_arithmetic(torch.device("cuda:1")).exact  # H100, H200
    for capability in ((8, 6), (8, 9), (12, 0), (7, 5), (10, 3)):  # GeForce, RTX, T4, B300
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert choose_arithmetic(torch.device("cuda")) == WITH_SLOW_FLOAT64
    assert choose_arithmetic(torch.device("mps")) == WITHOUT_FLOAT64
    assert choose_arithmetic(torch.device("cpu")) == ON_CPU


@pytest.mark.parametrize("shape", [(2, 7, 1), (3, 64, 64), (2, 5, 171)], ids=str)
def test_folded_means_are_those_of_float64(shape: tuple[int, ...]) -> None:
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.3
    expected = maps.double().mean(dim=(-2, -1))
    magnitude = maps.double().abs().mean(dim=(-2, -1))
    for arithmetic in (WITH_SLOW_FLOAT64, WITHOUT_FLOAT64):
        found = arithmetic.average(maps)
        assert found.dtype == torch.float64
        # The bound that `average` states: three roundings of float32.
        assert bool(((found - expected).abs() <= 3 * 2**-24 * magnitude + 1e-15).all())


def test_variances_in_float32_do_not_cancel() -> None:
    window = pixel._window()
    for name, original in make_originals(40, 50).items():
        exact = measure_windows(original.double(), window)
        plain = measure_windows(original.float(), window)
        for one, other, bound in zip(exact, plain, (255 * 2e-6, 255**2 * 2e-6), strict=True):
            assert other.dtype == torch.float32
            assert (one - other).abs().max() < bound, name
        # Where there is no variance none is found, as far as the mean is exact.
        assert plain[1].amin() >= 0
    white = torch.full((1, 40, 50), 255.0)
    assert measure_windows(white, window)[1].max() < 1e-8
    # The mutant, in float32: the mean of squares less the square of the mean.
    weights = torch.outer(torch.tensor(window), torch.tensor(window))[None, None]
    mean, square = (torch.nn.functional.conv2d(v[:, None], weights) for v in (white, white**2))
    assert (square - mean**2).abs().max() > 1e-3


@pytest.mark.slow
@FLOATS
def test_float32_gives_the_cpus_values(
    arithmetic: Arithmetic, pairs: tuple[Tensor, Tensor], on_cpu: dict[str, Tensor]
) -> None:
    values = pixel._of_images_in_single(*pairs, arithmetic, scales=5)
    found = {"ssim": values[:, 0], "ms_ssim": values[:, 1]}
    found["haarpsi"] = haar_similarity._of_images(*pairs, arithmetic)
    for key, own in found.items():
        assert own.dtype == torch.float64 and own.shape == (len(pairs[0]),)
        assert (own - on_cpu[key]).abs().max() < SHARE * tolerance(key), key


@pytest.mark.slow
def test_float64_side_by_side_gives_the_cpus_values(
    pairs: tuple[Tensor, Tensor], on_cpu: dict[str, Tensor]
) -> None:
    # Sums in another order; HaarPSI's logarithm magnifies by no more than 32.
    values = pixel._of_images(*pairs, scales=5)
    assert (values[:, 0] - on_cpu["ssim"]).abs().max() < 1e-12
    assert (values[:, 1] - on_cpu["ms_ssim"]).abs().max() < 1e-12
    assert (haar_similarity._of_images(*pairs, ON_CPU) - on_cpu["haarpsi"]).abs().max() < 1e-12


@pytest.mark.slow
@FLOATS
def test_values_do_not_depend_on_the_batch(
    arithmetic: Arithmetic, pairs: tuple[Tensor, Tensor]
) -> None:
    """Batches of 1, 5 and 32 on an accelerator, within the tolerance of each record."""
    pairs = tuple(torch.cat([side, side[:3]])[..., :100, :90] for side in pairs)  # type: ignore[assignment]
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "ssim": lambda x, y: pixel._of_images_in_single(x, y, arithmetic, scales=1)[:, 0],
        "haarpsi": lambda x, y: haar_similarity._of_images(x, y, arithmetic),
    }
    for key, measure in measures.items():
        found = [
            torch.cat([measure(x, y) for x, y in zip(*(s.split(n) for s in pairs), strict=True)])
            for n in (1, 5, 32)
        ]
        for other in found[1:]:
            assert (other - found[0]).abs().max() < tolerance(key), key


def test_images_that_float32_cannot_compare_go_to_the_cpu() -> None:
    originals = make_originals()
    # What is left of a scale is noise about 0, which an exponent of 0.04 makes anything.
    x = torch.stack([originals["noise"], originals["photo"]])
    y = torch.stack([originals["noise"].flip(2), originals["photo"] // 2])
    terms = pixel._terms_in_single(x[0], y[0], WITHOUT_FLOAT64, scales=5)
    assert terms[1:].min() < pixel._LEAST_TERM
    values = pixel._of_images_in_single(x, y, WITHOUT_FLOAT64, scales=5)
    exact = [pixel._of_images(a[None], b[None], scales=5)[0] for a, b in zip(x, y, strict=True)]
    assert torch.equal(values[0], exact[0])
    assert not torch.equal(values[1], exact[1])
    assert (values[1] - exact[1]).abs().max() < SHARE * tolerance("ms_ssim")


@FLOATS
def test_identical_images_score_exactly_one(arithmetic: Arithmetic) -> None:
    images = torch.stack(list(make_originals(40, 50).values()))
    assert torch.equal(
        pixel._of_images_in_single(images, images, arithmetic, scales=1)[:, 0],
        torch.ones(len(images), dtype=torch.float64),
    )
    assert torch.equal(
        haar_similarity._of_images(images, images, arithmetic),
        torch.ones(len(images), dtype=torch.float64),
    )


class _WithoutFloat64(TorchDispatchMode):
    """Raises as Metal does where an operation has to do with a float64 there."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            there = isinstance(value, Tensor) and value.device.type == "cuda"
            if there and value.dtype == torch.float64:
                raise TypeError(f"Metal has no float64: {func}")
        return result


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tensor]]:
    """Return what makes uint8 batches on a device without float64.

    It is called cuda, for torch here knows Metal by name alone.
    """
    pixel._window()  # numbers, which are made once
    monkeypatch.setattr(pixel, "choose_arithmetic", lambda device: WITHOUT_FLOAT64)
    with FakeTensorMode(), _WithoutFloat64():
        yield lambda *shape: torch.empty(shape, dtype=torch.uint8, device="cuda")


@pytest.mark.slow
def test_no_float64_is_made_where_there_is_none(metal: Callable[..., Tensor]) -> None:
    x, y = metal(2, 3, 161, 171), metal(2, 3, 161, 171)
    arithmetic = WITHOUT_FLOAT64
    terms = pixel._terms_in_single(x.flatten(0, 1), y.flatten(0, 1), arithmetic, scales=5)
    values = [haar_similarity._of_images(x, y, arithmetic), pixel.psnr_y_db(x, y)]
    values += [pixel.mse(x, y), pixel.mae(x, y)]
    assert terms.shape == (6, 6) and [tuple(value.shape) for value in values] == [(2,)] * 4
    for value in (terms, *values):
        assert value.device.type == "cpu" and value.dtype == torch.float64
    # The check sees one where there is one.
    with pytest.raises(TypeError, match="no float64"):
        pixel._of_images(x, y, scales=5)
