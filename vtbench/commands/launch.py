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
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, metavar="N")
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often a job that dies is run at most.",
)
@click.option("--minutes", type=click.IntRange(min=1), default=240, show_default=True)
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--memory-gb", type=click.IntRange(min=1), help="Default: the cluster's.")
@click.option("--partition", metavar="NAME", help="Of Slurm.")
@click.option("--account", metavar="NAME", help="Of Slurm.")
@click.option("--setup", multiple=True, metavar="LINE", help="Shell lines before a Slurm job.")
@click.option(
    "--logs",
    type=FOLDER,
    default=Path("results") / "jobs",
    show_default=True,
    metavar="DIR",
    help="What jobs print.",
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

    All jobs share the folder of results. One that dies is run again and goes on from what it wrote;
    the same command goes on where a launch was interrupted.
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
    jobs = [job for suite, request in pairs for job in sweep.jobs(request, suite)]
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
    if failed or worst:
        raise click.exceptions.Exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)
