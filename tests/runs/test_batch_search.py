"""`--batch-size auto`: what the search finds and costs, and batches that do not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import photo
from PIL import Image
from torch import Tensor

import vtbench
from vtbench.base.errors import VtbenchError
from vtbench.base.records import Sample
from vtbench.cli import main
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.results.schema import BatchRecord, BatchTrial
from vtbench.runs import batch_search
from vtbench.runs.batch_search import KeptBatches, settle_batch_size
from vtbench.runs.measuring import Measured
from vtbench.runs.memory import is_memory_short
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import plan_run
from vtbench.runs.remeasuring import _find_batches
from vtbench.runs.request import Request, parse_batch_size
from vtbench.runs.runner import run_suite
from vtbench.runs.spools import Spools
from vtbench.suites.batches import (
    WAITING_BATCHES,
    Batch,
    BatchSize,
    PixelCache,
    make_batches,
)
from vtbench.suites.image_folder import folder_suite
from vtbench.tokenizers.base import Code
from vtbench.tokenizers.resample import Resample


class Clock:
    """Seconds that pass only where a tokenizer takes them."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Tokenizer:
    """Takes `fixed` seconds a batch and `each` an image; has room for `room` images."""

    def __init__(self, clock: Clock, fixed: float, each: float, room: int = 10**6) -> None:
        self.clock, self.fixed, self.each, self.room = clock, fixed, each, room
        self.tried: list[int] = []

    def warm_up(self, batch: Batch) -> None: ...

    def reconstruct(self, batch: Batch, *, quantized: bool) -> None:
        self.tried.append(batch.size)
        self.clock.now += self.fixed + self.each * batch.size
        if batch.size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Pixels(PixelCache):
    """Gray pictures of the size that the sample states."""

    def load(self, sample: Sample) -> np.ndarray:
        return np.full((sample.height, sample.width, 3), 128, dtype=np.uint8)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(batch_search, "time", found)
    return found


def search(
    tokenizer: Tokenizer, tmp_path: Path, images: int, *, side: int = 16, device: str = "cpu"
) -> BatchRecord:
    samples = tuple(Sample(f"{n}", "t", "s", Path("x"), side, side) for n in range(images))
    odd = Sample("odd", "t", "s", Path("x"), 8, 8)
    request = SimpleNamespace(
        batch_size="auto", images_per_batch=6, samples=lambda: (odd, *samples), device=device
    )
    kept = KeptBatches(tmp_path / "kept.json", "key")
    found = settle_batch_size(request, tokenizer, Pixels(), kept, steady=False)  # type: ignore[arg-type]
    assert kept.record == found
    return found


def test_the_search_doubles_until_it_is_no_faster(clock: Clock, tmp_path: Path) -> None:
    tokenizer = Tokenizer(clock, fixed=0.7, each=0.1)
    found = search(tokenizer, tmp_path, 6000)
    assert [trial.images for trial in found.trials] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert (found.size, found.ended) == (256, "twice the batch is no faster")
    assert found.trials[1].images_per_second == pytest.approx(2 / 0.9, abs=1e-4)
    slower = Tokenizer(clock, fixed=0.0, each=0.1)
    assert search(slower, tmp_path, 6000).size == 1 and max(slower.tried) == 2


def test_the_search_takes_a_small_share_of_the_run(clock: Clock, tmp_path: Path) -> None:
    tokenizer = Tokenizer(clock, fixed=0.5, each=0.5)
    found = search(tokenizer, tmp_path, 2000)
    assert found.seconds <= batch_search.SHARE * 2001 * 1.0
    assert 1 < found.size == max(tokenizer.tried) and "of the run's time" in str(found.ended)
    few = search(Tokenizer(clock, fixed=0.5, each=0.5), tmp_path, 40)
    assert few.size == 6 and str(few.ended).startswith("nothing to compare")
    assert [trial.images for trial in few.trials] == [1]


def test_a_batch_without_room_ends_the_search(clock: Clock, tmp_path: Path) -> None:
    found = search(Tokenizer(clock, fixed=1.0, each=0.01, room=11), tmp_path, 6000, device="cuda")
    assert found.size == 8 and "memory" in str(found.ended)
    assert found.trials[-1] == BatchTrial(images=16, images_per_second=None)


def test_sizes_are_of_256_px_whatever_the_images_are(clock: Clock, tmp_path: Path) -> None:
    found = search(Tokenizer(clock, fixed=1.0, each=0.01, room=3), tmp_path, 500, side=512)
    assert (found.size, found.shape) == (8, (512, 512))  # 2 images
    assert BatchSize(found.size).count((512, 512, 3)) == 2
    small = search(Tokenizer(clock, fixed=1.0, each=0.01), tmp_path, 5, device="cuda")
    assert small.size == 4 and "5 images of one shape" in str(small.ended)


def test_what_was_found_is_kept_for_a_resume_of_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    record = BatchRecord(size=16, last=4)
    KeptBatches(path, "one").keep(record)
    for key, expected in (("one", record), ("two", None)):
        kept = KeptBatches(path, key)
        kept.resume()
        assert kept.record == expected
    path.write_bytes(b'{"key": "one", "size"')
    kept = KeptBatches(path, "one")
    kept.resume()
    assert kept.record is None
    kept.discard()
    assert not path.exists()


def test_errors_for_want_of_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as met:
        torch.empty(2**55)
    assert is_memory_short(met.value)
    with pytest.raises(MemoryError) as also:
        np.empty(2**58)
    assert is_memory_short(also.value)
    assert is_memory_short(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_memory_short(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    wrapped = ValueError("of a library")
    wrapped.__cause__ = MemoryError()
    assert is_memory_short(wrapped)
    assert not is_memory_short(RuntimeError("no kernel for this size"))
    assert not is_memory_short(ValueError("a message about out of memory"))


def test_a_folder_of_mixed_sizes_has_full_batches() -> None:
    sides = [(48, 64), (64, 48), (32, 32)]
    samples = [Sample(f"{n:02d}", "t", "s", Path("x"), *sides[n % 3]) for n in range(18)]
    batches = list(make_batches(samples, Pixels(), batch_size=3))
    assert [batch.size for batch in batches] == [3] * 6
    for batch in batches:
        ids = [int(sample.id) for sample in batch.samples]
        assert len({number % 3 for number in ids}) == 1 and ids == sorted(ids)
    many = [Sample(f"{n}", "t", "s", Path("x"), 32 + n, 32) for n in range(40)]
    decoded: list[str] = []

    class Counted(Pixels):
        def load(self, sample: Sample) -> np.ndarray:
            decoded.append(sample.id)
            return super().load(sample)

    first = next(iter(make_batches(many, Counted(), batch_size=2)))
    assert first.samples[0].id == "0" and len(decoded) <= 2 * WAITING_BATCHES + 1


def test_batches_get_smaller_where_memory_does_not_suffice() -> None:
    samples = [Sample(f"{n}", "t", "s", Path("x"), 64, 64) for n in range(20)]
    heard: list[int] = []
    size = BatchSize(8, heard.append)
    sizes = []
    for batch in make_batches(samples, Pixels(), batch_size=size):
        sizes.append(batch.size)
        if len(sizes) == 1:
            size.halve(batch)
    assert sizes == [8, 4, 4, 4] and heard == [4]


class Silent:
    """Hears nothing, and ends the process's pass where it is told to."""

    def __init__(self, kill_at: int = 10**6) -> None:
        self.done, self.kill_at = 0, kill_at

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...

    def advanced(self, images: int) -> None:
        self.done += images
        if self.done >= self.kill_at:
            raise KeyboardInterrupt


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(11):
        Image.fromarray(photo(number, 32, 32)).save(folder / f"{number:02d}.png")
    return folder


def ask(pictures: Path, out: Path, batch_size: object) -> Request:
    request = plan_run(
        folder_suite(pictures), load_registry(), names=["resize-2x"], device="cpu", out=out
    )
    return replace(request, batch_size=batch_size)  # type: ignore[arg-type]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were encoded; more than two images have no room."""
    sizes: list[int] = []
    original: Callable[[Resample, Tensor], Code] = Resample._encode

    def encode(self: Resample, images: Tensor) -> Code:
        sizes.append(len(images))
        if len(images) > 2:
            torch.empty(2**55)  # the allocator's own error
        return original(self, images)

    monkeypatch.setattr(Resample, "_encode", encode)
    return sizes


@pytest.mark.slow
def test_no_image_is_lost_where_memory_does_not_suffice(
    pictures: Path, tmp_path: Path, tried: list[int]
) -> None:
    request = ask(pictures, tmp_path / "out", 5)
    (outcome,) = run_suite(request, Silent())
    assert outcome.status == "measured"
    run = read_run(request.out / "resize-2x")
    assert {row["error"] for row in run.rows} == {None}
    assert tried[:5] == [5, 5, 2, 2, 1]  # the first one to warm up
    assert max(tried[2:]) == 2
    assert [row["batch_size"] for row in run.rows][:5] == [2, 2, 2, 2, 1]
    assert run.record.batches == BatchRecord(size=5, last=2)
    assert not list(request.out.glob(".*.json*"))


@pytest.mark.slow
def test_a_run_of_auto_says_what_it_found_and_is_resumed_and_reused(
    pictures: Path, tmp_path: Path, tried: list[int]
) -> None:
    request = ask(pictures, tmp_path / "out", "auto")
    with pytest.raises(KeyboardInterrupt):
        run_suite(request, Silent(kill_at=2))
    kept = json.loads((request.out / ".resize-2x.batches.json").read_text())
    assert kept["size"] <= 2 and kept["trials"]
    tried.clear()
    (outcome,) = run_suite(request, Silent())
    assert outcome.status == "measured" and max(tried) <= 2 and sum(tried) < 2 * 11
    record = read_run(request.out / "resize-2x").record
    assert record.batches is not None and record.batches.seconds == kept["seconds"]
    assert record.inputs is not None and record.inputs.batch_size == "auto"
    assert run_suite(request, Silent())[0].status == "reused"
    assert run_suite(replace(request, batch_size=2), Silent())[0].status == "measured"
    assert read_run(request.out / "resize-2x").record.batches is None


@pytest.mark.slow
def test_the_command_line_records_what_it_found_and_keeps_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    line = ["run", "--images", str(pictures), "--out", str(out), "-t", "resize-2x"]
    line += ["--device", "cpu", "--batch-size", "auto"]
    append = Spools.append

    def stop(self: Spools, batch: Batch, measured: Measured) -> int:
        append(self, batch, measured)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(Spools, "append", stop)
        raise SystemExit(main(line))
    kept = json.loads((out / ".resize-2x.batches.json").read_text())
    monkeypatch.setattr(batch_search._Search, "run", None)  # a second search would fail
    assert main(line) == 0
    record = read_run(out / "resize-2x").record
    assert record.inputs is not None and record.inputs.batch_size == "auto"
    assert record.batches is not None and record.n_done == 11
    found = record.batches.model_dump(mode="json")
    assert found == {key: value for key, value in kept.items() if key != "key"}


@pytest.mark.slow
def test_the_door_takes_auto_and_refuses_what_is_no_size(pictures: Path, tmp_path: Path) -> None:
    result = vtbench.evaluate("identity", pictures, batch_size="auto", device="cpu")
    assert result.scores["reconstruction.psnr_db"] == 100.0
    with pytest.raises(VtbenchError, match="batch_size=0"):
        vtbench.evaluate("identity", pictures, batch_size=0)
    assert [parse_batch_size(said) for said in ("auto", "suite", "12")] == ["auto", None, 12]
    for said in ("0", "-1", "automatic", "1" * 40, "²"):
        with pytest.raises(VtbenchError, match="--batch-size"):
            parse_batch_size(said)


def test_rows_of_several_batch_sizes_are_measured_again_in_their_batches() -> None:
    sizes = [4, 4, 4, 4, 2, 2, 1, 2, 2]
    rows = [
        {"id": f"{n}", "error": None, "task": "t", "subset": "s", "width": 8, "height": 8}
        | {"batch_size": size}
        for n, size in enumerate(sizes)
    ]
    found = _find_batches(rows, {"5", "6", "8"})
    assert found == [(["4", "5"], 2), (["6"], 1), (["7", "8"], 2)]
