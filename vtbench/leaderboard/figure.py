"""A plot of any two columns of a board, for a paper: PDF, SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench.base.errors import VtbenchError
from vtbench.leaderboard.board import Column, Line
from vtbench.leaderboard.columns import RATES, group_title
from vtbench.leaderboard.plots import COLOURS, MARKERS, label_points
from vtbench.leaderboard.words import describe_column

FORMATS = ("pdf", "svg", "png")
SIZE_INCHES = (6.0, 3.8)


def draw_figure(lines: Sequence[Line], x: Column, y: Column, *, kind: str) -> bytes:
    """Return the plot as a file's content; the points of a codec are joined.

    Args:
        lines: The runs; one without either number is left out.
        x: The column on the horizontal axis. A rate has a logarithmic axis.
        y: The column on the vertical axis.
        kind: Of `FORMATS`. Type is embedded (TrueType in a PDF, outlines in an SVG).

    Raises VtbenchError for another kind, or where no run has both numbers.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if kind not in FORMATS:
        raise VtbenchError(f"a plot is a file of {', '.join(FORMATS)}, not {kind!r}")
    series: dict[str, list[tuple[float, float, Line]]] = {}
    for line in lines:
        a, b = line.cells[x.key].value, line.cells[y.key].value
        if a is not None and b is not None:
            series.setdefault(line.series, []).append((a, b, line))
    if not series:
        raise VtbenchError(f"no run has numbers of both {x.key} and {y.key}")
    style: dict[Any, Any] = {
        "svg.hashsalt": "vtbench",
        "pdf.fonttype": 42,
        "text.parse_math": False,  # names come from strangers
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc changes no plot
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot(xlabel=_axis(x), ylabel=_axis(y))
        axes.grid(True, alpha=0.25, linewidth=0.6)
        named = []
        for place, (name, points) in enumerate(series.items()):
            points.sort(key=lambda point: point[0])
            first, colour = points[0][2], COLOURS[place % len(COLOURS)]
            joined = first.joined
            axes.plot(
                [a for a, _, _ in points],
                [b for _, b, _ in points],
                linestyle="-" if joined and len(points) > 1 else "none",
                marker=MARKERS[first.block],
                color=colour,
                label=name,
            )
            named += [(a, b, "" if joined else line.name, colour) for a, b, line in points]
        for column, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
            if column.metric.key in RATES:
                scale("log")
        label_points(axes, named)
        figure.legend(loc="outside right upper", frameon=False)
        buffer = io.BytesIO()
        dates = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
        figure.savefig(buffer, format=kind, dpi=200, metadata=dates)
    return buffer.getvalue()


def kind_of(path: Path) -> str:
    """Return the kind of plot that a file's ending asks for."""
    return path.suffix.removeprefix(".").lower()


def _axis(column: Column) -> str:
    return f"{group_title(column.group)} {describe_column(column)}"
