"""`vtbench strips`: parts of images after several tokenizers, the original first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base.errors import ContractError, ImageError, SuiteError, UnknownName
from vtbench.commands.options import (
    data_option,
    device_option,
    registry_option,
    source_option,
    tokenizers_option,
    variant_options,
    weights_option,
)
from vtbench.images import RGB8, crop_rgb8, encode_png
from vtbench.runs.request import Variant
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import Suite

if TYPE_CHECKING:
    from vtbench.tokenizers.base import Tokenizer

GAP_PX, TEXT_PX = 8, 18
"""Between parts of a strip, and height of its lines of text."""

MAX_STRIP_PIXELS = 2**24
"""Of the picture that is written."""


@dataclass(frozen=True)
class Place:
    """A part of an image of a suite. box: left, top, width, height in pixels."""

    image: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Strip:
    """One line of the picture: the parts after one tokenizer, and what is written over them."""

    title: str
    parts: tuple[RGB8, ...]


def parse_place(text: str) -> Place:
    """Return the place of `IMAGE:LEFT,TOP,WIDTH,HEIGHT`. Raises SuiteError for another form."""
    image, _, numbers = text.rpartition(":")
    parts = numbers.split(",")
    if not image or len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise SuiteError(f"--at {text}: expected IMAGE:LEFT,TOP,WIDTH,HEIGHT")
    left, top, width, height = map(int, parts)
    if not width or not height:
        raise SuiteError(f"--at {text}: a part of no size")
    return Place(image, (left, top, width, height))


def load_places(suite: Suite, places: Sequence[Place]) -> list[RGB8]:
    """Return the whole images of the places, uint8 H×W×3.

    Raises:
        UnknownName: no image of that name in the suite.
        SuiteError: a part leaves its image.
    """
    samples = {sample.id: sample for sample in suite.samples}
    pictures = []
    for place in places:
        if place.image not in samples:
            raise UnknownName("image", place.image, sorted(samples))
        pictures.append(load_pixels(samples[place.image]))
        try:
            crop_rgb8(pictures[-1], place.box)
        except ImageError as error:
            raise SuiteError(f"--at {place.image}: {error}") from None
    return pictures


def make_strip(
    name: str, tokenizer: Tokenizer, pictures: Sequence[RGB8], places: Sequence[Place]
) -> Strip:
    """Return the strip of one tokenizer. Its title has the bits per pixel of all images together, and
    the mean PSNR of the whole images.

    Raises:
        ContractError: a reconstruction has another size than its original, or is not finite.
    """
    from vtbench.images import to_float, to_rgb8, to_uint8
    from vtbench.metrics.pixel import psnr_db

    parts, bits, pixels, ratios = [], 0.0, 0, []
    for picture, place in zip(pictures, places, strict=True):
        original = to_float([picture], tokenizer.device)
        code = tokenizer.encode(original)
        decoded = tokenizer.decode(code)
        if decoded.shape != original.shape or not bool(decoded.isfinite().all()):
            raise ContractError("strips", f"{name}: no picture of the size of {place.image}")
        image = to_uint8(decoded)
        parts.append(crop_rgb8(to_rgb8(image)[0], place.box))
        bits += code.bits[0]
        pixels += picture.shape[0] * picture.shape[1]
        ratios.append(float(psnr_db(to_uint8(original), image)[0]))
    title = f"{name} · {bits / pixels:.3f} bpp · {sum(ratios) / len(ratios):.2f} dB"
    return Strip(title, tuple(parts))


def draw_strips(strips: Sequence[Strip], *, scale: int) -> RGB8:
    """Return all strips below each other, every pixel `scale`×`scale` pixels large.

    Raises SuiteError for a picture of more than MAX_STRIP_PIXELS.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    sizes = [(part.shape[1] * scale, part.shape[0] * scale) for part in strips[0].parts]
    high = max(height for _, height in sizes)
    text = max(int(font.getlength(strip.title)) for strip in strips)
    width = max(sum(wide for wide, _ in sizes) + GAP_PX * (len(sizes) - 1), text) + 2 * GAP_PX
    height = len(strips) * (high + TEXT_PX + GAP_PX) + GAP_PX
    if width * height > MAX_STRIP_PIXELS:
        raise SuiteError(
            f"{width}×{height} pixels are too large a picture: smaller parts or --scale"
        )
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    top = GAP_PX
    for strip in strips:
        draw.text((GAP_PX, top), strip.title, fill="black", font=font)
        left = GAP_PX
        for part, size in zip(strip.parts, sizes, strict=True):
            enlarged = Image.fromarray(part).resize(size, Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left, top + TEXT_PX))
            left += size[0] + GAP_PX
        top += high + TEXT_PX + GAP_PX
    return np.asarray(canvas, dtype=np.uint8)


@click.command("strips")
@click.option(
    "--suite",
    "suite_name",
    default="text-multilingual",
    show_default=True,
    metavar="NAME",
    help="Suite of the images.",
)
@click.option(
    "--at",
    "places",
    multiple=True,
    required=True,
    metavar="IMAGE:LEFT,TOP,WIDTH,HEIGHT",
    help="Part of an image of the suite, in pixels. Repeatable: parts are drawn side by side.",
)
@tokenizers_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File ending in .png.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="How many times the parts are enlarged.",
)
@device_option
@variant_options
@registry_option
@data_option
@source_option
@weights_option
def strips_command(
    suite_name: str,
    places: tuple[str, ...],
    names: tuple[str, ...],
    out: Path,
    scale: int,
    device: str,
    variant: Variant,
    registries: tuple[Path, ...],
    data_folders: tuple[Path, ...],
    sources: tuple[str, ...],
    weights: tuple[str, ...],
) -> None:
    """Draw parts of a suite's images after several tokenizers, one strip each, the original first.

    The title of a strip has the bits per pixel and the mean PSNR of the whole images that the parts
    are cut from. --tokenizer takes several names, each with its own flag or separated by commas.
    """
    from vtbench.base.files import write_atomic
    from vtbench.commands.progress import silence_libraries
    from vtbench.registry.entries import load_registry
    from vtbench.runs.planning import open_suite
    from vtbench.runs.request import apply_variant, choose_entries, parse_weights
    from vtbench.suites.copies import parse_sources
    from vtbench.tokenizers import build_tokenizer

    if out.suffix.lower() != ".png":
        raise SuiteError(f"--out {out}: expected a .png file")
    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    split = tuple(part for name in names for part in name.split(",") if part)
    chosen = apply_variant(choose_entries(registry, split, (), local), split, variant, local)
    suite = open_suite(suite_name, data_folders=data_folders, sources=parse_sources(sources))
    parsed = [parse_place(place) for place in places]
    pictures = load_places(suite, parsed)
    originals = tuple(
        crop_rgb8(picture, place.box) for picture, place in zip(pictures, parsed, strict=True)
    )
    strips = [Strip("original", originals)]
    silence_libraries()
    for entry in chosen.entries:
        tokenizer = build_tokenizer(
            entry, device=device, dtype=suite.protocol.dtype, weights=local.get(entry.name)
        )
        strips.append(make_strip(entry.row_name, tokenizer, pictures, parsed))
        click.echo(strips[-1].title)
    write_atomic(out, encode_png(draw_strips(strips, scale=scale)))
    click.echo(str(out))
