"""Draw the pages of the suite text-multilingual, write them to `pages/`, and write its manifest.

The pages are committed because FreeType, HarfBuzz and the fonts differ between machines; this script
is how they were made. `passages.txt` holds words and sentences; random strings, figures and code are
drawn here from seeds. Lines are shaped by HarfBuzz and ordered by FriBiDi (Pillow with libraqm).

A box is a quadrilateral in pixel edges (a 10x4 image spans (0, 0) to (10, 4)), clockwise from the
top left of the line as it stands upright, also of Arabic. It holds the ink of its line with a margin
of a quarter of the glyph height (at least 2 px).
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import regex
from PIL import Image, ImageDraw, ImageFont, features

from vtbench.images import pixel_sha256

HERE = Path(__file__).resolve().parent
DATA = HERE.parent
PAGES = HERE / "pages"
MANIFEST = DATA / "manifests" / "text-multilingual.jsonl"
FONTS = Path("/usr/share/fonts")
VERSION = 1
HEIGHTS = (6, 8, 10, 12, 16, 20, 24, 32, 48)
"""Heights of the sample glyph in pixels."""

Color = tuple[int, int, int]
BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class Script:
    """How a script is set. sample: the glyph whose height is `glyph_px`. face: part of the family
    name that picks a face of a collection. spaced: words are separated by spaces."""

    sample: str
    language: str
    fonts: tuple[str, ...]
    face: str | None = None
    spaced: bool = True
    rtl: bool = False


_EUROPEAN = (
    "NotoSans-Regular.ttf",
    "NotoSerif-Regular.ttf",
    "NotoSans-Bold.ttf",
    "NotoSerif-Italic.ttf",
)
_CJK = ("NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc", "NotoSansCJK-Bold.ttc")
SCRIPTS = {
    "latin": Script("H", "en", _EUROPEAN),
    "cyrillic": Script("Н", "ru", _EUROPEAN),
    "greek": Script("Η", "el", _EUROPEAN),
    "chinese": Script("国", "zh-hans", _CJK, " SC", spaced=False),
    "japanese": Script("国", "ja", _CJK, " JP", spaced=False),
    "korean": Script("한", "ko", _CJK, " KR"),
    "hindi": Script(
        "क",
        "hi",
        (
            "NotoSansDevanagari-Regular.ttf",
            "NotoSerifDevanagari-Regular.ttf",
            "NotoSansDevanagari-Bold.ttf",
        ),
    ),
    "arabic": Script(
        "ا",
        "ar",
        ("NotoNaskhArabic-Regular.ttf", "NotoSansArabic-Regular.ttf", "NotoNaskhArabic-Bold.ttf"),
        rtl=True,
    ),
}
CODE_FONT = "NotoSansMono-Regular.ttf"


@dataclass(frozen=True)
class Line:
    """One line to be set. glyph: the height of the script's sample glyph in pixels."""

    text: str
    kind: str
    glyph: int
    font: str


@dataclass(frozen=True)
class Style:
    """How a page looks. photo: a file of the embedded suite, its left and top at `at`. ground: two
    colours are a gradient from the top to the bottom. angle_deg: counter-clockwise."""

    condition: str
    ink: Color = BLACK
    ground: tuple[Color, Color] = (WHITE, WHITE)
    photo: str | None = None
    at: tuple[int, int] = (0, 0)
    outline: Color | None = None
    angle_deg: float = 0.0
    align: str = "start"


@dataclass
class Placed:
    """A line with its place: left end of its baseline, and its box."""

    line: Line
    x: int
    y: int
    box: tuple[float, float, float, float]
    words: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)


# What is said


@functools.cache
def read_passages() -> dict[str, tuple[str, ...]]:
    """Return the lines of each section of `passages.txt`."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (HERE / "passages.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return {name: tuple(lines) for name, lines in sections.items()}


def draw_words(script: str, rng: random.Random, count: int) -> str:
    """Return words that have nothing to do with each other."""
    words = rng.sample(read_passages()[f"{script}.words"], count)
    return (" " if SCRIPTS[script].spaced else "").join(words)


def draw_random(script: str, rng: random.Random) -> str:
    """Return letters drawn at random from those of the passages, in groups where words are spaced.

    A letter is a grapheme cluster, so that vowel signs stand on consonants. Where case exists, letters
    are lower case, and each group has one that rises above the others or falls below: a group of
    "o", "s" and "x" alone would show no case. Of Arabic only letters that stand anywhere in a word.
    """
    passages = read_passages()
    text = "".join(passages[f"{script}.words"] + passages[f"{script}.sentences"]).lower()
    letters = sorted({c for c in regex.findall(r"\X", text) if regex.match(r"\p{L}", c)})
    if script == "arabic":
        letters = [letter for letter in letters if letter not in "ءأإآؤئىة"]
    if not SCRIPTS[script].spaced:
        return "".join(rng.choices(letters, k=9))
    groups: list[str] = []
    for size in (3, 4, 3) if script in ("korean", "hindi") else (5, 4, 6):
        group = "".join(rng.choices(letters, k=size))
        while regex.search(r"\p{Ll}", group) and not shows_case(group):
            group = "".join(rng.choices(letters, k=size))
        groups.append(group)
    return " ".join(groups)


def shows_case(group: str) -> bool:
    """Return whether a letter of the group is higher or lower than "x"."""
    font = load_font(*find_font("NotoSans-Regular.ttf", None), 100)
    _, top, _, bottom = font.getbbox("x", anchor="ls")
    boxes = [font.getbbox(letter, anchor="ls") for letter in group]
    return any(box[1] < top - 10 or box[3] > bottom + 10 for box in boxes)


def draw_figures(rng: random.Random) -> str:
    """Return one number; one group, since several would change places in a line of Arabic."""
    return f"{rng.randrange(10**4, 10**7)}.{rng.randrange(10, 100)}"


def draw_code(rng: random.Random) -> str:
    """Return one line of code with a name and numbers that nobody could guess."""
    name = "".join(rng.choices("abcdefghjkmnpqrstuvwxyz_", k=5))
    number = rng.randrange(16, 4096)
    return rng.choice(
        (
            f"if ({name}[{number % 37}] >= 0x{number:X}) {{",
            f"{name} = {{'k{number}': [{number % 91}, -{number % 17}]}}",
            f"for i in range({number}): {name} *= {number % 89}.5",
            f"return {name}({number % 97}) != {number} || !q;",
        )
    )


def fill_page(script: str, glyph: int, font: str, rng: random.Random) -> list[Line]:
    """Return the lines of a page of one height: words, sentences, random strings, a figure."""
    each = 3 if glyph <= 12 else 2 if glyph <= 24 else 1
    words = 2 if glyph >= 32 or not SCRIPTS[script].spaced else 3
    lines = [("words", draw_words(script, rng, words)) for _ in range(each)]
    picked = rng.sample(read_passages()[f"{script}.sentences"], each + (glyph >= 32))
    lines += [("sentence", text) for text in picked]
    lines += [("random", draw_random(script, rng)) for _ in range(each + (glyph >= 32))]
    lines.append(("figures", draw_figures(rng)))
    return [Line(text, kind, glyph, font) for kind, text in lines]


# Fonts


@functools.cache
def find_font(name: str, face: str | None) -> tuple[Path, int]:
    """Return path and face number of a font file; of a collection, the face whose family ends so."""
    for path in sorted(FONTS.rglob(name)):
        if path.suffix != ".ttc":
            return path, 0
        for index in range(16):
            family, _ = ImageFont.truetype(str(path), 16, index=index).getname()
            if family and face and family.endswith(face):
                return path, index
    sys.exit(f"{name}: not below {FONTS}; the Debian packages are named in README.md")


def load_font(path: Path, face: int, size: float) -> ImageFont.FreeTypeFont:
    """Open a face at `size` px an em, shaped by HarfBuzz."""
    return ImageFont.truetype(str(path), size, index=face, layout_engine=ImageFont.Layout.RAQM)


def measure_ink(font: ImageFont.FreeTypeFont, sample: str) -> int:
    """Return the rows of `sample` that reach a quarter of its darkest: what a person sees."""
    mask = font.getmask(sample)
    rows = np.array(mask, dtype=np.float64).reshape(mask.size[::-1]).max(axis=1)
    return int((rows >= rows.max() / 4).sum())


@functools.cache
def fit_font(name: str, script: str, glyph: int) -> ImageFont.FreeTypeFont:
    """Return the font at the size, in quarters of a pixel, whose sample glyph is `glyph` px high.

    Within half a pixel of the outline's height the rows of ink decide. Hinting leaves out some
    heights, so a line's `ink_px` can be up to two more or less than its `glyph_px`.
    """
    how = SCRIPTS[script]
    path, face = find_font(name, None if name == CODE_FONT else how.face)
    _, top, _, bottom = load_font(path, face, 1000).getbbox(how.sample)
    outline = (bottom - top) / 1000
    middle = round(4 * glyph / outline)
    fonts = [load_font(path, face, quarter / 4) for quarter in range(middle - 2, middle + 3)]
    return min(
        fonts,
        key=lambda font: (
            abs(measure_ink(font, how.sample) - glyph),
            abs(outline * font.size - glyph),
        ),
    )


# Layout


def measure_line(line: Line, script: str) -> tuple[ImageFont.FreeTypeFont, tuple[float, ...]]:
    """Return the font of a line and its ink (left, top, right, bottom) from its baseline's left end."""
    how = SCRIPTS[script]
    font = fit_font(line.font, script, line.glyph)
    ink = font.getbbox(
        line.text, anchor="ls", direction="rtl" if how.rtl else "ltr", language=how.language
    )
    return font, ink


def place_column(
    lines: Sequence[Line],
    script: str,
    *,
    left: int,
    top: int,
    width: int,
    align: str,
    leading: float,
) -> tuple[list[Placed], int]:
    """Return the lines one below the other in a column, and the row where the next could begin."""
    placed = []
    y = float(top)
    for line in lines:
        font, (x0, y0, x1, y1) = measure_line(line, script)
        margin = max(2, math.ceil(line.glyph / 4))
        base = math.ceil(y + margin - y0)
        room = width - 2 * margin - (x1 - x0)
        before = {"start": 0.0, "end": room, "middle": room / 2}[align]
        x = round(left + margin + before - x0)
        box = (x + x0 - margin, base + y0 - margin, x + x1 + margin, base + y1 + margin)
        own = Placed(line, x, base, box)
        if SCRIPTS[script].spaced and not SCRIPTS[script].rtl:
            own.words = list(split_words(own, font, script))
        placed.append(own)
        y = math.ceil(box[3]) + leading * line.glyph
    return placed, math.ceil(y)


def split_words(
    placed: Placed, font: ImageFont.FreeTypeFont, script: str
) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Return the words of a line that runs from left to right, with their boxes: the space between two
    belongs half to each, top and bottom are the line's."""
    language = SCRIPTS[script].language
    words = placed.line.text.split(" ")
    ends = []
    for count in range(1, len(words) + 1):
        ends.append(font.getlength(" ".join(words[:count]), language=language))
    half = font.getlength(" ", language=language) / 2
    left, top, right, bottom = placed.box
    edges = [left, *(round(placed.x + end + half, 2) for end in ends[:-1]), right]
    return [
        (word, (edges[index], top, edges[index + 1], bottom)) for index, word in enumerate(words)
    ]


def wrap_text(text: str, script: str, *, glyph: int, font: str, width: int) -> list[Line]:
    """Return a passage in lines that fit the width, broken at spaces, or anywhere without them."""
    how = SCRIPTS[script]
    parts = text.split(" ") if how.spaced else list(text)
    joint = " " if how.spaced else ""
    lines: list[Line] = []
    row: list[str] = []
    for part in parts:
        longer = Line(joint.join([*row, part]), "abstract", glyph, font)
        _, ink = measure_line(longer, script)
        # A line does not begin with a full stop.
        if row and ink[2] - ink[0] > width - glyph and part not in ("。", "、", "，"):
            lines.append(Line(joint.join(row), "abstract", glyph, font))
            row = []
        row.append(part)
    return [*lines, Line(joint.join(row), "abstract", glyph, font)] if row else lines


# Drawing


def draw_ground(style: Style, width: int, height: int) -> Image.Image:
    """Return the empty page: a part of a photograph, or a gradient from the top to the bottom."""
    if style.photo is not None:
        left, top = style.at
        with Image.open(DATA / "embedded" / "photos" / style.photo) as photo:
            if left + width > photo.width or top + height > photo.height:
                raise ValueError(f"{style.photo} is too small for {width}x{height} at {style.at}")
            return photo.convert("RGB").crop((left, top, left + width, top + height))
    first, last = (np.array(color, dtype=np.float64) for color in style.ground)
    share = np.linspace(0, 1, height)[:, None]
    rows = np.floor(first * (1 - share) + last * share + 0.5).astype(np.uint8)
    return Image.fromarray(np.repeat(rows[:, None], width, axis=1))


def draw_page(
    placed: Sequence[Placed], script: str, style: Style, *, width: int, height: int
) -> Image.Image:
    """Return the upright page with all lines on it."""
    how = SCRIPTS[script]
    page = draw_ground(style, width, height)
    draw = ImageDraw.Draw(page)
    for own in placed:
        draw.text(
            (own.x, own.y),
            own.line.text,
            fill=style.ink,
            font=fit_font(own.line.font, script, own.line.glyph),
            anchor="ls",
            direction="rtl" if how.rtl else "ltr",
            language=how.language,
            stroke_width=0 if style.outline is None else 1,
            stroke_fill=style.outline,
        )
    return page


def turn_page(page: Image.Image, angle_deg: float, ground: Color) -> tuple[Image.Image, Any]:
    """Turn a page counter-clockwise about its middle, bicubic, on a canvas that holds all of it.

    Returns the page, and the function that takes a point of the upright page to the turned one.
    """
    width, height = page.size
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    wide = math.ceil(width * cos + height * abs(sin))
    high = math.ceil(height * cos + width * abs(sin))
    # Pillow wants the way back, from an output point to the input, in pixel-edge coordinates.
    back = (
        *(cos, -sin, width / 2 - cos * wide / 2 + sin * high / 2),
        *(sin, cos, height / 2 - sin * wide / 2 - cos * high / 2),
    )
    turned = page.transform(
        (wide, high),
        Image.Transform.AFFINE,
        back,
        resample=Image.Resampling.BICUBIC,
        fillcolor=ground,
    )

    def move(x: float, y: float) -> tuple[float, float]:
        dx, dy = x - width / 2, y - height / 2
        return wide / 2 + cos * dx + sin * dy, high / 2 - sin * dx + cos * dy

    return turned, move


def corners_of(box: Sequence[float], move: Any = None) -> list[list[float]]:
    """Return the four corners of a box, clockwise from the top left, moved where the page was turned."""
    left, top, right, bottom = box
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if move is not None:
        points = [move(x, y) for x, y in points]
    return [[round(float(x), 2), round(float(y), 2)] for x, y in points]


def finish_page(
    name: str, script: str, placed: Sequence[Placed], style: Style, size: tuple[int, int]
) -> dict[str, Any]:
    """Draw a page, write it, and return its row of the manifest."""
    page = draw_page(placed, script, style, width=size[0], height=size[1])
    move = None
    if style.angle_deg:
        page, move = turn_page(page, style.angle_deg, style.ground[0])
    lines = []
    for own in placed:
        line: dict[str, Any] = {
            "text": own.line.text,
            "kind": own.line.kind,
            "glyph_px": own.line.glyph,
            "ink_px": measure_ink(
                fit_font(own.line.font, script, own.line.glyph), SCRIPTS[script].sample
            ),
            "font": own.line.font,
            "box": corners_of(own.box, move),
        }
        if own.words:
            line["words"] = [
                {"text": text, "box": corners_of(box, move)} for text, box in own.words
            ]
        for x, y in line["box"]:
            if not (0 <= x <= page.width and 0 <= y <= page.height):
                raise ValueError(f"{name}: the box of {own.line.text!r} leaves the page")
        lines.append(line)
    path = PAGES / f"{name}.png"
    pixels = np.array(page)
    gray = bool((pixels == pixels[..., :1]).all())
    Image.fromarray(pixels[..., 0] if gray else pixels).save(path, optimize=True)
    return {
        "id": name,
        "task": "text",
        "subset": script,
        "file": path.relative_to(DATA).as_posix(),
        "crop": None,
        "width": page.width,
        "height": page.height,
        "sha256": pixel_sha256(pixels),
        "meta": {
            "generator": VERSION,
            "script": script,
            "condition": style.condition,
            "glyph_px": min(own.line.glyph for own in placed),
            "lines": lines,
        },
    }


# Pages


EDGE = 9
"""Pixels between the boxes and the edge of the page, in both directions."""


def make_list(
    name: str, script: str, lines: Sequence[Line], style: Style, *, width: int | None = None
) -> dict[str, Any]:
    """Return the row of a page of lines one below the other."""
    need = max(
        math.ceil(ink[2] - ink[0]) + 2 * max(2, math.ceil(line.glyph / 4))
        for line in lines
        for _, ink in [measure_line(line, script)]
    )
    width = need if width is None else max(width, need)
    align = "end" if SCRIPTS[script].rtl and style.align == "start" else style.align
    placed, bottom = place_column(
        lines, script, left=EDGE, top=EDGE, width=width, align=align, leading=0.25
    )
    return finish_page(name, script, placed, style, (width + 2 * EDGE, bottom + EDGE))


def make_abstract(script: str, number: int, rng: random.Random) -> dict[str, Any]:
    """Return the row of a dense page: a title over two columns of 10 px glyphs."""
    serif = SCRIPTS[script].fonts[1]
    joint = " " if SCRIPTS[script].spaced else ""
    sentences = list(read_passages()[f"{script}.sentences"])
    rng.shuffle(sentences)
    width, gap = 220, 14
    title = Line(draw_words(script, rng, 2), "title", 20, SCRIPTS[script].fonts[2])
    align = "end" if SCRIPTS[script].rtl else "start"
    placed, top = place_column(
        [title], script, left=EDGE, top=EDGE, width=2 * width + gap, align="middle", leading=0.5
    )
    bottoms = []
    for column in range(2):
        text = joint.join(sentences[7 * column : 7 * column + 7])
        own, bottom = place_column(
            wrap_text(text, script, glyph=10, font=serif, width=width),
            script,
            left=EDGE + column * (width + gap),
            top=top,
            width=width,
            align=align,
            leading=0.0,
        )
        placed += own
        bottoms.append(bottom)
    size = (2 * (width + EDGE) + gap, max(bottoms) + EDGE)
    ink = (34, 30, 26) if number % 2 else BLACK
    ground = (250, 246, 236) if number % 2 else WHITE
    style = Style("abstract", ink=ink, ground=(ground, ground))
    return finish_page(f"text-{script}-abstract", script, placed, style, size)


POSTER_COLORS: tuple[tuple[Color, Color, Color], ...] = (
    ((20, 24, 74), (120, 36, 88), (255, 236, 180)),
    ((246, 196, 72), (232, 108, 60), (40, 16, 30)),
    ((12, 70, 66), (24, 128, 104), (240, 250, 236)),
    ((232, 228, 220), (176, 200, 224), (96, 20, 28)),
)
"""Top, bottom and ink."""

PHOTOS = (
    ("coffee.png", (20, 20)),
    ("chelsea.png", (20, 10)),
    ("rocket.jpg", (120, 30)),
    ("astronaut.png", (40, 200)),
)


def make_conditions(script: str, number: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return the rows of a script's pages that are not black on white, list or layout."""
    how = SCRIPTS[script]
    regular, bold = how.fonts[0], how.fonts[2]
    photo, at = PHOTOS[number % len(PHOTOS)]
    top, bottom, ink = POSTER_COLORS[number % len(POSTER_COLORS)]
    angle = (4.0, -6.0, 8.0, -3.0)[number % 4]
    faint: tuple[Color, Color] = (((150,) * 3, (198,) * 3), ((116,) * 3, (88,) * 3))[number % 2]
    gray, ground = faint
    lists = {
        "faint-16": (16, regular, Style("low-contrast", ink=gray, ground=(ground, ground))),
        "photo-20": (20, bold, Style("photo", WHITE, photo=photo, at=at, outline=(16, 10, 8))),
        "turned-16": (16, regular, Style("rotated", angle_deg=angle)),
    }
    rows = []
    for name, (glyph, font, style) in lists.items():
        lines = fill_page(script, glyph, font, rng)
        picked = [lines[0], *lines[2:5], lines[-1]]
        rows.append(make_list(f"text-{script}-{name}", script, picked, style))
    sentences = rng.sample(read_passages()[f"{script}.sentences"], 2)
    poster = [
        Line(draw_words(script, rng, 1), "words", 48, bold),
        Line(sentences[0], "sentence", 20, regular),
        Line(draw_random(script, rng), "random", 16, how.fonts[1]),
        Line(sentences[1], "sentence", 12, regular),
        Line(draw_figures(rng), "figures", 24, bold),
    ]
    style = Style("poster", ink=ink, ground=(top, bottom), align="middle")
    rows.append(make_list(f"text-{script}-poster", script, poster, style, width=300))
    rows.append(make_abstract(script, number, rng))
    return rows


def make_suite() -> list[dict[str, Any]]:
    """Draw every page and return the rows of the manifest, sorted by id."""
    if not features.check("raqm"):
        sys.exit(
            "Pillow has no libraqm here (FriBiDi is missing?): Arabic and Hindi would be unshaped"
        )
    PAGES.mkdir(exist_ok=True)
    rows = []
    for number, (script, how) in enumerate(SCRIPTS.items()):
        for place, glyph in enumerate(HEIGHTS):
            rng = random.Random(f"{VERSION}/{script}/{glyph}")
            font = how.fonts[(place + number) % len(how.fonts)]
            lines = fill_page(script, glyph, font, rng)
            rows.append(make_list(f"text-{script}-{glyph:02d}", script, lines, Style("plain")))
        rows += make_conditions(script, number, random.Random(f"{VERSION}/{script}/conditions"))
    for glyph in (8, 12, 16, 24):
        rng = random.Random(f"{VERSION}/code/{glyph}")
        lines = [Line(draw_code(rng), "code", glyph, CODE_FONT) for _ in range(5)]
        rows.append(make_list(f"text-latin-code-{glyph:02d}", "latin", lines, Style("code")))
    return sorted(rows, key=lambda row: str(row["id"]))


def main() -> None:
    """Draw the pages and write the manifest."""
    parser = argparse.ArgumentParser(description="Draw the pages of text-multilingual.")
    parser.parse_args()
    rows = make_suite()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    MANIFEST.write_text("".join(lines), encoding="utf-8", newline="\n")
    kinds = {name: features.version(name) for name in ("raqm", "freetype2", "harfbuzz", "fribidi")}
    print(f"{len(rows)} pages, Pillow {Image.__version__}, {kinds}")


if __name__ == "__main__":
    main()
