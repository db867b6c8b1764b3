"""`vtbench reconstruct`: reconstructions of your own images, error maps, and a side-by-side sheet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from vtbench.base.errors import (
    CellFailed,
    ImageError,
    OutputError,
    RegistryError,
    VtbenchError,
    WeightsError,
)
from vtbench.base.files import find_place, write_atomic
from vtbench.base.names import printable
from vtbench.commands.complaints import complain
from vtbench.commands.options import (
    FILE_OR_FOLDER,
    FOLDER,
    data_option,
    device_option,
    dtype_option,
    max_pixels_option,
    registry_option,
    source_option,
    tokenizers_option,
    variant_options,
    weights_option,
)
from vtbench.evaluation.side_by_side import ERROR_GAIN, reconstruct_image
from vtbench.images import (
    MAX_PIXELS,
    RGB8,
    encode_png,
    error_map,
    load_rgb8,
    to_float,
    to_rgb8,
    to_uint8,
)
from vtbench.metrics.pixel import psnr_db
from vtbench.registry.entries import Entry
from vtbench.runs.arithmetic import exact_arithmetic
from vtbench.runs.export import export_reconstructions
from vtbench.runs.planning import open_suite
from vtbench.runs.reconstruction import LiveReconstructor, open_tokenizer
from vtbench.runs.request import Request, Variant
from vtbench.suites.copies import parse_sources
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Tokenizer
from vtbench.weights.entries import find_weights

CELL_SIDE = 384
"""Longest side of a picture on the sheet; larger ones are shown smaller there, whole on disk."""

MAX_STEM = 100
"""Bytes of a picture's name that the files made of it keep; a file system takes 255 bytes."""

Drawn = tuple[RGB8, RGB8, str]
"""A reconstruction, its error map, and the words under it."""


@dataclass(frozen=True)
class ReconstructionSheet:
    """Where the sheet is, and what could not be done."""

    sheet: Path
    failures: tuple[str, ...]


def reconstruct_pictures(
    paths: Sequence[Path],
    entries: Sequence[Entry],
    out: Path,
    *,
    device: str,
    dtype: str,
    weights: Mapping[str, Path],
    report: Callable[[str], None],
    max_pixels: int | None = None,
) -> ReconstructionSheet:
    """Write OUT/<picture>.<tokenizer>.png and .error.png for each pair, OUT/sheet.png, and
    OUT/sheet.json, by which the folder is known to hold no originals.

    The sheet has a row a picture: the original, then each tokenizer's reconstruction over its error
    map (largest channel × 4), with bits per pixel and PSNR under it. `report` hears a line a
    picture. A picture that cannot be read or reconstructed is a failure, the others go on.

    Raises:
        OutputError: `out` holds one of the pictures, or cannot be written.
        ImageError: no picture can be read.
        RegistryError, WeightsError: no tokenizer can be built.
    """
    for path in paths:
        if find_place(out) in find_place(path).parents:
            raise OutputError(f"--out {out}: {path.name} lies in it; give a folder of its own")
    failures: list[str] = []
    pictures: dict[str, RGB8] = {}
    for path in paths:
        name = printable(path.stem).encode()[:MAX_STEM].decode(errors="ignore")
        while name in pictures:
            name += "_"
        try:
            pictures[name] = load_rgb8(path, max_pixels=max_pixels or MAX_PIXELS)
        except ImageError as error:
            failures.append(str(error))
    if not pictures:
        for failure in failures[:-1]:
            complain(failure)
        raise ImageError(failures[-1])
    cells: dict[tuple[str, str], Drawn] = {}
    shown = {entry.row_name: entry for entry in entries}
    refused: list[VtbenchError] = []
    for row, entry in shown.items():
        try:
            tokenizer = build_tokenizer(
                entry, device=device, dtype=dtype, weights=weights.get(entry.name)
            )
        except (CellFailed, RegistryError, WeightsError) as error:  # of this tokenizer alone
            failures.append(f"{row}: {error}")
            if error.exit_code == 2:
                refused.append(error)
            continue
        for name, picture in pictures.items():
            try:
                image, caption = reconstruct_picture(tokenizer, picture)
            except Exception as error:  # a codec or network of strangers may raise anything
                why = " ".join(str(error).split())
                told = why if isinstance(error, CellFailed) else f"{type(error).__name__}: {why}"
                failures.append(f"{name}  {row}  {told}")
                continue
            difference = error_map(picture, image, gain=ERROR_GAIN)
            write_atomic(out / f"{name}.{row}.png", encode_png(image))
            write_atomic(out / f"{name}.{row}.error.png", encode_png(difference))
            cells[name, row] = (image, difference, caption)
            report(f"{name}  {row}  {caption}")
    if len(refused) == len(shown):
        raise type(refused[0])(*failures)
    _mark_made(out, sorted(shown))
    sheet = out / "sheet.png"
    write_atomic(sheet, encode_png(draw_sheet(pictures, list(shown), cells)))
    return ReconstructionSheet(sheet, tuple(failures))


def _mark_made(out: Path, tokenizers: Sequence[str]) -> None:
    """Write OUT/sheet.json, by which `run --images` knows that these pictures are no originals."""
    made = {"schema_version": 1, "tokenizers": tokenizers}
    write_atomic(out / "sheet.json", (json.dumps(made, indent=1) + "\n").encode())


def reconstruct_picture(tokenizer: Tokenizer, picture: RGB8) -> tuple[RGB8, str]:
    """Return the reconstruction of an image, and its bits per pixel and PSNR in words.

    Raises what `reconstruct_image` does."""
    code, image = reconstruct_image(tokenizer, picture)
    psnr = float(psnr_db(to_uint8(to_float([picture])), image.cpu())[0])
    bpp = code.bits[0] / (picture.shape[0] * picture.shape[1])
    return to_rgb8(image)[0], f"{bpp:.3f} bpp · {psnr:.2f} dB"


def draw_sheet(
    pictures: Mapping[str, RGB8],
    names: Sequence[str],
    cells: Mapping[tuple[str, str], Drawn],
) -> RGB8:
    """Return a row a picture: the original, then what each name made of it over its error map."""
    import numpy as np

    font = ImageFont.load_default(14)
    gap, text = 8, 20
    shown = {name: _shrink(picture) for name, picture in pictures.items()}
    width = max(image.width for image in shown.values())
    heights = [2 * (image.height + gap) + 2 * text for image in shown.values()]
    canvas = Image.new("RGB", ((len(names) + 1) * (width + gap) + gap, sum(heights) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    top = gap
    for (picture, image), height in zip(shown.items(), heights, strict=True):
        draw.text((gap, top), picture, fill="black", font=font)
        canvas.paste(image, (gap, top + text))
        draw.text((gap, top + text + image.height), "original", fill="black", font=font)
        for column, name in enumerate(names, start=1):
            left = gap + column * (width + gap)
            draw.text((left, top), name, fill="black", font=font)
            if (picture, name) not in cells:
                draw.text((left, top + text), "failed", fill="black", font=font)
                continue
            reconstruction, error, caption = cells[picture, name]
            canvas.paste(_shrink(reconstruction), (left, top + text))
            draw.text((left, top + text + image.height), caption, fill="black", font=font)
            canvas.paste(_shrink(error), (left, top + 2 * text + image.height))
        top += height
    return np.asarray(canvas, dtype=np.uint8)


def _shrink(pixels: RGB8) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    if max(image.size) > CELL_SIDE:
        image.thumbnail((CELL_SIDE, CELL_SIDE), Image.Resampling.LANCZOS)
    return image


@click.command("reconstruct")
@click.argument("pictures", nargs=-1, type=FILE_OR_FOLDER, metavar="[IMAGE ...]")
@click.option(
    "--suite",
    "suite_name",
    metavar="NAME",
    help="Reconstruct all images of a suite in place of IMAGE.",
)
@tokenizers_option
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Folder to write.")
@device_option
@max_pixels_option
@dtype_option
@variant_options
@registry_option
@data_option
@source_option
@weights_option
def reconstruct_command(
    pictures: tuple[Path, ...],
    suite_name: str | None,
    names: tuple[str, ...],
    out: Path,
    device: str,
    max_pixels: int | None,
    dtype: str,
    variant: Variant,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
    weights: tuple[str, ...],
) -> None:
    """Write reconstructions, error maps and one side-by-side sheet of your own images.

    --tokenizer takes several names, each with its own flag or separated by commas. With --suite,
    the command writes DIR/<tokenizer>/<image id>.png for every image of a suite, and no error maps:
    `vtbench score --suite NAME DIR/<tokenizer>` measures such a folder.
    """
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import apply_variant, choose_entries, parse_weights

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    split = tuple(part for name in names for part in name.split(",") if part)
    chosen = choose_entries(registry, split, (), local)
    chosen = apply_variant(chosen, split, variant, local)

    from vtbench.commands.progress import silence_libraries

    silence_libraries()
    if bool(pictures) == bool(suite_name):
        raise VtbenchError("reconstruct: expected images, or --suite NAME")
    if suite_name is not None:
        suite = open_suite(
            suite_name,
            data_folders=data_folders,
            sources=parse_sources(sources),
            max_pixels=max_pixels,
        )
        request = Request(
            suite, chosen.entries, out, tuple(suite.protocol.tasks), device=device, dtype=dtype
        )
        _export_suite(request, local)
        return
    done = reconstruct_pictures(
        pictures,
        chosen.entries,
        out,
        device=device,
        dtype=dtype,
        weights=local,
        report=click.echo,
        max_pixels=max_pixels,
    )
    click.echo(f"{done.sheet}")
    for failure in done.failures:
        complain(failure)
    if done.failures:
        raise click.exceptions.Exit(1)


def _export_suite(request: Request, weights: Mapping[str, Path]) -> None:
    """Write every image's reconstruction by every tokenizer, and say which failed.

    Raises click's Exit(1) for failures, Exit(2) where no tokenizer can be built."""
    from vtbench.commands.progress import Steps

    failed = refused = 0
    _mark_made(request.out, [entry.row_name for entry in request.entries])
    for entry in request.entries:
        folder = request.out / entry.row_name
        try:
            tokenizer = open_tokenizer(  # as a run opens it: the same pixels
                entry,
                device=request.device,
                dtype=request.dtype or request.suite.protocol.dtype,
                seed=request.suite.protocol.seed,
                found=find_weights(entry, weights.get(entry.name)),
            )
            with Steps(entry.row_name) as steps, exact_arithmetic():
                failures = export_reconstructions(
                    LiveReconstructor(tokenizer),
                    request.samples(),
                    folder,
                    batch_size=request.images_per_batch,
                    report=steps.report,
                )
        except (CellFailed, RegistryError, WeightsError) as error:  # of this tokenizer alone
            complain(f"{entry.row_name}: {error}")
            failed += 1
            refused += error.exit_code == 2
            continue
        for failure in failures:
            complain(f"{entry.row_name}: {failure}")
        failed += len(failures)
        click.echo(f"{folder}: {len(request.samples()) - len(failures)} images")
    if failed:
        raise click.exceptions.Exit(2 if refused == len(request.entries) else 1)
