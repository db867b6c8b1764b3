"""Draw the same two scenes at seven sizes for the suite sizes, and write its manifest.

A scene is a list of shapes in units of its side, so a shape of 1/256 is one pixel at 256 and eight at
2048. Every edge is antialiased by the distance of a pixel's centre from it: arithmetic, no fonts and no
resampling. Levels are reals in [0, 255], rounded half up once, at the end.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtbench.images import load_rgb8, pixel_sha256

HERE = Path(__file__).resolve().parent
DATA = HERE.parent
MANIFEST = DATA / "manifests" / "sizes.jsonl"
SIZES = (256, 384, 512, 768, 1024, 1536, 2048)

Field = NDArray[np.float64]
Color = tuple[float, float, float]


def cover(
    canvas: Field, distance: Callable[[Field, Field], Field], box: Field, color: Color
) -> None:
    """Paint a shape into S×S×3 levels. distance: signed, in sides of the picture, negative inside. box:
    left, top, right, bottom of the shape, in sides."""
    side = len(canvas)
    left, top = (max(0, math.floor(edge * side) - 1) for edge in box[:2])
    right, bottom = (min(side, math.ceil(edge * side) + 1) for edge in box[2:])
    if right <= left or bottom <= top:
        return
    y, x = (np.mgrid[top:bottom, left:right] + 0.5) / side
    # Nine decimals: the last bits of a square root must not decide on which side of a half we fall.
    alpha = np.clip(0.5 - distance(x, y) * side, 0, 1).round(9)[..., None]
    part = canvas[top:bottom, left:right]
    part += alpha * (np.array(color) - part)


def draw_leaves(side: int) -> Field:
    """Return discs over discs, radii from 1/300 to 1/7 with as many per octave, of random colours."""
    rng = random.Random("sizes/leaves/1")
    canvas = np.full((side, side, 3), 128.0)
    for _ in range(900):
        radius = math.exp(rng.uniform(math.log(1 / 300), math.log(1 / 7)))
        cx, cy = rng.uniform(0, 1), rng.uniform(0, 1)
        color = (rng.uniform(10, 245), rng.uniform(10, 245), rng.uniform(10, 245))
        box = np.array([cx - radius, cy - radius, cx + radius, cy + radius])
        cover(
            canvas, lambda x, y, c=(cx, cy), r=radius: np.hypot(x - c[0], y - c[1]) - r, box, color
        )  # type: ignore[misc]
    return canvas


def draw_strokes(side: int) -> Field:
    """Return lines of 1/700 to 1/120 wide in rows, like writing that nobody can read, on light paper."""
    rng = random.Random("sizes/strokes/1")
    down = np.linspace(0, 1, side)[:, None, None]
    canvas = np.broadcast_to(np.array([246.0, 242.0, 232.0]) - 26 * down, (side, side, 3)).copy()
    height, top = 1 / 60, 1 / 30
    while top + height < 0.97:
        left = 1 / 30
        ink: Color = rng.choice(((20.0, 20.0, 24.0), (140.0, 24.0, 30.0), (20.0, 50.0, 140.0)))
        while left < 0.95:
            for _ in range(3):
                ends = [
                    (left + rng.uniform(0, 0.6) * height, top + rng.uniform(0, 1) * height)
                    for _ in range(2)
                ]
                draw_stroke(canvas, ends, height / 12, ink)
            left += height * rng.choice((0.85, 0.85, 0.85, 1.5))
        top += 1.9 * height
        height *= 1.16
    return canvas


def draw_stroke(
    canvas: Field, ends: list[tuple[float, float]], radius: float, color: Color
) -> None:
    """Paint a straight line with round ends, `radius` sides to either hand of its middle."""
    (ax, ay), (bx, by) = ends
    length = (bx - ax) ** 2 + (by - ay) ** 2

    def distance(x: Field, y: Field) -> Field:
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1)
        away: Field = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        return away - radius

    box = [min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)]
    cover(canvas, distance, np.array(box) + radius * np.array([-1, -1, 1, 1]), color)


SCENES: dict[str, Callable[[int], Field]] = {"leaves": draw_leaves, "strokes": draw_strokes}


def to_pixels(levels: Field) -> NDArray[np.uint8]:
    """Return levels as uint8, rounded half up."""
    return np.floor(np.clip(levels.round(6), 0, 255) + 0.5).astype(np.uint8)


def make_row(scene: str, side: int) -> dict[str, Any]:
    """Return a drawing's row of the manifest."""
    file = f"sizes/drawings/{scene}-{side:04d}.png"
    return {
        "id": f"{scene}-{side:04d}",
        "task": "reconstruction",
        "subset": f"px{side:04d}",
        "file": file,
        "crop": None,
        "width": side,
        "height": side,
        "sha256": pixel_sha256(load_rgb8(DATA / file)),
        "meta": {"scene": scene},
    }


if __name__ == "__main__":
    (HERE / "drawings").mkdir(exist_ok=True)
    for name, draw in SCENES.items():
        for size in SIZES:
            picture = Image.fromarray(to_pixels(draw(size)))
            picture.save(HERE / "drawings" / f"{name}-{size:04d}.png", optimize=True)
    rows = [make_row(name, size) for name in sorted(SCENES) for size in SIZES]
    MANIFEST.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
