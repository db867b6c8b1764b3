"""Legibility curves: the CER by glyph height with intervals, a panel a script. SVG.

matplotlib is imported by `draw_legibility` alone. The bytes are the same for the same numbers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.leaderboard.legibility import RunReadings
from vtbench.leaderboard.plots import COLOURS, GRAY, STYLE
from vtbench.metrics.legibility import CER_LIMIT, measure_heights

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLUMNS = 2
"""Panels beside each other."""

PANEL_INCHES, LEGEND_INCHES = 2.5, 0.19
"""Height of a row of panels, and of a row of the legend: both keep theirs however many there are."""

LEGEND_COLUMNS = 3

DASHES = ("-", "--", ":", "-.")
"""Of lines that share a colour, since there are more runs than colours."""


def draw_legibility(read: Sequence[RunReadings]) -> bytes | None:
    """Return the curves of some runs as an SVG; None where no run has plain pages of two heights."""
    import matplotlib
    from matplotlib.figure import Figure

    scripts = [
        script
        for script in dict.fromkeys(script for own in read for script in own.lines)
        if any(len({x.glyph_px for x in own.plain(script)}) > 1 for own in read)
    ]
    if not scripts:
        return None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        rows = math.ceil(len(scripts) / COLUMNS)
        figure = Figure(layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
        for spare in panels[len(scripts) :]:
            spare.set_visible(False)
        for panel, script in zip(panels, scripts, strict=False):
            _draw_panel(panel, script, read)
        figure.supxlabel("height of a glyph (pixels)", fontsize=9)
        figure.supylabel("character error rate", fontsize=9)
        handles: dict[str, Artist] = {}
        for panel in panels:
            artists, labels = panel.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
        entries = math.ceil(len(handles) / LEGEND_COLUMNS)
        figure.set_size_inches(9.6, 0.6 + PANEL_INCHES * rows + LEGEND_INCHES * entries)
        figure.legend(
            handles=list(handles.values()),
            loc="outside lower center",
            ncols=LEGEND_COLUMNS,
            frameon=False,
            fontsize=8,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _draw_panel(panel: Axes, script: str, read: Sequence[RunReadings]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    panel.set_title(script, loc="left", fontsize=9.5)
    panel.grid(True, which="major", color=GRAY, alpha=0.25, linewidth=0.6)
    panel.axhline(CER_LIMIT, color=GRAY, linewidth=0.8, linestyle="--")
    heights: set[float] = set()
    for index, own in enumerate(read):
        points = measure_heights(own.plain(script), seed=own.seed)
        if not points:
            continue
        heights |= {point.px for point in points}
        color = COLOURS[index % len(COLOURS)]
        panel.plot(
            [point.px for point in points],
            [point.cer for point in points],
            color=color,
            linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
            label=f"{own.name} ({own.engine})",
            linewidth=1.2,
            marker=".",
        )
        ends = [(p.px, p.low, p.high) for p in points if p.low is not None and p.high is not None]
        if ends:
            px, low, high = zip(*ends, strict=True)
            panel.fill_between(px, low, high, color=color, alpha=0.14, linewidth=0)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sorted(heights)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_ylim(0, 1.05)
