"""The command line: the only place that prints and exits.

Exit 0: everything that was asked for exists. 1: some of it failed, each listed with its reason.
2: what was asked for cannot be. Listing, showing, validating and tabling import no torch.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vtbench
from vtbench import locations
from vtbench.errors import ResultsError, UnknownName, VtbenchError, WeightsError

if TYPE_CHECKING:
    from vtbench.plan import Variant

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
source_option = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME=PATH",
    help="A suite's data set: a folder of pictures, tars or Parquet. Else VTBENCH_DATA/NAME.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)
VARIANT_OPTIONS = (
    click.option(
        "--posterior",
        type=click.Choice(["mode", "sample"]),
        default="mode",
        show_default=True,
        help="What of a Gaussian posterior is decoded; a seeded sample is another row.",
    ),
    click.option(
        "--size-policy",
        type=click.Choice(["resize", "tile"]),
        help="How a network of one size sees others. Default: the entry's; the other is another row.",
    ),
    click.option(
        "--decoder-steps", type=click.IntRange(min=1), help="Of diffusion decoders: another row."
    ),
    click.option(
        "--guidance", type=click.FloatRange(1, 100), help="Of diffusion decoders: another row."
    ),
)


def variant_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make another row of an entry, as its argument `variant`."""

    @functools.wraps(command)
    def collect(
        *,
        posterior: str,
        size_policy: str | None,
        decoder_steps: int | None,
        guidance: float | None,
        **others: Any,
    ) -> None:
        from vtbench.plan import Variant

        command(variant=Variant(posterior, size_policy, decoder_steps, guidance), **others)

    decorated: Callable[..., None] = collect
    for option in reversed(VARIANT_OPTIONS):
        decorated = option(decorated)
    return decorated


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
def run(
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
    from vtbench.datasets import parse_sources
    from vtbench.leaderboard.tables import render_board, write_board
    from vtbench.plan import Request, choose_entries, deviate, parse_batch_size, parse_weights
    from vtbench.registry import load_registry
    from vtbench.suites import attach_data, change_crop, folder_suite, load_suite, parse_crop

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
        published = _find_published(suite.name, folder) if suite.published else None
        write_board(folder, render_board(folder, published=published))
        _print_board(folder)
        page = folder / "leaderboard.html"
        click.echo(f"\n{folder / 'leaderboard.md'} (also .csv, .tex) · pictures: {page}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        _complain(f"{outcome.run}: {outcome.reason}")
    if failed:
        raise click.exceptions.Exit(1)


def _has_runs(folder: Path) -> bool:
    return (folder / "suite.json").is_file()


def _find_published(suite: str, folder: Path) -> Path | None:
    """Return the published results to show beside those of a folder; None where there are none, or
    where they are of another schema: that is said, and costs nobody the table of an own run."""
    from vtbench.results import read_suite_folder

    published = locations.published_dir(suite)
    if not _has_runs(published) or published.resolve() == folder.resolve():
        return None
    try:
        read_suite_folder(published)
    except ResultsError as error:
        _complain(f"published results are not shown beside: {error}")
        return None
    return published


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
@variant_options
@registry_option
@weights_option
def reconstruct(
    pictures: tuple[Path, ...],
    names: tuple[str, ...],
    out: Path,
    device: str,
    dtype: str,
    variant: Variant,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Write reconstructions, error maps and one side-by-side sheet of your own pictures.

    --tokenizer takes several names, each with its own flag or separated by commas.
    """
    from vtbench.plan import choose_entries, deviate, parse_weights
    from vtbench.registry import load_registry

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    split = tuple(part for name in names for part in name.split(",") if part)
    chosen = choose_entries(registry, split, (), local)
    chosen = deviate(chosen, split, variant)

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
@click.option("--all", "everything", is_flag=True, help="Also tokenizers that cannot be run.")
@registry_option
@data_option
def list_(
    what: str, everything: bool, registries: tuple[Path, ...], data_folders: tuple[Path, ...]
) -> None:
    """List tokenizers (default), suites, metrics or tasks.

    --all adds those that are known and not runnable as published, in a table of their own.
    """
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
    if what == "tokenizers" and (unreleased := listing.list_unreleased(registries))[1:]:
        if everything:
            click.echo(f"\n{listing.format_table(unreleased)}")
        else:
            names = f"{len(unreleased) - 1} more are known and cannot be run"
            click.echo(f"\n{names}: `vtbench list --all`")


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
@variant_options
@registry_option
@weights_option
def check(
    names: tuple[str, ...],
    device: str,
    dtype: str,
    random_weights: bool,
    variant: Variant,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Take four pictures through the encode/decode contract of each tokenizer, clause by clause.

    NAME may be "all": every one whose weights are here, or with --random-weights every one whose
    architecture is in its entry; the clauses "range" and "levels" are not tried then, since they are
    about trained networks; two pictures are enough, and small ones where the network takes any size,
    beside one of 256×384 and one of 301×203. --posterior, --size-policy, --decoder-steps and --guidance
    are those of `run`: they check another row.
    """
    from vtbench.plan import Chosen, choose_architectures, choose_entries, deviate, parse_weights
    from vtbench.registry import load_registry

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    wanted = () if names == ("all",) else names
    if random_weights:
        chosen = Chosen(choose_architectures(registry, wanted), ())
    else:
        chosen = choose_entries(registry, wanted, (), local)
    chosen = deviate(chosen, wanted, variant)

    from vtbench.errors import ContractError, RegistryError
    from vtbench.progress import silence_libraries
    from vtbench.suites import load_pixels, load_suite
    from vtbench.tokenizers import build_tokenizer
    from vtbench.tokenizers.contract import (
        CHECK_PICTURES,
        ODD_SIZE,
        ODD_SIZES,
        OF_TRAINED,
        SIDE,
        SMALL_SIDE,
        check_contract,
    )

    silence_libraries()
    samples = {sample.id: sample for sample in load_suite(EMBEDDED).samples}
    pictures = [load_pixels(samples[name]) for name in CHECK_PICTURES[: 2 if random_weights else 4]]
    sizes = ODD_SIZES if random_weights else (ODD_SIZE,)
    broken = 0
    skipped = OF_TRAINED if random_weights else ()
    for entry in chosen.entries:
        try:
            tokenizer = build_tokenizer(
                entry,
                device=device,
                dtype=dtype,
                weights=local.get(entry.name),
                random_weights=random_weights,
            )
            small = random_weights and entry.size.fixed is None
            side = SMALL_SIDE if small else SIDE
            passed = check_contract(tokenizer, pictures, side=side, sizes=sizes, skip=skipped)
        except ContractError as error:
            _complain(f"{entry.row}: broken clause {error}")
            broken += 1
        except (RegistryError, WeightsError) as error:
            _complain(f"{entry.row}: {error}")
            broken += 1
        else:
            note = f"; random weights: {' and '.join(skipped)} not tried" if skipped else ""
            click.echo(f"{entry.row}: ok ({', '.join(passed)}{note})")
    if broken:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--suite", "suite_name", metavar="NAME", help="What a suite's metrics need.")
@click.option(
    "--to", "folder", type=FOLDER, metavar="DIR", help="Also into a folder to carry away."
)
@registry_option
@data_option
def fetch(
    names: tuple[str, ...],
    suite_name: str | None,
    folder: Path | None,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Download weights: of tokenizers and of metrics by name, or all that a suite's metrics need.

    What broke off goes on where it stopped. On a machine without a network, VTBENCH_WEIGHTS=DIR
    finds what --to DIR has put together here.
    """
    from vtbench.fetching import choose_weights, fetch_chosen

    chosen = choose_weights(names, suite_name, registries, data_folders)
    if not chosen and suite_name is None:
        raise click.UsageError("name a tokenizer, a metric's weights, or --suite NAME")
    if not chosen:
        click.echo(f"{suite_name}: nothing to fetch, its metrics need no downloaded weights")

    from vtbench.progress import DownloadBars

    failed = 0
    with DownloadBars() as bars:
        for done in fetch_chosen(chosen, folder, bars.report):
            if done.failure is not None:
                _complain(done.failure)
                failed += 1
            else:
                click.echo(f"{done.name}: {done.place}")
    if failed:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH")
@click.option("--yes", is_flag=True, help="Do not ask.")
@registry_option
def convert(
    name: str, file: Path, out: Path | None, yes: bool, registries: tuple[Path, ...]
) -> None:
    """Write the tensors of a checkpoint that a safe load refuses as safetensors.

    For a .pt, .pth, .bin or .ckpt of NAME with other objects beside its tensors (a configuration, a
    trainer). Such a file is a program. It is not run: what it would import and call is replaced by
    placeholders, in a process of its own that has no network and can start no other program, and where
    that cannot be had nothing is read. Convert files whose origin you know, all the same.

    Default of --out: FILE with the ending .safetensors. Give it as --weights NAME=PATH.
    """
    from vtbench.conversion import convert_checkpoint, default_target
    from vtbench.registry import load_registry

    entry = load_registry(registries)[name]
    if not yes:
        warning = (
            f"{file} may be a program that somebody wrote to do harm. vtbench reads it without running "
            "it, in a process without network; convert only what you know the origin of"
        )
        if not sys.stdin.isatty():
            raise WeightsError(f"{warning}: give --yes")
        click.confirm(f"{warning}. Convert it?", abort=True, err=True)
    done = convert_checkpoint(entry, file, out or default_target(file))
    click.echo(f"{done.path}: {done.tensors} tensors, sha256 {done.sha256}")
    if done.left:
        more = f" and {len(done.left) - 5} more" if len(done.left) > 5 else ""
        click.echo(f"left out, and not called: {', '.join(done.left[:5])}{more}")
    click.echo(f"use it: --weights {name}={done.path}")


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@click.option("--update", is_flag=True, help="Pin what is pinned to today's main branch.")
@registry_option
def pin(names: tuple[str, ...], update: bool, registries: tuple[Path, ...]) -> None:
    """Look up revision and sha256 on the hub and write them into the entry's YAML file.

    NAME is a tokenizer or a metric's weights (`vtbench doctor` lists those).
    """
    from vtbench.pins import choose_pins, pin_entry

    failed = 0
    for subject in choose_pins(names, registries):
        try:
            click.echo(pin_entry(subject, update=update))
        except WeightsError as error:
            _complain(str(error))
            failed += 1
    if failed:
        raise click.exceptions.Exit(1)


@cli.command()
@click.option("--suite", "suite_name", metavar="NAME", help="Only what this suite needs.")
@click.option("--verify", is_flag=True, help="Read the weight files through and compare digests.")
@registry_option
@data_option
def doctor(
    suite_name: str | None,
    verify: bool,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Say what is here, what is missing, what each missing file switches off and what brings it."""
    from vtbench.doctor import diagnose

    click.echo(diagnose(suite_name, registries, data_folders, verify=verify))


@cli.command()
@click.argument("name")
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: every suite measured here.")
@registry_option
@data_option
def reproduce(
    name: str,
    results: Path | None,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
) -> None:
    """Print what was published of a tokenizer beside what was measured, and how the two differ."""
    from vtbench import reproduction

    click.echo(reproduction.reproduce(name, results, registries, data_folders))


@cli.command("train-reference")
@click.argument("name")
@click.option("--steps", type=click.IntRange(min=1), help="Default: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Default: the recipe's.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: results/scratch/training/NAME.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint, if it has one.")
@device_option
@registry_option
def train_reference(
    name: str,
    steps: int | None,
    seed: int | None,
    out: Path | None,
    resume: bool,
    device: str,
    registries: tuple[Path, ...],
) -> None:
    """Train a reference tokenizer by the recipe in its entry, on pictures that are made or here.

    Writes NAME.safetensors, log.jsonl, curve.svg and a checkpoint every few minutes. The weights are
    usable from the first checkpoint on: `vtbench run --weights NAME=DIR/NAME.safetensors`.
    """
    from vtbench.progress import Steps, silence_libraries
    from vtbench.registry import load_registry

    entry = load_registry(registries)[name]
    folder = out or locations.scratch_dir("training") / name
    silence_libraries()

    from vtbench.training.trainer import train_reference as train

    with Steps(name, "steps") as progress:
        weights = train(
            entry,
            folder,
            steps=steps,
            seed=seed,
            device=device,
            resume=resume,
            report=progress.report,
        )
    click.echo(f"{weights} (log.jsonl and curve.svg beside it)")


@cli.command()
@click.argument("what", metavar="FOLDER|SUITE")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@data_option
@source_option
def manifest(
    what: str, out: Path | None, data_folders: tuple[Path, ...], sources: tuple[str, ...]
) -> None:
    """Write names, sizes and pixel hashes of a suite's images, or of a folder's, as JSON Lines.

    Default of --out: NAME.jsonl in this folder.
    """
    from vtbench.datasets import parse_sources
    from vtbench.manifests import write_manifest
    from vtbench.suites import attach_data, folder_suite, load_suite, suite_paths

    paths = suite_paths(data_folders)
    if what in paths:
        root = paths[what].parent.parent
        suite = load_suite(what, data_folders)
    elif Path(what).is_dir():
        root = Path(what)
        suite = folder_suite(root)
    else:
        raise UnknownName("suite", what, sorted(paths))
    suite = attach_data(suite, parse_sources(sources))
    target = out or Path(f"{suite.name}.jsonl")

    from vtbench.progress import Steps

    with Steps(suite.name) as steps:
        written = write_manifest(suite, target, root, steps.report)
    if written.sha256 is None:
        for failure in written.failures:
            _complain(failure)
        _complain(f"{target} was not written")
        raise click.exceptions.Exit(1)
    click.echo(f"{target}: {len(suite.samples)} images\nmanifest_sha256: {written.sha256}")


@cli.command()
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Default: the results' own folder.")
def leaderboard(results: Path | None, out: Path | None) -> None:
    """Write leaderboard.{md,csv,tex,html} of a folder of results, from its rows alone."""
    from vtbench.leaderboard.tables import render_board, write_board
    from vtbench.results import read_suite_folder

    folder = results or locations.local_dir(EMBEDDED)
    suite = read_suite_folder(folder)
    published = _find_published(suite.name, folder) if suite.published else None
    files = render_board(folder, published=published)
    target = out or folder
    write_board(target, files, pictures=folder)
    for name in files:
        click.echo(str(target / name))


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="A B [C ...]")
@click.option(
    "--results", type=FOLDER, metavar="DIR", help="Default: results/local/embedded, or published."
)
@click.option(
    "--metric", "keys", multiple=True, metavar="KEY", help="text.cer, psnr_db. Repeatable."
)
def compare(names: tuple[str, ...], results: Path | None, keys: tuple[str, ...]) -> None:
    """Test whether runs differ on the same images, and say who is better on what.

    Without --metric: the quality and rate of every task.
    """
    from vtbench.comparison import compare_runs, describe_comparison

    local = locations.local_dir(EMBEDDED)
    folder = results or (local if _has_runs(local) else locations.published_dir(EMBEDDED))
    comparison = compare_runs(folder, names, keys)
    for line in describe_comparison(comparison):
        click.echo(line)
    if keys and comparison.uncompared:
        raise click.exceptions.Exit(1)


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
