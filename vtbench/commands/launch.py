"""`vtbench launch`: run the jobs of a sweep on this machine or a Slurm cluster, and make the tables."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.commands.complaints import complain, is_quiet
from vtbench.commands.options import FOLDER
from vtbench.commands.plan import Sweep, sweep_options


@click.command("launch")
@sweep_options
@click.option(
    "--cluster",
    type=click.Choice(["auto", "local", "slurm"]),
    default="auto",
    show_default=True,
    help="auto: Slurm where there is one, else this machine.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Jobs that run at the same time.",
)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Attempts for a job that dies.",
)
@click.option(
    "--minutes",
    type=click.IntRange(min=1),
    default=240,
    show_default=True,
    help="Time limit of a job, in minutes.",
)
@click.option(
    "--cpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU cores of a job.",
)
@click.option(
    "--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="GPUs of a job."
)
@click.option(
    "--memory-gb",
    type=click.IntRange(min=1),
    help="Memory of a job, in GB. Default: the cluster's.",
)
@click.option("--partition", metavar="NAME", help="Slurm partition.")
@click.option("--account", metavar="NAME", help="Slurm account.")
@click.option(
    "--setup",
    multiple=True,
    metavar="LINE",
    help="Shell line that runs before a Slurm job. Repeatable.",
)
@click.option(
    "--logs",
    type=FOLDER,
    default=Path("results") / "jobs",
    show_default=True,
    metavar="DIR",
    help="Folder for what the jobs print.",
)
def launch_command(
    sweep: Sweep,
    cluster: str,
    at_once: int,
    tries: int,
    minutes: int,
    cpus: int,
    gpus: int,
    memory_gb: int | None,
    partition: str | None,
    account: str | None,
    setup: tuple[str, ...],
    logs: Path,
) -> None:
    """Run the jobs that `vtbench plan` lists through submitit, wait for them, and make the tables.

    All jobs share one folder of results. A job that dies is run again and resumes from what it wrote.
    If the launch itself is interrupted, the same command resumes it.
    """
    from vtbench.commands.run import finish
    from vtbench.runs.suite_folder import write_suite_folder
    from vtbench.runs.sweep import Cluster, open_executor, run_jobs
    from vtbench.suites.batches import PixelCache

    where = Cluster(
        kind=None if cluster == "auto" else cluster,
        logs=logs,
        at_once=at_once,
        tries=tries,
        minutes=minutes,
        cpus=cpus,
        gpus=gpus,
        memory_gb=memory_gb,
        partition=partition,
        account=account,
        setup=setup,
    )
    open_executor(where)  # refused before anything is written
    pairs = list(zip(sweep.suites, sweep.requests(), strict=True))
    parts = [sweep.split(request, suite) for suite, request in pairs]
    jobs = [job for own, _ in parts for job in own]
    refused = sorted({why for _, reasons in parts for why in reasons.values()})
    if refused and not jobs:  # as `vtbench plan` ends
        complain(*refused)
        raise click.exceptions.Exit(2)
    for _, request in pairs:  # what was left out for want of weights, which no job knows
        write_suite_folder(request, PixelCache())
    outcomes = run_jobs(jobs, where, (lambda line: None) if is_quiet() else _say)
    worst = 0
    for _, request in pairs:
        try:
            finish(
                request,
                (),
                registries=sweep.registries,
                data_folders=sweep.data_folders,
            )
        except click.exceptions.Exit as end:
            worst = max(worst, end.exit_code)
    failed = [outcome for outcome in outcomes if outcome.status != 0]
    for outcome in failed:
        complain(f"{outcome.job.name}: {outcome.reason}")
    complain(*refused)
    if failed or worst or refused:
        raise click.exceptions.Exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)
