"""`vtbench drift`: change over encode-decode rounds and under a shift, and seams of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base.text_table import format_table
from vtbench.commands.options import (
    FILE_OR_FOLDER,
    device_option,
    dtype_option,
    max_pixels_option,
    registry_option,
    tokenizers_option,
    variant_options,
    weights_option,
)
from vtbench.runs.request import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from vtbench.images import RGB8
    from vtbench.metrics.artefacts import Seams
    from vtbench.metrics.roundtrip import Drift
    from vtbench.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Passes:
    """What further passes of one picture gave. shift_db: None for a picture too small. seams: None
    where the picture was not cut into tiles."""

    drifts: Sequence[Drift]
    shift_db: float | None
    seams: Seams | None


def measure_passes(tokenizer: Tokenizer, picture: RGB8) -> Passes:
    """Return the drift of a picture over `roundtrip.ROUNDS`, its change under a shift of one pixel,
    and the seams of its tiles in the first round."""
    import torch

    from vtbench.images import to_float, to_rgb8, to_uint8
    from vtbench.metrics import artefacts, pictures, roundtrip

    seams: list[Seams | None] = []

    def run(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        code = tokenizer.encode(to_float(to_rgb8(images), tokenizer.device))
        decoded = to_uint8(tokenizer.decode(code)).cpu()
        if not seams and code.fit is not None:
            (found,) = pictures.measure_seams(images, decoded, code.fit)
            step, tone = found["seam_step"], found["seam_tone"]
            seams.append(None if step is None else artefacts.Seams(step, tone))
        if code.indices is None:
            return decoded, None
        return decoded, tuple(torch.cat(code.words(place)) for place in range(len(images)))

    original = to_uint8(to_float([picture]))
    (drifts,) = roundtrip.measure_drift(run, original)
    large = min(picture.shape[:2]) >= 4 * roundtrip.SHIFT_MARGIN_PX
    shift = float(roundtrip.measure_shift_db(run, original)[0]) if large else None
    return Passes(drifts, shift, seams[0] if seams else None)


def _describe(row: str, picture: str, passes: Passes) -> list[list[str]]:
    lines = []
    for drift in passes.drifts:
        first = drift.rounds == 1
        changed = "n/a" if drift.tokens_changed is None else f"{drift.tokens_changed:.2%}"
        seams = passes.seams if first else None
        lines.append(
            [
                row if first else "",
                picture if first else "",
                str(drift.rounds),
                f"{drift.psnr_db:.2f}",
                f"{drift.color_shift:.3f}",
                changed,
                "" if not first else "n/a" if passes.shift_db is None else f"{passes.shift_db:.2f}",
                "" if seams is None else f"{seams.step:.2f} / {seams.tone:.2f}",
            ]
        )
    return lines


@click.command("drift")
@click.argument("pictures", nargs=-1, required=True, type=FILE_OR_FOLDER, metavar="IMAGE ...")
@tokenizers_option
@device_option
@max_pixels_option
@dtype_option
@variant_options
@registry_option
@weights_option
def drift_command(
    pictures: tuple[Path, ...],
    names: tuple[str, ...],
    device: str,
    max_pixels: int | None,
    dtype: str,
    variant: Variant,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Measure how images change over 1, 2, 5 and 10 encode-decode rounds, and under a shift by a
    pixel.

    Each round starts from the 8-bit image of the last one. Columns: PSNR against the original in
    dB; CIEDE2000 difference of the mean colours; share of tokens that differ from the first round;
    shift, the PSNR between reconstructions of two crops one pixel apart; seams, the mean jump and
    the mean difference of tone across tile borders in 8-bit levels, less that elsewhere.
    """
    from vtbench.commands.progress import silence_libraries
    from vtbench.images import MAX_PIXELS, load_rgb8
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import apply_variant, choose_entries, parse_weights
    from vtbench.tokenizers import build_tokenizer

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    split = tuple(part for name in names for part in name.split(",") if part)
    chosen = apply_variant(choose_entries(registry, split, (), local), split, variant, local)
    loaded = [
        (path.name, load_rgb8(path, max_pixels=max_pixels or MAX_PIXELS)) for path in pictures
    ]
    silence_libraries()
    table = [["tokenizer", "image", "rounds", "PSNR", "ΔE", "tokens changed", "shift", "seams"]]
    for entry in chosen.entries:
        tokenizer = build_tokenizer(
            entry, device=device, dtype=dtype, weights=local.get(entry.name)
        )
        for name, picture in loaded:
            table += _describe(entry.row_name, name, measure_passes(tokenizer, picture))
    click.echo(format_table(table))
