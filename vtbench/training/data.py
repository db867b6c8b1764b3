"""What reference tokenizers learn from: three photographs of installed packages and drawn pictures.

No picture that a suite evaluates, nor its twin: the photographs are those that `data/weights/
fit_patch.py` fitted the patch tokenizers on (china.jpg and flower.jpg of scikit-learn, matplotlib's
grace_hopper.jpg). A square of each is held out to watch the training by. Drawings are dead leaves,
text, noise and patterns. Everything is a function of the seed, the step and the files and fonts of
the machine, so that training that was cut off goes on with the same pictures.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from vtbench import images as pixels
from vtbench.base.errors import DataMissing
from vtbench.images import RGB8
from vtbench.registry.recipe import Training

HELD_OUT = 256
"""Side of the square at the bottom right of each photograph that no training crop overlaps."""

SIDE = 384
"""Of a drawn picture, in pixels."""

SCALES = (1.5, 1.25, 1.0, 0.85, 0.7, 0.55, 0.4, 0.3)
"""Of the photographs, where a crop still fits."""

FONT_FOLDERS = tuple(map(Path, ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts")))
FACES = (
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"),
    *("NotoSans-Regular.ttf", "NotoSans-Bold.ttf", "NotoSerif-Regular.ttf", "NotoSerif-Italic.ttf"),
    *("NotoSansMono-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc"),
)
"""Fonts that are used where they are: matplotlib brings DejaVu, most systems have Noto."""

Field = NDArray[np.float32]


@functools.cache
def load_photographs() -> dict[str, RGB8]:
    """Return the three photographs, H×W×3. Raises DataMissing without scikit-learn."""
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError:
        raise DataMissing(
            "training needs the photographs of scikit-learn: pip install 'vtbench[train]'"
        ) from None
    from matplotlib.cbook import get_sample_data

    hopper = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
    return {
        "china.jpg": np.asarray(load_sample_image("china.jpg")),
        "flower.jpg": np.asarray(load_sample_image("flower.jpg")),
        "grace_hopper.jpg": pixels.load_rgb8(hopper),
    }


def cut_held_out(photograph: RGB8) -> RGB8:
    """Return the square that is held out."""
    return photograph[-HELD_OUT:, -HELD_OUT:]


def cut_parts(photograph: RGB8) -> tuple[RGB8, RGB8]:
    """Return what is left of the held-out square and what is above it."""
    return photograph[:, :-HELD_OUT], photograph[:-HELD_OUT]


@functools.cache
def scale_parts(crop: int) -> list[RGB8]:
    """Return the parts of all photographs at each of `SCALES` where a crop of that side fits."""
    scaled = []
    for photograph in load_photographs().values():
        for part in cut_parts(photograph):
            for scale in SCALES:
                size = (round(part.shape[0] * scale), round(part.shape[1] * scale))
                if min(size) >= crop:
                    resized = pixels.resize(pixels.to_float([part]), size)
                    scaled += pixels.to_rgb8(pixels.to_uint8(resized))
    return scaled


@functools.cache
def find_fonts() -> dict[str, Path]:
    """Return the faces of `FACES` that are on this machine, by file name."""
    import matplotlib

    folders = (Path(matplotlib.get_data_path()) / "fonts" / "ttf", *FONT_FOLDERS)
    there = {path.name: path for folder in reversed(folders) for path in folder.rglob("*.tt[fc]")}
    return {name: there[name] for name in FACES if name in there}


def describe_sources() -> dict[str, str]:
    """Return each photograph and font with the sha256 of its pixels or file: what a log records."""
    sources = {name: pixels.pixel_sha256(image) for name, image in load_photographs().items()}
    for name, path in find_fonts().items():
        sources[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return sources


class Pictures:
    """The stream of training crops.

    A crop is of a photograph or a drawing, half and half (`Training.drawn_share`). Drawings come
    from a pool that grows by one in two steps up to `Training.drawn`, so that a short run draws few.
    """

    def __init__(self, recipe: Training) -> None:
        self.recipe = recipe
        photographs = load_photographs().values()
        self.held_out = pixels.to_float([cut_held_out(image) for image in photographs])
        self.parts = scale_parts(recipe.crop)
        areas = np.array([math.sqrt(part.shape[0] * part.shape[1]) for part in self.parts])
        self.shares = areas / areas.sum()
        self.palettes = [part for image in photographs for part in cut_parts(image)]
        self._drawn: dict[int, RGB8] = {}

    def draw(self, index: int) -> RGB8:
        """Return the drawing of that number, SIDE×SIDE×3."""
        if index not in self._drawn:
            rng = np.random.default_rng((self.recipe.seed, 1, index))
            part = self.palettes[rng.integers(len(self.palettes))]
            self._drawn[index] = KINDS[index % len(KINDS)](rng, part)
        return self._drawn[index]

    def make_batch(self, step: int) -> Tensor:
        """Return the crops of a step, float32 N×3×crop×crop in [0, 1]."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, 0, step))
        pool = min(recipe.drawn, 2 * len(KINDS) + step // 2)
        crops = []
        for _ in range(recipe.batch):
            if rng.random() < recipe.drawn_share:
                source, natural = self.draw(int(rng.integers(pool))), False
            else:
                source, natural = self.parts[rng.choice(len(self.parts), p=self.shares)], True
            top, left = (int(rng.integers(side - recipe.crop + 1)) for side in source.shape[:2])
            crop = pixels.to_float([source[top : top + recipe.crop, left : left + recipe.crop]])[0]
            crops.append(vary_crop(crop, rng, tint=natural or rng.random() < 0.5))
        return torch.stack(crops)


def vary_crop(crop: Tensor, rng: np.random.Generator, *, tint: bool) -> Tensor:
    """Return a 3×S×S crop flipped and turned at random; with tint, its contrast, brightness and
    saturation are changed too, and in one of four its channels change places."""
    if rng.random() < 0.5:
        crop = crop.flip(2)
    crop = crop.rot90(int(rng.integers(4)), (1, 2))
    if tint:
        if rng.random() < 0.25:
            crop = crop[rng.permutation(3).tolist()]
        gray = crop.mean(dim=0, keepdim=True)
        crop = gray + (crop - gray) * rng.uniform(0.3, 1.3)
        gain, offset = rng.uniform(0.6, 1.2), rng.uniform(-0.15, 0.15)
        crop = ((crop - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    return crop


def make_noise(rng: np.random.Generator, side: int, power: float) -> Field:
    """Return side×side noise of amplitude 1/f^power, mean 0, deviation 1 (natural images: 1, Field
    1987)."""
    rows = np.fft.fftfreq(side).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(side).astype(np.float32)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    noise = np.fft.irfft2(white / frequency**power, s=(side, side)).astype(np.float32)
    field: Field = noise / noise.std()
    return field


def draw_leaves(rng: np.random.Generator, palette: RGB8) -> RGB8:
    """Return opaque leaves of radius density r⁻³ (the dead leaves model, Lee et al. 2001), each in a
    colour of the photograph with a shade and a texture of its own, drawn at twice the size."""
    side, count = 2 * SIDE, int(rng.integers(300, 1500))
    labels = Image.new("I", (side, side))
    draw = ImageDraw.Draw(labels)
    least = float(rng.uniform(4, 16))
    for leaf in range(1, count):
        radius = rng.uniform(400.0**-2, least**-2) ** -0.5
        x, y = rng.uniform(0, side, size=2)
        corners = int(rng.integers(3, 14))
        angles = np.sort(rng.uniform(0, 2 * math.pi, size=corners))
        stretch, turn = rng.uniform(0.3, 1.0), rng.uniform(0, math.pi)
        if corners > 8:
            angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        u, v = radius * np.cos(angles), stretch * radius * np.sin(angles)
        xs = x + u * math.cos(turn) - v * math.sin(turn)
        ys = y + u * math.sin(turn) + v * math.cos(turn)
        draw.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=leaf)
    label = np.asarray(labels)
    rows = rng.integers(palette.shape[0], size=count)
    colours = palette[rows, rng.integers(palette.shape[1], size=count)].astype(np.float32)
    strength = np.where(rng.random(count) < 0.6, rng.exponential(12, size=count), 0)
    slopes = rng.normal(0, 12, size=(2, count)).astype(np.float32)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    shade = slopes[0][label] * ramp[:, None] + slopes[1][label] * ramp[None, :]
    textures = np.stack([make_noise(rng, side, power) for power in (0.6, 1.0, 1.5)])
    kind = rng.integers(len(textures), size=count)[label]
    texture = np.take_along_axis(textures, kind[None], axis=0)[0]
    value = colours[label] + (shade + strength.astype(np.float32)[label] * texture)[..., None]
    return _shrink(value, blur=float(rng.choice([0, 0, 0, 0.7, 1.5])))


def draw_noise(rng: np.random.Generator, palette: RGB8) -> RGB8:
    """Return coloured noise, mostly gray, of a random power law."""
    power = float(rng.uniform(0.7, 1.8))
    gray, *chroma = (make_noise(rng, SIDE, power) for _ in range(4))
    field = np.stack([gray + 0.3 * c for c in chroma], axis=2)
    base = palette.reshape(-1, 3)[rng.integers(palette.shape[0] * palette.shape[1])]
    return _round(base.astype(np.float32) + rng.uniform(8, 60) * field)


def draw_pattern(rng: np.random.Generator, palette: RGB8) -> RGB8:
    """Return a few boxes of gratings, checkers and lines over a gradient."""
    side = 2 * SIDE
    at = np.linspace(0, 1, side, dtype=np.float32)
    a, b, c, d = rng.uniform(0, 255, size=(4, 3)).astype(np.float32)
    y, x = at[:, None, None], at[None, :, None]
    value = (1 - y) * ((1 - x) * a + x * b) + y * ((1 - x) * c + x * d)
    for _ in range(int(rng.integers(2, 8))):
        top, left = rng.integers(0, side - 128, size=2)
        height, width = rng.integers(96, side, size=2)
        box = value[top : top + height, left : left + width]
        rows, columns = np.mgrid[: box.shape[0], : box.shape[1]]
        period, angle = float(rng.uniform(4, 80)), rng.uniform(0, math.pi)
        along = (columns * math.cos(angle) + rows * math.sin(angle)) * (2 * math.pi / period)
        across = (rows * math.cos(angle) - columns * math.sin(angle)) * (2 * math.pi / period)
        wave = (np.sin(along), np.sign(np.sin(along)), np.sign(np.sin(along) * np.sin(across)))
        swing = rng.uniform(-100, 100, size=3) if rng.random() < 0.4 else rng.uniform(5, 120)
        chosen = wave[rng.integers(3)]
        box[:] = rng.uniform(60, 195) + np.float32(swing) * chosen.astype(np.float32)[..., None]
    return _shrink(value)


def draw_text(rng: np.random.Generator, palette: RGB8) -> RGB8:
    """Return lines of invented words, digits and signs, on white, on a colour or on a photograph."""
    black_on_white = rng.random() < 0.5
    ink, paper = rng.integers(0, 256, size=(2, 3)) if not black_on_white else ([0] * 3, [255] * 3)
    picture = Image.new("RGB", (SIDE, SIDE), tuple(map(int, paper)))
    if rng.random() < 0.2:
        picture = Image.fromarray(palette).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    fonts = find_fonts()
    top = float(rng.uniform(-10, 10))
    while top < SIDE:
        size = float(rng.choice([9, 11, 13, 16, 20, 26, 36, 52]))
        name = FACES[0] if not fonts else list(fonts)[rng.integers(len(fonts))]
        letters = "CJK" in name and rng.random() < 0.7
        words = [_invent_word(rng, chinese=letters) for _ in range(int(600 / size) + 1)]
        draw.text(
            (rng.uniform(-30, 10), top),
            ("" if letters else " ").join(words),
            tuple(map(int, ink)),
            ImageFont.truetype(str(fonts[name]), size),
        )
        top += float(rng.uniform(1.1, 1.5)) * size
    return np.asarray(picture)


def _invent_word(rng: np.random.Generator, *, chinese: bool) -> str:
    if chinese:
        return "".join(map(chr, rng.integers(0x4E00, 0x9000, size=2)))
    if rng.random() < 0.2:
        return "".join(rng.choice(list("0123456789.,:;/()%+-#&@!?"), size=rng.integers(1, 6)))
    word = "".join(
        str(rng.choice(list("bcdfghjklmnpqrstvwxz"))) + str(rng.choice(list("aeiouy")))
        for _ in range(int(rng.integers(1, 5)))
    )
    word += str(rng.choice(["", "", "n", "s", "t", "r"]))
    return str(rng.choice([word, word, word.capitalize(), word.upper()]))


def _round(value: Field) -> RGB8:
    rounded: RGB8 = np.clip(value + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _shrink(value: Field, *, blur: float = 0.0) -> RGB8:
    picture = Image.fromarray(_round(value)).reduce(2)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)) if blur else picture)


KINDS: tuple[Callable[[np.random.Generator, RGB8], RGB8], ...] = (
    *(draw_leaves, draw_text, draw_leaves, draw_pattern),
    *(draw_leaves, draw_text, draw_leaves, draw_noise),
)
"""The drawings of the pool, in turn."""
