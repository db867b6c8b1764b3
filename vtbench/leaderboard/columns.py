"""Which numbers a board has, and in which tables they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vtbench.leaderboard.board import Column, Line, Table
from vtbench.leaderboard.detail_numbers import Number, choose_numbers, list_detail_tables
from vtbench.leaderboard.pools import cpp_key, list_points
from vtbench.metrics.catalogue import (
    COSINE_METRICS,
    FEATURE_SOURCES,
    METRICS,
    SET_METRICS,
    SET_TASK,
)
from vtbench.results.folder import Run

SUBSETS = ("plain", "photo", "low-contrast", "rotated", "chinese")
"""The order in which known subsets are shown; others follow by name."""

MAX_CODEBOOKS = 16
"""Codebooks of a run that get columns of their own; more (the 64 bits of a binary code) are pooled
alone, and are each in codes.parquet."""

IMAGE_METRICS = ("psnr_db", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg")
MORE_IMAGE_METRICS = ("psnr_pooled_db", "mae", "haarpsi", "dists")
"""In the breakdowns and the CSV; the overview is wide already."""

TEXT_METRICS = ("cer", "wer", "ned")
MORE_TEXT_METRICS = (
    *("t_acc", "exact_lines", "glyphs_lost", "tokbench_t_acc", "tokbench_t_ned", "omnidoc_ned"),
)
"""In a table of their own, where a suite asks for them."""
OVERVIEW_MEANS = ("bpp", *IMAGE_METRICS, *COSINE_METRICS, *TEXT_METRICS)
"""The overview's rate and quality that are means over images."""

COUNTED_KEYS = (
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


@dataclass(frozen=True)
class Parts:
    """What the rows of all runs are broken down by."""

    subsets: Mapping[str, tuple[str, ...]]
    codebooks: int
    glyphs: tuple[float, ...]
    scripts: tuple[str, ...]
    cpp: tuple[float, ...]
    sets: tuple[str, ...]
    cosines: tuple[str, ...]
    numbers: tuple[Number, ...]
    reading: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Parts:
        rows = [row for run in runs for row in run.rows]
        tasks = {row["task"] for row in rows}
        known = {name: place for place, name in enumerate(SUBSETS)}
        points = [point for row in rows for point in list_points(row)]
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
            numbers=choose_numbers(key for run in runs for key in run.record.protocol.metrics),
            reading=tuple(
                key
                for key in MORE_TEXT_METRICS
                if any(key in run.record.protocol.metrics for run in runs)
            ),
        )


def list_tables(parts: Parts) -> tuple[Table, ...]:
    """Return the overview and the breakdowns, with every column."""
    return (
        Table("overview", "Overview", _overview(parts)),
        *(
            Table(
                f"reconstruction.{subset}",
                f"Reconstruction: {subset}",
                tuple(
                    _column(f"reconstruction.{subset}.{key}")
                    for key in ("bpp", *IMAGE_METRICS, *MORE_IMAGE_METRICS, *parts.cosines)
                ),
            )
            for subset in parts.subsets.get("reconstruction", ())
        ),
        *(
            Table(
                f"{task}.more",
                f"{task.capitalize()}: further metrics, all images",
                tuple(_column(f"{task}.{key}") for key in ("bpp", "psnr_db", *MORE_IMAGE_METRICS)),
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
                    for key in TEXT_METRICS
                ),
            ),
            originals=True,
        ),
        *list_detail_tables(parts.numbers),
        *_reading_tables(parts),
    )


def _reading_tables(parts: Parts) -> Iterator[Table]:
    """Yield one table a further text metric: all pages, then each script."""
    for key in parts.reading:
        groups = {"all": "text", **{name: f"text.script.{name}" for name in parts.scripts}}
        yield Table(
            f"text.{key}",
            f"Text: {METRICS[key].label}",
            (
                _column("text.bpp"),
                *(_column(f"{prefix}.{key}", label) for label, prefix in groups.items()),
            ),
        )


def _codebook_tables(parts: Parts) -> Iterator[Table]:
    rates = (
        _column(f"{task}.{key}", f"{short} {METRICS[key].label}")
        for task, short in _SHORT.items()
        for key in ("bpp", "entropy_bpp")
    )
    yield Table(
        "rate.codebook",
        "Codebook",
        (*(_column(f"rate.{key}") for key in COUNTED_KEYS), *rates),
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


def _overview(parts: Parts) -> tuple[Column, ...]:
    return tuple(
        _column(key)
        for key in (
            "rate.tokens",
            "rate.bits",
            *(f"reconstruction.{key}" for key in ("bpp", *IMAGE_METRICS, *parts.cosines)),
            *(f"{SET_TASK}.{key}" for key in parts.sets),
            *(f"detail.{key}" for key in ("bpp", *IMAGE_METRICS, *parts.cosines, "mtf50_cpp")),
            *(f"text.{key}" for key in ("bpp", *TEXT_METRICS)),
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


def has_number(columns: Iterable[Column], lines: Sequence[Line]) -> bool:
    return any(
        line.cells[column.key].state == "measured"
        for column in columns
        if column.metric.key not in _RATES
        for line in lines
    )


def codebook_key(key: str, place: int) -> str:
    """Return the key of a number of one codebook of several; place counts from 1."""
    return f"rate.codebook-{place}.{key}"


def glyph_key(glyph_px: float) -> str:
    """Return the key prefix of the pages whose capitals are `glyph_px` pixels high."""
    return f"text.glyph.{glyph_px:g}px"
