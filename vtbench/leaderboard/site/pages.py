"""Boards → the files of a site. What comes from an entry or a result (names, titles, errors) goes
through the templates' escaping, or through JSON and then the scripts' own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vtbench.base.errors import VtbenchError
from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.footnotes import write_footnotes
from vtbench.leaderboard.json_file import render_json
from vtbench.leaderboard.latex import render_latex
from vtbench.leaderboard.legibility import RunReadings, compare_runs, describe_run
from vtbench.leaderboard.legibility_plot import draw_legibility
from vtbench.leaderboard.markdown import render_markdown
from vtbench.leaderboard.published import describe_published, match_published
from vtbench.leaderboard.site.card import Compared, Part, describe_card, write_part
from vtbench.leaderboard.site.data import ReportedRow, collect_data
from vtbench.leaderboard.site.libraries import read_libraries
from vtbench.leaderboard.site.parquet_table import encode_table
from vtbench.leaderboard.site.pictures import Picture, find_pictures, read_pictures
from vtbench.leaderboard.words import BLOCK_TITLES, split_code
from vtbench.registry.entries import Entry

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = ("site.css", "common.js", "export.js", "table.js", "plots.js", "viewer.js")
FILES = (
    ("csv", "CSV"), ("json", "JSON"), ("parquet", "Parquet"), ("tex", "LaTeX"), ("md", "Markdown"),
)  # fmt: skip


@dataclass(frozen=True)
class SiteSuite:
    """A folder of results as it goes into a site.

    Attributes:
        board: Its numbers.
        folder: Where its pictures are.
        published: Published numbers of the same suite, told as differences; None for none.
        reported: Numbers of papers about the same data.
        compared: By run, what papers report beside what was measured.
        readings: Of the runs that an engine read against known text, their lines.
    """

    board: Board
    folder: Path
    published: Board | None = None
    reported: Sequence[ReportedRow] = ()
    compared: Mapping[str, Sequence[Compared]] = field(default_factory=dict)
    readings: Sequence[RunReadings] = ()


@dataclass(frozen=True)
class _Link:
    text: str
    address: str
    here: bool


@dataclass
class _Tokenizer:
    """What a run's page says: of all suites, its title and card, and a part for each."""

    title: str
    card: list[tuple[str, str, str | None]]
    parts: list[Part]


def render_site(
    names: Sequence[str], suites: Iterable[SiteSuite], entries: Mapping[str, Entry]
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a site, each with its place: the pages, their data, scripts and pictures.

    One suite is in memory at a time, if `suites` reads each when it is asked for.

    Args:
        names: Of the suites, in the order of the pages; the first is the start page.
        suites: Of these names, in this order.
        entries: The registry's, by name.

    Raises:
        VtbenchError: no suite, two of one name, or a script of a library that is not found.
    """
    if not names:
        raise VtbenchError("a site needs results of at least one suite")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise VtbenchError(
            f"two folders of results of the suite {twice[0]}: a site has one of each"
        )
    yield from ((f"assets/{name}", content) for name, content in read_libraries().items())
    yield from ((f"assets/{name}", _read_asset(name)) for name in ASSETS)
    tokenizers: dict[str, _Tokenizer] = {}
    for suite in suites:
        found = find_pictures(suite.board, suite.folder)
        yield from read_pictures(found, suite.folder)
        yield from _render_suite(suite, names, entries, list(found))
        _add_parts(tokenizers, suite, names, entries, found)
        del suite, found  # before the next suite is read
    for name, tokenizer in tokenizers.items():
        entry = entries.get(name.partition("@")[0])
        description = entry.description if entry is not None else ""
        yield _tokenizer_page(name), _render_tokenizer(name, tokenizer, names, description)


def _add_parts(
    tokenizers: dict[str, _Tokenizer],
    suite: SiteSuite,
    names: Sequence[str],
    entries: Mapping[str, Entry],
    found: Iterable[Picture],
) -> None:
    """Add a suite's part to the page of each of its runs."""
    published = match_published(suite.board, suite.published)
    pictures: dict[str | None, list[Picture]] = {}
    for picture in found:
        pictures.setdefault(picture.run, []).append(picture)
    for line in suite.board.lines:
        part = write_part(
            suite.board,
            line,
            table=_table_page(names, suite.board.suite.name),
            published=published.get(line.name),
            pictures=pictures.get(line.name, ()),
            compared=suite.compared.get(line.name, ()),
        )
        if line.name not in tokenizers:
            card = describe_card(line, entries.get(line.name.partition("@")[0]))
            tokenizers[line.name] = _Tokenizer(line.title, card, [])
        tokenizers[line.name].parts.append(part)


def _table_page(names: Sequence[str], name: str) -> str:
    return "index.html" if name == names[0] else f"{name}.table.html"


def _tokenizer_page(name: str) -> str:
    return f"tokenizer/{name}.html"


def _render_suite(
    one: SiteSuite,
    names: Sequence[str],
    entries: Mapping[str, Entry],
    pictures: Sequence[Picture],
) -> Iterator[tuple[str, bytes]]:
    board, name = one.board, one.board.suite.name
    pages = {line.name: quote(_tokenizer_page(line.name)) for line in board.lines}
    data = collect_data(
        board,
        published=one.published,
        reported=one.reported,
        entries=entries,
        pages=pages,
    )
    yield f"data/{name}.data.js", _script(data)
    rendered = render_csv(board, None)
    yield f"data/{name}.csv", rendered.encode()
    yield f"data/{name}.json", render_json(board).encode()
    yield f"data/{name}.md", render_markdown(board, None).encode()
    yield f"data/{name}.tex", render_latex(board, None).encode()
    yield f"data/{name}.parquet", encode_table(board, rendered)
    notes = write_footnotes(board, board.overview.columns)
    common: dict[str, Any] = {"suite": board.suite, "label": suite_label(board.suite)}
    table = _table_page(names, name)
    yield (
        table,
        _render(
            "table",
            _links(name, names, "Table", readings=bool(one.readings)),
            **common,
            page=board.suite.title,
            published=bool(match_published(board, one.published)),
            published_notes=[split_code(x) for x in describe_published(board, one.published)],
            curves=any(line.block == "curves" for line in board.lines),
            files=FILES,
            notes=[(n.heading, [split_code(text) for text in n.lines]) for n in notes],
        ),
    )
    links = _links(name, names, "Plots", readings=bool(one.readings))
    page = f"Plots of {board.suite.title}"
    yield f"{name}.plots.html", _render("plots", links, **common, page=page, table=table)
    items = [picture.item for picture in pictures if picture.run is None]
    links = _links(name, names, "Viewer", readings=bool(one.readings))
    page = f"Pictures of {board.suite.title}"
    yield f"{name}.viewer.html", _render("viewer", links, **common, page=page, items=items)
    if items:
        yield f"data/{name}.pictures.js", _script(_viewer_data(board, pictures))
    if one.readings:
        links = _links(name, names, "Legibility", readings=True)
        yield from _render_legibility(one, links, common)


def _render_legibility(
    one: SiteSuite, links: Mapping[str, Any], common: Mapping[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """Yield the page of what is read of known text, and its curves."""
    name, curves = one.board.suite.name, draw_legibility(one.readings)
    if curves is not None:
        yield f"data/{name}.legibility.svg", curves
    page = _render(
        "legibility",
        links,
        **common,
        page=f"Legibility: {one.board.suite.title}",
        curves=curves is not None,
        comparison=list(compare_runs(one.readings)),
        runs=[(own.name, own.engine, list(describe_run(own))) for own in one.readings],
    )
    yield f"{name}.legibility.html", page


def _viewer_data(board: Board, pictures: Sequence[Picture]) -> dict[str, Any]:
    by_run: dict[str, dict[str, dict[str, str]]] = {}
    for picture in pictures:
        if picture.run is not None:
            one = {"source": picture.address, "caption": picture.caption}
            by_run.setdefault(picture.run, {})[str(picture.item.n)] = one
    return {
        "items": [
            {**picture.item.model_dump(), "source": picture.address}
            for picture in pictures
            if picture.run is None
        ],
        "runs": [
            {
                "name": line.name,
                "block": BLOCK_TITLES[line.block],
                "pictures": by_run[line.name],
            }
            for line in board.lines
            if line.name in by_run
        ],
    }


def _links(
    name: str, names: Sequence[str], here: str, *, readings: bool = False
) -> dict[str, list[_Link]]:
    """Return a page's links. readings: whether the suite has a page of what was read."""
    pages = {
        "Table": _table_page(names, name),
        "Plots": f"{name}.plots.html",
        "Viewer": f"{name}.viewer.html",
    }
    if readings:
        pages["Legibility"] = f"{name}.legibility.html"
    return {
        "links": [_Link(text, address, text == here) for text, address in pages.items()],
        "suites": [_Link(other, _table_page(names, other), other == name) for other in names],
    }


def _render_tokenizer(
    name: str, tokenizer: _Tokenizer, names: Sequence[str], description: str
) -> bytes:
    if len(names) == 1:
        links = _links(names[0], names, "")
    else:
        tables = [_Link(other, _table_page(names, other), False) for other in names]
        links = {"links": tables, "suites": []}
    return _render(
        "tokenizer",
        links,
        root="../",
        page=name,
        name=name,
        title=tokenizer.title,
        description=description,
        card=tokenizer.card,
        parts=tokenizer.parts,
    )


def _script(data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"window.VTBENCH={text};\n".encode()


def _render(template: str, links: Mapping[str, Any], *, root: str = "", **context: Any) -> bytes:
    text = _environment().get_template(f"{template}.html.j2").render(**links, root=root, **context)
    return text.encode()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("vtbench.leaderboard.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read_asset(name: str) -> bytes:
    return (Path(__file__).parent / "assets" / name).read_bytes()
