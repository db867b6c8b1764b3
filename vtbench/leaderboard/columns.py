"""Which numbers a board has, and in which tables they stand: from the suite's tasks and the metrics
that it names for each, and from what the runs have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtbench.base.errors import ResultsError
from vtbench.leaderboard.board import EVERYTHING, Column, Part, Table
from vtbench.leaderboard.detail_numbers import Number, choose_numbers, list_detail_tables
from vtbench.leaderboard.pools import format_cpp
from vtbench.metrics.catalogue import COSINE_METRICS, METRICS, SET_METRICS
from vtbench.results.folder import Run
from vtbench.results.schema import SuiteFolder

SUBSETS = ("plain", "photo", "low-contrast", "rotated", "chinese")
"""The order in which known subsets are shown; others follow by name."""

MAX_CODEBOOKS = 16
"""Codebooks of a run that get columns of their own; more (the 64 bits of a binary code) are pooled
alone, and are each in codes.parquet."""

IMAGE_METRICS = tuple(k for k, m in METRICS.items() if (m.takes, m.shown) == ("pair", "overview"))
"""The metrics of an image that the overview has, beside cosines of deep features."""

TEXT_METRICS = tuple(k for k, m in METRICS.items() if (m.takes, m.shown) == ("ocr", "overview"))
CHART_METRICS = ("contrast_transfer", "mtf50_cpp")
OVERVIEW_MEANS = ("bpp", *IMAGE_METRICS, *COSINE_METRICS, *TEXT_METRICS)
"""The overview's rate and quality that are means over images."""

COUNTED_KEYS = (
    *("tokens_counted", "codebooks", "codewords", "token_bits", "token_entropy_bits"),
    *("codebook_usage", "codebook_perplexity"),
)
"""What is counted of a discrete code's tokens, over the whole suite."""

COST_KEYS = ("encode_images_per_s", "decode_images_per_s", "peak_memory_mib")
_QUANTIZED = ("bpp_q8", "psnr_q8_db", "psnr_q8_loss_db")
RATES = ("bpp", "entropy_bpp", "bpp_q8")

_NOT_RANKED = (*RATES, *_QUANTIZED, "contrast_transfer")
"""Rates are no quality, what 8-bit latents give stands beside another rate, and contrast transfer
above 1 is sharpening: more of it is not better."""

_PICTURE_METRICS = (
    "psnr_db",
    "ssim",
    "ms_ssim",
    "lpips_alex",
    "lpips_vgg",
    "mae",
    "haarpsi",
    "dists",
)
_UNNAMED: Mapping[str, tuple[str, ...]] = {
    "reconstruction": _PICTURE_METRICS,
    "detail": (*_PICTURE_METRICS, "contrast_transfer"),
    "text": ("cer", "wer", "ned"),
}
"""The metrics of each task where suite.json does not name them: it was written before it did."""


@dataclass(frozen=True)
class Task:
    """A task of the suite with its metrics, in the catalogue's order.

    first: whether it is the suite's first task of images that are not read, by which it ranks.
    """

    name: str
    metrics: tuple[str, ...]
    first: bool = False

    @property
    def read(self) -> bool:
        """Whether its images are read; then what they look like is in the rows alone."""
        return any(METRICS[key].takes == "ocr" for key in self.metrics)

    @property
    def charts(self) -> bool:
        """Whether it has charts, which are broken down by frequency and not by subset."""
        return "contrast_transfer" in self.metrics

    def choose(self, *groups: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the keys that are metrics of the task."""
        return tuple(key for group in groups for key in group if key in self.metrics)

    @property
    def overview(self) -> tuple[str, ...]:
        """Its means over images that the overview has."""
        return (
            self.choose(TEXT_METRICS) if self.read else self.choose(IMAGE_METRICS, COSINE_METRICS)
        )

    @property
    def more(self) -> tuple[str, ...]:
        """Its numbers of an image that the breakdowns alone have."""
        shown = () if self.read else self.metrics
        return tuple(key for key in shown if METRICS[key].shown == "breakdown")

    def title(self, about: str) -> str:
        """Return the title of one of its tables."""
        return f"{self.name.capitalize()}{about}"


@dataclass(frozen=True)
class Breakdown:
    """What the numbers of all runs are broken down by.

    Attributes:
        subsets: By task.
        cpp: Frequencies of the charts, in cycles per pixel.
        sets: Set metrics, by task.
        codebooks: How many are shown, each by itself.
    """

    tasks: tuple[Task, ...]
    subsets: Mapping[str, tuple[str, ...]]
    glyphs: tuple[float, ...]
    scripts: tuple[str, ...]
    cpp: tuple[float, ...]
    sets: Mapping[str, tuple[str, ...]]
    numbers: tuple[Number, ...]
    codebooks: int
    cost_subset: str | None

    @classmethod
    def of(cls, suite: SuiteFolder, runs: Sequence[Run]) -> Breakdown:
        """Return what the runs of a suite have."""
        known = {name: place for place, name in enumerate(SUBSETS)}
        subsets: dict[str, set[str]] = {}
        for task, subset in (pair for run in runs for pair in _distinct(run, "task", "subset")):
            subsets.setdefault(task, set()).add(subset)
        cpp = sorted({x for run in runs for x in _distinct_items(run, "patch_cpp")})
        tasks = tuple(_tasks(suite, runs))
        return cls(
            tasks=tasks,
            subsets={
                task: tuple(sorted(names, key=lambda name: (known.get(name, len(known)), name)))
                for task, names in subsets.items()
            },
            glyphs=tuple(sorted({x for run in runs for (x,) in _distinct(run, "glyph_px")})),
            scripts=tuple(sorted({x for run in runs for (x,) in _distinct(run, "script")})),
            cpp=tuple({format_cpp(x): x for x in cpp}.values()),
            sets={
                task.name: tuple(
                    key
                    for key in SET_METRICS
                    if any(f"{task.name}.{key}" in run.record.sets for run in runs)
                )
                for task in tasks
            },
            numbers=choose_numbers(key for run in runs for key in run.record.protocol.metrics),
            codebooks=max((n for run in runs if (n := len(run.codes)) <= MAX_CODEBOOKS), default=0),
            cost_subset=suite.cost_subset,
        )


def _tasks(suite: SuiteFolder, runs: Sequence[Run]) -> Iterator[Task]:
    """Yield the suite's tasks in its order, each with its own metrics and those that a run had
    beside the suite's."""
    named = {
        task: {*(suite.metrics.get(task) or _UNNAMED.get(task, ("psnr_db", "ssim")))}
        for task in suite.images
    }
    known: set[str] = set().union(*named.values())
    if strange := sorted(known - METRICS.keys()):
        raise ResultsError(f"{suite.name}: no metric {strange[0]!r} here: of a newer vtbench?")
    beside = {
        key
        for run in runs
        for key in run.record.protocol.metrics
        if key not in known and key in METRICS and METRICS[key].takes in ("pair", "features", "ocr")
    }
    first = True
    for name, keys in named.items():
        read = any(METRICS[key].takes == "ocr" for key in keys)
        keys |= {key for key in beside if read or METRICS[key].takes != "ocr"}
        keys |= {"psnr_pooled_db"} if "psnr_db" in keys else set()
        keys |= {"mtf50_cpp"} if "contrast_transfer" in keys else set()
        task = Task(name, tuple(key for key in METRICS if key in keys))
        yield replace(task, first=first and not task.read)
        first = first and task.read


def _distinct(run: Run, *columns: str) -> set[tuple[Any, ...]]:
    """Return the combinations of values of some columns, without those that have a null."""
    groups = run.table.select(list(columns)).group_by(list(columns)).aggregate([])
    return {
        tuple(row[c] for c in columns) for row in groups.to_pylist() if None not in row.values()
    }


def _distinct_items(run: Run, column: str) -> set[float]:
    import pyarrow.compute as pc

    return {x.as_py() for x in pc.unique(pc.list_flatten(run.table[column])) if x.is_valid}


def list_tables(parts: Breakdown) -> tuple[Table, ...]:
    """Return the overview and the breakdowns, with every column."""
    pictures = [task for task in parts.tasks if not task.read]
    return (
        Table("overview", "Overview", tuple(_overview(parts)), overview=True),
        *(
            Table(
                f"{task.name}.{subset}",
                task.title(f": {subset}"),
                tuple(
                    _column(task, key, subset=subset)
                    for key in (
                        "bpp",
                        *task.choose(IMAGE_METRICS),
                        *task.more,
                        *task.choose(COSINE_METRICS),
                    )
                ),
            )
            for task in pictures
            if not task.charts
            for subset in parts.subsets.get(task.name, ())
        ),
        *(
            Table(
                f"{task.name}.more",
                task.title(": further metrics, all images"),
                tuple(_column(task, key) for key in ("bpp", "psnr_db", *task.more)),
            )
            for task in pictures
        ),
        *(_chart_table(task, parts) for task in pictures if task.charts),
        *_codebook_tables(parts),
        Table(
            "rate.quantized",
            "Continuous latents in 8 bits",
            tuple(
                _column(task, key, f"{group_title(task.name)} {METRICS[key].label}")
                for task in parts.tasks
                for key in ("bpp", *_QUANTIZED)
            ),
            kind="continuous",
        ),
        *(table for task in parts.tasks if task.read for table in _text_tables(task, parts)),
        *list_detail_tables(parts.numbers, [task.name for task in pictures]),
        *(table for task in parts.tasks if task.read for table in _reading_tables(task, parts)),
    )


def _chart_table(task: Task, parts: Breakdown) -> Table:
    return Table(
        f"{task.name}.contrast_transfer",
        task.title(": contrast transfer by frequency in cycles per pixel"),
        (
            _column(task, "bpp"),
            *(_column(task, "contrast_transfer", f"{x:.3g}", cpp=x) for x in parts.cpp),
            _column(task, "contrast_transfer", "mean"),
            _column(task, "mtf50_cpp"),
        ),
    )


def _codebook_tables(parts: Breakdown) -> Iterator[Table]:
    rates = (
        _column(task, key, f"{group_title(task.name)} {METRICS[key].label}")
        for task in parts.tasks
        for key in ("bpp", "entropy_bpp")
    )
    yield Table(
        "rate.codebook",
        "Codebook",
        (*map(_counted, COUNTED_KEYS), *rates),
        kind="discrete",
    )
    if parts.codebooks > 1:
        for key in ("codebook_usage", "token_entropy_bits"):
            yield Table(
                f"rate.{key}",
                f"Codebook: {METRICS[key].label.lower()} of each",
                tuple(_counted(key, place) for place in range(1, parts.codebooks + 1)),
                kind="discrete",
            )


def _text_tables(task: Task, parts: Breakdown) -> Iterator[Table]:
    """Yield the tables of reading errors by condition, by glyph height and by script."""
    conditions = [
        _column(task, "cer", name, subset=name) for name in parts.subsets.get(task.name, ())
    ]
    heights = [_column(task, "cer", f"{px:g} px", glyph_px=px) for px in parts.glyphs]
    for by, columns in (("condition", conditions), ("glyph height", heights)):
        yield Table(
            f"{task.name}.{by}",
            task.title(f": CER by {by}"),
            (_column(task, "bpp"), _column(task, "cer", "all"), *columns),
            originals=True,
        )
    yield Table(
        f"{task.name}.script",
        task.title(" by script"),
        (
            _column(task, "bpp"),
            *(
                _column(task, key, f"{script} {METRICS[key].label}", script=script)
                for script in parts.scripts
                for key in task.overview
            ),
        ),
        originals=True,
    )


def _reading_tables(task: Task, parts: Breakdown) -> Iterator[Table]:
    """Yield one table a text metric that is not in the overview: all pages, then each script."""
    for key in task.metrics:
        if METRICS[key].takes == "ocr" and key not in TEXT_METRICS:
            scripts = (_column(task, key, script, script=script) for script in parts.scripts)
            columns = (_column(task, "bpp"), _column(task, key, "all"), *scripts)
            yield Table(f"{task.name}.{key}", task.title(f": {METRICS[key].label}"), columns)


def _overview(parts: Breakdown) -> Iterator[Column]:
    cost_part = Part(subset=parts.cost_subset) if parts.cost_subset else None
    for key in ("tokens", "bits"):
        yield Column(f"rate.{key}", "rate", METRICS[key].label, METRICS[key], cost_part)
    for task in parts.tasks:
        yield _column(task, "bpp")
        for key in task.overview:
            yield _column(task, key)
        for key in parts.sets[task.name]:
            yield replace(_column(task, key), origin="sets")
        if task.charts:
            yield _column(task, "mtf50_cpp")
    for key in COST_KEYS:
        part = EVERYTHING if key == "peak_memory_mib" else cost_part
        yield Column(f"cost.{key}", "cost", METRICS[key].label, METRICS[key], part)


def _column(
    task: Task,
    key: str,
    label: str | None = None,
    *,
    subset: str | None = None,
    glyph_px: float | None = None,
    script: str | None = None,
    cpp: float | None = None,
) -> Column:
    """Return the column of a task's metric, of all of its images or of a part of them."""
    part = Part(task.name, subset, glyph_px, script)
    names = [subset] if subset is not None else []
    names += ["glyph", f"{glyph_px:g}px"] if glyph_px is not None else []
    names += ["script", script] if script is not None else []
    names += [key] if cpp is None else [key, format_cpp(cpp)]
    # Pages of all conditions have the same rate; of photographs, crops differ from wholes.
    rate = ".".join([task.name, *([subset] if subset and not task.read else []), "bpp"])
    whole = part == Part(task.name) and cpp is None
    return Column(
        key=".".join([task.name, *names]),
        group=task.name,
        label=label or METRICS[key].label,
        metric=METRICS[key],
        part=part,
        rate=None if key in _NOT_RANKED else rate,
        cpp=cpp,
        ranked=whole and key in (("psnr_db", "ssim", "cer") if task.first else ("cer",)),
        interval=whole and key in (_INTERVALS_OF_FIRST if task.first else _INTERVALS),
    )


_INTERVALS = ("psnr_db", "cer", "wer")
_INTERVALS_OF_FIRST = (*_INTERVALS, "ssim", "lpips_alex", "lpips_vgg")


def _counted(key: str, codebook: int | None = None) -> Column:
    """Return the column of a number that is counted of tokens; codebook: of one of several, from 1."""
    place = "" if codebook is None else f"codebook-{codebook}."
    label = METRICS[key].label if codebook is None else str(codebook)
    return Column(
        f"rate.{place}{key}", "rate", label, METRICS[key], origin="codes", codebook=codebook
    )


_GROUP_TITLES = {"rate": "code", "reconstruction": "recon."}


def group_title(group: str) -> str:
    """Return the heading of a task, of rate or of cost."""
    return _GROUP_TITLES.get(group, group)
