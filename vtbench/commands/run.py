"""`vtbench run`: measure tokenizers on a suite, and write its leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtbench.base.errors import VtbenchError
from vtbench.commands.complaints import complain
from vtbench.commands.efficiency import EFFICIENCY, CostOptions, cost_options, run_efficiency
from vtbench.commands.options import (
    EMBEDDED,
    FOLDER,
    batch_size_option,
    compile_option,
    data_option,
    device_option,
    max_pixels_option,
    registry_option,
    source_option,
    variant_options,
    weights_option,
)
from vtbench.commands.published import find_published
from vtbench.metrics.ocr import ENGINES
from vtbench.runs.ranks import ALONE, Ranks, join_ranks, name_device
from vtbench.runs.request import Request, Variant, parse_batch_size, parse_weights

if TYPE_CHECKING:
    from vtbench.runs.outcome import Outcome


@click.command("run")
@click.option(
    "--suite",
    "suite_name",
    default=EMBEDDED,
    show_default=True,
    metavar="NAME",
    help="Suite to measure on.",
)
@click.option(
    "--images", type=FOLDER, metavar="FOLDER", help="Measure on a folder of your own images."
)
@click.option(
    "--tokenizer",
    "-t",
    "names",
    multiple=True,
    metavar="NAME",
    help="Tokenizer to measure. Repeatable, or separated by commas.",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    help="All tokenizers of a family. Repeatable.",
)
@click.option("--curves", is_flag=True, help="Also measure all points of the codecs' curves.")
@click.option(
    "--module",
    metavar="MODULE:FUNCTION",
    help="Your own tokenizer: MODULE's FUNCTION() returns a model or a Tokenizer.",
)
@click.option(
    "--task", "tasks", multiple=True, metavar="NAME", help="Measure this task alone. Repeatable."
)
@click.option(
    "--metrics",
    multiple=True,
    metavar="KEY|LIST",
    help="Measure these metrics as well as the suite's. Repeatable.",
)
@device_option
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Dtype of the networks. Default: the suite's.",
)
@compile_option
@click.option("--ocr", type=click.Choice(ENGINES), help="OCR engine. Default: the suite's.")
@variant_options
@click.option("--crop", metavar="NAME-SIZE", help="Crop: adm-256, none, ... Default: the suite's.")
@batch_size_option
@max_pixels_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Measure the first N images of each task. The run is partial then.",
)
@click.option(
    "--out", type=FOLDER, metavar="DIR", help="Folder of results. Default: results/local/<suite>."
)
@click.option("--fresh", is_flag=True, help="Measure again instead of reusing results.")
@click.option(
    "--tables/--no-tables",
    default=True,
    help="Write the leaderboard at the end, or not: jobs of a sweep leave it to `launch`.",
)
@click.option(
    "--keep-reconstructions",
    "keep",
    is_flag=True,
    help="Keep reconstructions as PNG beside the results, for metrics that are added later.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and for how long.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --dry-run: print JSON in place of text."
)
@cost_options
@registry_option
@data_option
@source_option
@weights_option
@click.pass_context
def run_command(
    context: click.Context,
    suite_name: str,
    images: Path | None,
    names: tuple[str, ...],
    families: tuple[str, ...],
    curves: bool,
    module: str | None,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    device: str,
    dtype: str | None,
    compiled: bool,
    ocr: str | None,
    variant: Variant,
    crop: str | None,
    batch_size: str,
    max_pixels: int | None,
    limit: int | None,
    out: Path | None,
    fresh: bool,
    tables: bool,
    cost: CostOptions,
    keep: bool,
    dry_run: bool,
    as_json: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
    weights: tuple[str, ...],
) -> None:
    """Measure tokenizers on a suite and write its leaderboard.

    Without --tokenizer and --family, every tokenizer whose weights are on this machine is measured.
    --tokenizer takes several names, each with its own flag or separated by commas. A run with
    --limit or --task is partial: its table says so, and it is never published. --task efficiency
    measures the cost of encoding and decoding alone: latency, throughput, memory, GMAC.
    """
    if EFFICIENCY in tasks:
        run_efficiency(
            context,
            cost,
            names=split_names(names),
            families=families,
            variant=variant,
            device=device,
            dtype=dtype,
            out=out,
            fresh=fresh,
            registries=registries,
            weights=weights,
        )
        return
    cost.refuse_without_task(context)
    from vtbench.commands.dry_run import foretell
    from vtbench.registry.entries import load_registry
    from vtbench.runs.planning import open_suite, plan_run
    from vtbench.suites.copies import parse_sources

    suite = open_suite(
        images or suite_name,
        data_folders=data_folders,
        sources=parse_sources(sources),
        out=out,
        max_pixels=max_pixels,
    )
    registry = load_registry(registries)
    options: dict[str, Any] = {"tasks": tasks, "metrics": metrics, "limit": limit, "ocr": ocr}
    size = parse_batch_size(batch_size)
    options |= {"batch_size": size, "fresh": fresh, "keep": keep, "out": out}
    if module is not None and compiled:
        raise VtbenchError(
            "--compile: not with --module: let your function return a compiled model"
        )
    if module is not None and not (dry_run or as_json):
        from vtbench.commands.own_module import plan_module

        request = plan_module(module, suite, names, families, options)
    else:
        options |= {"families": families, "variant": variant, "curves": curves, "crop": crop}
        options |= {"compiled": compiled}
        options |= {"dtype": dtype, "weights": parse_weights(weights, registry)}
        options["device"] = name_device(device)
        if dry_run or as_json:
            how: dict[str, Any] = {"module": module, "dry_run": dry_run, "as_json": as_json}
            foretell(suite, registry, split_names(names), options, **how)
            return
        request = plan_run(suite, registry, names=split_names(names), **options)
    with join_ranks() as ranks:
        outcomes = measure(request, ranks)
    if ranks.first:
        own = {"registries": registries, "data_folders": data_folders}
        finish(request, outcomes, tables=tables, **own)


def split_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, of which one option may hold several with commas between them."""
    return tuple(part for name in names for part in name.split(",") if part)


def measure(request: Request, ranks: Ranks = ALONE) -> tuple[Outcome, ...]:
    """Run the request with a progress bar and return how each tokenizer's run ended.

    ranks: this process among those that torchrun started; the first one alone has the bar."""
    from vtbench.commands.progress import Progress, Silence, silence_libraries
    from vtbench.runs.runner import run_suite

    silence_libraries()
    if not ranks.first:
        return run_suite(request, Silence(), steady=True, ranks=ranks)
    with Progress(request) as progress:
        return run_suite(request, progress, steady=True, ranks=ranks)


def finish(
    request: Request,
    outcomes: tuple[Outcome, ...],
    *,
    registries: Sequence[Path] = (),
    data_folders: Sequence[Path] = (),
    tables: bool = True,
) -> None:
    """Write and print the leaderboard, and say what failed. Raises click's Exit(1) for failures.

    tables: False for a job of several, which leaves the leaderboard to whoever waits for them all."""
    damaged = (
        _write_tables(request, registries=registries, data_folders=data_folders) if tables else ()
    )
    suite = request.suite
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    unreadable = {failure for outcome in outcomes for failure in outcome.unreadable}
    complaints = [suite.left_out] if suite.left_out else []
    complaints += sorted(f"{failure.id}: left out: {failure.error}" for failure in unreadable)
    complaints += [f"{outcome.run}: {outcome.reason}" for outcome in failed]
    complaints += [f"{complaint}: left out of the board" for complaint in damaged]
    for complaint in complaints:
        complain(complaint)
    if outcomes and all(outcome.refused for outcome in outcomes):
        raise click.exceptions.Exit(2)
    if failed or unreadable or damaged:
        raise click.exceptions.Exit(1)


def _write_tables(
    request: Request, *, registries: Sequence[Path], data_folders: Sequence[Path]
) -> tuple[str, ...]:
    """Write and print the leaderboard; return what of the folder is damaged."""
    from rich.console import Console

    from vtbench.commands.site_pages import PAGE, write_pages
    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.tables import read_beside, render_board, write_board
    from vtbench.leaderboard.terminal import terminal_table

    folder, suite = request.out, request.suite
    whole = suite.published and not request.partial
    published = find_published(suite.name, folder) if whole else None
    board = read_board(folder)
    beside = read_beside(folder, published)
    write_board(folder, render_board(board, published=beside))
    page = write_pages(
        folder / PAGE,
        [board.suite.name],
        [(board, folder, beside)],
        registries=registries,
        data_folders=data_folders,
    )
    console = Console()
    # Piped output has no width of its own; the table should not be folded into it.
    width = console.width if console.is_terminal else 200
    asked = request.metrics
    Console(width=width).print(terminal_table(board, width=width, asked=asked))
    partial = "partial run, never published · " if request.partial else ""
    tables = f"{folder / 'leaderboard.md'} (also .csv, .tex, .json)"
    click.echo(f"\n{partial}{tables} · page: {page}")
    return tuple(board.damaged)
