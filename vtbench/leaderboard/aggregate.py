"""Rows → numbers: every number of a board, computed from a folder of results and from it alone.

Sums are `math.fsum`, exact whatever the order of the rows, so the bytes of a table do not depend on
the machine. A run that lacks an image has no numbers at all: a mean over the images that happened
to work would flatter it. What stands behind a number image by image (`Shares`) is kept with it, for
the intervals (`intervals`) and for `vtbench compare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vtbench.leaderboard import intervals
from vtbench.leaderboard.board import BLOCKS, Block, Board, Cell, Column, Line, Table
from vtbench.leaderboard.columns import RATES, Breakdown, list_tables
from vtbench.leaderboard.pools import PSNR_CAP_DB, Pool, find_pool
from vtbench.leaderboard.seeds import merge_seeds
from vtbench.leaderboard.selection import ImageSets, Selection
from vtbench.leaderboard.sound_runs import SoundRuns, choose_sound, join_units
from vtbench.metrics.catalogue import FEATURE_SOURCES
from vtbench.metrics.rate import codebook_usage, token_entropy
from vtbench.results.folder import Run, read_runs, read_suite_folder
from vtbench.results.schema import SuiteFolder, SuiteRecord

INCOMPLETE = "incomplete run"
ORIGINALS = "originals (OCR alone)"

_MEASURED_AS = {"mtf50_cpp": "contrast_transfer", "psnr_pooled_db": "psnr_db"}
_MEASURED_AS |= dict.fromkeys(("bpp_q8", "psnr_q8_loss_db"), "psnr_q8_db")
"""The metric of run.json that a number is made of, where it has another key."""


def read_board(folder: Path) -> Board:
    """Return the board of a suite's folder. A malformed or edited run is left out and named.

    Raises ResultsError for a malformed suite.json."""
    damaged: list[str] = []
    suite = read_suite_folder(folder)
    return aggregate(suite, read_runs(folder, damaged=damaged), damaged=damaged)


def aggregate(suite: SuiteFolder, runs: Iterable[Run], *, damaged: Sequence[str] = ()) -> Board:
    """Return the numbers of the runs, in the order of `BLOCKS` and then by rate; the seeds of a random
    tokenizer are one line. damaged: complaints about runs that are not among them."""
    sound = choose_sound(suite, runs)
    tables = list_tables(Breakdown.of(suite, sound.runs))
    columns = _list_columns(tables)
    lines, originals = _read_lines(suite, sound, columns)
    if len({line.record.protocol.seed for line in lines}) > 1:
        lines = merge_seeds(lines, columns)
    lines, originals = intervals.add_intervals(suite, lines, originals, columns)
    shown = [replace(table, columns=_shown_columns(table, lines)) for table in tables]
    return Board(
        suite,
        tuple(lines),
        tuple(originals),
        tuple(table for table in shown if table.overview or _has_number(table.columns, lines)),
        columns,
        sound.left_out,
        (*damaged, *sound.complaints),
    )


def read_lines(suite: SuiteFolder, runs: Iterable[Run]) -> tuple[list[Line], tuple[Column, ...]]:
    """Return the lines of these runs without intervals, and every column that they may have."""
    sound = choose_sound(suite, runs)
    columns = _list_columns(list_tables(Breakdown.of(suite, sound.runs)))
    return _read_lines(suite, sound, columns)[0], columns


def _list_columns(tables: Sequence[Table]) -> tuple[Column, ...]:
    columns: dict[str, Column] = {}
    for table in tables:
        for column in table.columns:
            columns.setdefault(column.key, column)  # the overview comes first and names them best
    return tuple(columns.values())


def _shown_columns(table: Table, lines: Sequence[Line]) -> tuple[Column, ...]:
    """Return the columns that say something about the runs: neither not applicable to all of them,
    nor of a network that was missing in all (the footnotes say so once)."""

    def says_nothing(column: Column) -> bool:
        cells = [line.cells[column.key] for line in lines if line.problem is None]
        silent = {"not-applicable"}
        if column.metric.weights or column.metric.key in FEATURE_SOURCES:
            silent.add("missing")
        return bool(cells) and all(cell.state in silent for cell in cells)

    return tuple(column for column in table.columns if not says_nothing(column))


def _has_number(columns: Iterable[Column], lines: Sequence[Line]) -> bool:
    """Return whether any line has a number in the columns, rates apart."""
    return any(
        line.cells[column.key].state == "measured"
        for column in columns
        if column.metric.key not in RATES
        for line in lines
    )


def _read_lines(
    suite: SuiteFolder, sound: SoundRuns, columns: Sequence[Column]
) -> tuple[list[Line], list[Line]]:
    """Return a line a run, and one for each reading of the originals that differs.

    The engine's error on the originals is a fact of suite and engine, so all runs say the same unless
    their engines differ.
    """
    image_sets = ImageSets(join_units(suite, sound.runs))
    lines = []
    readings: dict[tuple[tuple[str, Cell], ...], list[str]] = {}
    reading_columns = [c for c in columns if c.task and c.metric.key in ("cer", "wer", "ned")]
    for run in sound.runs:
        numbers = _RunNumbers(
            run,
            _problem(suite, run, sound),
            Selection(run.table, image_sets),
            sound.others.get(run.record.run),
        )
        lines.append(_line(numbers, columns))
        if numbers.problem is None:
            cells = {c.key: numbers.cell(c, originals=True) for c in reading_columns}
            if any(cells[c.key].state == "measured" for c in reading_columns if c.whole):
                readings.setdefault(tuple(cells.items()), []).append(run.record.run)
    rate = next((c.key for c in columns if c.whole and c.metric.key == "bpp"), None)
    lines.sort(key=lambda line: _order(line, rate))
    place = {line.name: index for index, line in enumerate(lines)}
    return lines, [
        Line(
            name=ORIGINALS if len(readings) == 1 else f"{ORIGINALS} beside {', '.join(names)}",
            title="",
            family="",
            kind="",
            block="originals",
            cells=dict(cells),
        )
        for cells, names in sorted(
            ((cells, sorted(names, key=place.__getitem__)) for cells, names in readings.items()),
            key=lambda reading: place[reading[1][0]],
        )
    ]


def _order(line: Line, rate: str | None) -> tuple[int, float, str]:
    """Return what lines are sorted by: their block, and the rate of the suite's first task."""
    bpp = line.cells[rate].value if rate is not None else None
    return BLOCKS.index(line.block), math.inf if bpp is None else bpp, line.name


def _problem(suite: SuiteFolder, run: Run, sound: SoundRuns) -> str | None:
    """Return why a run may show no number, or None."""
    record = run.record
    if (record.suite.name, record.suite.version) != (suite.name, suite.version) or (
        record.suite.sha256 != suite.sha256
    ):
        return f"measured under {suite_label(record.suite)}, not this suite"
    if record.protocol.limit != suite.limit:
        return f"--limit {record.protocol.limit}"
    gone = {failure.id for failure in sound.left_out}
    if failed := [failure for failure in record.failures if failure.id not in gone]:
        return f"{len(failed)} of {record.n_expected} images failed"
    if record.n_done + len(record.failures) != record.n_expected:
        return f"{record.n_done} of {record.n_expected} images done"
    counts = {x["values"]: x["counts"] for x in run.table["task"].value_counts().to_pylist()}
    for task, expected in suite.images.items():
        n = counts.get(task, 0)
        if n + sound.tasks.get(task, 0) != expected:
            return f"{n} of {expected} {task} images"
    return None if len(run.table) else "none of the images can be read"


def suite_label(suite: SuiteFolder | SuiteRecord) -> str:
    """Return the name, version and digest by which a protocol is told from another."""
    return f"{suite.name}@{suite.version} ({suite.sha256[:12]})"


def _line(numbers: _RunNumbers, columns: Iterable[Column]) -> Line:
    record, tokenizer = numbers.run.record, numbers.run.record.tokenizer
    block: Block = "tokenizers"
    if numbers.problem is not None:
        block = "incomplete"
    elif tokenizer.family == "sanity":
        block = "sanity"
    elif tokenizer.kind == "codec" and record.protocol.source == "pass":  # files say of no codec
        block = "curves" if tokenizer.curve_only else "codecs"
    return Line(
        name=record.run,
        title=tokenizer.title,
        family=tokenizer.family,
        kind=tokenizer.kind,
        block=block,
        cells={column.key: numbers.cell(column) for column in columns},
        run=numbers.run,
        problem=numbers.problem,
        capped=int((numbers.rows.numbers("psnr_db") >= PSNR_CAP_DB).sum()),
    )


@dataclass
class _RunNumbers:
    """The cells of one run. Every one asks for a reason before a number: an unusable run, a failed
    image, a metric that was not measured, and only then the rows."""

    run: Run
    problem: str | None
    rows: Selection
    other: str | None
    """Why what was computed of all images together is not of those that are shown."""
    _pooled: dict[tuple[int, str, float | None, str | None, bool], Cell] = field(
        default_factory=dict
    )
    _codes: Mapping[tuple[str, int | None], float | None] | None = None

    def cell(self, column: Column, *, originals: bool = False) -> Cell:
        """Return a column's cell; originals: of the engine's own readings of the originals."""
        if column.origin == "sets":
            return self._set_cell(column)
        if column.origin == "codes":
            return self._code_cell(column)
        rows = self.rows.choose(column.part)
        # A subset that is all of its task has the task's numbers: one cell, drawn once.
        key = (id(rows), column.metric.key, column.cpp, column.aspect, originals)
        if key not in self._pooled:
            self._pooled[key] = self._row_cell(column, rows, originals)
        return self._pooled[key]

    def _row_cell(self, column: Column, rows: Selection, originals: bool) -> Cell:
        if failed := rows.count_errors():
            return Cell(
                None, len(rows) - failed, "failed", f"{failed} of {len(rows)}", failures=failed
            )
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        metric_key = column.metric.key
        metrics = self.run.record.protocol.metrics
        measured_as = column.measured_as or _MEASURED_AS.get(metric_key, metric_key)
        metric = metrics.get(measured_as)
        if metric is not None and metric.state in ("missing", "failed"):
            return Cell(None, 0, metric.state, metric.reason)
        if column.make_pool is not None:
            pool: Pool = column.make_pool(self.run.record.tokenizer.downsample)
        else:
            pool = find_pool(metric_key, cpp=column.cpp, originals=originals)
        if (pooled := pool(rows)) is None:
            return Cell(None, 0, "not-applicable")
        return Cell(
            pooled.value,
            pooled.n,
            "measured",
            bound=pooled.bound,
            low=pooled.low,
            high=pooled.high,
            shares=pooled.shares,
        )

    def _set_cell(self, column: Column) -> Cell:
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        record = self.run.record.sets.get(column.key)
        if record is None:
            return Cell(None, 0, "not-applicable")
        if self.other is not None:
            return Cell(None, 0, "missing", self.other)
        if record.state == "measured" and record.value is not None:
            return Cell(
                record.value,
                record.n,
                "measured",
                standard_error=record.standard_error,
                warning=record.warning,
            )
        return Cell(None, 0, record.state, record.reason)

    def _code_cell(self, column: Column) -> Cell:
        """Return a number that was counted of the tokens; n: the tokens."""
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        if self.run.record.tokenizer.kind != "discrete":
            return Cell(None, 0, "not-applicable")
        if self.other is not None:
            return Cell(None, 0, "missing", self.other)
        if not self.run.codes:
            return Cell(None, 0, "missing", "its code does not name its codebooks")
        if self._codes is None:
            self._codes = self._count()
        value = self._codes.get((column.metric.key, column.codebook))
        if value is None:
            return Cell(None, 0, "not-applicable")
        return Cell(value, self.run.codes[0].tokens, "measured")

    def _count(self) -> Mapping[tuple[str, int | None], float | None]:
        """Return what the codebooks' counts say, by metric and codebook (None: all together)."""
        codes = self.run.codes
        entropies = [token_entropy(histogram) for histogram in codes]
        usages = [codebook_usage(histogram) for histogram in codes]
        used = [usage for usage in usages if usage is not None]
        words = len(used) == len(codes)  # else some were counted bit by bit
        values: dict[tuple[str, int | None], float | None] = {
            ("tokens_counted", None): codes[0].tokens,
            ("codebooks", None): len(codes),
            ("codewords", None): sum(histogram.size for histogram in codes),
            ("token_bits", None): math.fsum(histogram.bits_per_token for histogram in codes),
            ("token_entropy_bits", None): math.fsum(entropies),
            ("codebook_usage", None): math.fsum(used) / len(used) if words else None,
            ("codebook_perplexity", None): (
                2.0 ** (math.fsum(entropies) / len(entropies)) if words else None
            ),
        }
        for place, (usage, entropy) in enumerate(zip(usages, entropies, strict=True), start=1):
            values["codebook_usage", place] = usage
            values["token_entropy_bits", place] = entropy
        return values
