"""Batches that are copied to the device ahead: the same numbers, in the same order, one batch at most.

No CUDA device is here. The CPU stands for it, and for CUDA's calls there is a record of their order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import photo
from PIL import Image
from torch import Tensor

from vtbench.base.records import Sample
from vtbench.images import to_float
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.runs import runner
from vtbench.runs.device_copies import CudaCopier, copy_ahead, look_up_floats
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import plan_run
from vtbench.runs.runner import run_suite
from vtbench.suites.batches import Batch, DevicePixels
from vtbench.suites.image_folder import folder_suite


def make_batch(number: int) -> Batch:
    sample = Sample(f"{number}", "t", "timed" if number == 2 else "s", Path("x"), 8, 8)
    return Batch((sample,), torch.full((1, 3, 8, 8), number, dtype=torch.uint8), 1)


class Copier:
    """Copies to the CPU; says what it has copied, and how often a copy was waited for."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.waits = 0
        self.turn = threading.Condition()

    def __call__(self, batch: Batch) -> Batch:
        with self.turn:
            self.copied.append(batch.samples[0].id)
            self.turn.notify_all()
        if batch.pixels is None:
            return batch
        return replace(batch, there=DevicePixels(batch.pixels.clone(), self._wait))

    def _wait(self) -> None:
        self.waits += 1

    def expect(self, count: int) -> bool:
        """Return whether there are so many copies within ten seconds."""
        with self.turn:
            return self.turn.wait_for(lambda: len(self.copied) >= count, timeout=10)


def test_the_next_batch_is_copied_while_one_is_measured_and_none_beside_a_timed_one() -> None:
    copier, seen = Copier(), []
    batches = iter([make_batch(number) for number in range(5)])
    for batch in copy_ahead(batches, copier, alone=lambda b: b.samples[0].subset == "timed"):
        number = int(batch.samples[0].id)
        seen.append(number)
        assert batch.there is not None and batch.pixels is not None
        assert torch.equal(batch.there.take(), batch.pixels)
        if number == 2:
            assert len(copier.copied) == 3
        else:
            assert copier.expect(min(number + 2, 5))
            assert len(copier.copied) <= number + 2  # one ahead, and no more
    assert seen == [0, 1, 2, 3, 4] and copier.waits == 5


def test_an_error_of_loading_comes_in_its_place_and_an_early_end_leaves_no_thread() -> None:
    def load() -> Iterator[Batch]:
        yield make_batch(0)
        raise OSError("the disk is gone")

    copier, seen = Copier(), []
    with pytest.raises(OSError, match="disk is gone"):
        for batch in copy_ahead(load(), copier, alone=lambda _: False):
            seen.append(batch.samples[0].id)
    assert seen == ["0"]
    copies = copy_ahead(iter(map(make_batch, range(9))), copier, alone=lambda _: False)
    next(copies)
    copies.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("copy") and t.is_alive()]


def test_looked_up_floats_are_those_that_the_cpu_divides() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, -1, -1)
    assert torch.equal(look_up_floats(pixels), to_float(pixels))
    # The mutant that CUDA computes: a product with a rounded 1/255.
    assert not torch.equal(pixels.float() * torch.tensor(1 / 255), to_float(pixels))


class Silent:
    """Hears nothing of a run."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...


@pytest.mark.slow
def test_a_run_of_copied_batches_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(7):
        side = 40 if number < 5 else 56
        Image.fromarray(photo(number, side, side)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "6b.png").write_bytes(b"none")
    copier, found = Copier(), []
    for ahead in (False, True):
        request = plan_run(
            folder_suite(tmp_path / "in"),
            load_registry(),
            names=["resize-2x", "ref-vq-f16"],
            device="cpu",
            batch_size=2,
            out=tmp_path / f"out-{ahead}",
        )
        if ahead:
            monkeypatch.setattr(runner, "find_network_device", lambda _: torch.device("cuda"))
            monkeypatch.setattr(runner, "CudaCopier", lambda device: copier)
        run_suite(request, Silent())
        names = ("resize-2x", "ref-vq-f16")
        found.append([row for name in names for row in read_run(request.out / name).rows])
    assert len(copier.copied) == 2 * 5  # of 2, 2, 1, 2 pictures, and the one that is none
    # The network's images and the metrics' originals, and the first batch once more to warm up.
    assert copier.waits == 2 * (2 * 4 + 1)
    timed = {"encode_s", "decode_s", "peak_memory_mib"}
    for one, other in zip(*found, strict=True):
        assert {k: v for k, v in one.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }


class Cuda:
    """Stands for torch.cuda: writes down what is asked of it, and on which stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.short = False
        self.current = "the pass's"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self)
        monkeypatch.setattr(torch.cuda, "device", self.enter_device)
        monkeypatch.setattr(torch.cuda, "stream", self.enter_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(Tensor, "pin_memory", self.pin)
        monkeypatch.setattr(Tensor, "to", self.send)
        monkeypatch.setattr(Tensor, "record_stream", lambda _, stream: self.say("kept for"))

    def say(self, what: str) -> None:
        self.said.append(f"{what}: {self.current}")

    @contextmanager
    def enter_device(self, device: torch.device) -> Iterator[None]:
        self.say(f"device {device}")
        yield

    @contextmanager
    def enter_stream(self, stream: object) -> Iterator[None]:
        before, self.current = self.current, "its own"
        yield
        self.current = before

    def pin(self, *_: Tensor) -> Cuda:
        if self.short:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.say("pinned")
        return self

    to: Callable[..., Tensor]

    def send(self, device: torch.device, *, non_blocking: bool) -> Tensor:
        assert non_blocking
        self.say("sent")
        return torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

    def record_event(self) -> str:
        self.say("marked")
        return "done"

    def wait_event(self, event: str) -> None:
        self.say(f"waits until {event}")


def test_a_copy_goes_through_pinned_memory_on_a_stream_that_the_pass_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = make_batch(0)
    cuda = Cuda(monkeypatch)
    cuda.to = cuda.send
    copier = CudaCopier(torch.device("cuda:1"))
    copied = copier(batch)
    mine = ["device cuda:1: the pass's", "pinned: its own", "sent: its own", "marked: its own"]
    assert cuda.said == mine and copied.there is not None and copied.pixels is batch.pixels
    copied.there.take()
    assert cuda.said[4:] == ["waits until done: the pass's", "kept for: the pass's"]
    # What has no room is copied by the pass, which makes smaller batches.
    cuda.short = True
    assert copier(batch) == batch and copier(batch).there is None
    unread = Batch(batch.samples, None, 1, "damaged")
    assert copier(unread) is unread
