"""`vtbench score`: reconstructions that were made elsewhere, against their originals."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base.errors import VtbenchError
from vtbench.commands.options import (
    FILE_OR_FOLDER,
    FOLDER,
    data_option,
    device_option,
    max_pixels_option,
    source_option,
)


@click.command("score")
@click.argument(
    "folders", nargs=-1, required=True, type=FILE_OR_FOLDER, metavar="[ORIGINALS] RECONSTRUCTIONS"
)
@click.option(
    "--suite", "suite_name", metavar="NAME", help="Take this suite's images as originals."
)
@click.option(
    "--name", default="scored", show_default=True, metavar="NAME", help="Name of the row."
)
@click.option(
    "--bits-per-image",
    type=click.FloatRange(min=0, min_open=True),
    metavar="BITS",
    help="Size of an image's code. Without it the row has no rate.",
)
@click.option(
    "--task", "tasks", multiple=True, metavar="NAME", help="Score this task alone. Repeatable."
)
@click.option(
    "--metrics",
    multiple=True,
    metavar="KEY|LIST",
    help="Measure these metrics as well as the suite's. Repeatable.",
)
@max_pixels_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Score the first N images of each task. The run is partial then.",
)
@click.option(
    "--out", type=FOLDER, metavar="DIR", help="Folder of results. Default: results/local/<suite>."
)
@device_option
@data_option
@source_option
def score_command(
    folders: tuple[Path, ...],
    suite_name: str | None,
    name: str,
    bits_per_image: float | None,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    max_pixels: int | None,
    limit: int | None,
    out: Path | None,
    device: str,
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
) -> None:
    """Measure reconstructions that were made elsewhere against their originals.

    ORIGINALS and RECONSTRUCTIONS are folders of images, paired by name. With --suite the originals
    are the suite's images, and only RECONSTRUCTIONS is given: `vtbench reconstruct --suite NAME`
    writes such a folder. The row is marked as scored from files.
    """
    from vtbench.commands.run import finish, measure
    from vtbench.evaluation.score import plan_score
    from vtbench.runs.planning import open_suite
    from vtbench.suites.copies import parse_sources

    if len(folders) != (1 if suite_name else 2):
        wanted = "RECONSTRUCTIONS alone" if suite_name else "ORIGINALS and RECONSTRUCTIONS"
        raise VtbenchError(f"score: expected {wanted}, got {len(folders)} folders")
    suite = open_suite(
        suite_name or folders[0],
        data_folders=data_folders,
        sources=parse_sources(sources),
        max_pixels=max_pixels,
    )
    request = plan_score(
        suite,
        folders[-1],
        name=name,
        bits_per_image=bits_per_image,
        tasks=tasks,
        metrics=metrics,
        limit=limit,
        out=out,
        device=device,
    )
    finish(request, measure(request))
