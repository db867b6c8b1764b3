"""A tokenizer's page: its card, and for each suite all of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from vtbench.base.locations import without_paths
from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column, Line
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.published import format_delta
from vtbench.leaderboard.site.facts import NOT_STATED, describe_size, write_command
from vtbench.leaderboard.site.pictures import Picture
from vtbench.leaderboard.words import describe_column, format_cell, format_interval, format_rank
from vtbench.registry.entries import Entry


@dataclass(frozen=True)
class Compared:
    """A number that a paper reports beside the measured one. protocol: what differs between the two,
    or is not stated."""

    metric: str
    reported: str
    measured: str
    difference: str
    protocol: str
    source: str
    url: str | None


@dataclass(frozen=True)
class Number:
    """A line of a page's table."""

    label: str
    definition: str
    text: str
    state: str
    reason: str
    interval: str
    rank: str
    n: str
    delta: str


@dataclass(frozen=True)
class NumberTable:
    """A titled table of numbers."""

    title: str
    rows: tuple[Number, ...]


@dataclass(frozen=True)
class Shown:
    """A picture of the page and the viewer's address that shows it beside the original."""

    id: str
    source: str
    viewer: str
    width: int
    height: int


@dataclass(frozen=True)
class Part:
    """What a page says of one suite. made: where no command alone makes the run, how it was made."""

    id: str
    title: str
    label: str
    table: str
    problem: str | None
    command: str | None
    made: str
    published: bool
    reported: tuple[Compared, ...]
    tables: tuple[NumberTable, ...]
    pictures: tuple[Shown, ...]


def write_part(
    board: Board,
    line: Line,
    *,
    table: str,
    published: Line | None,
    pictures: Sequence[Picture],
    compared: Sequence[Compared],
) -> Part:
    """Return a run's part of its tokenizer's page.

    Args:
        board: The suite's.
        line: The run.
        table: The address of the suite's table from the site's folder.
        published: The same run as it was published, None where it was not.
        pictures: Of the run.
        compared: What papers report beside it.
    """
    suite, record = board.suite, line.record
    made = "A model that was handed over in Python or by --module: no command alone makes it."
    if record.protocol.source == "files":
        made = "Read from files: `vtbench score` of a folder of reconstructions."
    return Part(
        id=f"suite-{suite.name}",
        title=suite.title,
        label=suite_label(suite),
        table=f"../{table}",
        problem=line.problem,
        command=write_command(record, suite),
        made=made,
        published=published is not None,
        reported=tuple(compared),
        tables=tuple(_tables(board, line, published)),
        pictures=tuple(_shown(suite.name, line.name, picture) for picture in pictures),
    )


def describe_card(line: Line, entry: Entry | None) -> list[tuple[str, str, str | None]]:
    """Return the facts of a tokenizer: label, value and where it links to."""
    tokenizer = line.record.tokenizer
    shape = {
        "stride": tokenizer.downsample,
        "codebook": tokenizer.codebook_size,
        "latent channels": tokenizer.latent_channels,
    }
    code = ", ".join(f"{name} {value:,}" for name, value in shape.items() if value is not None)
    card: list[tuple[str, str, str | None]] = [
        ("Family", tokenizer.family, None),
        ("Kind", f"{tokenizer.kind}, quantizer {tokenizer.quantizer}", None),
        ("Code", code or "of its own size", None),
    ]
    if tokenizer.parameters is not None:
        card.append(("Parameters", f"{tokenizer.parameters:,}", None))
    card += _describe_entry(entry) if entry is not None else [("Registry", "no entry", None)]
    for name, digest in tokenizer.weights.items():
        card.append(("Weights", f"{name}: sha256 {digest}", None))
    pinned = "pinned by sha256" if tokenizer.pinned else "not pinned"
    return [*card, ("Weights are", pinned, None)] if tokenizer.weights else card


def _describe_entry(entry: Entry) -> Iterator[tuple[str, str, str | None]]:
    if entry.gmac is not None:
        parts = (("encode", entry.gmac.encode), ("decode", entry.gmac.decode))
        said = ", ".join(f"{name} {value:g}" for name, value in parts if value is not None)
        yield "GMAC for 256×256", said, None
    yield "Size policy", describe_size(entry), None
    yield "Licence of the code", entry.licence, None
    if entry.weights is not None:
        yield "Licence of the weights", entry.weights.licence or NOT_STATED, None
    if entry.trained_on:
        yield "Trained on", entry.trained_on, None
    if entry.paper:
        yield "Paper", entry.paper, entry.paper
    if entry.used_by:
        yield "Used by", ", ".join(entry.used_by), None


def _tables(board: Board, line: Line, published: Line | None) -> Iterator[NumberTable]:
    seen: set[str] = set()
    for table in board.tables:
        if table.kind not in (None, line.kind):
            continue
        columns = [column for column in table.columns if column.key not in seen]
        seen |= {column.key for column in columns}
        rows = [_number(line, column, published, whole=table.overview) for column in columns]
        if table.overview or any(row.state == "measured" for row in rows):
            yield NumberTable(table.title, tuple(rows))


def _number(line: Line, column: Column, published: Line | None, *, whole: bool) -> Number:
    cell = line.cells[column.key]
    head = describe_column(column)
    other = None if published is None else published.cells[column.key]
    return Number(
        label=f"{group_title(column.group)} {head}" if whole else head,
        definition=column.metric.definition,
        text=format_cell(cell, column, cell.n),
        state=cell.state,
        reason=without_paths(cell.reason or "") if cell.value is None else cell.warning or "",
        interval=format_interval(cell, column),
        rank=format_rank(line, column),
        n=str(cell.n) if cell.value is not None and cell.n else "",
        delta="" if other is None else format_delta(cell, other, column) or "",
    )


def _shown(suite: str, run: str, picture: Picture) -> Shown:
    item = picture.item
    viewer = f"../{suite}.viewer.html#image={item.n}&a={quote(run, safe='')}"
    return Shown(item.id, f"../{picture.address}", viewer, item.width, item.height)
