"""Draw the charts of the suite `detail` and write its manifest.

    python data/detail/make_charts.py

A grating image is 256x256: four quadrants of 128 px, each a full plane wave of one frequency, of
which the middle 96x96 are scored. Frequencies are n/96 cycles per pixel on each axis, so a scored
box holds whole cycles; CURVE keeps those that repeat with no grid of 2, 4, 8, 14, 16 or 32 px. An
element image is 256x256: 64 thin lines, dots or hatched squares, each scored in a box of its own.
Levels are reals, rounded half up to uint8 once, at the end. Bytes are the same on every machine.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.images import RGB8, encode_png, load_rgb8, pixel_sha256
from vtbench.metrics.transfer import DIRECTIONS, SIDESTEP_CPP, list_grid_frequencies

HERE = Path(__file__).resolve().parent
DATA = HERE.parent
MANIFEST = DATA / "manifests" / "detail.jsonl"

Field = NDArray[np.float64]
Row = dict[str, Any]
Wave = tuple[float, float]

SCORED, QUADRANT, SIDE = 96, 128, 256
INSET = (QUADRANT - SCORED) // 2
STRIDES = (2, 4, 8, 14, 16, 32)
CONTRAST = 0.5
SAMPLED = (4, 10, 16, 23, 31, 40)
"""Frequencies, in 1/96 cycles per pixel, at which colours and other contrasts are compared."""
OBLIQUE = (
    *((4, 2), (8, 4), (10, 5), (16, 8), (22, 11), (26, 13), (32, 16), (38, 19)),
    *((4, 4), (8, 8), (11, 11), (16, 16), (19, 19), (23, 23), (26, 26), (32, 32)),
)
"""Wave vectors in 1/96 cycles per pixel, 26.6 and 45 degrees off an axis."""

KINDS = ("line", "dot", "hatch")
SIZES = (1, 2, 3, 4)
CELL, FACTOR, PAPER, INK = 32, 8, 225.0, 30.0

BORROWED = (
    *("texture-brick", "texture-grass", "texture-gravel", "chart-color-stripes"),
    *("chart-dead-leaves-color", "chart-dead-leaves-gray"),
    *("photo-coffee-r0c0", "photo-chelsea-r0c0", "photo-motorcycle-left-r0c0"),
    *("photo-astronaut-r0c0", "photo-ihc-r0c0", "photo-rocket-r0c0", "photo-retina-r2c1"),
)
"""Pictures of the embedded suite that stand in this one too."""


def is_incommensurate(frequency: float) -> bool:
    """Whether a frequency is 0.7/96 cycles per pixel or more from all that repeat with a stride."""
    places = (frequency * stride for stride in STRIDES)
    strides = zip(places, STRIDES, strict=True)
    return all(abs(place - round(place)) / stride >= 0.7 / SCORED for place, stride in strides)


CURVE = tuple(n for n in range(2, SCORED // 2) if is_incommensurate(n / SCORED))


def list_grid_waves() -> list[float]:
    """Return what grid blindness needs and CURVE has not: every k ÷ stride and its neighbours."""
    wanted = {
        round(frequency + step, 12)
        for stride in STRIDES
        for frequency in list_grid_frequencies(stride)
        for step in (-SIDESTEP_CPP, 0.0, SIDESTEP_CPP)
    }
    return sorted(f for f in wanted if all(abs(f - n / SCORED) > 1e-9 for n in CURVE))


def round_levels(levels: Field) -> RGB8:
    """Return HxWx3 levels in [0, 255] as uint8, rounded half up."""
    # Nine decimals: cos(pi/2) and its kind must not decide on which side of a half we fall.
    rounded: RGB8 = np.floor(levels.round(9) + 0.5).astype(np.uint8)
    return rounded


def draw_waves(waves: list[Wave], *, contrast: float, direction: str) -> tuple[RGB8, Row]:
    """Draw four plane waves, a quadrant each, and describe them.

    Level = 127.5 (1 + contrast d cos(2 pi (fx x + fy y) + phase)), d the vector of the direction, x
    and y counted from the top left pixel of the scored box; phases 0, 90, 180, 270 degrees.
    """
    y, x = np.mgrid[:QUADRANT, :QUADRANT].astype(np.float64) - INSET
    along = np.array(DIRECTIONS[direction][0])
    levels = np.empty((SIDE, SIDE, 3))
    patches = []
    for place, (fx, fy) in enumerate(waves):
        left, top = QUADRANT * (place % 2), QUADRANT * (place // 2)
        wave = np.cos(2 * math.pi * (fx * x + fy * y) + place * math.pi / 2)
        quadrant = 127.5 * (1 + contrast * along * wave[..., None])
        levels[top : top + QUADRANT, left : left + QUADRANT] = quadrant
        box = [left + INSET, top + INSET, SCORED, SCORED]
        patches.append({"box": box, "wave": [fx, fy], "phase_deg": 90 * place})
    meta = {"chart": "wave", "direction": direction, "contrast": contrast, "patches": patches}
    return round_levels(levels), meta


def draw_gratings() -> list[tuple[str, str, RGB8, Row]]:
    """Return name, subset, pixels and meta of every grating image."""

    def both_axes(frequency: float) -> list[Wave]:
        return [(frequency, 0.0)] * 2 + [(0.0, frequency)] * 2

    plain = {"contrast": CONTRAST, "direction": "gray"}
    asked: list[tuple[str, str, list[Wave], Row]] = []
    axis_aligned = [(f"curve-{n:02d}", "curve", n / SCORED) for n in CURVE]
    axis_aligned += [(f"grid-{round(f * 1e4):04d}", "grid", f) for f in list_grid_waves()]
    for name, subset, f in axis_aligned:
        asked.append((f"{name}-x", subset, [(f, 0.0)] * 4, plain))
        asked.append((f"{name}-y", subset, [(0.0, f)] * 4, plain))
    for n, m in OBLIQUE:
        a, b = n / SCORED, m / SCORED
        waves = [(a, b), (-b, a), (b, a), (-a, b)]
        asked.append((f"oblique-{n:02d}-{m:02d}", "oblique", waves, plain))
    for n in SAMPLED:
        for contrast in (0.1, 0.9):
            name = f"contrast-{n:02d}-c{round(100 * contrast)}"
            how = {**plain, "contrast": contrast}
            asked.append((name, "contrast", both_axes(n / SCORED), how))
        for direction in DIRECTIONS.keys() - {"gray"}:
            how = {**plain, "direction": direction}
            asked.append((f"color-{n:02d}-{direction}", "color", both_axes(n / SCORED), how))
    return [(name, subset, *draw_waves(waves, **how)) for name, subset, waves, how in asked]


def draw_element(kind: str, size: int, random: np.random.Generator) -> tuple[Field, list[int]]:
    """Return the share of ink of every pixel of a cell, and the scored box in it.

    line: 20 px long; dot: a disc; hatch: 20x20 px of lines with gaps as wide as they are. size:
    thickness or diameter in pixels. Places and angles are any, so no element sits on a grid.
    """
    side = CELL * FACTOR
    y, x = ((np.mgrid[:side, :side] + 0.5) / FACTOR).astype(np.float64)
    x, y = x - CELL / 2 - random.uniform(-1, 1), y - CELL / 2 - random.uniform(-1, 1)
    angle = random.uniform(0, math.pi)
    along, across = (
        x * math.cos(angle) + y * math.sin(angle),
        y * math.cos(angle) - x * math.sin(angle),
    )
    if kind == "line":
        ink = (np.abs(along) <= 10) & (np.abs(across) <= size / 2)
    elif kind == "dot":
        ink = np.hypot(x, y) <= size / 2
    else:
        within = (np.abs(x) <= 10) & (np.abs(y) <= 10)
        ink = within & ((across + random.uniform(0, 2 * size)) % (2 * size) < size)
    share: Field = ink.reshape(CELL, FACTOR, CELL, FACTOR).mean(axis=(1, 3))
    reach = 6 if kind == "dot" else 13
    return share, [CELL // 2 - reach, CELL // 2 - reach, 2 * reach, 2 * reach]


def draw_elements(kind: str, *, dark: bool, seed: int) -> tuple[RGB8, Row]:
    """Draw 64 elements of a kind, 16 of each size, dark on light or light on dark."""
    random = np.random.Generator(np.random.PCG64(seed))
    share = np.zeros((SIDE, SIDE))
    patches = []
    for place in range((SIDE // CELL) ** 2):
        left, top = CELL * (place % (SIDE // CELL)), CELL * (place // (SIDE // CELL))
        size = SIZES[(place + place // 8) % len(SIZES)]
        cell, box = draw_element(kind, size, random)
        share[top : top + CELL, left : left + CELL] = cell
        patches.append({"box": [left + box[0], top + box[1], *box[2:]], "size_px": size})
    paper, ink = (PAPER, INK) if dark else (INK, PAPER)
    levels = np.repeat((paper + (ink - paper) * share)[..., None], 3, axis=2)
    meta = {"chart": "elements", "kind": kind, "dark": dark, "seed": seed, "patches": patches}
    return round_levels(levels), meta


def write_chart(name: str, subset: str, pixels: RGB8, meta: Row) -> Row:
    """Write a chart as PNG, one channel where the three are equal, and return its row."""
    gray = bool((pixels == pixels[..., :1]).all())
    path = HERE / "charts" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_png(np.ascontiguousarray(pixels[..., 0]) if gray else pixels))
    if not np.array_equal(load_rgb8(path), pixels):
        raise ValueError(f"{path.name} does not come back as it was drawn")
    return {
        "id": name,
        "task": "detail",
        "subset": subset,
        "file": path.relative_to(DATA).as_posix(),
        "crop": None,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": pixel_sha256(pixels),
        "meta": meta,
    }


def borrow_rows() -> list[Row]:
    """Return the rows of the embedded suite that this one has too: a chart's task is detail, a
    picture's is reconstruction."""
    lines = (DATA / "manifests" / "embedded.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    borrowed = []
    for name in BORROWED:
        row = rows[name]
        if row["meta"].get("chart") != "color-stripes":
            subset = "photo" if row["subset"] == "crop256" else "texture"
            row |= {"task": "reconstruction", "subset": subset}
        borrowed.append(row)
    return borrowed


def main() -> None:
    """Draw everything anew and write the manifest."""
    rows = [write_chart(*chart) for chart in draw_gratings()]
    for seed, (kind, dark) in enumerate((kind, dark) for kind in KINDS for dark in (True, False)):
        name = f"elements-{kind}-{'dark' if dark else 'light'}"
        rows.append(write_chart(name, "elements", *draw_elements(kind, dark=dark, seed=seed)))
    rows += borrow_rows()
    rows.sort(key=lambda row: (row["task"], row["id"]))
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    MANIFEST.write_text(content, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
