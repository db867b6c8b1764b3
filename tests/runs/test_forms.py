"""How the pass saves time without moving a number: layout, memory, decoding ahead, work beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photo
from PIL import Image
from torch import Tensor, nn

from vtbench.base.errors import ImageError
from vtbench.base.records import Sample, SizePolicy, Spec
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.runs import fast_form, steady_memory
from vtbench.runs.background import Background
from vtbench.runs.fast_form import choose_layout
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import plan_run
from vtbench.runs.runner import run_suite
from vtbench.runs.steady_memory import MAX_PIXELS, SteadyMemory
from vtbench.suites.batches import Batch, PixelCache, make_batches
from vtbench.suites.image_folder import folder_suite
from vtbench.tokenizers.base import Code, Tokenizer

SPEC = Spec(
    name="x",
    family="t",
    kind="continuous",
    quantizer="none",
    latent_channels=4,
    size=SizePolicy(4, None, "pad"),
)


class Convolutions(Tokenizer):
    """Two convolutions and their way back."""

    def __init__(self, spec: Spec = SPEC, *, view: bool = False) -> None:
        super().__init__(spec)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1))
        self.view = view

    def _encode(self, images: Tensor) -> Code:
        latents = self.model[0](images)
        return Code.continuous(latents.view(-1, 4, *latents.shape[2:]) if self.view else latents)

    def _decode(self, code: Code) -> Tensor:
        assert code.latents is not None
        images: Tensor = self.model[1](code.latents)
        if self.view:
            images = images.view(-1).view(images.shape)  # impossible in another layout
        return images


def is_channels_last(tokenizer: Convolutions) -> bool:
    (first, _) = tokenizer.model
    kernel = first.weight
    return isinstance(kernel, Tensor) and kernel.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_is_chosen_where_a_picture_comes_out_the_same() -> None:
    tokenizer, picture = Convolutions(), torch.rand(2, 3, 40, 24)
    before = tokenizer.decode(tokenizer.encode(picture))
    assert choose_layout(tokenizer) and is_channels_last(tokenizer)
    after = tokenizer.decode(tokenizer.encode(picture))
    assert (before - after).abs().max() < fast_form.SAME


def test_a_network_that_cannot_have_the_layout_keeps_its_own() -> None:
    tokenizer = Convolutions(view=True)
    assert not choose_layout(tokenizer)
    assert not is_channels_last(tokenizer)
    tokenizer.decode(tokenizer.encode(torch.rand(1, 3, 8, 8)))


def test_other_pixels_or_other_tokens_are_not_the_same() -> None:
    def made(value: float, token: int) -> tuple[Code, Tensor]:
        code = Code.discrete(torch.full((1, 2, 2), token), 8)
        return code, torch.full((1, 3, 4, 4), value)

    assert fast_form.is_same(made(0.5, 3), made(0.5 + fast_form.SAME / 2, 3))
    assert not fast_form.is_same(made(0.5, 3), made(0.5 + fast_form.SAME * 2, 3))
    assert not fast_form.is_same(made(0.5, 3), made(0.5, 4))
    assert not fast_form.is_same(made(0.5, 3), made(float("nan"), 3))


class Glibc:
    """Hears what is asked of it."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, parameter: int, value: int) -> None:
        self.options[parameter] = value

    def malloc_trim(self, pad: int) -> None:
        self.trimmed += 1


@pytest.fixture
def glibc(monkeypatch: pytest.MonkeyPatch) -> Glibc:
    library = Glibc()
    monkeypatch.setattr(steady_memory, "_find_glibc", lambda: library)
    return library


def test_memory_is_kept_between_batches_of_one_small_shape_alone(glibc: Glibc) -> None:
    mappings = -4  # M_MMAP_MAX
    with SteadyMemory("cpu") as memory:
        memory.prepare(None)
        assert glibc.options == {}
        memory.prepare((8, 3, 256, 256))
        memory.prepare((8, 3, 256, 256))
        assert glibc.options[mappings] == 0 and glibc.trimmed == 0
        memory.prepare((8, 3, 128, 256))
        assert glibc.options[mappings] == 0 and glibc.trimmed == 1
        memory.prepare((1, 3, MAX_PIXELS // 256 + 1, 256))
        assert glibc.options[mappings] > 0 and glibc.trimmed == 2
    assert glibc.options[mappings] > 0 and glibc.trimmed == 3


def test_memory_of_another_device_is_left_alone(glibc: Glibc) -> None:
    with SteadyMemory("cuda") as memory:
        memory.prepare((8, 3, 256, 256))
    assert glibc.options == {} and glibc.trimmed == 0


class Stop(Exception):
    """What is tried again."""


def test_work_beside_the_pass_is_done_in_order_and_one_at_a_time() -> None:
    heard: list[int] = []
    running, most = 0, 0
    turn = threading.Lock()

    def work(number: int) -> Callable[[], int]:
        def do() -> int:
            nonlocal running, most
            with turn:
                running += 1
                most = max(most, running)
            if number == 2:
                running -= 1
                raise Stop
            with turn:
                running -= 1
            return number

        return do

    with Background() as background:
        for number in range(5):
            background.start(
                work(number), again=lambda _, n=number: 100 + n, on=Stop, report=heard.append
            )
        background.wait()
    assert heard == [0, 1, 102, 3, 4] and most == 1


def test_an_error_of_work_beside_the_pass_reaches_it() -> None:
    def fail() -> int:
        raise OSError("the disk is full")

    with Background() as background:
        background.start(fail, again=lambda _: 0, on=Stop, report=lambda _: None)
        with pytest.raises(OSError, match="disk is full"):
            background.wait()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        side = 48 if number < 5 else 64
        Image.fromarray(photo(number, side, side)).save(folder / f"{number}.png")
    (folder / "4b.png").write_bytes(b"none")
    return folder


def describe(batches: Iterator[Batch]) -> list[tuple[list[str], str | None, bytes | None]]:
    return [
        (
            [sample.id for sample in batch.samples],
            batch.error,
            None if batch.pixels is None else batch.pixels.numpy().tobytes(),
        )
        for batch in batches
    ]


def test_batches_are_the_same_with_any_number_of_decoders(pictures: Path) -> None:
    samples = folder_suite(pictures).samples
    expected = describe(make_batches(samples, PixelCache(), batch_size=3))
    assert [names for names, _, _ in expected] == [
        ["0.png", "1.png", "2.png"],
        ["4b.png"],
        ["3.png", "4.png"],
        ["5.png", "6.png"],
    ]
    for workers in (1, 2, 5):
        found = make_batches(samples, PixelCache(), batch_size=3, workers=workers)
        assert describe(found) == expected


def test_no_more_than_a_batch_is_decoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    class Cache(PixelCache):
        def load(self, sample: Sample) -> np.ndarray:
            begun.append(sample.id)
            if sample.id == "9":
                raise ImageError("broken")
            return np.zeros((256, 256, 3), dtype=np.uint8)

    samples = [Sample(str(n), "t", "s", Path("x"), 256, 256) for n in range(40)]
    batches = make_batches(samples, Cache(), batch_size=4, workers=2)
    next(batches)
    assert len(begun) <= 4 + 4 + 2
    batches.close()
    assert len(begun) <= 4 + 4 + 2


class Silent:
    """Hears nothing of a run."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...


@pytest.mark.slow
def test_numbers_follow_neither_batch_size_nor_decoders(pictures: Path, tmp_path: Path) -> None:
    """Reconstructions of a codec and of a resize are the same in any batch, and so are their metrics: to
    the tolerance of each record, 1e-6 for SSIM and 0 for most."""
    limits = {
        column: metric.tolerance
        for metric in METRICS.values()
        for column in metric.row_columns
        if metric.tolerance is not None
    }
    (pictures / "4b.png").unlink()
    found = []
    for batch_size, workers in ((1, 0), (1, 2), (5, 0), (5, 2), (32, 0), (32, 2)):
        request = plan_run(
            folder_suite(pictures),
            load_registry(),
            names=["jpeg-q50", "resize-2x"],
            device="cpu",
            batch_size=batch_size,
            out=tmp_path / f"out{batch_size}-{workers}",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(request), "decoders", property(lambda _, n=workers: n))
            run_suite(replace(request), Silent())
        rows = [read_run(request.out / name).rows for name in ("jpeg-q50", "resize-2x")]
        found.append([row for of_run in rows for row in of_run])
    timed = {"encode_s", "decode_s", "peak_memory_mib", "batch_size"}
    first = found[0]
    assert all(row["error"] is None for row in first)
    for other in found[1:]:
        for one, two in zip(first, other, strict=True):
            for key in one.keys() - timed:
                if isinstance(one[key], float):
                    limit = limits.get(key, 0.0)
                    assert two[key] == pytest.approx(one[key], rel=0, abs=limit), key
                else:
                    assert two[key] == one[key], key
