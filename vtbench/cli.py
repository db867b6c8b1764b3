"""The command line: the only place that prints and exits.

Exit 0: everything that was asked for exists. 1: some of it failed, each listed with its reason.
2: what was asked for cannot be. Listing, showing, validating and tabling import no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import vtbench
from vtbench import locations
from vtbench.errors import UnknownName, VtbenchError

EMBEDDED = "embedded"
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE_OR_FOLDER = click.Path(path_type=Path)

registry_option = click.option(
    "--registry",
    "registries",
    type=FOLDER,
    multiple=True,
    metavar="DIR",
    help="A folder of your own entries, beside the shipped ones. Repeatable.",
)
data_option = click.option(
    "--data",
    "data_folders",
    type=FOLDER,
    multiple=True,
    metavar="DIR",
    help="A folder with suites/ and manifests/ of your own. Repeatable.",
)
weights_option = click.option(
    "--weights",
    "weights",
    multiple=True,
    metavar="NAME=PATH",
    help="A local file or folder instead of the entry's own source. Repeatable.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    # Read by OpenMP when torch is first imported. Threads that wait actively for each other slow a
    # small convolution down twentyfold when another process wants the same two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # Outside its standalone mode click returns the status of an Exit instead of raising it.
        status = cli.main(
            args=None if arguments is None else list(arguments), standalone_mode=False
        )
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; finished tokenizers are kept, run the same command to go on")
        return 1
    except VtbenchError as error:
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:  # `vtbench list | head`
        sys.stderr.close()
        return 0


def _complain(message: str) -> None:
    click.echo(f"vtbench: {message}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(vtbench.__version__, prog_name="vtbench")
def cli() -> None:
    """What does a visual tokenizer keep of an image, at what rate, and at what cost?"""


@cli.command()
@click.option("--suite", "suite_name", default=EMBEDDED, show_default=True, metavar="NAME")
@click.option("--images", type=FOLDER, metavar="FOLDER", help="Your own pictures, as a suite.")
@click.option("--tokenizer", "-t", "names", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--family", "families", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="A part of the suite.")
@device_option
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: the suite's.")
@click.option("--ocr", type=click.Choice(["rapidocr", "easyocr"]), help="Default: the suite's.")
@click.option("--batch-size", default="auto", show_default=True, metavar="N|auto")
@click.option("--limit", type=click.IntRange(min=1), help="First N images a task, into scratch.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: results/local/<suite>.")
@click.option("--fresh", is_flag=True, help="Measure again what is complete and current.")
@registry_option
@data_option
@weights_option
def run(
    suite_name: str,
    images: Path | None,
    names: tuple[str, ...],
    families: tuple[str, ...],
    tasks: tuple[str, ...],
    device: str,
    dtype: str | None,
    ocr: str | None,
    batch_size: str,
    limit: int | None,
    out: Path | None,
    fresh: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Measure tokenizers on a suite and write its leaderboard.

    Without --tokenizer or --family: every one whose weights are here.
    """
    from vtbench.leaderboard.tables import render_board, write_board
    from vtbench.plan import Request, choose_entries, parse_batch_size, parse_weights
    from vtbench.registry import load_registry
    from vtbench.suites import folder_suite, load_suite

    suite = folder_suite(images) if images else load_suite(suite_name, data_folders)
    known_tasks = list(suite.protocol.tasks)
    for task in tasks:
        if task not in known_tasks:
            raise UnknownName("task", task, known_tasks)
    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    chosen = choose_entries(registry, names, families, local)
    partial = limit is not None or (tasks != () and set(tasks) != set(known_tasks))
    default = locations.scratch_dir if partial else locations.local_dir
    folder = out or default(suite.name)

    from vtbench.progress import Progress, silence_libraries
    from vtbench.runner import run_suite

    silence_libraries()
    request = Request(
        suite=suite,
        entries=chosen.entries,
        out=folder,
        tasks=tuple(task for task in known_tasks if not tasks or task in tasks),
        device=device,
        dtype=dtype,
        ocr=ocr,
        batch_size=parse_batch_size(batch_size),
        limit=limit,
        fresh=fresh,
        weights=local,
        skipped=chosen.skipped,
        selective=bool(names or families),
    )
    with Progress(request) as progress:
        outcomes = run_suite(request, progress)
    if request.partial:
        click.echo(f"\npartial run: rows are in {folder}, no board is made of them")
    else:
        published = locations.published_dir(suite.name) if suite.published else None
        files = render_board(folder, published=published if _has_runs(published) else None)
        write_board(folder, files)
        _print_board(folder)
        page = folder / "leaderboard.html"
        click.echo(f"\n{folder / 'leaderboard.md'} (also .csv, .tex) · pictures: {page}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        _complain(f"{outcome.run}: {outcome.reason}")
    if failed:
        raise click.exceptions.Exit(1)


def _has_runs(folder: Path | None) -> bool:
    return folder is not None and (folder / "suite.json").is_file()


def _print_board(folder: Path) -> None:
    from rich.console import Console

    from vtbench.leaderboard.tables import terminal_table

    console = Console()
    # Piped output has no width of its own; the table should not be folded into it.
    width = console.width if console.is_terminal else 200
    Console(width=width).print(terminal_table(folder))


@cli.command()
@click.argument("pictures", nargs=-1, required=True, type=FILE_OR_FOLDER, metavar="IMAGE ...")
@click.option("--tokenizer", "-t", "names", multiple=True, required=True, metavar="NAME")
@click.option("--out", type=FOLDER, required=True, metavar="DIR")
@device_option
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32")
@registry_option
@weights_option
def reconstruct(
    pictures: tuple[Path, ...],
    names: tuple[str, ...],
    out: Path,
    device: str,
    dtype: str,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Write reconstructions, error maps and one side-by-side sheet of your own pictures.

    --tokenizer takes several names, each with its own flag or separated by commas.
    """
    from vtbench.plan import choose_entries, parse_weights
    from vtbench.registry import load_registry

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    split = tuple(part for name in names for part in name.split(",") if part)
    chosen = choose_entries(registry, split, (), local)

    from vtbench.progress import silence_libraries
    from vtbench.sheet import reconstruct_pictures

    silence_libraries()
    done = reconstruct_pictures(
        pictures, chosen.entries, out, device=device, dtype=dtype, weights=local, report=click.echo
    )
    click.echo(f"{done.sheet}")
    for failure in done.failures:
        _complain(failure)
    if done.failures:
        raise click.exceptions.Exit(1)


@cli.command("list")
@click.argument("what", default="tokenizers")
@registry_option
@data_option
def list_(what: str, registries: tuple[Path, ...], data_folders: tuple[Path, ...]) -> None:
    """List tokenizers (default), suites, metrics or tasks."""
    from vtbench import listing

    tables = {
        "tokenizers": lambda: listing.list_tokenizers(registries),
        "suites": lambda: listing.list_suites(data_folders),
        "metrics": listing.list_metrics,
        "tasks": listing.list_tasks,
    }
    if what not in tables:
        raise UnknownName("list", what, list(tables))
    click.echo(listing.format_table(tables[what]()))


@cli.command()
@click.argument("name")
@click.option("--measure", is_flag=True, help="Count a tokenizer's parameters and GMAC again.")
@registry_option
@data_option
def show(
    name: str, measure: bool, registries: tuple[Path, ...], data_folders: tuple[Path, ...]
) -> None:
    """Show everything known of a tokenizer, suite or metric.

    --measure builds the tokenizer's architecture without its weights and compares what it counts
    with the entry; a difference of more than half a percent is exit 1.
    """
    from vtbench import listing

    click.echo(listing.describe(name, registries, data_folders))
    if measure:
        table, agrees = listing.compare_cost(name, registries)
        click.echo(f"\n{table}")
        if not agrees:
            raise click.exceptions.Exit(1)


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@device_option
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32")
@click.option("--random-weights", is_flag=True, help="The architecture alone, without its weights.")
@registry_option
@weights_option
def check(
    names: tuple[str, ...],
    device: str,
    dtype: str,
    random_weights: bool,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Take four pictures through the encode/decode contract of each tokenizer, clause by clause.

    NAME may be "all": every one whose weights are here, or with --random-weights every one whose
    architecture is in its entry; the clauses "range" and "levels" are not tried then, since they are
    about trained networks.
    """
    from vtbench.plan import choose_architectures, choose_entries, parse_weights
    from vtbench.registry import load_registry

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    wanted = () if names == ("all",) else names
    if random_weights:
        entries = choose_architectures(registry, wanted)
    else:
        entries = choose_entries(registry, wanted, (), local).entries

    from vtbench.errors import ContractError, RegistryError, WeightsError
    from vtbench.progress import silence_libraries
    from vtbench.suites import load_pixels, load_suite
    from vtbench.tokenizers import build_tokenizer
    from vtbench.tokenizers.contract import CHECK_PICTURES, OF_TRAINED, check_contract

    silence_libraries()
    samples = {sample.id: sample for sample in load_suite(EMBEDDED).samples}
    pictures = [load_pixels(samples[name]) for name in CHECK_PICTURES]
    broken = 0
    skipped = OF_TRAINED if random_weights else ()
    for entry in entries:
        try:
            tokenizer = build_tokenizer(
                entry,
                device=device,
                dtype=dtype,
                weights=local.get(entry.name),
                random_weights=random_weights,
            )
            passed = check_contract(tokenizer, pictures, skip=skipped)
        except ContractError as error:
            _complain(f"{entry.name}: broken clause {error}")
            broken += 1
        except (RegistryError, WeightsError) as error:
            _complain(f"{entry.name}: {error}")
            broken += 1
        else:
            note = f"; random weights: {' and '.join(skipped)} not tried" if skipped else ""
            click.echo(f"{entry.name}: ok ({', '.join(passed)}{note})")
    if broken:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--suite", "suite_name", metavar="NAME", help="What a suite's metrics need.")
@registry_option
@data_option
def fetch(
    names: tuple[str, ...],
    suite_name: str | None,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Download weights: of tokenizers by name, of lpips-alex and lpips-vgg, of a suite's metrics."""
    from vtbench import weights
    from vtbench.registry import load_registry
    from vtbench.suites import load_suite

    registry = load_registry(registries)
    wanted = list(names)
    if suite_name is not None:
        tasks = load_suite(suite_name, data_folders).protocol.tasks.values()
        keys = sorted({key for task in tasks for key in task.metrics})
        wanted += [key.replace("_", "-") for key in keys if key.startswith("lpips_")]
    if not wanted:
        raise click.UsageError("name a tokenizer, lpips-alex, lpips-vgg, or --suite NAME")
    backbones = {f"lpips-{net}": net for net in weights.LPIPS_BACKBONES}
    for name in dict.fromkeys(wanted):
        if name in backbones:
            path = weights.fetch_lpips_backbone(backbones[name])
        else:
            entry = registry[name]
            if entry.weights is None:
                click.echo(f"{name}: needs no weights")
                continue
            found = weights.fetch_weights(entry)
            weights.check_hashes(entry, found)
            path = found.path
        click.echo(f"{name}: {path}")


@cli.command()
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: the results' own folder.")
def leaderboard(results: Path | None, out: Path | None) -> None:
    """Write leaderboard.{md,csv,tex,html} of a folder of results, from its rows alone."""
    from vtbench.leaderboard.tables import render_board, write_board
    from vtbench.results import read_suite_folder

    folder = results or locations.local_dir(EMBEDDED)
    suite = read_suite_folder(folder)
    published = locations.published_dir(suite.name) if suite.published else None
    beside = published is not None and folder.resolve() != published.resolve()
    files = render_board(folder, published=published if beside and _has_runs(published) else None)
    target = out or folder
    write_board(target, files, pictures=folder)
    for name in files:
        click.echo(str(target / name))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=FILE_OR_FOLDER, metavar="PATH ...")
def validate(paths: tuple[Path, ...]) -> None:
    """Check registry entries, suites, data folders and result folders without running anything."""
    from vtbench.validation import validate_path

    bad = 0
    for path in paths:
        try:
            click.echo(f"{path}: ok ({validate_path(path)})")
        except VtbenchError as error:
            _complain(str(error))
            bad += 1
    if bad:
        raise click.exceptions.Exit(2)


@cli.command()
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--to", "target", type=FOLDER, metavar="DIR", help="Default: results/<suite>.")
def publish(results: Path | None, target: Path | None) -> None:
    """Copy complete, clean, pinned runs to the published folder and render its board."""
    from vtbench.publishing import publish_results

    folder = results or locations.local_dir(EMBEDDED)
    for line in publish_results(folder, target):
        click.echo(line)
