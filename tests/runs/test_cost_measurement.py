"""Cost: how repeats become a number with its spread, what memory is counted, and what the table says."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vtbench.cli import main
from vtbench.leaderboard.cost_table import format_digits, render_costs
from vtbench.registry.entries import load_registry
from vtbench.results.cost_record import CostRecord, Load, Spread, read_cost, read_costs, write_cost
from vtbench.results.schema import Environment
from vtbench.runs.cost_measurement import merge_phase, merge_size, spread
from vtbench.runs.cost_process import (
    CostJob,
    PhaseTimes,
    ProcessCost,
    SizeTimes,
    draw_picture,
    measure_peak,
    measure_process,
)
from vtbench.runs.memory import PeakMemory
from vtbench.tokenizers import build_tokenizer

HERE = Environment(
    device="cpu",
    processor="A processor",
    threads=2,
    platform="Linux x86_64",
    python="3.12.1",
    versions={"torch": "2.9.0"},
    vtbench="0.1.0",
    code_sha256="0" * 64,
    commit=None,
    dirty=None,
)


def process_of(*encode: float, decode: float = 0.5, batch2: float = 1.0) -> ProcessCost:
    """Return what a process measured whose encode calls took these seconds at batch 1."""
    times = SizeTimes(
        64,
        fit="none",
        encode=PhaseTimes({1: list(encode), 2: [batch2]}, peak_mib=10.0),
        decode=PhaseTimes({1: [decode]}, peak_mib=8.0),
    )
    return ProcessCost((times,), weights_mib=4.0, parameters=1_500_000, threads=2, others=0.02)


def record_of(run: str, *costs: ProcessCost, **changes: Any) -> CostRecord:
    facts = {
        "run": run,
        "key": "0" * 64,
        "tokenizer": run.partition("@")[0],
        "title": run,
        "family": "kl-vae",
        "kind": "continuous",
        "entry_sha256": "0" * 64,
        "weights": "loaded",
        "dtype": "fp32",
        "processes": len(costs),
        "seconds": 1.0,
        "parameters": 1_500_000,
        "entry_gmac": {"encode": 3.0, "decode": 2.0},
        "weights_mib": 4.0,
        "environment": HERE,
        "load": Load(load_average=0.1, others=0.02, busy=False),
        "sizes": (merge_size(64, costs, (1.5, 2.5)),),
    }
    return CostRecord(**(facts | changes))


def test_a_number_is_the_median_of_the_processes_and_its_spread_holds_each_of_them() -> None:
    found = spread([[1.0, 1.1, 9.0], [2.0, 2.0, 2.0], [3.0, 3.1, 3.2]])
    assert found.median == 2.0  # of 1.1, 2.0 and 3.1, whatever the one slow call was
    assert found.low <= 1.1 and found.high >= 3.1
    assert found.repeats == 9


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_another_measurement_lies_within_the_spread_in_19_of_20_cases(processes: int) -> None:
    draw = random.Random(7)

    def measure() -> Spread:
        return spread([[math.exp(draw.gauss(-4, 0.1))] for _ in range(processes)])

    pairs = [(measure(), measure()) for _ in range(1000)]
    inside = sum(one.low <= other.median <= one.high for one, other in pairs)
    # 950 − 3 √(1000 · .95 · .05), and above it more, since the bound is not tight for few processes.
    assert 930 <= inside <= 995
    assert spread([[2.0, 2.0]]).high == 2.0  # one process says nothing of others


def test_the_best_batch_is_among_those_that_every_process_tried() -> None:
    phases = [
        PhaseTimes({1: [1.0], 2: [1.0], 4: [0.1]}),
        PhaseTimes({1: [1.0], 2: [1.0]}),
    ]
    cost = merge_phase(phases, gmac=None)
    assert cost.throughput.batch == 2
    assert cost.throughput.images_per_s.median == 2.0
    assert cost.throughput.tried == {1: 1.0, 2: 2.0}
    assert cost.peak_mib is None  # not measured is no zero


def test_an_error_of_one_process_is_the_sizes() -> None:
    broken = ProcessCost((SizeTimes(64, error="out of memory"),), 4.0, 1, 2, 0.0)
    cost = merge_size(64, [process_of(1.0), broken], (None, None))
    assert (cost.encode, cost.decode, cost.error) == (None, None, "out of memory")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (83819.7, "83,800"),
        (9.996, "10.0"),
        (0, "0"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert format_digits(value) == text


def test_machines_are_never_in_one_table_and_a_busy_one_is_said() -> None:
    other = HERE.model_copy(update={"threads": 8})
    busy = Load(load_average=9.0, others=0.4, busy=True)
    records = [
        record_of("one", process_of(0.01, 0.02)),
        record_of("two", process_of(0.03), environment=other, load=busy),
    ]
    text = render_costs(records)["efficiency.md"].decode()
    first, second = text.split("\n## ")[1:3]
    assert "2 threads" in first and "| one |" in first and "| two |" not in first
    assert "8 threads" in second and "| two |" in second and "busy" in second
    assert "busy" not in first
    assert "1.50" in first  # 10⁶ parameters
    rows = list(csv.DictReader(io.StringIO(render_costs(records)["efficiency.csv"].decode())))
    assert [(row["tokenizer"], row["phase"]) for row in rows] == [
        *(("one", "encode"), ("one", "decode")),
        *(("two", "encode"), ("two", "decode")),
    ]
    assert float(rows[0]["latency_s"]) == pytest.approx(0.015)
    machines = json.loads(render_costs(records)["efficiency.json"])["machines"]
    assert len(machines) == 2


def test_the_entrys_gmac_is_shown_where_the_counter_says_another() -> None:
    cost = merge_size(256, [replace(process_of(1.0), sizes=(of_256(),))], (3.0, 2.5))
    text = render_costs([record_of("one", process_of(1.0), sizes=(cost,))])[
        "efficiency.md"
    ].decode()
    assert "| 3.00 | 2.50 (2.00) |" in text  # encode agrees with the entry, decode does not


def of_256() -> SizeTimes:
    one = PhaseTimes({1: [0.1]})
    return SizeTimes(256, "none", one, one)


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    record = record_of("one", process_of(0.01, 0.02))
    write_cost(tmp_path, record)
    write_cost(tmp_path, record.model_copy(update={"run": "two"}))
    assert read_cost(tmp_path / "one" / "cost.json") == record
    (tmp_path / "two" / "cost.json").write_text('{"run": NaN}')
    records, damaged = read_costs(tmp_path)
    assert [found.run for found in records] == ["one"]
    assert len(damaged) == 1 and "two" in damaged[0]


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of storages that operators make, as long as they live: independent of what the
    allocator reports."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and id_of(tensor) not in before | self.known:
                self._watch(tensor)
        return result

    def _watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self.known.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


def id_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ref-kl-f8", "ref-vq-f16", "ref-titok-64"])
def test_peak_memory_is_what_lives_in_storages(name: str) -> None:
    tokenizer = build_tokenizer(load_registry(())[name], device="cpu")
    picture = draw_picture(256)
    code = tokenizer.encode(picture)
    for call in (lambda: tokenizer.encode(picture), lambda: tokenizer.decode(code)):
        with LiveStorages() as live:
            call()
        counted, lower = measure_peak(tokenizer, call, 0), live.peak / 2**20
        assert counted is not None
        # What an operator takes and frees inside itself (attention does) is in the allocator's count
        # alone; the convolutional one has hardly any of it.
        assert counted >= 0.99 * lower
        if name == "ref-kl-f8":
            assert counted == pytest.approx(lower, rel=0.1)


def test_peak_memory_is_that_of_the_tensors_that_live_together() -> None:
    class Holder:
        device = torch.device("cpu")

    def call() -> torch.Tensor:
        first = torch.empty(8 * 2**20, dtype=torch.uint8)
        for _ in range(5):  # freed each time: 16 MiB together, whatever the number
            second = torch.empty(8 * 2**20, dtype=torch.uint8)
            del second
        third = torch.empty(20 * 2**20, dtype=torch.uint8)
        del first
        return third[:1]

    counted = measure_peak(Holder(), call, 2 * 2**20)  # type: ignore[arg-type]
    assert counted == pytest.approx(2 + 8 + 20, rel=0.01)  # the allocator rounds to its alignment


def test_the_pass_measures_no_memory_where_no_allocator_counts_it() -> None:
    memory = PeakMemory("cpu")
    memory.start()
    assert memory.stop() is None  # not measured, which is no zero


@pytest.mark.slow
def test_the_cpus_count_grows_with_the_picture_and_holds_weights_and_input() -> None:
    job = CostJob(
        entry=load_registry(())["ref-fsq-f8"],
        weights=None,
        random_weights=True,
        device="cpu",
        dtype="fp32",
        seed=0,
        sizes=(64, 128),
        seconds=0.01,
        max_batch=2,
    )
    cost = measure_process(job)
    small, large = cost.sizes
    assert small.error is None and large.error is None
    assert cost.parameters == job.entry.parameters
    assert cost.weights_mib is not None and cost.weights_mib >= 4 * cost.parameters / 2**20
    for phase in ("encode", "decode"):
        few, many = getattr(small, phase), getattr(large, phase)
        assert cost.weights_mib < few.peak_mib < many.peak_mib
        assert set(few.seconds) <= {1, 2} and len(few.seconds[1]) >= 3
        assert all(second > 0 for seconds in few.seconds.values() for second in seconds)


@pytest.mark.slow
def test_the_task_writes_its_tables_and_reuses_what_is_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--task", "efficiency", "-t", "ref-fsq-f8,jpeg-q75", "--sizes", "64"]
    command += ["--processes", "1", "--device", "cpu", "--out", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.err.count("process 1 of 1") == 2
    assert "ref-fsq-f8" in told.out and "not compared" not in told.out
    before = (tmp_path / "ref-fsq-f8" / "cost.json").read_bytes()
    assert main(command) == 0
    assert "process 1" not in capsys.readouterr().err
    assert (tmp_path / "ref-fsq-f8" / "cost.json").read_bytes() == before
    assert {path.name for path in tmp_path.glob("efficiency.*")} == {
        *("efficiency.md", "efficiency.csv", "efficiency.json"),
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--task", "efficiency", "--task", "text"], "by itself"),
        (["--task", "efficiency", "--limit", "3"], "--limit has no meaning"),
        (["--task", "efficiency", "--sizes", "256,x"], "--sizes x"),
        (["--sizes", "128"], "--sizes belongs to --task efficiency"),
    ],
)
def test_options_without_a_meaning_are_refused(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-t", "identity", *options]) == 2
    assert reason in capsys.readouterr().err
