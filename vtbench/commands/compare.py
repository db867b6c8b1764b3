"""`vtbench compare`: paired tests of runs on the same images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from vtbench.base.text_table import screen_width, wrap_text
from vtbench.commands.json_text import print_json
from vtbench.commands.options import FOLDER, json_option
from vtbench.commands.published import find_results


@click.command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B [C ...]")
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Folder of results. Default: results/local/embedded, or the published ones.",
)
@click.option(
    "--metric",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Compare this column (text.cer), or this metric of every task (psnr_db). Repeatable.",
)
@click.option(
    "--bd",
    "codec",
    metavar="CODEC",
    help="Rate difference to a codec's curve (jpeg) at equal quality.",
)
@click.option(
    "--worst",
    "n_worst",
    type=click.IntRange(min=1, max=1000),
    metavar="N",
    help="List the N images on which two runs differ most, by --metric (psnr_db).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="With --worst: reconstruct these images again and draw them.",
)
@json_option
def compare_command(
    names: tuple[str, ...],
    results: Path | None,
    keys: tuple[str, ...],
    codec: str | None,
    n_worst: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Test whether runs differ on the same images, and print which is better on what.

    Without --metric, quality and rate of every task are compared. With --bd one run is enough;
    several runs form a curve, whose BD-rate is printed too.
    """
    if out is not None and n_worst is None:
        raise click.UsageError("--out is where the strips of --worst go")
    width = screen_width()
    if n_worst is not None:
        from vtbench.commands.worst import describe_deciding, draw_deciding, find_deciding

        folder, key = find_results(results), (*keys, "psnr_db")[0]
        found = find_deciding(folder, names, key, n_worst)
        if out is not None:
            draw_deciding(found, folder, names, out)
        if as_json:
            print_json([asdict(one) for one in found])
            return
        for line in describe_deciding(found, names, key, width):
            click.echo(line)
        return
    if codec is not None:
        from vtbench.leaderboard.rate_difference import compare_with_codec, describe_rates

        suite, differences = compare_with_codec(find_results(results), names, codec, keys)
        if as_json:
            print_json([asdict(difference) for difference in differences])
            return
        for line in describe_rates(suite, codec, differences):
            click.echo(wrap_text(line, width))
        return
    from vtbench.leaderboard.comparison import (
        compare_runs,
        describe_comparison,
        list_differences,
    )

    comparison = compare_runs(find_results(results), names, keys)
    if as_json:
        print_json(list_differences(comparison))
    else:
        for line in describe_comparison(comparison, width):
            click.echo(wrap_text(line, width))
    if keys and comparison.uncompared:
        raise click.exceptions.Exit(1)
