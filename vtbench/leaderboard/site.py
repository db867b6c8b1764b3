"""The board as one page: overview, plots, side-by-side panel, breakdowns, notes.

`board.html.j2` has the layout. Style and script are inside the page and nothing is fetched; the
pictures stand beside it in the folder and are named by relative path. Everything that comes from an
entry or a result (names, titles, errors) goes through the template's escaping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from vtbench.base.locations import without_paths
from vtbench.images import read_png_original
from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column, Line, Table
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_n, usual_n, write_footnotes
from vtbench.leaderboard.plots import plan_plots
from vtbench.leaderboard.words import (
    blocks,
    describe_column,
    describe_published,
    find_front,
    format_cell,
    format_interval,
    format_rank,
    interval_columns,
    overview_columns,
    split_code,
)
from vtbench.results.rows import Row
from vtbench.results.schema import PanelItem

if TYPE_CHECKING:
    from jinja2 import Template

Sentence = list[tuple[bool, str]]
"""Parts of a sentence, True for code."""


@dataclass(frozen=True)
class PageCell:
    """A cell: its text, what it is sorted by, what it says when pointed at, its classes, and the
    interval below it."""

    text: str
    sort: str = ""
    tip: str = ""
    style: str = ""
    interval: str = ""


@dataclass(frozen=True)
class PageRow:
    """A line of a page's table."""

    name: str
    title: str
    problem: str | None
    facts: tuple[str, ...]
    cells: tuple[PageCell, ...]


@dataclass(frozen=True)
class PageTable:
    """A table of the page; blocks are its titled groups of rows."""

    title: str
    n: str
    groups: tuple[tuple[str, int], ...]
    facts: tuple[str, ...]
    heads: tuple[tuple[str, str], ...]
    blocks: tuple[tuple[str, tuple[PageRow, ...]], ...]


@dataclass(frozen=True)
class Picture:
    """One reconstruction of the panel; source is None where the run has none."""

    name: str
    source: str | None
    error: str | None
    caption: str


@dataclass(frozen=True)
class PanelRow:
    """One picture of the panel, the original and what each run made of it."""

    item: PanelItem
    original: str | None
    pictures: tuple[Picture, ...]


def render_site(board: Board, published: Board | None, folder: Path) -> str:
    """Return leaderboard.html; folder is looked at only for which pictures of the panel exist."""
    columns = overview_columns(board, published)
    overview = replace(board.overview, columns=columns)
    notes = write_footnotes(board, columns)
    return _template().render(
        suite=board.suite,
        label=suite_label(board.suite),
        overview=_table(board, overview),
        published=_table(published, overview) if published else None,
        published_notes=[
            split_code(s) for s in (describe_published(board, published) if published else ())
        ],
        plots=plan_plots(board, published),
        panel=list(_panel(board, folder)),
        tables=[*_ranks(board), *(_table(board, table) for table in board.tables[1:])],
        notes=[(note.heading, [split_code(line) for line in note.lines]) for note in notes],
    )


@cache
def _template() -> Template:
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("vtbench.leaderboard").joinpath("board.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _table(board: Board, table: Table) -> PageTable:
    groups: dict[str, int] = {}
    for column in table.columns if table.overview else ():
        groups[column.group] = groups.get(column.group, 0) + 1
    parts = [
        (title, _rows(board, table, lines)) for title, lines in blocks(board.lines, table.kind)
    ]
    if table.originals and board.originals:
        parts.append(("", _rows(board, table, board.originals)))
    return PageTable(
        title=table.title,
        n=describe_n(table.columns, board.complete),
        groups=tuple((group_title(group), width) for group, width in groups.items()),
        facts=("family", "kind") if table.overview else (),
        heads=tuple((describe_column(c), c.metric.definition) for c in table.columns),
        blocks=tuple(parts),
    )


def _ranks(board: Board) -> Iterator[PageTable]:
    """Yield the table of rank intervals, if the board has any."""
    columns = interval_columns(board)
    ranked = [c for c in columns if c.ranked and any(c.key in line.ranks for line in board.lines)]
    parts = [(title, [x for x in lines if x.ranks]) for title, lines in blocks(board.lines)]
    if ranked:
        yield PageTable(
            title="Ranks among tokenizers and codecs",
            n="Between which places 95 % of the draws put it, whatever its rate.",
            groups=(),
            facts=(),
            heads=tuple(
                (f"{group_title(c.group)} {c.metric.label}", c.metric.definition) for c in ranked
            ),
            blocks=tuple(
                (
                    title,
                    tuple(
                        PageRow(line.name, line.title, None, (), tuple(_rank(line, ranked)))
                        for line in lines
                    ),
                )
                for title, lines in parts
                if lines
            ),
        )


def _rank(line: Line, columns: Sequence[Column]) -> Iterator[PageCell]:
    for column in columns:
        yield PageCell(format_rank(line, column), str(sum(line.ranks.get(column.key, ()))))


def _rows(board: Board, table: Table, lines: Iterable[Line]) -> tuple[PageRow, ...]:
    usual = {column.key: usual_n(column, board.complete) for column in table.columns}
    fronts = {column.key: find_front(board.lines, column) for column in table.columns}
    first = {column.group: column.key for column in reversed(table.columns)}
    return tuple(
        PageRow(
            name=line.name,
            title=line.title,
            problem=line.problem,
            facts=(line.family, line.kind) if table.overview else (),
            cells=tuple(
                _cell(
                    line,
                    column,
                    usual[column.key],
                    bold=line.run is not None and line.name in fronts[column.key],
                    first=table.overview and first[column.group] == column.key,
                )
                for column in table.columns
            ),
        )
        for line in lines
    )


def _cell(line: Line, column: Column, usual: int, *, bold: bool, first: bool) -> PageCell:
    cell = line.cells.get(column.key)
    styles = ["first"] if first else []
    if cell is None:
        return PageCell("", style=" ".join(styles))
    styles += ["front"] if bold else []
    styles += [] if cell.value is not None else [cell.state]
    tip = f"n = {cell.n}" if cell.value is not None else without_paths(cell.reason or "")
    sort = "" if cell.value is None else f"{cell.value:.10g}"
    return PageCell(
        format_cell(cell, column, usual),
        sort,
        tip,
        " ".join(styles),
        format_interval(cell, column),
    )


def _panel(board: Board, folder: Path) -> Iterator[PanelRow]:
    places = {line.name: _find_pictures(board, line, folder) for line in board.lines}
    for item in board.suite.panel:
        original = _existing(folder, "originals", f"{item.n}.png")
        of = read_png_original(folder / "originals" / f"{item.n}.png") or item.id
        pictures = [_picture(line, item, folder, places[line.name].get(of)) for line in board.lines]
        yield PanelRow(item, original, tuple(pictures))


def _find_pictures(board: Board, line: Line, folder: Path) -> dict[str, int]:
    """Return the numbers of a run's panel pictures by the hash of the original that they are of.

    Those of results that kept no hash are known by their places, as long as a manifest pins which
    picture has which: by the picture's id here."""
    if line.run is None:
        return {}
    panel = folder / line.name / "panel"
    hashes = {path.stem: read_png_original(path) for path in sorted(panel.glob("*.png"))}
    found = {of: int(stem) for stem, of in hashes.items() if of is not None and stem.isdecimal()}
    if board.suite.pinned and line.record.suite.sha256 == board.suite.sha256:
        for item in board.suite.panel:
            if hashes.get(str(item.n), "") is None:
                found[item.id] = item.n
    return found


def _picture(line: Line, item: PanelItem, folder: Path, n: int | None) -> Picture:
    row = line.run.find_row(item.id) if line.run else None
    return Picture(
        name=line.name,
        source=None if n is None else _existing(folder, line.name, "panel", f"{n}.png"),
        error=None if n is None else _existing(folder, line.name, "panel", f"{n}.error.png"),
        caption=_caption(line, row),
    )


def _caption(line: Line, row: Row | None) -> str:
    """Return rate and PSNR of the row's image; an incomplete run tells none, here as elsewhere."""
    if line.problem is not None:
        return "incomplete run"
    if row is None or row["bits"] is None or row["psnr_db"] is None:
        return ""
    bpp = row["bits"] / (row["width"] * row["height"])
    return f"{bpp:.3f} bpp · {row['psnr_db']:.2f} dB"


def _existing(folder: Path, *parts: str) -> str | None:
    """Return the relative address of a file of the folder, None if it is not there."""
    return "/".join(map(quote, parts)) if folder.joinpath(*parts).is_file() else None
