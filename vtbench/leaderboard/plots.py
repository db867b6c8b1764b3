"""The plots: quality and reading error against rate, contrast transfer against frequency. SVG.

matplotlib is imported by `draw_plots` alone, and no state of pyplot is touched. The bytes are the
same for the same numbers and the same version of matplotlib.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vtbench.leaderboard.board import Board, Column, Line
from vtbench.leaderboard.detail_pools import CURVE, GRID, list_gratings
from vtbench.leaderboard.pools import PSNR_CAP_DB
from vtbench.leaderboard.words import NO_CELL
from vtbench.metrics.transfer import average_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"tokenizers": "o", "codecs": "s", "curves": "s", "sanity": "x"}
COLOURS = (
    *("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e", "#ff8ab7", "#6cc5b0"),
    *("#efb118", "#9498a0", "#2b8cbe", "#b03060"),
)
GRAY = "#808080"
LABEL_PT = 7.5

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "vtbench",
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from strangers
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""What every plot sets in matplotlib."""


Kind = Literal["rate", "size", "frequency", "transfer"]
"""What the horizontal axis is: bits per pixel, side of the image, or cycles per pixel."""

SIZE_SUBSET = re.compile(r"px0*([1-9][0-9]*)")
"""Subsets that hold the same content at one size each; the number is the side in pixels."""


@dataclass(frozen=True)
class Plot:
    """A plot that a board has numbers for. column: on the vertical axis."""

    file: str
    title: str
    kind: Kind
    column: Column


_PLOTS: tuple[tuple[str, str, str, Kind], ...] = (
    ("psnr_db", "leaderboard-rate-psnr.svg", "PSNR against rate", "rate"),
    ("psnr_db", "leaderboard-size-psnr.svg", "PSNR against the size of the same content", "size"),
    ("cer", "leaderboard-rate-cer.svg", "character error rate against rate", "rate"),
    (
        "contrast_transfer",
        "leaderboard-contrast-transfer.svg",
        "contrast transfer against frequency",
        "frequency",
    ),
    (
        "mtf50_fit_cpp",
        "leaderboard-transfer.svg",
        "transfer of gratings on and off the grids of tokenizers",
        "transfer",
    ),
)
"""Metric, file, title and horizontal axis; each of the first task that has numbers of the metric."""

PLOT_FILES = frozenset(file for _, file, _, _ in _PLOTS)


def plan_plots(board: Board, published: Board | None = None) -> tuple[Plot, ...]:
    """Return the plots that the numbers allow; needs no matplotlib."""
    lines = [line for b in (board, published) if b for line in b.complete]
    plots = []
    for metric, file, title, kind in _PLOTS:
        for column in board.columns:
            cells = (line.cells.get(column.key, NO_CELL) for line in lines)
            if (
                column.whole
                and column.metric.key == metric
                and (kind != "size" or len(list_sizes(board, column)) > 1)
                and any(cell.value is not None for cell in cells)
            ):
                plots.append(Plot(file, f"{column.group.capitalize()}: {title}", kind, column))
                break
    return tuple(plots)


def draw_plots(board: Board, published: Board | None = None) -> dict[str, bytes]:
    """Return the planned plots as SVG by file name. Published runs of the same protocol that are not
    among the board's are hollow."""
    import matplotlib
    from matplotlib.figure import Figure

    beside: tuple[Line, ...] = ()
    if published is not None and published.suite.sha256 == board.suite.sha256:
        here = {line.name for line in board.lines}
        beside = tuple(line for line in published.complete if line.name not in here)
    files = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc changes no plot
        matplotlib.rcParams.update(STYLE)
        for plot in plan_plots(board, published):
            figure = Figure(figsize=(8.6, 4.8), layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(plot.title, loc="left", fontsize=10.5)
            axes.grid(True, which="major", color=GRAY, alpha=0.25, linewidth=0.6)
            if plot.kind == "rate":
                _draw_rate(axes, board, beside, plot)
            elif plot.kind == "size":
                _draw_sizes(axes, board, plot)
            elif plot.kind == "frequency":
                _draw_frequency(axes, board, plot)
            else:
                _draw_transfer(axes, board)
            if axes.get_legend_handles_labels()[1]:  # sanity rows alone have no legend
                figure.legend(loc="outside right upper", frameon=False, fontsize=7.5)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
            files[plot.file] = buffer.getvalue()
    return files


def _draw_rate(axes: Axes, board: Board, beside: Sequence[Line], plot: Plot) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    column = plot.column
    assert column.rate is not None
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(_series(board, beside))}
    named: list[tuple[float, float, str, str]] = []
    for lines, hollow in ((board.complete, False), (beside, True)):
        for name in dict.fromkeys(line.series for line in lines):
            of_series = [line for line in lines if line.series == name]
            points = _points(of_series, column)
            if not points:
                continue
            block, joined = of_series[0].block, of_series[0].joined
            axes.plot(
                [x for x, _, _ in points],
                [y for _, y, _ in points],
                linestyle="-" if joined and len(points) > 1 else "none",
                linewidth=1.1,
                marker=MARKERS[block],
                markersize=6,
                color=colours[name],
                markerfacecolor="none" if hollow else colours[name],
                label=f"{name} (published)" if hollow else name,
            )
            # A codec's points are named by their line.
            named += [(x, y, "" if joined else label, colours[name]) for x, y, label in points]
    axes.set_xscale("log")
    axes.set_xlabel(f"rate of the {column.group} images (bits per pixel)")
    axes.set_ylabel(_axis(column))
    if column.metric.key == "cer":
        axes.set_yscale("symlog", linthresh=0.02, linscale=0.4)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        for line in board.originals:
            if (error := line.cells[column.key].value) is not None:
                axes.axhline(error, color=GRAY, linestyle="--", linewidth=1, label=line.name)
    axes.margins(x=0.08, y=0.08)
    axes.xaxis.set_major_formatter("{x:g}")
    label_points(axes, named)


def list_sizes(board: Board, column: Column) -> list[tuple[int, Column]]:
    """Return the columns of a task's number by size of the same content, smallest first."""
    sizes = []
    for other in board.columns:
        subset = other.part.subset if other.part else None
        size = SIZE_SUBSET.fullmatch(subset) if subset else None
        if size and (other.task, other.metric.key) == (column.task, column.metric.key):
            sizes.append((int(size[1]), other))
    return sorted(sizes, key=lambda pair: pair[0])


def _draw_sizes(axes: Axes, board: Board, plot: Plot) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = list_sizes(board, plot.column)
    for index, line in enumerate(_single(board)):
        cells = ((side, line.cells[column.key].value) for side, column in sizes)
        points = [(side, value) for side, value in cells if value is not None]
        if not points or (plot.column.metric.key == "psnr_db" and points[0][1] >= PSNR_CAP_DB):
            continue
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, marker=".", linewidth=1.2, label=line.name, **_line_style(line, index))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([side for side, _ in sizes]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("side of the image (pixels)")
    axes.set_ylabel(_axis(plot.column))


def _draw_frequency(axes: Axes, board: Board, plot: Plot) -> None:
    columns = [c for c in board.columns if c.cpp is not None and c.task == plot.column.task]
    for index, line in enumerate(_single(board)):
        points = [
            (column.cpp, value)
            for column in columns
            if column.cpp is not None and (value := line.cells[column.key].value) is not None
        ]
        if points:
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker=".",
                linewidth=1.2,
                label=line.name,
                **_line_style(line, index),
            )
    axes.axhline(0.5, color=GRAY, linewidth=0.8, label="half (MTF50)")
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("contrast transfer (1: kept)")


def _draw_transfer(axes: Axes, board: Board) -> None:
    """Draw the mean gain at each frequency along the axes, with the range of 9 of 10 gratings; those
    that repeat with a grid of latent cells are in it, which is where a blind tokenizer has its holes.
    """
    for index, line in enumerate(_single(board)):
        rows = line.run.rows if line.run else ()
        by_frequency = average_points(point for _, point, _ in list_gratings(rows, CURVE, GRID))
        if not by_frequency:
            continue
        style = _line_style(line, index)
        frequencies = list(by_frequency)
        ends = [np.quantile(gains, (0.05, 0.95)) for gains in by_frequency.values()]
        axes.plot(
            frequencies,
            [math.fsum(gains) / len(gains) for gains in by_frequency.values()],
            marker=".",
            markersize=3,
            linewidth=1.1,
            label=line.name,
            **style,
        )
        low, high = zip(*ends, strict=True)
        axes.fill_between(frequencies, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes.axhline(0.5, color=GRAY, linewidth=0.8, label="half (MTF50)")
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("transfer (1: kept)")


def _single(board: Board) -> list[Line]:
    """Return the lines that have a curve of their own in a plot: without further points of codecs'."""
    return [line for line in board.complete if line.block != "curves"]


def _line_style(line: Line, index: int) -> dict[str, Any]:
    styles = {"tokenizers": "-", "codecs": "--", "sanity": ":"}
    color = GRAY if line.block == "sanity" else COLOURS[index % len(COLOURS)]
    return {"linestyle": styles[line.block], "color": color}


def _series(board: Board, beside: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.series for line in (*board.complete, *beside)))


def _points(lines: Iterable[Line], column: Column) -> list[tuple[float, float, str]]:
    """Return (rate, value, name) by ascending rate."""
    assert column.rate is not None
    points = []
    for line in lines:
        x, y = (line.cells.get(key, NO_CELL).value for key in (column.rate, column.key))
        # A capped PSNR is no measurement of quality, and would press the others together.
        if x and y is not None and not (column.metric.key == "psnr_db" and y >= PSNR_CAP_DB):
            points.append((x, y, line.name))
    return sorted(points)


def _axis(column: Column) -> str:
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.metric.better]
    return f"{column.metric.label}{arrow}" + (
        f" ({column.metric.unit})" if column.metric.unit else ""
    )


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each point's name near it, at the nearest place where it covers nothing; points without
    a name are only kept clear of. A thin line leads back from a place that is not beside it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    scale = figure.dpi / 72.0
    height, wide = LABEL_PT * 1.15 * scale, LABEL_PT * 0.58 * scale
    marks = [tuple(axes.transData.transform((x, y))) for x, y, _, _ in points]
    taken: list[_Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    frame = axes.get_window_extent()
    for (px, py), (x, y, name, colour) in zip(marks, points, strict=True):
        if not name:
            continue
        width = wide * len(name)
        costs: list[tuple[float, int, _Box]] = []
        for rank, (dx, dy) in enumerate(_PLACES):
            left = px + dx if dx > 0 else px + dx - width
            bottom = py + (dy - 0.5) * height
            box = (left, bottom, left + width, bottom + height)
            cost = sum(_overlap(box, other) for other in taken)
            if left < frame.x0 or box[2] > frame.x1 or bottom < frame.y0 or box[3] > frame.y1:
                cost += width * height * 10
            costs.append((cost, rank, box))
        _, rank, (left, bottom, right, top) = min(costs)
        taken.append((left, bottom, right, top))
        axes.annotate(
            name,
            (x, y),
            xytext=((left - px) / scale, (bottom - py) / scale),
            textcoords="offset points",
            fontsize=LABEL_PT,
            color=colour,
            va="bottom",
            arrowprops=None if rank < NEAR else {"arrowstyle": "-", "color": colour, "lw": 0.4},
        )


_PLACES = tuple(
    (side * dx, dy)
    for dx, rows in (
        (7, (0, 1, -1)),
        (24, (2, -2, 3, -3)),
        (44, (4, -4, 5, -5, 6, -6, 7, -7, 8, -8)),
    )
    for dy in rows
    for side in (1, -1)
)
"""Where a label may stand: pixels to the side, lines up or down; the first `NEAR` are beside it."""
NEAR = 6

_Box = tuple[float, float, float, float]


def _overlap(a: _Box, b: _Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0
