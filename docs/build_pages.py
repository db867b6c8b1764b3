"""What mkdocs asks while it builds the site: lists that come from the code, never from a page.

A page says `<!-- generate: NAME -->` where a list of GENERATED belongs. The tests run a fenced block
unless the line before it says `<!-- not run: REASON -->`. mkdocs calls `on_page_markdown`; the tests
call the rest. Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vtbench.base.locations import published_dir
from vtbench.base.records import Metric
from vtbench.cli import COMMANDS
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.footnotes import usual_n
from vtbench.leaderboard.words import format_cell
from vtbench.metrics.catalogue import METRICS
from vtbench.suites.suites import load_suite, suite_paths

HERE = Path(__file__).parent
ROOT = HERE.parent

_FENCE = re.compile(
    r"^(?:(?P<indent> *)<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^(?P<margin> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=margin)```$",
    re.MULTILINE | re.DOTALL,
)

LEADERBOARD_COLUMNS = (
    *("rate.tokens", "reconstruction.bpp", "reconstruction.psnr_db", "reconstruction.ssim"),
    *("detail.psnr_db", "detail.mtf50_cpp", "text.bpp", "text.cer"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document. reason: why the tests do not run it, None where they do."""

    document: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> Iterator[list[str]]:
        """The words of each command line of a shell block, with continued lines joined."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if words := shlex.split(part, comments=True):
                    yield words


def list_documents() -> list[Path]:
    """Return README and the pages."""
    return [ROOT / "README.md", *sorted(HERE.rglob("*.md"))]


def find_blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order, without their common margin."""
    text = document.read_text(encoding="utf-8")
    blocks = []
    for found in _FENCE.finditer(text):
        margin = len(found["margin"])
        body = "".join(line[margin:] or "\n" for line in found["text"].splitlines(keepends=True))
        line = text.count("\n", 0, found.start("text"))
        blocks.append(Block(document, line, found["language"], body, found["reason"]))
    return blocks


def write_metrics() -> str:
    """Return the guide: what each group tells and does not, then its metrics by definition."""
    groups = yaml.safe_load((HERE / "metric_guide.yaml").read_text(encoding="utf-8"))
    named = {key for group in groups for key in group["keys"]}
    parts = []
    for group in groups:
        parts.append(f"## {group['title']}\n")
        parts.append(f"**Tells.** {group['tells']}\n\n**Does not tell.** {group['not']}\n")
        parts.append(_table_of_metrics(group["keys"]))
    if rest := [key for key in METRICS if key not in named]:
        parts += ["## Others\n", _table_of_metrics(rest)]
    return "\n".join(parts)


def _table_of_metrics(keys: list[str]) -> str:
    arrows = {"higher": "↑", "lower": "↓", None: ""}
    rows = [("key", "metric", "definition", "over images")]
    for key in keys:
        metric = METRICS[key]
        label = f"{metric.label} {arrows[metric.better]}".strip()
        unit = f" ({metric.unit})" if metric.unit else ""
        definition = f"{metric.definition} Source: {metric.source}. Version {metric.version}."
        definition += _state_tolerance(metric)
        rows.append((f"`{key}`", label + unit, definition, metric.pooled))
    return _table(rows)


def _state_tolerance(metric: Metric) -> str:
    """Return how equal a metric's values are on any device and at any batch size; nothing of others."""
    if metric.tolerance is None:
        return ""
    if metric.tolerance == 0:
        return " The same on any device and at any batch size."
    share = " of its value" if metric.takes == "set" else ""
    return f" Equal on any device and at any batch size to {metric.tolerance:.0e}{share}."


def write_suites() -> str:
    """Return a row a suite."""
    rows = [("suite", "images", "pinned", "title")]
    for name in suite_paths():
        suite = load_suite(name)
        counts = ", ".join(f"{n} {task}" for task, n in suite.images_per_task().items())
        pinned = "yes" if suite.pinned else "no"
        version = suite.protocol.version
        rows.append((f"`{name}@{version}`", counts, pinned, suite.protocol.title))
    return _table(rows)


def write_data_sets() -> str:
    """Return a row a data set that a suite names."""
    rows = [("name", "what", "where to get it", "licence")]
    sources = {}
    for name in suite_paths():
        if (source := load_suite(name).protocol.source) is not None:
            sources[source.name] = source
    for name, source in sorted(sources.items()):
        rows.append((f"`{name}`", source.title, source.where, source.licence))
    return _table(rows)


def write_commands() -> str:
    """Return a row a command."""
    return _table([("command", "does"), *((f"`{name}`", does) for name, does in COMMANDS.items())])


def write_not_run() -> str:
    """Return a row a block that is not run: where, why, and its commands."""
    rows = [("page", "why", "commands")]
    for document in list_documents():
        for block in find_blocks(document):
            if block.reason is not None:
                commands = "<br>".join(f"`{shlex.join(words)}`" for words in block.commands)
                page = document.relative_to(ROOT).as_posix()
                rows.append((page, block.reason, commands if block.language == "bash" else "-"))
    return _table(rows)


def write_leaderboard() -> str:
    """Return the published results of the suite `embedded`, by the columns of the overview."""
    board = read_board(published_dir("embedded"))
    columns = {column.key: column for column in board.columns}
    heads = []
    for key in LEADERBOARD_COLUMNS:
        metric = columns[key].metric
        task = "" if key.startswith("rate") else f"{key.partition('.')[0]} "
        unit = f" ({metric.unit})" if metric.unit and "/" not in metric.unit else ""
        heads.append(f"{task}{metric.label}{unit}")
    rows = [("tokenizer", *heads)]
    for line in board.lines:
        cells = (
            format_cell(line.cells[key], columns[key], usual_n(columns[key], board.complete))
            for key in LEADERBOARD_COLUMNS
        )
        rows.append((f"`{line.name}`", *cells))
    return _table(rows)


def write_citation() -> str:
    """Return CITATION.cff's title, authors and version."""
    citation: Mapping[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    authors = ", ".join(author["name"] for author in citation["authors"])
    return f"> {authors}: *{citation['title']}*, version {citation['version']}. {citation['url']}"


GENERATED: Mapping[str, Callable[[], str]] = {
    "metrics": write_metrics,
    "suites": write_suites,
    "data sets": write_data_sets,
    "commands": write_commands,
    "not run": write_not_run,
    "leaderboard": write_leaderboard,
    "citation": write_citation,
}
"""What a page can ask for."""


def fill_page(markdown: str) -> str:
    """Return a page with its generated lists. Raises KeyError for one that there is not."""
    return re.sub(r"<!-- generate: ([\w ]+) -->", lambda found: GENERATED[found[1]](), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page; mkdocs calls it."""
    return fill_page(markdown)


def _table(rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table; bars and line breaks in cells are escaped."""
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"
