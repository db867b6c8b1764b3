"""`vtbench compare`."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base import locations
from vtbench.commands.options import EMBEDDED, FOLDER
from vtbench.commands.published import has_runs


@click.command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B [C ...]")
@click.option(
    "--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded, or published."
)
@click.option(
    "--metric", "keys", multiple=True, metavar="KEY", help="text.cer, psnr_db. Repeatable."
)
def compare_command(names: tuple[str, ...], results: Path | None, keys: tuple[str, ...]) -> None:
    """Test whether runs differ on the same images, and say who is better on what.

    Without --metric: the quality and rate of every task.
    """
    from vtbench.leaderboard.comparison import compare_runs, describe_comparison

    local = locations.local_dir(EMBEDDED)
    folder = results or (local if has_runs(local) else locations.published_dir(EMBEDDED))
    comparison = compare_runs(folder, names, keys)
    for line in describe_comparison(comparison):
        click.echo(line)
    if keys and comparison.uncompared:
        raise click.exceptions.Exit(1)
