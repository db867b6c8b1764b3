"""Draw the charts of the detail task with numpy, write them to `charts/`, and list them.

Every chart is arithmetic on pixel coordinates and, for the dead leaves, a seeded generator. Levels
are reals in [0, 255], rounded half up to uint8 once, at the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from manifest_rows import HERE, Pixels, Row, make_row, replace_rows, save_png
from numpy.typing import NDArray

CHARTS = HERE / "charts"

Field = NDArray[np.float64]
Color = tuple[int, int, int]
Chart = tuple[Pixels, dict[str, Any]]

GRAY = 128
PATCH = 128  # side of a grating patch, px
SCORED = 96  # side of its scored inner box, px: a whole number of cycles of every period below
GRID_AT = 3  # the first patch's left and top: never a multiple of a block or of a token's stride
PERIODS = (2.0, 2.4, 96 / 36, 3.0, 3.2, 4.0, 4.8, 6.0, 8.0, 9.6, 12.0, 16.0)

# Four colours whose Rec. 601 luma rounds to 100, so that only chroma tells the pairs apart.
RED: Color = (255, 34, 34)
BLUE: Color = (80, 80, 255)
GREEN: Color = (0, 170, 0)
MAGENTA: Color = (242, 0, 242)


def round_levels(levels: Field) -> Pixels:
    """Return HxW or HxWx3 levels in [0, 255] as HxWx3 uint8, rounded half up."""
    rounded = np.floor(np.clip(levels, 0, 255) + 0.5).astype(np.uint8)
    return rounded if rounded.ndim == 3 else np.repeat(rounded[..., None], 3, axis=2)


def pixel_grid(width: int, height: int) -> tuple[Field, Field]:
    """Return the x and y of every pixel centre, HxW each; the top left pixel is at (0, 0)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x, y


def fine_grid(width: int, height: int, factor: int) -> tuple[Field, Field]:
    """Return `pixel_grid` on factor x factor points a pixel, spread evenly over the pixel."""
    x, y = pixel_grid(width * factor, height * factor)
    shift = (factor - 1) / 2
    return (x - shift) / factor, (y - shift) / factor


def average_down(levels: Field, factor: int) -> Field:
    """Return the mean of every factor x factor block of HxW or HxWx3: the antialiased picture."""
    height, width = levels.shape[0] // factor, levels.shape[1] // factor
    blocks: Field = levels.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))
    return blocks[..., 0] if levels.ndim == 2 else blocks


def draw_gratings(contrast: float, angle_deg: float) -> Chart:
    """Draw twelve sine gratings, a period each, in a 4x3 grid on mid-gray (517x389).

    The phase is zero at the top left pixel of each scored box, so period 2 alternates fully.
    """
    levels = np.full((389, 517), float(GRAY))
    x, y = pixel_grid(PATCH, PATCH)
    inset = (PATCH - SCORED) // 2
    radians = math.radians(angle_deg)
    along = (x - inset) * math.cos(radians) + (y - inset) * math.sin(radians)
    patches = []
    for number, period in enumerate(PERIODS):
        left = GRID_AT + PATCH * (number % 4)
        top = GRID_AT + PATCH * (number // 4)
        wave = 127.5 * (1 + contrast * np.cos(2 * math.pi * along / period))
        # Nine decimals: cos(pi/2) and its kind must not decide on which side of a half we fall.
        levels[top : top + PATCH, left : left + PATCH] = wave.round(9)
        patches.append({"box": [left + inset, top + inset, SCORED, SCORED], "period_px": period})
    meta = {"chart": "grating", "contrast": contrast, "angle_deg": angle_deg, "patches": patches}
    return round_levels(levels), meta


def draw_zone_plate() -> Chart:
    """Draw cos(k r^2), 384x384; its frequency reaches half a cycle a pixel at mid-edge."""
    side = 384
    x, y = pixel_grid(side, side)
    centre = (side - 1) / 2
    k = math.pi / side
    levels = 127.5 * (1 + np.cos(k * ((x - centre) ** 2 + (y - centre) ** 2)))
    return round_levels(levels.round(9)), {"chart": "zone-plate", "k": round(k, 9)}


def draw_siemens_star() -> Chart:
    """Draw a star of 72 black and 72 white sectors, 384x384, antialiased 8x8."""
    side, spokes, factor = 384, 72, 8
    x, y = fine_grid(side, side, factor)
    centre = (side - 1) / 2
    radius = np.hypot(x - centre, y - centre)
    white = np.floor(np.arctan2(y - centre, x - centre) * spokes / math.pi) % 2 == 0
    levels = np.where(radius <= 186, np.where(white, 255.0, 0.0), GRAY)
    # No pixel grid holds the middle: below two pixels a cycle a plain disc is honest.
    levels[radius < spokes / math.pi] = GRAY
    meta = {"chart": "siemens-star", "spokes": spokes, "radius_px": 186, "centre": [191.5, 191.5]}
    return round_levels(average_down(levels, factor)), meta


def draw_slanted_edges() -> Chart:
    """Draw two edges 5 degrees off the vertical, 300x260, the left one of high contrast."""
    width, height, factor, angle = 300, 260, 16, 5.0
    x, y = fine_grid(width, height, factor)
    slope = math.tan(math.radians(angle))
    levels = np.empty(x.shape)
    edges = []
    for left, low, high in ((0, 20, 235), (150, 110, 146)):
        inside = (x > left - 0.5) & (x < left + 149.5)
        right_of = x - (left + 74.5) > slope * (y - (height - 1) / 2)
        levels[inside] = np.where(right_of, float(high), float(low))[inside]
        edges.append({"box": [left, 0, 150, height], "levels": [low, high], "angle_deg": angle})
    meta = {"chart": "slanted-edge", "edges": edges}
    return round_levels(average_down(levels, factor)), meta


def draw_lines() -> Chart:
    """Draw nine fields of one-pixel checkers, hatches and lines on white, 261x261."""
    side, cell, gap = 261, 81, 4
    x, y = pixel_grid(cell, cell)
    fields = {
        "checker-1": (x + y) % 2 == 0,
        "horizontal-2": y % 2 == 0,
        "vertical-2": x % 2 == 0,
        "horizontal-4": y % 4 == 0,
        "vertical-4": x % 4 == 0,
        "hatch-3": (x + y) % 3 == 0,
        "diagonal-5": (x - y) % 5 == 0,
        "cross-8": (x % 8 == 0) | (y % 8 == 0),
        "diamond-7": ((x + y) % 7 == 0) | ((x - y) % 7 == 0),
    }
    levels = np.full((side, side), 255.0)
    patches = []
    for number, (kind, ink) in enumerate(fields.items()):
        left, top = (5 + (cell + gap) * at for at in (number % 3, number // 3))
        levels[top : top + cell, left : left + cell][ink] = 0.0
        patches.append({"box": [left, top, cell, cell], "kind": kind})
    return round_levels(levels), {"chart": "lines", "patches": patches}


def draw_color_stripes() -> Chart:
    """Draw stripes and checkers 1, 2 and 4 px wide of two colours of equal luma, 303x203."""
    cell, gap = 46, 4
    x, y = pixel_grid(cell, cell)
    levels = np.full((203, 303, 3), 100.0)
    patches = []
    for row, (kind, pair) in enumerate(
        (kind, pair) for pair in ((RED, BLUE), (GREEN, MAGENTA)) for kind in ("stripes", "checker")
    ):
        for column in range(6):
            size = (1, 2, 4)[column // 2]
            if kind == "stripes":
                first = (x if column % 2 == 0 else y) // size % 2 == 0
            else:
                # A checker has no direction: its second field holds it with the colours swapped.
                first = (x // size + y // size + column % 2) % 2 == 0
            left, top = 3 + (cell + gap) * column, 3 + (cell + gap) * row
            colors = np.where(first[..., None], np.array(pair[0]), np.array(pair[1]))
            levels[top : top + cell, left : left + cell] = colors
            box = [left, top, cell, cell]
            patches.append({"box": box, "kind": kind, "size_px": size, "colors": pair})
    return round_levels(levels), {"chart": "color-stripes", "luma": 100, "patches": patches}


def draw_color_lines() -> Chart:
    """Draw coloured lines 1 and 2 px thick at four angles on six coloured grounds, 293x197."""
    factor, cell = 4, 96
    pairs: list[tuple[Color, Color]] = [
        ((255, 224, 0), (0, 60, 160)),
        ((220, 20, 60), (240, 240, 235)),
        ((0, 200, 220), (120, 0, 40)),
        ((250, 250, 250), (200, 90, 20)),
        ((20, 20, 20), (110, 150, 60)),
        ((255, 90, 200), (0, 90, 90)),
    ]
    levels = np.full((197 * factor, 293 * factor, 3), float(GRAY))
    x, y = fine_grid(cell, cell, factor)
    centre = (cell - 1) / 2
    patches = []
    for number, (ink, ground) in enumerate(pairs):
        colors = np.broadcast_to(np.array(ground, dtype=np.float64), (*x.shape, 3)).copy()
        for quarter in range(4):
            angle = math.radians((10, 37, 55, 82)[quarter])
            offset = x * math.cos(angle) + y * math.sin(angle)
            thickness = 1 + quarter % 2
            part = ((x > centre) == (quarter % 2 == 1)) & ((y > centre) == (quarter // 2 == 1))
            colors[part & (offset % (3 + 2 * quarter) < thickness)] = ink
        left, top = 2 + (cell + 1) * (number % 3), 2 + (cell + 1) * (number // 3)
        rows = slice(top * factor, (top + cell) * factor)
        columns = slice(left * factor, (left + cell) * factor)
        levels[rows, columns] = colors
        patches.append({"box": [left, top, cell, cell], "line": ink, "ground": ground})
    meta = {"chart": "color-lines", "angles_deg": [10, 37, 55, 82], "patches": patches}
    return round_levels(average_down(levels, factor)), meta


def draw_dead_leaves(width: int, height: int, seed: int, color: bool) -> Chart:
    """Draw overlapping discs whose radius has density r^-3 on [1, 100] px, antialiased 3x3.

    Discs are laid from the front to the back until they cover the picture: that is the
    stationary image of the dead leaves model, whose statistics do not change with scale.
    """
    factor, smallest, largest = 3, 1.0, 100.0
    generator = np.random.default_rng(seed)
    levels = np.zeros((height * factor, width * factor, 3))
    free = np.ones(levels.shape[:2], dtype=bool)
    discs = 0
    while free.any():
        # The distribution function of r^-3 between the two radii, inverted.
        tail = 1 - generator.random() * (1 - (smallest / largest) ** 2)
        radius = smallest / math.sqrt(tail) * factor
        x = -radius + generator.random() * (width * factor + 2 * radius)
        y = -radius + generator.random() * (height * factor + 2 * radius)
        tone = 20 + 215 * (generator.random(3) if color else generator.random())
        discs += 1
        left, top = max(0, math.ceil(x - radius)), max(0, math.ceil(y - radius))
        right = min(width * factor, math.floor(x + radius) + 1)
        bottom = min(height * factor, math.floor(y + radius) + 1)
        if left >= right or top >= bottom:
            continue
        part = free[top:bottom, left:right]
        reach_y, reach_x = np.ogrid[top:bottom, left:right]
        fresh = part & ((reach_x - x) ** 2 + (reach_y - y) ** 2 <= radius**2)
        levels[top:bottom, left:right][fresh] = tone
        part[fresh] = False
    meta = {
        "chart": "dead-leaves",
        "seed": seed,
        "radius_px": [smallest, largest],
        "exponent": -3,
        "discs": discs,
    }
    return round_levels(average_down(levels, factor).round(9)), meta


def draw_lattices() -> Chart:
    """Draw two fine lattices of thin dark lines, turned by 7 and -4 degrees, 320x297."""
    width, height, factor = 320, 297, 6
    x, y = fine_grid(width, height, factor)
    covered = np.zeros(x.shape, dtype=bool)
    lattices = [(7.0, 5.0), (-4.0, 5.3)]
    for angle, pitch in lattices:
        radians = math.radians(angle)
        for offset in (
            x * math.cos(radians) + y * math.sin(radians),
            y * math.cos(radians) - x * math.sin(radians),
        ):
            covered |= offset % pitch < 0.9
    levels = average_down(np.where(covered, 25.0, 235.0), factor)
    turns = [{"angle_deg": angle, "pitch_px": pitch} for angle, pitch in lattices]
    return round_levels(levels), {"chart": "lattice", "line_px": 0.9, "lattices": turns}


def draw_fan() -> Chart:
    """Draw black lines 1.2 px thick that run together at the left, 381x251, antialiased 8x8."""
    width, height, factor = 381, 251, 8
    x, y = fine_grid(width, height, factor)
    levels = np.full(x.shape, 255.0)
    x0, y0 = -20.0, (height - 1) / 2
    for angle in np.arange(-22.5, 22.6, 1.5):
        radians = math.radians(float(angle))
        distance = np.abs((x - x0) * math.sin(radians) - (y - y0) * math.cos(radians))
        levels[distance <= 0.6] = 0.0
    meta = {"chart": "fan", "lines": 31, "step_deg": 1.5, "line_px": 1.2, "apex": [x0, y0]}
    return round_levels(average_down(levels, factor)), meta


def draw_sweep() -> Chart:
    """Draw a Campbell-Robson chart, 515x259: frequency rises to the right, contrast downwards.

    Frequency goes from 1/64 to 1/2 cycle a pixel and contrast from 0.01 to 1, both by a
    constant ratio from pixel to pixel.
    """
    width, height = 515, 259
    x, y = pixel_grid(width, height)
    first, last = 1 / 64, 1 / 2
    rate = math.log(last / first) / (width - 1)
    # The phase is the integral of the frequency, or its local frequency would not be as said.
    phase = 2 * math.pi * first / rate * (np.exp(rate * x) - 1)
    contrast = 0.01 ** (1 - y / (height - 1))
    levels = 127.5 * (1 + contrast * np.cos(phase))
    meta = {"chart": "sweep", "cycles_per_px": [first, last], "contrast": [0.01, 1.0]}
    return round_levels(levels.round(9)), meta


def draw_charts() -> dict[str, tuple[str, Chart]]:
    """Return subset and chart by id."""
    charts: dict[str, tuple[str, Chart]] = {}
    for contrast, angle in ((0.9, 0), (0.4, 0), (0.1, 0), (0.4, 90), (0.4, 45)):
        name = f"grating-a{angle:02d}-c{round(contrast * 100):02d}"
        charts[name] = ("grating", draw_gratings(contrast, float(angle)))
    for name, chart in {
        "chart-zone-plate": draw_zone_plate(),
        "chart-siemens-star": draw_siemens_star(),
        "chart-slanted-edge": draw_slanted_edges(),
        "chart-lines": draw_lines(),
        "chart-color-stripes": draw_color_stripes(),
        "chart-color-lines": draw_color_lines(),
        "chart-dead-leaves-color": draw_dead_leaves(384, 384, seed=0, color=True),
        "chart-dead-leaves-gray": draw_dead_leaves(333, 287, seed=1, color=False),
        "chart-lattice": draw_lattices(),
        "chart-fan": draw_fan(),
        "chart-sweep": draw_sweep(),
    }.items():
        charts[name] = ("chart", chart)
    return charts


def main() -> None:
    """Draw the charts and renew their rows."""
    rows: list[Row] = []
    for name, (subset, (pixels, meta)) in draw_charts().items():
        path = CHARTS / f"{name}.png"
        save_png(pixels, path)
        rows.append(make_row(name, task="detail", subset=subset, path=path, meta=meta))
    replace_rows("charts", rows)


if __name__ == "__main__":
    main()
