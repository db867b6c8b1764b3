"""Sweeps: what the jobs are, and that a launched one ends as one process does though a job is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from vtbench.cli import main
from vtbench.commands.run import run_command
from vtbench.results.folder import read_run
from vtbench.runs import sweep
from vtbench.runs.sweep import Cluster, Job, run_jobs

NAMES = ("identity", "jpeg-q10", "jpeg-q25", "jpeg-q50", "jpeg-q75", "webp-q50")
TIMES = {"encode_s", "decode_s", "peak_memory_mib"}


def test_a_plan_is_a_job_a_tokenizer_and_suite_whose_command_is_a_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--suite", "mini", "--data", str(data), "-t", "identity,jpeg-q10", "--dtype", "bf16"]
    options += ["--task", "reconstruction", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["plan", *options, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [(job["suite"], job["tokenizer"], job["images"]) for job in plan["jobs"]] == [
        ("mini", "identity", 4),
        ("mini", "jpeg-q10", 4),
    ]
    for job in plan["jobs"]:
        program, verb, *arguments = job["command"]
        assert (program, verb) == ("vtbench", "run")
        context = run_command.make_context("run", list(arguments))
        assert context.params["names"] == (job["tokenizer"],)
        assert context.params["dtype"] == "bf16" and context.params["tasks"] == ("reconstruction",)
        assert context.params["tables"] is False
        assert context.params["out"] == tmp_path / "out" / "mini"


def test_a_plan_names_what_it_leaves_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--suite", "mini", "--data", str(data), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    names = {job["tokenizer"] for job in plan["jobs"]}
    skipped = {skip["tokenizer"] for skip in plan["skipped"]}
    assert "identity" in names and "sd-vae-ft-mse" in skipped
    assert not names & skipped


class FakeJob:
    """A job that ends as told: with a status, or dead."""

    def __init__(self, number: int, result: int | None) -> None:
        self.job_id, self._result = str(number), result

    def done(self) -> bool:
        return True

    def result(self) -> int:
        if self._result is None:
            raise RuntimeError("killed\nby somebody")
        return self._result

    def stderr(self) -> str:
        return "vtbench: one: 1 of 4 images failed\n"


class FakeExecutor:
    """Gives out results in turn, and counts how many jobs stand in a batch."""

    cluster = "local"

    def __init__(self, *results: int | None) -> None:
        self.results = list(results)
        self.batches: list[int] = []

    def batch(self) -> FakeExecutor:
        return self

    def __enter__(self) -> None:
        self.batches.append(0)

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, command: Any) -> FakeJob:
        self.batches[-1] += 1
        return FakeJob(len(self.results), self.results.pop(0))


def run_faked(
    monkeypatch: pytest.MonkeyPatch, executor: FakeExecutor, *, jobs: int, at_once: int
) -> tuple[sweep.JobOutcome, ...]:
    monkeypatch.setattr(sweep, "open_executor", lambda cluster: executor)
    monkeypatch.setattr(sweep, "POLL_SECONDS", 0.0)
    planned = [Job("mini", f"t{n}", 4, ("run",)) for n in range(jobs)]
    return run_jobs(planned, Cluster("local", Path("logs"), at_once=at_once, tries=2))


def test_a_job_that_dies_is_run_again_and_one_that_fails_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first dies and then ends, the second fails, the third dies twice.
    executor = FakeExecutor(None, 1, None, 0, None)
    outcomes = run_faked(monkeypatch, executor, jobs=3, at_once=3)
    assert [(o.status, o.tries) for o in outcomes] == [(0, 2), (1, 1), (None, 2)]
    assert outcomes[0].reason is None
    assert outcomes[1].reason == "vtbench: one: 1 of 4 images failed"
    assert outcomes[2].reason is not None and "killed" in outcomes[2].reason


def test_no_more_run_at_once_than_were_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FakeExecutor(*[0] * 5)
    run_faked(monkeypatch, executor, jobs=5, at_once=2)
    assert executor.batches == [2, 2, 1]


@pytest.mark.slow
@pytest.mark.long
def test_a_launched_sweep_with_a_killed_job_ends_as_one_process_does(
    data: Path, tmp_path: Path
) -> None:
    together, launched = tmp_path / "together", tmp_path / "launched"
    options = ["--suite", "mini", "--data", str(data), "-t", ",".join(NAMES), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vtbench"]
    subprocess.run(
        [*command, "run", *options, "--out", str(together / "mini")], check=True, env=environment
    )
    more = ["--out", str(launched), "--cluster", "local", "--at-once", "2"]
    process = subprocess.Popen(
        [*command, "launch", *options, *more, "--logs", str(tmp_path / "logs")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    kill_a_job(process)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert told.count(" died: ") == 1
    assert told.count(": exit 0") == len(NAMES)
    for name in NAMES:
        one, other = (read_run(folder / "mini" / name) for folder in (together, launched))
        assert [without_times(row) for row in one.rows] == [
            without_times(row) for row in other.rows
        ]
        assert one.record.key == other.record.key
    tables = [read_table(folder / "mini" / "leaderboard.json") for folder in (together, launched)]
    assert tables[0] == tables[1]


def kill_a_job(launcher: subprocess.Popen[str]) -> None:
    """Kill the first process of a job that is seen, at whatever moment it is."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for child in psutil.Process(launcher.pid).children(recursive=True):
            if "submitit.core._submit" in child.cmdline():
                time.sleep(2)
                child.send_signal(signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError("no job began")


def without_times(row: Any) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in TIMES}


def read_table(path: Path) -> Any:
    """Return a board without its costs, which are times."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(v) for key, v in value.items() if not key.startswith("cost.")}
        if isinstance(value, list):
            kept = [v for v in value if not (isinstance(v, dict) and v.get("group") == "cost")]
            return [strip(v) for v in kept]
        return value

    return strip(json.loads(path.read_text(encoding="utf-8")))
