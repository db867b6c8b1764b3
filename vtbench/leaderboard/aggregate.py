"""Rows → numbers: every number of a board, computed from a folder of results and from it alone.

Sums are `math.fsum`, exact whatever the order of the rows, so the bytes of a table do not depend on
the machine. A run that lacks an image has no numbers at all: a mean over the images that happened
to work would flatter it. What stands behind a number image by image (`Shares`) is kept with it, for
the intervals (`intervals`) and for `vtbench compare`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vtbench.errors import ResultsError
from vtbench.leaderboard import intervals
from vtbench.metrics.catalogue import (
    COSINE_METRICS,
    FEATURE_SOURCES,
    METRICS,
    SET_METRICS,
    SET_TASK,
)
from vtbench.metrics.detail import mtf50, transfer_curve
from vtbench.metrics.rate import codebook_usage, token_entropy
from vtbench.records import Kind, Metric, State
from vtbench.results import (
    ROW_COLUMNS,
    Row,
    Run,
    RunRecord,
    SuiteFolder,
    SuiteRecord,
    read_runs,
    read_suite_folder,
)

Bound = Literal["=", ">=", "<"]
Block = Literal["tokenizers", "codecs", "sanity", "incomplete", "originals"]

BLOCKS: tuple[Block, ...] = ("tokenizers", "codecs", "sanity", "incomplete")
"""The order of the lines; inside a block, by rate. Incomplete runs come last, whatever they are."""

SUBSETS = ("plain", "photo", "low-contrast", "rotated", "chinese")
"""The order in which known subsets are shown; others follow by name."""

PSNR_CAP_DB = 100.0
"""The PSNR of an identical image; such values are in the mean, and counted."""

MAX_CODEBOOKS = 16
"""Codebooks of a run that get columns of their own; more (the 64 bits of a binary code) are pooled
alone, and are each in codes.parquet."""

INCOMPLETE = "incomplete run"
ORIGINALS = "originals (OCR alone)"

_IMAGE_METRICS = ("psnr_db", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg")
_MORE_IMAGE_METRICS = ("psnr_pooled_db", "mae", "haarpsi", "dists")
"""In the breakdowns and the CSV; the overview is wide already."""

_TEXT_METRICS = ("cer", "wer", "ned")
OVERVIEW_MEANS = ("bpp", *_IMAGE_METRICS, *COSINE_METRICS, *_TEXT_METRICS)
"""The overview's rate and quality that are means over images."""

_COUNTED = (
    "tokens_counted",
    "codebooks",
    "codewords",
    "token_bits",
    "token_entropy_bits",
    "codebook_usage",
    "codebook_perplexity",
)
"""What is counted of a discrete code's tokens, over the whole suite."""

_QUANTIZED = ("bpp_q8", "psnr_q8_db", "psnr_q8_loss_db")
_RATES = ("bpp", "entropy_bpp", "bpp_q8")
_SHORT = {"reconstruction": "recon.", "detail": "detail", "text": "text"}

_NOT_RANKED = (*_RATES, *_QUANTIZED, "contrast_transfer")
"""Rates are no quality, what 8-bit latents give stands beside another rate, and contrast transfer
above 1 is sharpening: more of it is not better."""

_MEASURED_AS = {"mtf50_cpp": "contrast_transfer", "psnr_pooled_db": "psnr_db"}
_MEASURED_AS |= dict.fromkeys(("bpp_q8", "psnr_q8_loss_db"), "psnr_q8_db")
"""The metric of run.json that a number is made of, where it has another key."""


@dataclass(frozen=True)
class Shares:
    """What each image gives to a number, which is Σ top ÷ Σ bottom, by ascending id.

    units: the picture that an image was cut from, or the image; parts of one are drawn together.
    """

    ids: tuple[str, ...]
    units: tuple[str, ...]
    subsets: tuple[str, ...]
    tops: tuple[float, ...]
    bottoms: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """A number, or why there is none. n: the images (patches, for contrast) behind it.
    standard_error: of a set metric. warning: what must be said beside the number.

    bound: whether the true value is `value`, at least it, or below it (MTF50 outside the charts).
    low, high: its 95 % interval over images, None where there is none. shares: what it is made of,
    None for what is no sample of images (charts of fixed design, time, memory).
    """

    value: float | None
    n: int
    state: State
    reason: str | None = None
    bound: Bound = "="
    low: float | None = None
    high: float | None = None
    shares: Shares | None = field(default=None, compare=False, repr=False)
    standard_error: float | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Column:
    """One number of every line. rate: key of the column in bits per pixel that it stands beside;
    None for a number that is not ranked beside one."""

    key: str
    group: str
    label: str
    metric: Metric
    rate: str | None = None


@dataclass(frozen=True)
class Line:
    """One run. problem: why it has no numbers, or None. capped: images of PSNR 100 dB. ranks: by
    column key, between which ranks among tokenizers and codecs 95 % of the draws put it."""

    name: str
    title: str
    family: str
    kind: str
    block: Block
    cells: Mapping[str, Cell]
    run: Run | None = None
    problem: str | None = None
    capped: int = 0
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """The line's run.json; the line of the originals has none."""
        assert self.run is not None
        return self.run.record


@dataclass(frozen=True)
class Table:
    """A choice of columns; originals: whether the OCR engine's own error is its last line. kind: of
    the tokenizers that it is about, None for all."""

    key: str
    title: str
    columns: tuple[Column, ...]
    originals: bool = False
    kind: Kind | None = None

    def choose_lines(self, lines: Iterable[Line]) -> list[Line]:
        """Return the lines that the table is about."""
        return [line for line in lines if self.kind in (None, line.kind)]


@dataclass(frozen=True)
class Board:
    """A folder of results as numbers. tables[0] is the overview."""

    suite: SuiteFolder
    lines: tuple[Line, ...]
    originals: tuple[Line, ...]
    tables: tuple[Table, ...]
    columns: tuple[Column, ...]
    """Every number, also of the columns that no table shows because no run has them."""

    @property
    def complete(self) -> tuple[Line, ...]:
        """The lines that have numbers."""
        return tuple(line for line in self.lines if line.problem is None)


def read_board(folder: Path) -> Board:
    """Return the board of a suite's folder. Raises ResultsError for a malformed or edited run."""
    return aggregate(read_suite_folder(folder), read_runs(folder))


def aggregate(suite: SuiteFolder, runs: Iterable[Run]) -> Board:
    """Return the numbers of the runs, in the order of `BLOCKS` and then by rate."""
    lines, parts = _lines(suite, runs)
    lines, originals = intervals.add_intervals(suite, lines, _originals(suite, lines, parts))
    tables = _tables(parts)
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
                if _has_number(c := shown_columns(t, lines), lines)
            ),
        ),
        tuple(columns.values()),
    )


def read_lines(suite: SuiteFolder, runs: Iterable[Run]) -> tuple[list[Line], tuple[Column, ...]]:
    """Return the lines of these runs without intervals, and every column that they may have."""
    lines, parts = _lines(suite, runs)
    columns: dict[str, Column] = {}
    for table in _tables(parts):
        for column in table.columns:
            columns.setdefault(column.key, column)
    return lines, tuple(columns.values())


def _lines(suite: SuiteFolder, runs: Iterable[Run]) -> tuple[list[Line], _Parts]:
    parts = _Parts.of(runs := sorted(runs, key=lambda run: run.record.run))
    return sorted((_line(suite, run, parts) for run in runs), key=_order), parts


@dataclass(frozen=True)
class _Parts:
    """What the rows of all runs are broken down by."""

    subsets: Mapping[str, tuple[str, ...]]
    codebooks: int
    glyphs: tuple[float, ...]
    scripts: tuple[str, ...]
    cpp: tuple[float, ...]
    sets: tuple[str, ...]
    cosines: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> _Parts:
        rows = [row for run in runs for row in run.rows]
        tasks = {row["task"] for row in rows}
        known = {name: place for place, name in enumerate(SUBSETS)}
        points = [point for row in rows for point in _points(row)]
        return cls(
            subsets={
                task: tuple(
                    sorted(
                        {row["subset"] for row in rows if row["task"] == task},
                        key=lambda name: (known.get(name, len(known)), name),
                    )
                )
                for task in sorted(tasks)
            },
            codebooks=max((n for run in runs if (n := len(run.codes)) <= MAX_CODEBOOKS), default=0),
            glyphs=tuple(sorted({row["glyph_px"] for row in rows} - {None})),
            scripts=tuple(sorted({row["script"] for row in rows} - {None})),
            # By key: 1/period of two charts may differ in the last bit.
            cpp=tuple({cpp_key(cpp): cpp for cpp in sorted({p[0] for p in points})}.values()),
            sets=tuple(
                key
                for key in SET_METRICS
                if any(f"{SET_TASK}.{key}" in run.record.sets for run in runs)
            ),
            cosines=tuple(
                key
                for key in COSINE_METRICS
                if any(key in run.record.protocol.metrics for run in runs)
            ),
        )


def _order(line: Line) -> tuple[int, float, str]:
    rate = line.cells["reconstruction.bpp"].value
    return BLOCKS.index(line.block), math.inf if rate is None else rate, line.name


def _problem(suite: SuiteFolder, run: Run) -> str | None:
    """Return why a run may show no number, or None."""
    record = run.record
    if (record.suite.name, record.suite.version) != (suite.name, suite.version) or (
        record.suite.sha256 != suite.sha256
    ):
        return f"measured under {suite_label(record.suite)}, not this suite"
    if record.protocol.limit is not None:
        return f"--limit {record.protocol.limit}"
    if record.failures:
        return f"{len(record.failures)} of {record.n_expected} images failed"
    if not record.complete:
        return f"{record.n_done} of {record.n_expected} images done"
    for task, expected in suite.images.items():
        n = sum(row["task"] == task for row in run.rows)
        if n != expected:
            return f"{n} of {expected} {task} images"
    return None


def suite_label(suite: SuiteFolder | SuiteRecord) -> str:
    """Return the name, version and digest by which a protocol is told from another."""
    return f"{suite.name}@{suite.version} ({suite.sha256[:12]})"


def _line(suite: SuiteFolder, run: Run, parts: _Parts) -> Line:
    record, tokenizer = run.record, run.record.tokenizer
    _require_finite(run)
    problem = _problem(suite, run)
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
        cells=_Cells(suite, run, problem).all(suite.cost_subset, parts),
        run=run,
        problem=problem,
        capped=sum(1 for row in run.rows if (row["psnr_db"] or 0) >= PSNR_CAP_DB),
    )


def _require_finite(run: Run) -> None:
    """Raise ResultsError for a NaN or infinity: neither is a number, nor a state."""
    for row in run.rows:
        for column, kind in ROW_COLUMNS.items():
            if "float64" in kind and row[column] is not None:
                values = row[column] if kind.startswith("list") else [row[column]]
                if not all(map(math.isfinite, values)):
                    raise ResultsError(
                        f"{run.folder / 'images.parquet'}: {column} of {row['id']} is not finite: "
                        "measure it again"
                    )
    for key, record in run.record.sets.items():
        numbers = [x for x in (record.value, record.standard_error) if x is not None]
        if not all(map(math.isfinite, numbers)):
            raise ResultsError(f"{run.folder / 'run.json'}: {key} is not finite: measure it again")


class _Cells:
    """The cells of one run. Every one goes through `_cell`, which asks for a reason before a number:
    an unusable run, a failed image, a metric that was not measured, and only then the rows."""

    def __init__(
        self, suite: SuiteFolder, run: Run, problem: str | None, *, prefix: str = ""
    ) -> None:
        self.cut_from = suite.cut_from
        self.record = run.record
        self.rows = run.rows
        self.codes = run.codes
        self.problem = problem
        self.prefix = prefix
        """"original_" for the engine's own readings of the originals."""

    def all(self, cost_subset: str | None, parts: _Parts) -> dict[str, Cell]:
        """Return every cell of a run by key."""
        cells = {}
        for task in ("reconstruction", "detail", "text"):
            rows = self._of(task=task)
            cells[f"{task}.bpp"] = self._cell(rows, "bpp", _bits_per_pixel("bits"))
            entropy = _bits_per_pixel("entropy_bits")
            cells[f"{task}.entropy_bpp"] = self._cell(rows, "entropy_bpp", entropy)
            cells[f"{task}.bpp_q8"] = self._cell(rows, "bpp_q8", _bits_per_pixel("q8_bits"))
            cells[f"{task}.psnr_q8_db"] = self._cell(rows, "psnr_q8_db", _mean("psnr_q8_db"))
            cells[f"{task}.psnr_q8_loss_db"] = self._cell(rows, "psnr_q8_loss_db", _quantization)
            if task == "text":
                continue
            for subset in ("", *parts.subsets.get(task, ())):
                some = self._of(task=task, subset=subset) if subset else rows
                prefix = f"{task}.{subset}" if subset else task
                cells[f"{prefix}.bpp"] = self._cell(some, "bpp", _bits_per_pixel("bits"))
                for key in (*_IMAGE_METRICS, *_MORE_IMAGE_METRICS, *parts.cosines):
                    pool = _pooled_psnr if key == "psnr_pooled_db" else _mean(key)
                    cells[f"{prefix}.{key}"] = self._cell(some, key, pool)
        for key in parts.sets:
            cells[f"{SET_TASK}.{key}"] = self._set_cell(f"{SET_TASK}.{key}")
        detail = self._of(task="detail")
        cells["detail.contrast_transfer"] = self._cell(detail, "contrast_transfer", _contrast)
        cells["detail.mtf50_cpp"] = self._cell(detail, "mtf50_cpp", _mtf50)
        for cpp in parts.cpp:
            cells[cpp_key(cpp)] = self._cell(detail, "contrast_transfer", _contrast_at(cpp))
        return cells | self.text(parts) | self._counted(parts) | self._cost(cost_subset)

    def text(self, parts: _Parts) -> dict[str, Cell]:
        """Return the reading errors by key: overall, by condition, by glyph height, by script."""
        groups = {"text": self._of(task="text")}
        for subset in parts.subsets.get("text", ()):
            groups[f"text.{subset}"] = self._of(task="text", subset=subset)
        for glyph in parts.glyphs:
            groups[glyph_key(glyph)] = self._of(task="text", glyph_px=glyph)
        for script in parts.scripts:
            groups[f"text.script.{script}"] = self._of(task="text", script=script)
        pools = {
            "cer": _ratio(f"{self.prefix}char_edits", "chars"),
            "wer": _ratio(f"{self.prefix}word_edits", "words"),
            "ned": _weighted(f"{self.prefix}ned", "lines"),
        }
        return {
            f"{group}.{key}": self._cell(rows, key, pool)
            for group, rows in groups.items()
            for key, pool in pools.items()
        }

    def _counted(self, parts: _Parts) -> dict[str, Cell]:
        """Return what was counted of the tokens; n: the tokens."""
        keys = [f"rate.{key}" for key in _COUNTED]
        for place in range(1, parts.codebooks + 1):
            keys += [codebook_key(key, place) for key in ("codebook_usage", "token_entropy_bits")]
        if self.problem is not None:
            return dict.fromkeys(keys, Cell(None, 0, "missing", INCOMPLETE))
        if self.record.tokenizer.kind != "discrete":
            return dict.fromkeys(keys, Cell(None, 0, "not-applicable"))
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
            "rate.tokens": self._cell(rows, "tokens", _mean("tokens")),
            "rate.bits": self._cell(rows, "bits", _mean("bits")),
            "cost.encode_images_per_s": self._cell(rows, "encode_images_per_s", _speed("encode_s")),
            "cost.decode_images_per_s": self._cell(rows, "decode_images_per_s", _speed("decode_s")),
            "cost.peak_memory_mib": self._cell(self.rows, "peak_memory_mib", _peak),
        }

    def _set_cell(self, key: str) -> Cell:
        if self.problem is not None:
            return Cell(None, 0, "missing", INCOMPLETE)
        record = self.record.sets.get(key)
        if record is None:
            return Cell(None, 0, "not-applicable")
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

    def _cell(self, rows: Sequence[Row], key: str, pool: _Pool) -> Cell:
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
        shares = pool.shares(done, self.cut_from) if isinstance(pool, _Sampled) else None
        return Cell(value, n, "measured", bound=bound, shares=shares)


_Pool = Callable[[Sequence[Row]], tuple[float, int, Bound]]
"""Rows without errors → value, how many images or patches made it (0: not applicable), bound."""

_NONE: tuple[float, int, Bound] = (0.0, 0, "=")


@dataclass(frozen=True)
class _Sampled:
    """The pool Σ top ÷ Σ bottom over images, of which other images could have been drawn.

    share: an image's top and bottom, None where it has none.
    """

    share: Callable[[Row], tuple[float, float] | None]

    def __call__(self, rows: Sequence[Row]) -> tuple[float, int, Bound]:
        pairs = [pair for row in rows if (pair := self.share(row)) is not None]
        total = math.fsum(bottom for _, bottom in pairs)
        return (math.fsum(top for top, _ in pairs) / total, len(pairs), "=") if total else _NONE

    def shares(self, rows: Sequence[Row], cut_from: Mapping[str, str]) -> Shares:
        """Return what each row gives to the number."""
        given = sorted(
            (row["id"], row["subset"], *pair)
            for row in rows
            if (pair := self.share(row)) is not None
        )
        ids, subsets, tops, bottoms = zip(*given, strict=True)
        return Shares(ids, tuple(cut_from.get(own, own) for own in ids), subsets, tops, bottoms)


def _mean(column: str) -> _Pool:
    return _Sampled(lambda row: None if row[column] is None else (row[column], 1.0))


def _average(values: Sequence[float]) -> tuple[float, int, Bound]:
    return math.fsum(values) / max(len(values), 1), len(values), "="


def _ratio(top: str, bottom: str) -> _Pool:
    """Return Σ top ÷ Σ bottom over the rows that have both."""
    return _Sampled(
        lambda row: None if None in (row[top], row[bottom]) else (row[top], row[bottom])
    )


def _weighted(column: str, weight: str) -> _Pool:
    """Return the mean of a column, each row as often as its weight says."""
    return _Sampled(
        lambda row: (
            (row[column] * row[weight], row[weight])
            if row[column] is not None and row[weight]
            else None
        )
    )


def _bits_per_pixel(column: str) -> _Pool:
    return _Sampled(
        lambda row: None if row[column] is None else (row[column], row["width"] * row["height"])
    )


def _pooled_psnr(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    """Return the PSNR of all images as if they were one."""
    own = [(row["mse"], row["width"] * row["height"]) for row in rows if row["mse"] is not None]
    pixels = sum(size for _, size in own)
    if not pixels:
        return _NONE
    mse = math.fsum(error * size for error, size in own) / pixels
    psnr = 10 * math.log10(255**2 / mse) if mse else PSNR_CAP_DB
    return min(psnr, PSNR_CAP_DB), len(own), "="


_quantization = _Sampled(
    lambda row: (
        None
        if None in (row["psnr_db"], row["psnr_q8_db"])
        else (row["psnr_db"] - row["psnr_q8_db"], 1.0)
    )
)
"""The mean PSNR that 8-bit latents cost."""


def _speed(column: str) -> _Pool:
    def pool(rows: Sequence[Row]) -> tuple[float, int, Bound]:
        seconds = [row[column] for row in rows if row[column] is not None]
        total = math.fsum(seconds)
        return (len(seconds) / total, len(seconds), "=") if total > 0 else _NONE

    return pool


def _peak(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    peaks = [row["peak_memory_mib"] for row in rows if row["peak_memory_mib"] is not None]
    return max(peaks, default=0.0), len(peaks), "="


def _points(row: Row) -> list[tuple[float, float]]:
    """Return the (cycles per pixel, contrast transfer) of a row's grating patches."""
    return list(zip(row["patch_cpp"] or (), row["contrast_transfer"] or (), strict=True))


def _contrast(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    return _average([transfer for row in rows for _, transfer in _points(row)])


def _contrast_at(cpp: float) -> _Pool:
    def pool(rows: Sequence[Row]) -> tuple[float, int, Bound]:
        points = [point for row in rows for point in _points(row) if cpp_key(point[0]) == key]
        return _average([transfer for _, transfer in points])

    key = cpp_key(cpp)
    return pool


def _mtf50(rows: Sequence[Row]) -> tuple[float, int, Bound]:
    points = [point for row in rows for point in _points(row)]
    if not points:
        return _NONE
    value, bound = mtf50(transfer_curve(points))
    return value, len(points), bound


def cpp_key(cpp: float) -> str:
    """Return the key of the contrast transfer at a frequency in cycles per pixel."""
    return f"detail.contrast_transfer.{cpp:.4g}"


def codebook_key(key: str, place: int) -> str:
    """Return the key of a number of one codebook of several; place counts from 1."""
    return f"rate.codebook-{place}.{key}"


def glyph_key(glyph_px: float) -> str:
    """Return the key prefix of the pages whose capitals are `glyph_px` pixels high."""
    return f"text.glyph.{glyph_px:g}px"


def _originals(suite: SuiteFolder, lines: Sequence[Line], parts: _Parts) -> tuple[Line, ...]:
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


def _tables(parts: _Parts) -> tuple[Table, ...]:
    """Return the overview and the breakdowns, with every column."""
    return (
        Table("overview", "Overview", _overview(parts)),
        *(
            Table(
                f"reconstruction.{subset}",
                f"Reconstruction: {subset}",
                tuple(
                    _column(f"reconstruction.{subset}.{key}")
                    for key in ("bpp", *_IMAGE_METRICS, *_MORE_IMAGE_METRICS, *parts.cosines)
                ),
            )
            for subset in parts.subsets.get("reconstruction", ())
        ),
        *(
            Table(
                f"{task}.more",
                f"{task.capitalize()}: further metrics, all images",
                tuple(_column(f"{task}.{key}") for key in ("bpp", "psnr_db", *_MORE_IMAGE_METRICS)),
            )
            for task in ("reconstruction", "detail")
        ),
        Table(
            "detail.contrast_transfer",
            "Detail: contrast transfer by frequency in cycles per pixel",
            (
                _column("detail.bpp"),
                *(_column(cpp_key(cpp), f"{cpp:.3g}", "contrast_transfer") for cpp in parts.cpp),
                _column("detail.contrast_transfer", "mean"),
                _column("detail.mtf50_cpp"),
            ),
        ),
        *_codebook_tables(parts),
        Table(
            "rate.quantized",
            "Continuous latents in 8 bits",
            tuple(
                _column(f"{task}.{key}", f"{short} {METRICS[key].label}")
                for task, short in _SHORT.items()
                for key in ("bpp", *_QUANTIZED)
            ),
            kind="continuous",
        ),
        _text_table("condition", {name: f"text.{name}" for name in parts.subsets.get("text", ())}),
        _text_table("glyph height", {f"{px:g} px": glyph_key(px) for px in parts.glyphs}),
        Table(
            "text.script",
            "Text by script",
            (
                _column("text.bpp"),
                *(
                    _column(f"text.script.{script}.{key}", f"{script} {METRICS[key].label}")
                    for script in parts.scripts
                    for key in _TEXT_METRICS
                ),
            ),
            originals=True,
        ),
    )


def _codebook_tables(parts: _Parts) -> Iterator[Table]:
    rates = (
        _column(f"{task}.{key}", f"{short} {METRICS[key].label}")
        for task, short in _SHORT.items()
        for key in ("bpp", "entropy_bpp")
    )
    yield Table(
        "rate.codebook",
        "Codebook",
        (*(_column(f"rate.{key}") for key in _COUNTED), *rates),
        kind="discrete",
    )
    if parts.codebooks > 1:
        for key in ("codebook_usage", "token_entropy_bits"):
            yield Table(
                f"rate.{key}",
                f"Codebook: {METRICS[key].label.lower()} of each",
                tuple(
                    _column(codebook_key(key, place), str(place))
                    for place in range(1, parts.codebooks + 1)
                ),
                kind="discrete",
            )


def _text_table(by: str, groups: Mapping[str, str]) -> Table:
    columns = (_column(f"{prefix}.cer", label) for label, prefix in groups.items())
    return Table(
        f"text.{by}",
        f"Text: CER by {by}",
        (_column("text.bpp"), _column("text.cer", "all"), *columns),
        originals=True,
    )


def _overview(parts: _Parts) -> tuple[Column, ...]:
    return tuple(
        _column(key)
        for key in (
            "rate.tokens",
            "rate.bits",
            *(f"reconstruction.{key}" for key in ("bpp", *_IMAGE_METRICS, *parts.cosines)),
            *(f"{SET_TASK}.{key}" for key in parts.sets),
            *(f"detail.{key}" for key in ("bpp", *_IMAGE_METRICS, *parts.cosines, "mtf50_cpp")),
            *(f"text.{key}" for key in ("bpp", *_TEXT_METRICS)),
            "cost.encode_images_per_s",
            "cost.decode_images_per_s",
            "cost.peak_memory_mib",
        )
    )


def _column(key: str, label: str | None = None, metric: str | None = None) -> Column:
    group, _, last = key.partition(".")
    facts = METRICS[metric or last.rpartition(".")[2]]
    no_rate = facts.key in _NOT_RANKED or group in ("rate", "cost")
    rate = f"{group}.bpp" if group != "reconstruction" else f"{key.rpartition('.')[0]}.bpp"
    return Column(key, group, label or facts.label, facts, None if no_rate else rate)


def shown_columns(table: Table, lines: Sequence[Line]) -> tuple[Column, ...]:
    """Return the columns that say something about the runs: neither not applicable to all of them,
    nor of a network that was missing in all (the footnotes say so once)."""

    def says_nothing(column: Column) -> bool:
        cells = [line.cells[column.key] for line in lines if line.problem is None]
        silent = {"not-applicable"}
        network = column.metric.key in FEATURE_SOURCES
        if network or column.metric.key.startswith(("lpips_", "dists")):
            silent.add("missing")
        return bool(cells) and all(cell.state in silent for cell in cells)

    return tuple(column for column in table.columns if not says_nothing(column))


def _has_number(columns: Iterable[Column], lines: Sequence[Line]) -> bool:
    return any(
        line.cells[column.key].state == "measured"
        for column in columns
        if column.metric.key not in _RATES
        for line in lines
    )
