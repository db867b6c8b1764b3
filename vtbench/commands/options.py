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
    help="Folder of your own entries, added to the shipped ones. Repeatable.",
)

data_option = click.option(
    "--data",
    "data_folders",
    type=FOLDER,
    multiple=True,
    metavar="DIR",
    help="Folder with your own suites/ and manifests/. Repeatable.",
)

weights_option = click.option(
    "--weights",
    "weights",
    multiple=True,
    metavar="NAME=PATH",
    help="Weights of NAME: a local file or folder, in place of the entry's source. Repeatable.",
)

source_option = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME=PATH",
    help="Data set NAME: a folder of images, tars or Parquet. Default: $VTBENCH_DATA/NAME.",
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device of the networks: auto, cpu, cuda, cuda:N or mps.",
)

batch_size_option = click.option(
    "--batch-size",
    default="suite",
    show_default=True,
    metavar="N|auto|suite",
    help="Images of 256x256 in a batch, fewer larger ones. auto finds the fastest that fits.",
)

compile_option = click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile the networks with torch.compile, after a comparison with the uncompiled ones.",
)

tokenizers_option = click.option(
    "--tokenizer",
    "-t",
    "names",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Tokenizer to use. Repeatable, or separated by commas.",
)

dtype_option = click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Dtype of the network.",
)

max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Refuse images of more than N pixels. Default: 24500000.",
)

JSON_HELP = "Print JSON in place of text."

json_option = click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
VARIANT_OPTIONS = (
    click.option(
        "--posterior",
        type=click.Choice(["mode", "sample"]),
        default="mode",
        show_default=True,
        help="Latent of a KL autoencoder: the posterior's mode, or a seeded sample (a separate row).",
    ),
    click.option(
        "--size-policy",
        type=click.Choice(["resize", "tile"]),
        help="How a fixed-size network takes other sizes. A separate row unless it is the entry's own.",
    ),
    click.option(
        "--decoder-steps",
        type=click.IntRange(min=1),
        help="Sampling steps of a diffusion decoder. Reported as a separate row.",
    ),
    click.option(
        "--guidance",
        type=click.FloatRange(1, 100),
        help="Guidance scale of a diffusion decoder. Reported as a separate row.",
    ),
    click.option(
        "--tokens",
        metavar="N,...",
        help="Keep the first N of ordered tokens. Each N is reported as a separate row.",
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
