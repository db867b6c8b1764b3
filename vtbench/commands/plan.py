"""`vtbench plan`: list the independent jobs of a sweep, a tokenizer on a suite each."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtbench.base.errors import WeightsError
from vtbench.commands.complaints import complain
from vtbench.commands.json_text import print_json
from vtbench.commands.options import (
    EMBEDDED,
    FOLDER,
    batch_size_option,
    compile_option,
    data_option,
    device_option,
    json_option,
    registry_option,
    source_option,
    weights_option,
)
from vtbench.runs.sweep import Job

if TYPE_CHECKING:
    from vtbench.results.schema import Skipped
    from vtbench.runs.request import Request


@dataclass(frozen=True)
class Sweep:
    """What a sweep was asked for: the suites, the tokenizers, and the options of each `run`."""

    suites: tuple[str, ...]
    names: tuple[str, ...]
    families: tuple[str, ...]
    device: str
    out: Path | None
    registries: tuple[Path, ...]
    data_folders: tuple[Path, ...]
    sources: tuple[str, ...]
    weights: tuple[str, ...]
    passed_on: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    dtype: str | None
    compiled: bool
    limit: int | None

    def requests(self) -> list[Request]:
        """Return what each suite's `run` would be asked for. Raises as `plan_run`."""
        from vtbench.commands.run import split_names
        from vtbench.registry.entries import load_registry
        from vtbench.runs.planning import open_suite, plan_run
        from vtbench.runs.request import parse_weights
        from vtbench.suites.copies import parse_sources

        registry = load_registry(self.registries)
        requests = []
        for name in self.suites:
            suite = open_suite(
                name, data_folders=self.data_folders, sources=parse_sources(self.sources)
            )
            requests.append(
                plan_run(
                    suite,
                    registry,
                    names=split_names(self.names),
                    families=self.families,
                    tasks=self.tasks,
                    metrics=self.metrics,
                    weights=parse_weights(self.weights, registry),
                    dtype=self.dtype,
                    compiled=self.compiled,
                    device=self.device,
                    limit=self.limit,
                    out=None if self.out is None else self.out / suite.folder,
                )
            )
        return requests

    def split(self, request: Request, suite: str) -> tuple[list[Job], dict[str, str]]:
        """Return the jobs of a suite, a tokenizer each, and why other tokenizers have none, by name:
        files of weights that are not whole.

        Of each file the header or directory is read; its digest is compared by the job itself.
        """
        from vtbench.weights.entries import check_containers, find_weights

        reasons = {}
        for entry in request.entries:
            try:
                found = find_weights(entry, (request.weights or {}).get(entry.name))
                if found is not None:
                    check_containers(entry, found)
            except WeightsError as error:
                reasons[entry.name] = str(error)
        images = len(request.samples())
        jobs = [
            Job(suite, entry.name, images, self._arguments(request, suite, entry.name))
            for entry in request.entries
            if entry.name not in reasons
        ]
        return jobs, reasons

    def _arguments(self, request: Request, suite: str, tokenizer: str) -> tuple[str, ...]:
        own = tuple(pair for pair in self.weights if pair.partition("=")[0] == tokenizer)
        repeated = {
            "--registry": self.registries,
            "--data": self.data_folders,
            "--source": self.sources,
            "--weights": own,
        }
        more = [
            part for option, values in repeated.items() for v in values for part in (option, str(v))
        ]
        start = ("run", "--suite", suite, "--tokenizer", tokenizer, "--device", self.device)
        return (*start, "--out", str(request.out), "--no-tables", *self.passed_on, *more)


_FIELDS = frozenset(field.name for field in fields(Sweep))

SWEEP_OPTIONS = (
    click.option(
        "--suite",
        "suites",
        multiple=True,
        metavar="NAME",
        help="Suite to measure on. Repeatable. Default: embedded.",
    ),
    click.option(
        "--tokenizer",
        "-t",
        "names",
        multiple=True,
        metavar="NAME",
        help="Tokenizer to measure. Repeatable, or separated by commas.",
    ),
    click.option(
        "--family",
        "families",
        multiple=True,
        metavar="NAME",
        help="All tokenizers of a family. Repeatable.",
    ),
    click.option(
        "--task",
        "tasks",
        multiple=True,
        metavar="NAME",
        help="Measure this task alone. Repeatable.",
    ),
    click.option(
        "--metrics",
        multiple=True,
        metavar="KEY|LIST",
        help="Measure these metrics as well as the suites'. Repeatable.",
    ),
    device_option,
    click.option(
        "--dtype",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Dtype of the networks. Default: the suite's.",
    ),
    compile_option,
    batch_size_option,
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        help="Measure the first N images of each task. The runs are partial then.",
    ),
    click.option(
        "--out",
        type=FOLDER,
        metavar="DIR",
        help="Results go to DIR/<suite>. Default: results/local.",
    ),
    click.option("--fresh", is_flag=True, help="Measure again instead of reusing results."),
    registry_option,
    data_option,
    source_option,
    weights_option,
)


def sweep_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what a sweep measures, as its argument `sweep`."""

    @functools.wraps(command)
    def collect(*, batch_size: str, fresh: bool, **others: Any) -> None:
        from vtbench.runs.request import parse_batch_size

        parse_batch_size(batch_size)
        own = {key: others.pop(key) for key in list(others) if key in _FIELDS}
        own["suites"] = own["suites"] or (EMBEDDED,)
        passed_on = [part for task in own["tasks"] for part in ("--task", task)]
        passed_on += [part for key in own["metrics"] for part in ("--metrics", key)]
        passed_on += [] if own["dtype"] is None else ["--dtype", own["dtype"]]
        passed_on += ["--compile"] if own["compiled"] else []
        passed_on += [] if batch_size == "suite" else ["--batch-size", batch_size]
        passed_on += [] if own["limit"] is None else ["--limit", str(own["limit"])]
        passed_on += ["--fresh"] if fresh else []
        command(sweep=Sweep(**own, passed_on=tuple(passed_on)), **others)

    decorated: Callable[..., None] = collect
    for option in reversed(SWEEP_OPTIONS):
        decorated = option(decorated)
    return decorated


@click.command("plan")
@sweep_options
@json_option
def plan_command(sweep: Sweep, as_json: bool) -> None:
    """List the independent jobs of a sweep. A job is one tokenizer on one suite.

    Each job has a command, which can also be run by hand. `vtbench launch` with the same options runs
    all of them. Without --tokenizer and --family, every tokenizer whose weights are on this machine is
    measured.

    A tokenizer whose file of weights is not whole is named, and has no job.
    """
    jobs: list[Job] = []
    skipped, refused = [], []
    for suite, request in zip(sweep.suites, sweep.requests(), strict=True):
        own, reasons = sweep.split(request, suite)
        jobs += own
        skipped += [(suite, skip) for skip in request.skipped]
        refused += [(suite, name, reason) for name, reason in reasons.items()]
    _print_plan(jobs, skipped, refused, as_json=as_json)
    for reason in dict.fromkeys(reason for _, _, reason in refused):
        complain(reason)
    if refused:
        raise click.exceptions.Exit(1 if jobs else 2)


def _print_plan(
    jobs: Sequence[Job],
    skipped: Sequence[tuple[str, Skipped]],
    refused: Sequence[tuple[str, str, str]],
    *,
    as_json: bool,
) -> None:
    from vtbench.base.text_table import format_table

    if as_json:
        print_json(
            {
                "jobs": [
                    {
                        "suite": job.suite,
                        "tokenizer": job.tokenizer,
                        "images": job.images,
                        "command": ["vtbench", *job.arguments],
                    }
                    for job in jobs
                ],
                "skipped": [
                    {"suite": suite, "tokenizer": skip.name, "reason": skip.reason}
                    for suite, skip in skipped
                ],
                "refused": [
                    {"suite": suite, "tokenizer": name, "reason": reason}
                    for suite, name, reason in refused
                ],
            }
        )
        return
    rows = [("suite", "tokenizer", "images", "command")]
    rows += [
        (job.suite, job.tokenizer, str(job.images), shlex.join(["vtbench", *job.arguments]))
        for job in jobs
    ]
    if jobs:
        click.echo(format_table(rows))
    if skipped:
        click.echo(f"\n{len(skipped)} left out, since their weights are missing: --json names them")
