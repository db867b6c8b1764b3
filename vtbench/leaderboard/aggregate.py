"""Rows → numbers: every number of a board, computed from a folder of results and from it alone.

Sums are `math.fsum`, exact whatever the order of the rows, so the bytes of a table do not depend on
the machine. A run that lacks an image has no numbers at all: a mean over the images that happened
to work would flatter it. What stands behind a number image by image (`Shares`) is kept with it, for
the intervals (`intervals`) and for `vtbench compare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vtbench.leaderboard import intervals
from vtbench.leaderboard.board import BLOCKS, Block, Board, Cell, Column, Line
from vtbench.leaderboard.columns import (
    COUNTED_KEYS,
    IMAGE_METRICS,
    MORE_IMAGE_METRICS,
    Parts,
    codebook_key,
    glyph_key,
    has_number,
    list_tables,
    shown_columns,
)
from vtbench.leaderboard.detail_numbers import TASKS as DETAIL_TASKS
from vtbench.leaderboard.detail_numbers import PoolLimit
from vtbench.leaderboard.pools import (
    PSNR_CAP_DB,
    Pool,
    Sampled,
    cpp_key,
    pool_bits_per_pixel,
    pool_contrast,
    pool_contrast_at,
    pool_mean,
    pool_mtf50,
    pool_peak,
    pool_psnr,
    pool_quantization,
    pool_ratio,
    pool_speed,
    pool_tokbench,
    pool_weighted,
)
from vtbench.leaderboard.seeds import merge_seeds
from vtbench.leaderboard.sound_runs import SoundRuns, choose_sound, join_units
from vtbench.metrics.catalogue import SET_TASK
from vtbench.metrics.rate import codebook_usage, token_entropy
from vtbench.results.folder import Run, read_runs, read_suite_folder
from vtbench.results.rows import Row
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
    lines, parts = _lines(suite, sound)
    lines = merge_seeds(lines)
    lines, originals = intervals.add_intervals(suite, lines, _originals(suite, lines, parts))
    tables = list_tables(parts)
    columns: dict[str, Column] = {}
    for table in tables:
        for column in table.columns:
            columns.setdefault(column.key, column)  # the overview comes first and names them best
    return Board(
        suite,
        tuple(lines),
        tuple(originals),
        (
            replace(tables[0], columns=shown_columns(tables[0], lines)),
            *(
                replace(t, columns=c)
                for t in tables[1:]
                if has_number(c := shown_columns(t, lines), lines)
            ),
        ),
        tuple(columns.values()),
        sound.left_out,
        (*damaged, *sound.complaints),
    )


def read_lines(suite: SuiteFolder, runs: Iterable[Run]) -> tuple[list[Line], tuple[Column, ...]]:
    """Return the lines of these runs without intervals, and every column that they may have."""
    lines, parts = _lines(suite, choose_sound(suite, runs))
    columns: dict[str, Column] = {}
    for table in list_tables(parts):
        for column in table.columns:
            columns.setdefault(column.key, column)
    return lines, tuple(columns.values())


def _lines(suite: SuiteFolder, sound: SoundRuns) -> tuple[list[Line], Parts]:
    parts = Parts.of(sound.runs)
    return sorted((_line(suite, run, parts, sound) for run in sound.runs), key=_order), parts


def _order(line: Line) -> tuple[int, float, str]:
    rate = line.cells["reconstruction.bpp"].value
    return BLOCKS.index(line.block), math.inf if rate is None else rate, line.name


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
    for task, expected in suite.images.items():
        n = sum(row["task"] == task for row in run.rows)
        if n + sound.tasks.get(task, 0) != expected:
            return f"{n} of {expected} {task} images"
    return None if run.rows else "none of the images can be read"


def suite_label(suite: SuiteFolder | SuiteRecord) -> str:
    """Return the name, version and digest by which a protocol is told from another."""
    return f"{suite.name}@{suite.version} ({suite.sha256[:12]})"


def _line(suite: SuiteFolder, run: Run, parts: Parts, sound: SoundRuns) -> Line:
    record, tokenizer = run.record, run.record.tokenizer
    problem = _problem(suite, run, sound)
    numbers = _Cells(suite, run, problem, other=sound.others.get(record.run))
    block: Block = "tokenizers"
    if problem is not None:
        block = "incomplete"
    elif tokenizer.family == "sanity":
        block = "sanity"
    elif tokenizer.kind == "codec":
        block = "codecs"
    return Line(
        name=record.run,
        title=tokenizer.title,
        family=tokenizer.family,
        kind=tokenizer.kind,
        block=block,
        cells=numbers.all(suite.cost_subset, parts),
        run=run,
        problem=problem,
        capped=sum(1 for row in run.rows if (row["psnr_db"] or 0) >= PSNR_CAP_DB),
    )


class _Cells:
    """The cells of one run. Every one goes through `_cell`, which asks for a reason before a number:
    an unusable run, a failed image, a metric that was not measured, and only then the rows."""

    def __init__(
        self,
        suite: SuiteFolder,
        run: Run,
        problem: str | None,
        *,
        prefix: str = "",
        other: str | None = None,
    ) -> None:
        self.units = join_units(suite.cut_from, run.rows)
        self.record = run.record
        self.rows = run.rows
        self.codes = run.codes
        self.problem = problem
        self.prefix = prefix
        """"original_" for the engine's own readings of the originals."""
        self.other = other
        """Why what was computed of all images together is not of those that are shown."""

    def all(self, cost_subset: str | None, parts: Parts) -> dict[str, Cell]:
        """Return every cell of a run by key."""
        cells = {}
        for task in ("reconstruction", "detail", "text"):
            rows = self._of(task=task)
            cells[f"{task}.bpp"] = self._cell(rows, "bpp", pool_bits_per_pixel("bits"))
            entropy = pool_bits_per_pixel("entropy_bits")
            cells[f"{task}.entropy_bpp"] = self._cell(rows, "entropy_bpp", entropy)
            cells[f"{task}.bpp_q8"] = self._cell(rows, "bpp_q8", pool_bits_per_pixel("q8_bits"))
            cells[f"{task}.psnr_q8_db"] = self._cell(rows, "psnr_q8_db", pool_mean("psnr_q8_db"))
            cells[f"{task}.psnr_q8_loss_db"] = self._cell(
                rows, "psnr_q8_loss_db", pool_quantization
            )
            if task == "text":
                continue
            for subset in ("", *parts.subsets.get(task, ())):
                some = self._of(task=task, subset=subset) if subset else rows
                prefix = f"{task}.{subset}" if subset else task
                cells[f"{prefix}.bpp"] = self._cell(some, "bpp", pool_bits_per_pixel("bits"))
                for key in (*IMAGE_METRICS, *MORE_IMAGE_METRICS, *parts.cosines):
                    pool = pool_psnr if key == "psnr_pooled_db" else pool_mean(key)
                    cells[f"{prefix}.{key}"] = self._cell(some, key, pool)
        for key in parts.sets:
            cells[f"{SET_TASK}.{key}"] = self._set_cell(f"{SET_TASK}.{key}")
        detail = self._of(task="detail")
        cells["detail.contrast_transfer"] = self._cell(detail, "contrast_transfer", pool_contrast)
        cells["detail.mtf50_cpp"] = self._cell(detail, "mtf50_cpp", pool_mtf50)
        for cpp in parts.cpp:
            cells[cpp_key(cpp)] = self._cell(detail, "contrast_transfer", pool_contrast_at(cpp))
        cells |= self._detail(parts)
        return cells | self.text(parts) | self._counted(parts) | self._cost(cost_subset)

    def _detail(self, parts: Parts) -> dict[str, Cell]:
        """Return the numbers of charts and of pictures' detail."""
        stride = self.record.tokenizer.downsample
        return {
            f"{task}.{number.key}": self._cell(
                self._of(task=task), number.measured_as, number.pool(stride)
            )
            for task in DETAIL_TASKS
            for number in parts.numbers
        }

    def text(self, parts: Parts) -> dict[str, Cell]:
        """Return the reading errors by key: overall, by condition, by glyph height, by script."""
        groups = {"text": self._of(task="text")}
        for subset in parts.subsets.get("text", ()):
            groups[f"text.{subset}"] = self._of(task="text", subset=subset)
        for glyph in parts.glyphs:
            groups[glyph_key(glyph)] = self._of(task="text", glyph_px=glyph)
        for script in parts.scripts:
            groups[f"text.script.{script}"] = self._of(task="text", script=script)
        pools = {
            "cer": pool_ratio(f"{self.prefix}char_edits", "chars"),
            "wer": pool_ratio(f"{self.prefix}word_edits", "words"),
            "ned": pool_weighted(f"{self.prefix}ned", "lines"),
        }
        more: dict[str, Pool] = {
            "t_acc": pool_ratio("words_read", "words"),
            "exact_lines": pool_ratio("exact_lines", "lines"),
            "glyphs_lost": pool_ratio("glyphs_lost", "glyphs_readable"),
            "tokbench_t_acc": pool_tokbench("word_exact"),
            "tokbench_t_ned": pool_tokbench("word_similar"),
            "omnidoc_ned": pool_mean("omnidoc_ned"),
        }
        if not self.prefix:  # of the originals there is nothing to be lost
            pools |= {key: more[key] for key in parts.reading}
        return {
            f"{group}.{key}": self._cell(rows, key, pool)
            for group, rows in groups.items()
            for key, pool in pools.items()
        }

    def _counted(self, parts: Parts) -> dict[str, Cell]:
        """Return what was counted of the tokens; n: the tokens."""
        keys = [f"rate.{key}" for key in COUNTED_KEYS]
        for place in range(1, parts.codebooks + 1):
            keys += [codebook_key(key, place) for key in ("codebook_usage", "token_entropy_bits")]
        if self.problem is not None:
            return dict.fromkeys(keys, Cell(None, 0, "missing", INCOMPLETE))
        if self.record.tokenizer.kind != "discrete":
            return dict.fromkeys(keys, Cell(None, 0, "not-applicable"))
        if self.other is not None:
            return dict.fromkeys(keys, Cell(None, 0, "missing", self.other))
        if not self.codes:
            reason = "its code does not name its codebooks"
            return dict.fromkeys(keys, Cell(None, 0, "missing", reason))
        entropies = [token_entropy(codes) for codes in self.codes]
        usages = [usage for codes in self.codes if (usage := codebook_usage(codes)) is not None]
        words = len(usages) == len(self.codes)
        values: dict[str, float | None] = {
            "rate.tokens_counted": self.codes[0].tokens,
            "rate.codebooks": len(self.codes),
            "rate.codewords": sum(codes.size for codes in self.codes),
            "rate.token_bits": math.fsum(codes.bits_per_token for codes in self.codes),
            "rate.token_entropy_bits": math.fsum(entropies),
            "rate.codebook_usage": math.fsum(usages) / len(usages) if words else None,
            "rate.codebook_perplexity": (
                2.0 ** (math.fsum(entropies) / len(entropies)) if words else None
            ),
        }
        for place, (codes, entropy) in enumerate(zip(self.codes, entropies, strict=True), start=1):
            values[codebook_key("codebook_usage", place)] = codebook_usage(codes)
            values[codebook_key("token_entropy_bits", place)] = entropy
        n = self.codes[0].tokens
        return {
            key: Cell(None, 0, "not-applicable")
            if (value := values.get(key)) is None
            else Cell(value, n, "measured")
            for key in keys
        }

    def _cost(self, cost_subset: str | None) -> dict[str, Cell]:
        rows = self._of(subset=cost_subset) if cost_subset else []
        return {
            "rate.tokens": self._cell(rows, "tokens", pool_mean("tokens")),
            "rate.bits": self._cell(rows, "bits", pool_mean("bits")),
            "cost.encode_images_per_s": self._cell(
                rows, "encode_images_per_s", pool_speed("encode_s")
            ),
            "cost.decode_images_per_s": self._cell(
                rows, "decode_images_per_s", pool_speed("decode_s")
            ),
            "cost.peak_memory_mib": self._cell(self.rows, "peak_memory_mib", pool_peak),
        }

    def _set_cell(self, key: str) -> Cell:
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        record = self.record.sets.get(key)
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

    def _of(self, **where: object) -> list[Row]:
        return [r for r in self.rows if all(r[key] == value for key, value in where.items())]

    def _cell(self, rows: Sequence[Row], key: str, pool: Pool) -> Cell:
        done = [row for row in rows if row["error"] is None]
        if len(done) < len(rows):
            return Cell(None, len(done), "failed", f"{len(rows) - len(done)} of {len(rows)}")
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        metric = self.record.protocol.metrics.get(_MEASURED_AS.get(key, key))
        if metric is not None and metric.state in ("missing", "failed"):
            return Cell(None, 0, metric.state, metric.reason)
        value, n, bound = pool(done)
        if n == 0:
            return Cell(None, 0, "not-applicable")
        shares = pool.shares(done, self.units) if isinstance(pool, Sampled) else None
        ends = pool.interval(done) if isinstance(pool, PoolLimit) else None
        low, high = ends or (None, None)
        return Cell(value, n, "measured", bound=bound, low=low, high=high, shares=shares)


def _originals(suite: SuiteFolder, lines: Sequence[Line], parts: Parts) -> tuple[Line, ...]:
    """Return the engine's error on the originals: one line, or one for each reading that differs.

    It is a fact of suite and engine, so all runs say the same unless their engines differ.
    """
    readings: dict[tuple[tuple[str, Cell], ...], list[str]] = {}
    for line in lines:
        if line.problem is None and line.run is not None:
            cells = _Cells(suite, line.run, None, prefix="original_").text(parts)
            if cells["text.cer"].state == "measured":
                readings.setdefault(tuple(cells.items()), []).append(line.name)
    return tuple(
        Line(
            name=ORIGINALS if len(readings) == 1 else f"{ORIGINALS} beside {', '.join(names)}",
            title="",
            family="",
            kind="",
            block="originals",
            cells=dict(cells),
        )
        for cells, names in readings.items()
    )
