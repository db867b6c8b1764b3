"""Sweeps: many tokenizers on one or several suites as jobs that know nothing of each other.

    plan_jobs ─► a job a tokenizer and suite, each a command line ─► run_jobs ─► submitit

A job measures one tokenizer into the results folder that all share; a lock a run lets one process write
it. A job that dies leaves a partial file, and the next one of the same command goes on from it where its
key is the same (same device, threads, libraries and code), and measures again where it is not. Tables
are made once, at the end, from the rows of all.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.base.errors import VtbenchError

POLL_SECONDS = 1.0

TRIES = 3


@dataclass(frozen=True)
class Job:
    """One tokenizer on one suite.

    Args:
        suite: the suite's name, or that of a folder of images.
        tokenizer: the entry's name.
        images: of the suite that it measures.
        arguments: of `vtbench`, which measure it.
    """

    suite: str
    tokenizer: str
    images: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.suite}/{self.tokenizer}"


class CommandJob:
    """What a job runs: the command line in its own process.

    Args:
        arguments: of `vtbench`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = tuple(arguments)

    def __call__(self) -> int:
        """Return the command's exit status."""
        # As `python -m vtbench`: what is killed is the job itself, never a process below it.
        sys.argv = ["vtbench", *self.arguments]
        try:
            runpy.run_module("vtbench", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    def checkpoint(self) -> Any:
        """Return what a cluster runs again after it took the machine away: the same command, which goes
        on from what was written."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Cluster:
    """Where jobs run.

    Args:
        kind: "local", "slurm", or None for Slurm where there is one, else this machine.
        logs: the folder for what jobs print.
        at_once: how many run at a time.
        tries: attempts for a job that dies.
        minutes: the time limit of a job.
        cpus: the CPU cores of a job.
        gpus: the GPUs of a job.
        memory_gb: the memory of a job; None for the cluster's default.
        partition: the Slurm partition.
        account: the Slurm account.
        setup: shell lines that run before a Slurm job.
    """

    kind: str | None
    logs: Path
    at_once: int = 1
    tries: int = TRIES
    minutes: int = 240
    cpus: int = 1
    gpus: int = 0
    memory_gb: int | None = None
    partition: str | None = None
    account: str | None = None
    setup: tuple[str, ...] = ()


@dataclass
class JobOutcome:
    """How a job ended: its command's exit status, or None where it died each time it was tried."""

    job: Job
    status: int | None = None
    tries: int = 0
    reason: str | None = None


@dataclass
class _Queue:
    """Jobs that wait, and those that run, with what submitit knows of them."""

    waiting: list[JobOutcome]
    running: list[tuple[JobOutcome, Any]] = field(default_factory=list)


def open_executor(cluster: Cluster) -> Any:
    """Return submitit's executor. Raises VtbenchError where submitit or the cluster is not here."""
    try:
        import submitit
    except ImportError:
        raise VtbenchError(
            "submitit is not installed, which launches jobs: pip install 'vtbench[cluster]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=cluster.logs, cluster=cluster.kind)
    except (RuntimeError, ValueError, OSError) as error:
        raise VtbenchError(f"--cluster {cluster.kind}: {error}") from error
    options: dict[str, Any] = {
        "name": "vtbench",
        "timeout_min": cluster.minutes,
        "cpus_per_task": cluster.cpus,
        "gpus_per_node": cluster.gpus,
    }
    if cluster.memory_gb is not None:
        options["mem_gb"] = cluster.memory_gb
    if executor.cluster == "slurm":
        options["slurm_array_parallelism"] = cluster.at_once
        of_slurm = {"partition": cluster.partition, "account": cluster.account}
        options |= {f"slurm_{key}": value for key, value in of_slurm.items() if value}
        if cluster.setup:
            options["slurm_setup"] = list(cluster.setup)
    executor.update_parameters(**options)
    return executor


def run_jobs(
    jobs: Sequence[Job], cluster: Cluster, heard: Callable[[str], None] = lambda line: None
) -> tuple[JobOutcome, ...]:
    """Run the jobs, those that die again, and return how each ended.

    heard: is told what is submitted, ends and dies. On Slurm all that wait are one array, of which
    `at_once` run; elsewhere `at_once` are started, and the next when one ends.
    """
    executor = open_executor(cluster)
    outcomes = [JobOutcome(job) for job in jobs]
    queue = _Queue(waiting=list(outcomes))
    while queue.waiting or queue.running:
        free = len(queue.waiting)
        if executor.cluster != "slurm":
            free = min(free, cluster.at_once - len(queue.running))
        if free > 0:
            _submit(executor, queue, free, heard)
        for outcome, job in list(queue.running):
            if job.done():
                queue.running.remove((outcome, job))
                _take_result(outcome, job, heard)
                if outcome.status is None and outcome.tries < cluster.tries:
                    queue.waiting.append(outcome)
        if queue.running:
            time.sleep(POLL_SECONDS)
    return tuple(outcomes)


def _submit(executor: Any, queue: _Queue, count: int, heard: Callable[[str], None]) -> None:
    some, queue.waiting = queue.waiting[:count], queue.waiting[count:]
    with executor.batch():
        submitted = [executor.submit(CommandJob(outcome.job.arguments)) for outcome in some]
    for outcome, job in zip(some, submitted, strict=True):
        outcome.tries += 1
        heard(f"{outcome.job.name}: job {job.job_id}")
        queue.running.append((outcome, job))


def _take_result(outcome: JobOutcome, job: Any, heard: Callable[[str], None]) -> None:
    """Take a job's exit status; what died has none."""
    name = outcome.job.name
    try:
        outcome.status = int(job.result())
        outcome.reason = None if outcome.status == 0 else _find_complaint(job)
        heard(f"{name}: exit {outcome.status}")
    except Exception as error:  # submitit raises what the job raised, and its own for one that died
        lines = str(error).strip().splitlines()
        outcome.reason = f"its job {job.job_id} died: {lines[0] if lines else type(error).__name__}"
        heard(f"{name}: {outcome.reason}")


def _find_complaint(job: Any) -> str:
    """Return the last line that a job's command wrote on standard error."""
    lines = [line for line in (job.stderr() or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"see {job.paths.stderr}"
