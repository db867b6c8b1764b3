"""A board as Markdown, CSV, LaTeX and HTML, rendered from a folder of results and from it alone.

The bytes of leaderboard.md, .csv, .tex and .html follow from the rows: rendering again, on another
machine or another day, gives the same. The plots are files of their own, because their bytes also
follow matplotlib's version.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.errors import ResultsError
from vtbench.files import resolve_below, write_atomic
from vtbench.leaderboard.aggregate import INCOMPLETE, read_board, suite_label
from vtbench.leaderboard.board import BLOCKS, Block, Board, Cell, Column, Line, Table
from vtbench.leaderboard.footnotes import (
    describe_commit,
    describe_machine,
    describe_n,
    usual_n,
    write_footnotes,
)
from vtbench.locations import published_dir
from vtbench.metrics.catalogue import SET_METRICS
from vtbench.results import MAX_PICTURE_BYTES, read_known_files, read_suite_folder

if TYPE_CHECKING:
    from rich.table import Table as RichTable

BLOCK_TITLES: Mapping[Block, str] = {
    "tokenizers": "Tokenizers",
    "codecs": "Codecs",
    "sanity": "Sanity rows",
    "incomplete": "Incomplete runs",
}
GROUP_TITLES = {
    "rate": "code",
    "reconstruction": "recon.",
    "detail": "detail",
    "text": "text",
    "cost": "cost",
}
CHECKED = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html")
"""The files whose bytes follow from the rows."""

INTERVALS = (
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "reconstruction.lpips_alex",
    "reconstruction.lpips_vgg",
    "detail.psnr_db",
    "text.cer",
    "text.wer",
)
"""The columns whose intervals Markdown shows; page and CSV have them all."""

STALE = "edited by hand or stale; run `vtbench leaderboard`"


def render_board(folder: Path, *, published: Path | None = None) -> dict[str, bytes]:
    """Return the files of a suite's board by name: tables, page and plots.

    published: another folder of the same suite, shown beside and never merged. Raises ResultsError
    for a malformed or edited run.
    """
    from vtbench.leaderboard.plots import draw_plots

    board, beside = read_board(folder), _read_beside(folder, published)
    return _render(board, beside, folder) | draw_plots(board, beside)


def write_board(folder: Path, files: Mapping[str, bytes], *, pictures: Path | None = None) -> None:
    """Write a board's files into the folder, each whole or not at all.

    pictures: the folder of results that the page was rendered from; where it is another one, the
    pictures that the page shows are copied, so that the board can be carried away.
    """
    if pictures is not None and pictures.resolve() != folder.resolve():
        for name, content in _read_pictures(pictures).items():
            write_atomic(resolve_below(folder, name), content)
    for name, content in files.items():
        write_atomic(folder / name, content)


def _read_pictures(folder: Path) -> dict[str, bytes]:
    """Return the pictures that a page shows, by name below the folder of results."""
    suite = read_suite_folder(folder)
    runs = [path.parent.name for path in sorted(folder.glob("*/run.json"))]
    places = ["originals", *(f"{run}/panel" for run in runs)]
    ends = (".png", ".error.png")
    names = (f"{place}/{item.n}{end}" for place in places for item in suite.panel for end in ends)
    return read_known_files(folder, dict.fromkeys(names, MAX_PICTURE_BYTES))


def check_board(folder: Path, *, published: Path | None = None) -> None:
    """Raise ResultsError naming the file if a table of the folder is not what its rows give.

    The board may have been rendered alone, beside `published`, or beside the suite's published
    results, as `vtbench run` does. Plots are not compared.
    """
    present = [name for name in CHECKED if (folder / name).exists()]
    if not present:
        return
    board = read_board(folder)
    shipped = published_dir(board.suite.name)
    files = [_render(board, None, folder)]
    for other in (published, shipped if (shipped / "suite.json").is_file() else None):
        beside = _read_beside(folder, other)
        if beside is not None:
            files.append(_render(board, beside, folder))
    for name in present:
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ResultsError(f"{path}: cannot be read ({error.strerror})") from None
        files = [rendered for rendered in files if rendered[name] == content]
        if not files:
            raise ResultsError(f"{path}: not what the rows give: {STALE}")


def _read_beside(folder: Path, published: Path | None) -> Board | None:
    """Return the published board, None where it is the folder itself or has no runs."""
    if published is None or published.resolve() == folder.resolve():
        return None
    board = read_board(published)
    return board if board.lines else None


def _render(board: Board, published: Board | None, folder: Path) -> dict[str, bytes]:
    from vtbench.leaderboard.site import render_site

    return {
        "leaderboard.md": render_markdown(board, published).encode(),
        "leaderboard.csv": render_csv(board, published).encode(),
        "leaderboard.tex": render_latex(board, published).encode(),
        "leaderboard.html": render_site(board, published, folder).encode(),
    }


# What the formats share


def overview_columns(board: Board, published: Board | None) -> tuple[Column, ...]:
    """Return the overview's columns: those that say something in either board."""
    keys = {c.key for b in (board, published) if b for c in b.tables[0].columns}
    return tuple(column for column in board.columns if column.key in keys)


def blocks(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Yield each block's title and lines, without the empty ones."""
    for block in BLOCKS:
        if of_block := [line for line in lines if line.block == block]:
            yield BLOCK_TITLES[block], of_block


def format_cell(cell: Cell, column: Column, usual: int) -> str:
    """Return what a cell says. usual: the n that need not be told."""
    if cell.value is not None:
        bound = {"=": "", ">=": "≥", "<": "<"}[cell.bound]
        told = "" if cell.n == usual or column.group in ("rate", "cost") else f" (n={cell.n})"
        error = cell.standard_error if cell.spread is None else cell.spread
        spread = "" if error is None else f" ± {error:.{column.metric.decimals}f}"
        return f"{bound}{cell.value:.{column.metric.decimals}f}{spread}{told}"
    if cell.state == "failed":
        return (
            f"failed ({cell.reason})"
            if re.fullmatch(r"\d+ of \d+", cell.reason or "")
            else "failed"
        )
    if cell.reason == INCOMPLETE:
        return "–"
    return "n/a" if cell.state == "not-applicable" else "missing"


def format_interval(cell: Cell, column: Column) -> str:
    """Return the ends of a cell's interval, "" where it has none or all images agree."""
    if cell.low is None or cell.high is None or cell.low == cell.high:
        return ""
    return f"{cell.low:.{column.metric.decimals}f}–{cell.high:.{column.metric.decimals}f}"


def format_rank(line: Line, column: Column) -> str:
    """Return between which ranks a line stands by a column, "" where it is not ranked."""
    low, high = line.ranks.get(column.key, (0, 0))
    return "" if not low else str(low) if low == high else f"{low}–{high}"


def interval_columns(board: Board, keys: Iterable[str]) -> tuple[Column, ...]:
    """Return those of the columns that have an interval in the board's overview."""
    shown = {column.key: column for column in board.tables[0].columns}
    return tuple(
        shown[key]
        for key in keys
        if key in shown and any(line.cells[key].low is not None for line in board.lines)
    )


def describe_column(column: Column) -> str:
    """Return a column's label with its direction and unit."""
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.metric.better]
    label, unit = column.label, column.metric.unit
    counted, _, per = unit.partition("/")
    if f"{counted}s" == label.lower():  # "Tokens" of unit "token/image"
        return f"{label}/{per}{arrow}"
    return f"{label}{arrow}" + (f" ({unit})" if unit and label != "bpp" else "")


def describe_line(line: Line) -> str:
    """Return a line's name, with what is wrong with it."""
    if line.problem is not None:
        return f"{line.name} (incomplete: {line.problem})"
    return f"{line.name} ({len(line.records)} seeds)" if line.other_seeds else line.name


def find_front(lines: Iterable[Line], column: Column) -> frozenset[str]:
    """Return the names of the lines that no other beats in this column at their rate or less.

    Best at any rate would only name the highest rate. Sanity rows and incomplete runs take no part.
    """
    rate, better = column.rate, column.metric.better
    if rate is None or better is None:
        return frozenset()
    sign = 1.0 if better == "higher" else -1.0
    points = [
        (line.name, bits.value, sign * cell.value)
        for line in lines
        if line.block in ("tokenizers", "codecs")
        and (cell := line.cells[column.key]).value is not None
        and cell.bound != "<"  # below what was measured: no best of anything
        and (bits := line.cells[rate]).value is not None
    ]
    return frozenset(
        name
        for name, bits, value in points
        if not any(b <= bits and v >= value and (b < bits or v > value) for _, b, v in points)
    )


def describe_published(board: Board, published: Board) -> tuple[str, ...]:
    """Return what must be said above published results."""
    told = ["Measured elsewhere, shown beside and merged with nothing."]
    if published.suite.sha256 != board.suite.sha256:
        told.append(
            f"Another protocol: these are of {suite_label(published.suite)}, the tables above of "
            f"{suite_label(board.suite)}. Do not compare them."
        )
    return (*told, *describe_machine(published.lines))


def split_code(text: str) -> list[tuple[bool, str]]:
    """Return the parts of a sentence, True for those between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0 or "" in parts[1::2]:
        return [(False, text)]
    return [(bool(i % 2), part) for i, part in enumerate(parts) if part]


# Markdown

_MARKDOWN = re.compile(r"([\\`*_\[\]~$|#])")


def render_markdown(board: Board, published: Board | None) -> str:
    """Return leaderboard.md."""
    from vtbench.leaderboard.plots import plan_plots

    columns = overview_columns(board, published)
    parts = [f"# {_md(suite_label(board.suite))}: {_md(board.suite.title)}"]
    parts += [_md(board.suite.description)] if board.suite.description else []
    for table in (Table("overview", "Overview", columns), *board.tables[1:]):
        parts += [f"## {_md(table.title)}", _markdown_table(board, table)]
        if table.key == "overview":
            if published is not None:
                parts.append("## Published results")
                parts.append("\n".join(f"- {_md(s)}" for s in describe_published(board, published)))
                parts.append(_markdown_table(published, table))
            plots = plan_plots(board, published)
            parts += [f"![{_md(plot.title)}]({plot.file})" for plot in plots]
        if table.key == "overview" and (chosen := interval_columns(board, INTERVALS)):
            parts += ["## Intervals and ranks", _markdown_intervals(board, chosen)]
    for note in write_footnotes(board, columns):
        parts.append(f"## {note.heading}")
        parts.append("\n".join(f"- {_md(sentence)}" for sentence in note.lines))
    return "\n\n".join(parts) + "\n"


def _markdown_table(board: Board, table: Table) -> str:
    overview = table.key == "overview"
    facts = ("tokenizer", "family", "kind") if overview else ("tokenizer",)
    heads = [
        describe_column(c)
        if not overview or c.group in ("rate", "cost")
        else f"{GROUP_TITLES[c.group]} {describe_column(c)}"
        for c in table.columns
    ]
    rows = [[*facts, *map(_md, heads)]]
    usual = {column.key: usual_n(column, board.complete) for column in table.columns}
    fronts = {column.key: find_front(board.lines, column) for column in table.columns}
    for title, lines in blocks(table.choose_lines(board.lines)):
        rows.append([f"**{title}**", *[""] * (len(rows[0]) - 1)])
        for line in lines:
            names = [_md(describe_line(line)), _md(line.family), _md(line.kind)]
            cells = [
                _strong(_md(format_cell(line.cells[c.key], c, usual[c.key])), line, fronts[c.key])
                for c in table.columns
            ]
            rows.append([*names[: len(facts)], *cells])
    for line in board.originals if table.originals else ():
        cells = [_original_cell(line, c, usual[c.key]) for c in table.columns]
        rows.append([f"*{_md(line.name)}*", *map(_md, cells)])
    align = [*["---"] * len(facts), *["---:"] * len(heads)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], align, *rows[1:]])
    n = describe_n(table.columns, board.complete)
    return f"{_md(n)}\n\n{text}" if n else text


def _markdown_intervals(board: Board, columns: Sequence[Column]) -> str:
    """Return the table of values with their intervals, and of ranks where the board has them."""
    ranked = {c.key for c in columns if any(c.key in line.ranks for line in board.lines)}
    heads = []
    for column in columns:
        heads.append(_md(f"{GROUP_TITLES[column.group]} {describe_column(column)}"))
        heads += ["rank"] if column.key in ranked else []
    rows = [["tokenizer", *heads], ["---", *["---:"] * len(heads)]]
    groups = [*blocks(board.lines), ("", list(board.originals))]
    for title, lines in groups:
        rows += [[f"**{title}**", *[""] * len(heads)]] if title else []
        for line in lines:
            cells = []
            for column in columns:
                cell = line.cells.get(column.key)
                told = "" if cell is None else format_cell(cell, column, cell.n)
                ends = "" if cell is None else format_interval(cell, column)
                cells.append(_md(f"{told} ({ends})" if ends else told))
                cells += [format_rank(line, column)] if column.key in ranked else []
            name = _md(describe_line(line))
            rows.append([name if title else f"*{name}*", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _strong(text: str, line: Line, front: frozenset[str]) -> str:
    return f"**{text}**" if line.name in front and line.block in ("tokenizers", "codecs") else text


def _original_cell(line: Line, column: Column, usual: int) -> str:
    cell = line.cells.get(column.key)
    return format_cell(cell, column, usual) if cell is not None else ""


def _md(text: str) -> str:
    """Return text that Markdown shows as it is; what stands between backticks becomes code."""

    def plain(part: str) -> str:
        part = part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return _MARKDOWN.sub(r"\\\1", part)

    flat = " ".join(text.split())
    # A pipe ends a table's cell even inside code.
    return "".join(
        f"`{part}`" if code and "|" not in part else plain(part) for code, part in split_code(flat)
    )


# CSV


def render_csv(board: Board, published: Board | None) -> str:
    """Return leaderboard.csv: a row a run, a column a number (10 significant digits), its n, state
    and, where images are drawn again, the ends of its interval and rank, the standard deviation over
    seeds where there are several. An empty cell beside
    `measured` does not exist; MTF50 has a column with its bound."""
    columns = board.columns
    if published is not None:
        known = {column.key for column in columns}
        columns += tuple(c for c in published.columns if c.key not in known)
    lines = [line for b in (board, published) if b for line in (*b.lines, *b.originals)]
    extra = {
        column.key: _Extra(
            interval=any(cell.shares for line in lines if (cell := line.cells.get(column.key))),
            rank=any(column.key in line.ranks for line in lines),
            spread=any(
                cell.spread is not None for line in lines if (cell := line.cells.get(column.key))
            ),
        )
        for column in columns
    }
    head = ["source", "run", "title", "family", "kind", "quantizer", "block", "problem"]
    for column in columns:
        key = column.key
        head += [key, f"{key}.n", f"{key}.state"]
        head += [f"{key}.low", f"{key}.high"] if extra[key].interval else []
        head += [f"{key}.rank_low", f"{key}.rank_high"] if extra[key].rank else []
        head += [f"{key}.sd"] if extra[key].spread else []
        head += [f"{key}.bound"] if column.metric.key == "mtf50_cpp" else []
        head += [f"{key}.se"] if column.metric.key in SET_METRICS else []
    head += ["psnr_capped", "suite", "suite_version", "suite_sha256", "key", "dtype", "device"]
    head += ["processor", "threads", "vtbench", "commit"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for source, of_source in (("local", board), ("published", published)):
        for line in of_source.lines if of_source else ():
            writer.writerow(
                [*_csv_facts(source, line), *_csv_cells(line, columns, extra), *_csv_run(line)]
            )
        for line in of_source.originals if of_source else ():
            writer.writerow(
                [source, line.name, *[""] * 4, line.block, "", *_csv_cells(line, columns, extra)]
            )
    return out.getvalue()


@dataclass(frozen=True)
class _Extra:
    """Which more a column of numbers has."""

    interval: bool
    rank: bool
    spread: bool


def _csv_facts(source: str, line: Line) -> list[str]:
    quantizer = line.record.tokenizer.quantizer
    texts = [line.name, line.title, line.family, line.kind, quantizer]
    # A spreadsheet runs what begins like a formula.
    safe = [f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text for text in texts]
    return [source, *safe, line.block, line.problem or ""]


def _csv_cells(line: Line, columns: Iterable[Column], extra: Mapping[str, _Extra]) -> Iterator[str]:
    for column in columns:
        cell = line.cells.get(column.key)
        yield "" if cell is None or cell.value is None else f"{cell.value:.10g}"
        yield "" if cell is None else str(cell.n)
        yield "" if cell is None else cell.state
        if extra[column.key].interval:
            for end in (None, None) if cell is None else (cell.low, cell.high):
                yield "" if end is None else f"{end:.10g}"
        if extra[column.key].rank:
            yield from map(str, line.ranks.get(column.key, ("", "")))
        if extra[column.key].spread:
            spread = None if cell is None else cell.spread
            yield "" if spread is None else f"{spread:.10g}"
        if column.metric.key == "mtf50_cpp":
            yield "" if cell is None or cell.value is None else cell.bound
        if column.metric.key in SET_METRICS:
            error = None if cell is None else cell.standard_error
            yield "" if error is None else f"{error:.10g}"


def _csv_run(line: Line) -> list[str]:
    record, here = line.record, line.record.environment
    return [
        str(line.capped),
        record.suite.name,
        str(record.suite.version),
        record.suite.sha256,
        record.key,
        record.protocol.dtype,
        here.device,
        here.processor,
        str(here.threads),
        here.vtbench,
        describe_commit(record),
    ]


# LaTeX

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def render_latex(board: Board, published: Board | None) -> str:
    """Return leaderboard.tex: the overview as a tabular; needs the package booktabs."""
    columns = overview_columns(board, published)
    groups: dict[str, int] = {}
    for column in columns:
        groups[column.group] = groups.get(column.group, 0) + 1
    spans, rules, first = [], [], 4
    for group, width in groups.items():
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(GROUP_TITLES[group])}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    heads = " & ".join(_tex(describe_column(column)) for column in columns)
    notes = [suite_label(board.suite), describe_n(columns, board.complete)]
    text = [
        *(f"% {' '.join(note.split())}" for note in notes),
        "% Rendered by vtbench leaderboard; needs \\usepackage{booktabs}.",
        rf"\begin{{tabular}}{{lll{'r' * len(columns)}}}",
        r"\toprule",
        rf" & & & {' & '.join(spans)} \\",
        "".join(rules),
        rf"tokenizer & family & kind & {heads} \\",
        *_latex_rows(board, columns),
    ]
    if published is not None:
        records = [line.record for line in published.lines]
        commits = sorted({describe_commit(record) for record in records})
        devices = sorted({record.environment.device for record in records})
        other = ""
        if published.suite.sha256 != board.suite.sha256:
            other = f"another protocol, {suite_label(published.suite)}; "
        told = f"Published results ({other}commit {', '.join(commits)}; {', '.join(devices)})"
        text += [r"\midrule", rf"\multicolumn{{{first - 1}}}{{l}}{{\textbf{{{_tex(told)}}}}} \\"]
        text += _latex_rows(published, columns)
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_rows(board: Board, columns: Sequence[Column]) -> Iterator[str]:
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    fronts = {column.key: find_front(board.lines, column) for column in columns}
    for title, lines in blocks(board.lines):
        yield r"\midrule"
        yield rf"\multicolumn{{{len(columns) + 3}}}{{l}}{{\emph{{{_tex(title)}}}}} \\"
        for line in lines:
            cells = []
            for column in columns:
                text = _tex(format_cell(line.cells[column.key], column, usual[column.key]))
                cells.append(rf"\textbf{{{text}}}" if line.name in fronts[column.key] else text)
            names = [_tex(describe_line(line)), _tex(line.family), _tex(line.kind)]
            yield rf"{' & '.join([*names, *cells])} \\"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


# Terminal

_TERMINAL = (
    "rate.tokens",
    "reconstruction.bpp",
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "reconstruction.lpips_alex",
    "detail.psnr_db",
    "detail.mtf50_cpp",
    "text.bpp",
    "text.cer",
    "cost.decode_images_per_s",
)
"""What fits a terminal of the overview."""


def terminal_table(folder: Path) -> RichTable:
    """Return the narrow overview of a suite's folder, for a terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    board = read_board(folder)
    shown = {column.key: column for column in board.tables[0].columns}
    columns = [shown[key] for key in _TERMINAL if key in shown]
    table = RichTable(title=suite_label(board.suite), caption=describe_n(columns, board.complete))
    table.add_column("tokenizer")
    for column in columns:
        table.add_column(
            Text(
                f"{GROUP_TITLES[column.group]}\n{describe_column(column).replace(' (', chr(10) + '(')}"
            ),
            justify="right",
        )
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    for title, lines in blocks(board.lines):
        table.add_section()
        table.add_row(Text(title, style="dim"))
        for line in lines:
            cells = [format_cell(line.cells[c.key], c, usual[c.key]) for c in columns]
            table.add_row(*map(Text, [describe_line(line), *cells]))
    return table
