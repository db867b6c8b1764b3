"""`vtbench train-reference`: trains a small tokenizer by the recipe in its entry."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base import locations
from vtbench.commands.options import FOLDER, device_option, registry_option


@click.command("train-reference")
@click.argument("name")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps. Default: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed. Default: the recipe's.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder to write. Default: results/scratch/training/NAME.",
)
@click.option(
    "--resume", is_flag=True, help="Resume from the checkpoint in --out, if there is one."
)
@device_option
@registry_option
def train_reference_command(
    name: str,
    steps: int | None,
    seed: int | None,
    out: Path | None,
    resume: bool,
    device: str,
    registries: tuple[Path, ...],
) -> None:
    """Train a reference tokenizer by the recipe in its entry, on drawn images and a few
    photographs.

    The command writes NAME.safetensors, log.jsonl, curve.svg, and a checkpoint every few minutes.
    The weights can be used from the first checkpoint on: `vtbench run --weights
    NAME=DIR/NAME.safetensors`.
    """
    from vtbench.commands.progress import Steps, silence_libraries
    from vtbench.registry.entries import load_registry

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
