"""`vtbench run`."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import UnknownName
from vtbench.commands.complaints import complain
from vtbench.commands.options import (
    EMBEDDED,
    FOLDER,
    data_option,
    device_option,
    registry_option,
    source_option,
    variant_options,
    weights_option,
)
from vtbench.commands.published import find_published
from vtbench.runs.request import Variant


@click.command("run")
@click.option("--suite", "suite_name", default=EMBEDDED, show_default=True, metavar="NAME")
@click.option("--images", type=FOLDER, metavar="FOLDER", help="Your own pictures, as a suite.")
@click.option("--tokenizer", "-t", "names", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--family", "families", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="A part of the suite.")
@device_option
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: the suite's.")
@click.option("--ocr", type=click.Choice(["rapidocr", "easyocr"]), help="Default: the suite's.")
@variant_options
@click.option("--crop", metavar="NAME-SIZE", help="Default: the suite's; adm-256, none, ...")
@click.option("--batch-size", default="auto", show_default=True, metavar="N|auto")
@click.option("--limit", type=click.IntRange(min=1), help="First N images a task, into scratch.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: results/local/<suite>.")
@click.option("--fresh", is_flag=True, help="Measure again what is complete and current.")
@registry_option
@data_option
@source_option
@weights_option
def run_command(
    suite_name: str,
    images: Path | None,
    names: tuple[str, ...],
    families: tuple[str, ...],
    tasks: tuple[str, ...],
    device: str,
    dtype: str | None,
    ocr: str | None,
    variant: Variant,
    crop: str | None,
    batch_size: str,
    limit: int | None,
    out: Path | None,
    fresh: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
    weights: tuple[str, ...],
) -> None:
    """Measure tokenizers on a suite and write its leaderboard.

    Without --tokenizer or --family: every one whose weights are here.
    """
    from vtbench.leaderboard.tables import render_board, write_board
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import (
        Request,
        choose_entries,
        deviate,
        parse_batch_size,
        parse_weights,
    )
    from vtbench.suites.copies import parse_sources
    from vtbench.suites.crops import change_crop, parse_crop
    from vtbench.suites.image_folder import folder_suite
    from vtbench.suites.suites import attach_data, load_suite

    suite = folder_suite(images) if images else load_suite(suite_name, data_folders)
    suite = own = attach_data(suite, parse_sources(sources))
    if crop is not None:
        suite = change_crop(own, parse_crop(crop))
    known_tasks = list(suite.protocol.tasks)
    for task in tasks:
        if task not in known_tasks:
            raise UnknownName("task", task, known_tasks)
    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    chosen = choose_entries(registry, names, families, local)
    chosen = deviate(chosen, names, variant)
    partial = limit is not None or (tasks != () and set(tasks) != set(known_tasks))
    default = locations.scratch_dir if partial else locations.local_dir
    folder = out or default(suite.name)

    from vtbench.commands.progress import Progress, silence_libraries
    from vtbench.runs.runner import run_suite

    silence_libraries()
    request = Request(
        suite=suite,
        entries=chosen.entries,
        out=folder,
        tasks=tuple(task for task in known_tasks if not tasks or task in tasks),
        device=device,
        dtype=dtype,
        ocr=ocr,
        crop=crop if suite is not own else None,
        batch_size=parse_batch_size(batch_size),
        limit=limit,
        fresh=fresh,
        weights=local,
        skipped=chosen.skipped,
        selective=bool(names or families or variant.changes),
    )
    with Progress(request) as progress:
        outcomes = run_suite(request, progress)
    if request.partial:
        click.echo(f"\npartial run: rows are in {folder}, no board is made of them")
    else:
        published = find_published(suite.name, folder) if suite.published else None
        write_board(folder, render_board(folder, published=published))
        _print_board(folder)
        page = folder / "leaderboard.html"
        click.echo(f"\n{folder / 'leaderboard.md'} (also .csv, .tex) · pictures: {page}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        complain(f"{outcome.run}: {outcome.reason}")
    if failed:
        raise click.exceptions.Exit(1)


def _print_board(folder: Path) -> None:
    from rich.console import Console

    from vtbench.leaderboard.terminal import terminal_table

    console = Console()
    # Piped output has no width of its own; the table should not be folded into it.
    width = console.width if console.is_terminal else 200
    Console(width=width).print(terminal_table(folder))
