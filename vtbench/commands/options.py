"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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

max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="A picture of more is refused. Default: 24500000.",
)

JSON_HELP = "Print JSON, for programs, in place of text."

json_option = click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
VARIANT_OPTIONS = (
    click.option(
        "--posterior",
        type=click.Choice(["mode", "sample"]),
        default="mode",
        show_default=True,
        help="Decode a Gaussian posterior's mode or a seeded sample (a separate row).",
    ),
    click.option(
        "--size-policy",
        type=click.Choice(["resize", "tile"]),
        help="How a fixed-size network gets other sizes. Another than the entry's: a separate row.",
    ),
    click.option(
        "--decoder-steps",
        type=click.IntRange(min=1),
        help="Sampling steps of a diffusion decoder (a separate row).",
    ),
    click.option(
        "--guidance",
        type=click.FloatRange(1, 100),
        help="Guidance scale of a diffusion decoder (a separate row).",
    ),
    click.option(
        "--tokens",
        metavar="N,...",
        help="The first N of ordered tokens: another row for each N.",
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
        tokens: str | None,
        **others: Any,
    ) -> None:
        from vtbench.runs.request import Variant, parse_counts

        counts = parse_counts(tokens or "")
        variant = Variant(posterior, size_policy, decoder_steps, guidance, counts)
        command(variant=variant, **others)

    decorated: Callable[..., None] = collect
    for option in reversed(VARIANT_OPTIONS):
        decorated = option(decorated)
    return decorated
