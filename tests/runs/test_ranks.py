"""Several ranks measure what one process measures: rows bit for bit, whatever their number."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import kills

from vtbench.cli import main
from vtbench.leaderboard.aggregate import read_board
from vtbench.results.folder import read_run
from vtbench.runs import ranks
from vtbench.runs.ranks import ALONE, Ranks
from vtbench.suites.batches import Batch, PixelCache, make_batches
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.shards import deal_batches, number_batches
from vtbench.suites.suites import Suite, attach_data, load_suite

DRIVER = Path(__file__).with_name("rank_driver.py")
NAMES = ("jpeg-q25", "patch-vq-f8", "ref-dito-f8")
TIMES = {"encode_s", "decode_s", "peak_memory_mib"}
KEYS = ("rfid", "kid", "dinov2_cos")


def open_mini(data: Path) -> Suite:
    return attach_data(load_suite("mini", [data]), None)


def ids_of(batches: list[Batch]) -> list[tuple[str, ...]]:
    return [tuple(sample.id for sample in batch.samples) for batch in batches]


def deal_all(samples: list[Any], world: int, batch_size: int) -> list[Batch]:
    """Return what all ranks measure, in the order in which rank 0 writes it."""
    numbers = number_batches(samples, batch_size)
    dealt = [
        list(
            deal_batches(
                samples,
                PixelCache(),
                numbers=numbers,
                batch_size=batch_size,
                rank=rank,
                world=world,
            )
        )
        for rank in range(world)
    ]
    assert len({len(steps) for steps in dealt}) == 1, "every rank has as many steps"
    return [batch for step in zip(*dealt, strict=True) for own in step for batch in own]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("known", [True, False])
def test_ranks_have_every_image_once_in_the_batches_of_one_process(
    data: Path, world: int, known: bool
) -> None:
    samples = sort_for_reading(open_mini(data).samples)
    if not known:
        samples = [replace(sample, width=0, height=0) for sample in samples]
        assert number_batches(samples, 2) is None
    alone = list(make_batches(samples, PixelCache(), batch_size=2))
    assert ids_of(deal_all(samples, world, 2)) == ids_of(alone)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_picture_that_cannot_be_read_moves_no_other_to_another_batch(
    data: Path, world: int
) -> None:
    samples = sort_for_reading(open_mini(data).samples)
    numbers = number_batches(samples, 2)
    assert numbers is not None
    broken = next(sample for sample in samples if sample.id == "photo-0")
    broken.path.write_bytes(b"no picture")
    alone = list(make_batches(samples, PixelCache(), batch_size=2, apart=numbers))
    dealt = deal_all(samples, world, 2)
    assert ids_of(dealt) == ids_of(alone)
    assert [batch.error is not None for batch in dealt].count(True) == 1
    for batch in dealt:  # the others stay where they were
        assert len({numbers[sample.id] for sample in batch.samples}) == 1


def test_what_is_left_of_a_killed_run_falls_into_its_batches(data: Path) -> None:
    samples = sort_for_reading(open_mini(data).samples)
    numbers = number_batches(samples, 2)
    left = [sample for sample in samples if sample.id != "photo-0"]
    dealt = list(deal_batches(left, PixelCache(), numbers=numbers, batch_size=2, rank=0, world=1))
    assert ids_of([batch for step in dealt for batch in step])[0] == ("photo-1",)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of somebody's shell
    with ranks.join_ranks() as own:
        assert own is ALONE
    assert ALONE.gather("x") == ["x"] and ALONE.share("x") == "x"
    assert ranks.name_device("auto") == "auto"
    with pytest.raises(ValueError):
        ALONE.agree(ValueError("met"))


class Together(Ranks):
    """Rank 0 of two, of which the other has met an error."""

    def gather(self, value: Any) -> Any:
        return [value, OSError("of rank 1")]

    def share(self, value: Any) -> Any:
        return value


def test_what_any_rank_meets_is_raised() -> None:
    with pytest.raises(OSError, match="of rank 1"):
        Together(0, 2).agree(None)


def write_suite(data: Path) -> None:
    """Give the mini suite metrics of the whole set."""
    path = data / "suites" / "mini.yaml"
    own = "reconstruction: {metrics: [psnr_db"
    text = path.read_text()
    assert own in text
    path.write_text(text.replace(own, f"{own}, {', '.join(KEYS)}"))


def start(
    data: Path, out: Path, world: int, *more: str, caches: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a run with so many ranks."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world)]
    torchrun += ["--master-port", str(random.SystemRandom().randint(20000, 60000))]
    command = torchrun if world > 1 else [sys.executable]
    options = ["run", "--suite", "mini", "--data", str(data), "--device", "cpu"]
    options += ["-t", ",".join(NAMES), "--batch-size", "2", "--out", str(out), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["XDG_CACHE_HOME"] = str(out.with_name(f"{out.name}-cache"))
    if caches is not None:
        environment["VTBENCH_TEST_CACHES"] = str(caches)
    return subprocess.Popen(
        [*command, str(DRIVER), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


def run(data: Path, out: Path, world: int, *more: str, caches: Path | None = None) -> None:
    process = start(data, out, world, *more, caches=caches)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told.decode()[-3000:]


def compare(one: Path, other: Path) -> None:
    """Assert that two results are of the same rows, distances, aggregates and pictures."""
    for name in NAMES:
        first, second = read_run(one / name), read_run(other / name)
        for a, b in zip(first.rows, second.rows, strict=True):
            kept = [{k: v for k, v in row.items() if k not in TIMES} for row in (a, b)]
            assert kept[0] == kept[1]  # floats too: bit for bit
        assert first.record.key == second.record.key
        assert first.record.n_done == second.record.n_done == len(first.rows)
        assert len(first.record.sets) == 2
        for key, found in first.record.sets.items():
            value = second.record.sets[key].value
            assert found.state == "measured" and found.value is not None and value is not None
            # Features are of one picture each; distances are sums in float64 over the suite's order.
            assert value == pytest.approx(found.value, rel=1e-6)
        for path in ("codes.parquet",):
            files = [folder / name / path for folder in (one, other)]
            assert files[0].exists() == files[1].exists()
            if files[0].exists():
                assert files[0].read_bytes() == files[1].read_bytes()
        panels = [
            {path.name: path.read_bytes() for path in sorted((folder / name).glob("panel/*"))}
            for folder in (one, other)
        ]
        assert panels[0] == panels[1]
        assert not list(other.glob(f".{name}.p*")) and not (other / f".{name}.features").exists()
    numbers = [
        {
            (line.name, key): cell.value
            for line in read_board(folder).lines
            for key, cell in line.cells.items()
            if not key.startswith("cost.") and cell.value is not None
        }
        for folder in (one, other)
    ]
    assert numbers[0].keys() == numbers[1].keys() and len(numbers[0]) > 20
    for key, value in numbers[0].items():
        assert math.isclose(value, numbers[1][key], rel_tol=1e-12, abs_tol=1e-12), key


@pytest.mark.slow
@pytest.mark.long
def test_one_two_and_three_ranks_give_the_same_rows_distances_and_pictures(
    data: Path, tmp_path: Path
) -> None:
    write_suite(data)
    run(data, tmp_path / "one", 1)
    for world in (2, 3):
        # Hosts that share no cache: each rank has its own.
        run(data, tmp_path / f"{world}", world, caches=tmp_path / f"caches-{world}")
        compare(tmp_path / "one", tmp_path / f"{world}")


@pytest.mark.slow
@pytest.mark.long
def test_a_rank_or_the_parent_that_is_killed_costs_nothing_but_time(
    data: Path, tmp_path: Path
) -> None:
    write_suite(data)
    part = ("--task", "reconstruction", "--no-tables")  # features and panel; reading takes longer
    run(data, tmp_path / "one", 1, *part)
    out, draw = tmp_path / "out", random.Random(0)
    process = start(data, out, 2, *part)
    end = time.monotonic() + 300
    while not (out / "suite.json").exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(draw.random() * 3)
    kills.kill_one(process, draw)
    process.communicate()  # closes its pipe
    run(data, out, 3, *part)  # another number of ranks goes on with it
    compare(tmp_path / "one", out)


def test_the_command_line_asks_for_ranks_only_under_torchrun(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--suite", "mini", "--data", str(data), "--out", str(tmp_path / "out")]
    for name, value in (
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "9" * 11),
        ("RANK", "x"),
        ("RANK", "2"),
    ):
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv(name, value)
        assert main(["run", "-t", "identity", *options]) == 2
        said = capsys.readouterr().err
        assert f"{name}={value}: expected a number from" in said and said.count("\n") == 1


EVALUATE = """
import json, sys
from pathlib import Path
import torch, torch.distributed as dist
from torch import nn
import vtbench

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 3, 4, 4)
    def encode(self, images):
        return self.down(images)
    def decode(self, latents):
        return self.up(latents).tanh()

several = len(sys.argv) > 3
if several:
    dist.init_process_group("gloo")
rank = dist.get_rank() if several else 0
model = Model().train()
result = vtbench.evaluate(model, Path(sys.argv[1]), batch_size=2, downsample=4, distributed=several)
assert model.training
scores = {k: v for k, v in result.scores.items() if not k.startswith("cost.")}
ids = [row["id"] for row in result.to_arrow().to_pylist()]
Path(f"{sys.argv[2]}.{rank}").write_text(json.dumps([scores, ids]))
if several:
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_evaluating_inside_a_training_gives_every_rank_the_numbers_of_one_process(
    tmp_path: Path,
) -> None:
    pictures = kills.write_pictures(tmp_path / "pictures", n=7)
    script = tmp_path / "evaluate.py"
    script.write_text(EVALUATE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone, together = tmp_path / "alone", tmp_path / "together"
    subprocess.run(
        [sys.executable, str(script), str(pictures), str(alone)], check=True, env=environment
    )
    port = str(random.SystemRandom().randint(20000, 60000))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*torchrun, "--master-port", port, str(script), str(pictures), str(together), "2"]
    subprocess.run(command, check=True, env=environment)
    expected = json.loads(Path(f"{alone}.0").read_text())
    assert len(expected[1]) == 7 and expected[0]["reconstruction.psnr_db"] > 0
    for rank in range(2):
        assert json.loads(Path(f"{together}.{rank}").read_text()) == expected
