"""Render the pages of the text task with Pillow, write them to `text/`, and list them.

The pages are committed because FreeType and the fonts differ between machines; this script is how
they were made. `lines.txt` holds what they say. Fonts are looked up by file name in `--fonts`.

A box is a quadrilateral in pixel edges (a 10x4 image spans (0, 0) to (10, 4)), clockwise from the
top left of the text as it is read. It holds the ink of its line with a margin of a quarter of the
glyph height and no ink of another line.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_photos import PHOTOS
from manifest_rows import HERE, Pixels, Row, load_pixels, make_row, replace_rows, save_png
from PIL import Image, ImageDraw, ImageFont

TEXT = HERE / "text"
LINES = HERE / "lines.txt"
FONT_FOLDERS = [
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".local/share/fonts",
    Path("/Library/Fonts"),
    Path("C:/Windows/Fonts"),
]

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixel edges
Corner = tuple[float, float]

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class Page:
    """How one page looks: `glyph` is the wanted ink height of "H" (or of "国") in pixels."""

    font: str
    glyph: int
    condition: str = "plain"
    ink: Color = BLACK
    ground: Color = WHITE
    photo: str | None = None
    at: tuple[int, int] = (0, 0)  # left and top of the page in the photograph
    outline: Color | None = None
    outline_px: int = 0
    angle_deg: float = 0.0  # counter-clockwise
    edge: int = 11  # pixels between the boxes and the edge of the page


PAGES: dict[str, Page] = {
    "text-plain-noto-serif-08": Page("NotoSerif-Regular.ttf", 8, edge=9),
    "text-plain-noto-sans-08": Page("NotoSans-Regular.ttf", 8, edge=10),
    "text-plain-noto-sans-10": Page("NotoSans-Regular.ttf", 10, edge=8),
    "text-plain-noto-serif-italic-10": Page("NotoSerif-Italic.ttf", 10),
    "text-plain-noto-sans-mono-12": Page("NotoSansMono-Regular.ttf", 12, edge=13),
    "text-plain-noto-serif-12": Page("NotoSerif-Regular.ttf", 12, edge=10),
    "text-plain-noto-sans-condensed-16": Page("NotoSans-Condensed.ttf", 16),
    "text-plain-noto-serif-bold-16": Page("NotoSerif-Bold.ttf", 16, edge=9),
    "text-plain-dejavu-sans-extralight-20": Page("DejaVuSans-ExtraLight.ttf", 20, edge=14),
    "text-plain-noto-sans-bold-28": Page("NotoSans-Bold.ttf", 28, edge=13),
    "text-plain-noto-serif-medium-40": Page("NotoSerif-Medium.ttf", 40, edge=15),
    "text-photo-chelsea-10": Page(
        "NotoSans-Medium.ttf",
        10,
        "photo",
        ink=WHITE,
        photo="chelsea.png",
        at=(60, 20),
        outline=(20, 12, 8),
        outline_px=1,
    ),
    "text-photo-coffee-12": Page(
        "NotoSerif-SemiBold.ttf",
        12,
        "photo",
        ink=WHITE,
        photo="coffee.png",
        at=(140, 70),
        outline=BLACK,
        outline_px=1,
        edge=9,
    ),
    "text-photo-rocket-16": Page(
        "NotoSansMono-Regular.ttf",
        16,
        "photo",
        ink=(255, 240, 160),
        photo="rocket.jpg",
        at=(110, 30),
        outline=(10, 14, 40),
        outline_px=1,
    ),
    "text-photo-hubble-20": Page(
        "NotoSans-Light.ttf",
        20,
        "photo",
        ink=WHITE,
        photo="hubble_deep_field.jpg",
        at=(330, 60),
        edge=13,
    ),
    "text-photo-motorcycle-28": Page(
        "NotoSans-Bold.ttf",
        28,
        "photo",
        ink=BLACK,
        photo="motorcycle_left.png",
        at=(250, 10),
        outline=WHITE,
        outline_px=2,
        edge=10,
    ),
    "text-low-contrast-noto-sans-10": Page(
        "NotoSans-Regular.ttf", 10, "low-contrast", ink=(150, 150, 150), ground=(198, 198, 198)
    ),
    "text-low-contrast-noto-serif-16": Page(
        "NotoSerif-Regular.ttf",
        16,
        "low-contrast",
        ink=(116, 116, 116),
        ground=(92, 92, 92),
        edge=10,
    ),
    # Rec. 601 luma 120 on 140: what tells ink from ground is mostly hue.
    "text-low-contrast-dejavu-sans-20": Page(
        "DejaVuSans.ttf", 20, "low-contrast", ink=(150, 104, 124), ground=(112, 156, 132), edge=12
    ),
    "text-rotated-noto-sans-12": Page("NotoSans-Regular.ttf", 12, "rotated", angle_deg=3.5),
    "text-rotated-noto-serif-16": Page("NotoSerif-Regular.ttf", 16, "rotated", angle_deg=-5.0),
    "text-rotated-noto-sans-italic-20": Page(
        "NotoSans-Italic.ttf", 20, "rotated", angle_deg=6.0, edge=9
    ),
    "text-chinese-sans-10": Page("NotoSansCJK-Regular.ttc", 10, edge=10),
    "text-chinese-serif-14": Page("NotoSerifCJK-Regular.ttc", 14, edge=9),
    "text-chinese-sans-20": Page("NotoSansCJK-Bold.ttc", 20),
    "text-chinese-serif-32": Page("NotoSerifCJK-Regular.ttc", 32, edge=14),
    "text-chinese-photo-20": Page(
        "NotoSansCJK-Regular.ttc",
        20,
        "photo",
        ink=WHITE,
        photo="coffee.png",
        at=(170, 20),
        outline=(30, 10, 0),
        outline_px=1,
    ),
    "text-chinese-low-contrast-14": Page(
        "NotoSansCJK-Regular.ttc",
        14,
        "low-contrast",
        ink=(176, 176, 176),
        ground=(216, 216, 216),
        edge=10,
    ),
}


def read_lines() -> dict[str, list[str]]:
    """Return the lines of each page, by id, from `lines.txt`."""
    pages: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in LINES.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = pages.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return pages


def find_font(name: str, folders: list[Path]) -> tuple[Path, int]:
    """Return the path and face number of a font file; in a collection, its "SC" face."""
    for folder in folders:
        for path in sorted(folder.rglob(name)):
            if path.suffix != ".ttc":
                return path, 0
            for face in range(16):
                family, _ = ImageFont.truetype(str(path), 16, index=face).getname()
                if family and family.endswith(" SC"):
                    return path, face
    sys.exit(f"{name}: in none of {', '.join(map(str, folders))}; name its folder by --fonts")


def load_font(path: Path, face: int, size: float) -> ImageFont.FreeTypeFont:
    """Open a face at `size` px an em. The basic layout does not depend on libraqm."""
    return ImageFont.truetype(str(path), size, index=face, layout_engine=ImageFont.Layout.BASIC)


def measure_ink(font: ImageFont.FreeTypeFont, sample: str) -> int:
    """Return the rows of `sample` that reach a quarter of its darkest: what a person sees."""
    mask = font.getmask(sample)
    rows = np.array(mask, dtype=np.float64).reshape(mask.size[::-1]).max(axis=1)
    return int((rows >= rows.max() / 4).sum())


def fit_font(page: Page, sample: str, folders: list[Path]) -> tuple[ImageFont.FreeTypeFont, int]:
    """Return the font at the size where `sample` is nearest `page.glyph`, and its ink height.

    Hinting makes many sizes give the same ink; among them the outline decides, so that the widths
    suit the height.
    """
    path, face = find_font(page.font, folders)
    _, top, _, bottom = load_font(path, face, 1000).getbbox(sample)
    outline = (bottom - top) / 1000
    best = None
    for quarter in range(4 * page.glyph, 4 * page.glyph * 2):
        font = load_font(path, face, quarter / 4)
        ink = measure_ink(font, sample)
        miss = abs(ink - page.glyph) + abs(outline * quarter / 4 - page.glyph)
        if best is None or miss < best[0]:
            best = (miss, font, ink)
    assert best is not None
    return best[1], best[2]


def draw_page(
    page: Page, lines: list[str], font: ImageFont.FreeTypeFont, glyph: int
) -> tuple[Pixels, list[Box]]:
    """Return the upright page, HxWx3 uint8, and the box of each line."""
    margin = max(2, math.ceil(glyph / 4))
    width_px = page.outline_px
    inks = [font.getbbox(line, anchor="ls", stroke_width=width_px) for line in lines]
    above = max(-top for _, top, _, _ in inks)
    below = max(bottom for _, _, _, bottom in inks)
    # Room for two margins: the boxes of neighbours may meet but do not overlap.
    pitch = math.ceil(above + below + 2 * margin)
    start = page.edge + margin
    size = (
        math.ceil(max(right - left for left, _, right, _ in inks)) + 2 * start,
        pitch * (len(lines) - 1) + math.ceil(above + below) + 2 * start,
    )
    image = Image.new("RGB", size, page.ground)
    if page.photo is not None:
        left, top = page.at
        image = Image.fromarray(load_pixels(PHOTOS / page.photo, [left, top, *size]))
    draw = ImageDraw.Draw(image)
    boxes = []
    for number, (line, ink) in enumerate(zip(lines, inks, strict=True)):
        x, y = start - math.floor(ink[0]), start + math.ceil(above) + number * pitch
        draw.text(
            (x, y),
            line,
            fill=page.ink,
            font=font,
            anchor="ls",
            stroke_width=width_px,
            stroke_fill=page.outline,
        )
        boxes.append(
            (x + ink[0] - margin, y + ink[1] - margin, x + ink[2] + margin, y + ink[3] + margin)
        )
    return np.array(image), boxes


def corners_of(box: Box) -> list[Corner]:
    """Return the four corners, clockwise from the top left."""
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def rotate_page(
    pixels: Pixels, quads: list[list[Corner]], angle_deg: float, ground: Color
) -> tuple[Pixels, list[list[Corner]]]:
    """Turn the page counter-clockwise about its middle, bicubic, and its quadrilaterals with it.

    The canvas grows to hold the whole page. What lies outside it takes the ground's colour, as
    the page's own margin has it, so that no seam shows.
    """
    height, width, _ = pixels.shape
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    wide = math.ceil(width * cos + height * abs(sin))
    high = math.ceil(height * cos + width * abs(sin))
    # Pillow wants the way back, from an output point to the input, in pixel-edge coordinates.
    back = (
        cos,
        -sin,
        width / 2 - cos * wide / 2 + sin * high / 2,
        sin,
        cos,
        height / 2 - sin * wide / 2 - cos * high / 2,
    )
    image = Image.fromarray(pixels).transform(
        (wide, high),
        Image.Transform.AFFINE,
        back,
        resample=Image.Resampling.BICUBIC,
        fillcolor=ground,
    )
    turned = []
    for quad in quads:
        turned.append(
            [
                (
                    wide / 2 + cos * (x - width / 2) + sin * (y - height / 2),
                    high / 2 - sin * (x - width / 2) + cos * (y - height / 2),
                )
                for x, y in quad
            ]
        )
    return np.array(image), turned


def make_page(name: str, lines: list[str], folders: list[Path]) -> Row:
    """Render one page, write it, and return its row."""
    page = PAGES[name]
    chinese = name.startswith("text-chinese")
    font, glyph = fit_font(page, "国" if chinese else "H", folders)
    pixels, boxes = draw_page(page, lines, font, glyph)
    quads = [corners_of(box) for box in boxes]
    if page.angle_deg:
        pixels, quads = rotate_page(pixels, quads, page.angle_deg, page.ground)
    height, width, _ = pixels.shape
    for quad in quads:
        if not all(0 <= x <= width and 0 <= y <= height for x, y in quad):
            raise ValueError(f"{name}: a box leaves the page")
    path = TEXT / f"{name}.png"
    save_png(pixels, path)
    meta = {
        "script": "chinese" if chinese else "latin",
        "font": page.font,
        "font_px": font.size,
        "glyph_px": glyph,
        "condition": page.condition,
        "lines": [
            {"text": line, "box": [[round(float(x), 2), round(float(y), 2)] for x, y in quad]}
            for line, quad in zip(lines, quads, strict=True)
        ],
    }
    subset = "chinese" if chinese else page.condition
    return make_row(name, task="text", subset=subset, path=path, meta=meta)


def make_pages(folders: list[Path]) -> None:
    """Render every page and renew their rows."""
    content = read_lines()
    if content.keys() != PAGES.keys():
        raise ValueError(f"pages and lines.txt differ: {content.keys() ^ PAGES.keys()}")
    replace_rows("text", [make_page(name, content[name], folders) for name in PAGES])


def main() -> None:
    """Read the command line and render the pages."""
    parser = argparse.ArgumentParser(description="Render the pages of the text task.")
    parser.add_argument("--fonts", nargs="+", type=Path, default=FONT_FOLDERS, metavar="DIR")
    make_pages(parser.parse_args().fonts)


if __name__ == "__main__":
    main()
