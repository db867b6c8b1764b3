"""Numbers of charts and of image detail: their columns, pooling and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vtbench.leaderboard import detail_pools as pools
from vtbench.leaderboard.board import Column, Floats, Part, Table
from vtbench.leaderboard.pools import Pool, Pooled, RatioPool, pool_mean, pool_ratio
from vtbench.leaderboard.selection import Selection
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.face_sizes import find_bucket
from vtbench.results.rows import Row

WORST_SHARE = 0.05
"""The share of the images that a quantile leaves beyond it; as of patches (`metrics.patches`)."""

FACE_SIZES = ("small", "medium", "large")
"""Of `metrics.face_sizes.BUCKETS`."""

OCTAVE_LABELS = ("1/32–1/16", "1/16–1/8", "1/8–1/4", "from 1/4")
"""Of `metrics.bands.OCTAVES`, cycles per pixel."""


@dataclass(frozen=True)
class Number:
    """A number of a task.

    Attributes:
        key: After the task's name.
        metric: Its record's key.
        measured_as: The key of the metric whose columns it is made of.
        table: The title of its table.
        pool: Of a run whose tokenizer has this stride (None: no grid).
    """

    key: str
    label: str
    metric: str
    measured_as: str
    table: str
    pool: Callable[[int | None], Pool]


@dataclass(frozen=True)
class PoolLimit:
    """A frequency limit with an interval of its own, times the pixels of a token's side where it is
    counted per token."""

    level: float
    per_token: bool = False

    def __call__(self, selection: Selection) -> Pooled | None:
        """Return the limit of the rows, None where they have none."""
        rows = selection.rows
        limit = pools.find_transfer_limit(rows, level=self.level)
        scale = self._scale(rows)
        if limit is None or scale is None:
            return None
        return Pooled(
            limit.value * scale,
            len(pools.list_gratings(rows, pools.CURVE)),
            limit.bound,
            low=limit.low * scale,
            high=limit.high * scale,
        )

    def _scale(self, rows: Sequence[Row]) -> float | None:
        return pools.pixels_per_token_side(rows) if self.per_token else 1.0


def _always(pool: Pool) -> Callable[[int | None], Pool]:
    return lambda stride: pool


def _of_rows(find: Callable[[Sequence[Row]], float | None], *subsets: str) -> Pool:
    """Return the pool of a number of all gratings; n: gratings."""

    def pool(selection: Selection) -> Pooled | None:
        value = find(selection.rows)
        n = len(pools.list_gratings(selection.rows, *subsets))
        return None if value is None else Pooled(value, n)

    return pool


def _ratio_of_rows(share: Callable[[Row], tuple[float, float] | None]) -> RatioPool:
    """Return Σ numerator ÷ Σ denominator of what each row gives."""

    def shares(selection: Selection) -> tuple[Floats, Floats]:
        pairs = [share(row) or (math.nan, math.nan) for row in selection.rows]
        given = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return given[:, 0].copy(), given[:, 1].copy()

    return RatioPool(shares)


def _blindness(place: int | None) -> Callable[[int | None], Pool]:
    """Return the pool of the blindness at period stride ÷ place, or of the largest."""

    def of_stride(stride: int | None) -> Pool:
        def pool(selection: Selection) -> Pooled | None:
            try:
                by_period = list(pools.find_blindness(selection.rows, stride=stride).values())
            except LookupError:  # the charts have not this stride's periods
                return None
            chosen = by_period if place is None else by_period[place - 1 : place]
            values = [value for value in chosen if value is not None]
            n = len(pools.list_gratings(selection.rows, pools.CURVE, pools.GRID))
            return Pooled(max(values), n) if values else None

        return pool

    return of_stride


def _elements(kind: str | None, size: float | None) -> RatioPool:
    def share(row: Row) -> tuple[float, float] | None:
        if row["element_kind"] is None or kind not in (None, row["element_kind"]):
            return None
        counts = zip(row["element_px"], row["elements_kept"], row["elements"], strict=True)
        chosen = [(kept, total) for px, kept, total in counts if size in (None, px)]
        return float(sum(kept for kept, _ in chosen)), float(sum(total for _, total in chosen))

    return _ratio_of_rows(share)


def _patterns(size: float) -> Pool:
    def pool(selection: Selection) -> Pooled | None:
        values = [
            value
            for row in selection.rows
            for px, value in zip(row["pattern_px"] or (), row["pattern_delta_e"] or (), strict=True)
            if px == size
        ]
        return Pooled(math.fsum(values) / len(values), len(values)) if values else None

    return pool


def _band(column: str, octave: int) -> RatioPool:
    def share(row: Row) -> tuple[float, float] | None:
        if row["band_original"] is None:
            return None
        return row[column][octave], row["band_original"][octave]

    return _ratio_of_rows(share)


def _edges(selection: Selection) -> Pooled | None:
    own = [row for row in selection.rows if row["edges_original"] is not None]
    original, found, drawn, true = (
        sum(row[f"edges_{name}"] for row in own) for name in ("original", "found", "drawn", "true")
    )
    if not original:
        return None
    if not found or not true:
        return Pooled(0.0, len(own))
    return Pooled(2 / (original / found + drawn / true), len(own))


def _grid(column: str) -> Callable[[int | None], Pool]:
    def of_stride(stride: int | None) -> Pool:
        def share(row: Row) -> tuple[float, float] | None:
            strides = row["grid_stride"] or []
            if stride is None or stride not in strides:
                return None
            return row[column][strides.index(stride)], 1.0

        return _ratio_of_rows(share)

    return of_stride


def _faces(column: str, *, bucket: int | None = None) -> RatioPool:
    """Return the mean over the faces of TokBench's bucket, or over all."""

    def share(row: Row) -> tuple[float, float] | None:
        if not row[column]:
            return None
        chosen = [
            value
            for value, ratio in zip(row[column], row["face_ratio"], strict=True)
            if bucket is None or find_bucket(ratio, row["width"]) == bucket
        ]
        return (math.fsum(chosen), float(len(chosen))) if chosen else None

    return _ratio_of_rows(share)


def _mean_of_buckets(column: str) -> Pool:
    """Return the unweighted mean of the three buckets; None where one of them has no face."""

    def pool(selection: Selection) -> Pooled | None:
        means = [_faces(column, bucket=bucket)(selection) for bucket in range(len(FACE_SIZES))]
        known = [mean for mean in means if mean is not None]
        if len(known) < len(means):
            return None
        n = sum(bool(row[column]) for row in selection.rows)
        return Pooled(math.fsum(mean.value for mean in known) / len(known), n)

    return pool


def _list_face_numbers() -> Iterator[Number]:
    title = "faces, by size"
    for key in ("face_identity", "face_shift"):
        label = METRICS[key].label
        yield Number(key, label, key, key, title, _always(_mean_of_buckets(key)))
        for bucket, size in enumerate(FACE_SIZES):
            pool = _always(_faces(key, bucket=bucket))
            yield Number(f"{key}.{size}", f"{label}, {size} faces", key, key, title, pool)
        for column, what in (("jpeg", "same person through JPEG"), ("other", "another person")):
            pool = _always(_faces(f"{key}_{column}"))
            yield Number(f"{key}.{column}", f"{label}, {what}", key, key, title, pool)


def _worst_images(metric: str) -> Pool:
    """Return the pool of the value of the image that 5 % of all are as bad as or worse, by rank."""
    lower = METRICS[metric].better == "lower"

    def pool(selection: Selection) -> Pooled | None:
        values = selection.numbers(metric)
        values = np.sort(values[~np.isnan(values)])
        if not len(values):
            return None
        rank = max(1, round(WORST_SHARE * len(values)))
        return Pooled(float(values[-rank] if lower else values[rank - 1]), len(values))

    return pool


def _list_chart_numbers() -> Iterator[Number]:
    title, waves = "transfer of gratings", "wave_transfer"
    for key, level, per_token in (
        ("mtf50_fit_cpp", pools.MTF50, False),
        ("mtf10_fit_cpp", pools.MTF10, False),
        ("mtf50_fit_cpt", pools.MTF50, True),
        ("mtf10_fit_cpt", pools.MTF10, True),
    ):
        limit = PoolLimit(level, per_token)
        label = f"{METRICS[key].label} ÷ token" if per_token else METRICS[key].label
        yield Number(key, label, key, waves, title, _always(limit))
    label = METRICS["grid_blindness"].label
    yield Number("grid_blindness", label, "grid_blindness", waves, title, _blindness(None))
    for place in (1, 2, 3):
        name = f"{label} at stride" + (f" ÷ {place}" if place > 1 else "")
        key = f"grid_blindness.{place}"
        yield Number(key, name, "grid_blindness", waves, title, _blindness(place))
    for key, find, subsets in (
        ("aliasing", pools.find_aliasing, (pools.CURVE,)),
        ("orientation_spread", pools.find_orientation_spread, (pools.CURVE, "oblique")),
        ("color_spread", pools.find_color_spread, (pools.CURVE, "color")),
    ):
        label = METRICS[key].label
        yield Number(key, label, key, waves, title, _always(_of_rows(find, *subsets)))
    title, kept = "thin elements kept, by kind and thickness", "elements_kept"
    yield Number(kept, "all", kept, kept, title, _always(_elements(None, None)))
    for kind in ("line", "dot", "hatch"):
        for size in (1, 2, 3, 4):
            pool = _always(_elements(kind, size))
            yield Number(f"{kept}.{kind}-{size}px", f"{kind} {size} px", kept, kept, title, pool)
    title, pattern = "ΔE of fine colour patterns", "pattern_delta_e"
    for size in (1, 2, 4):
        pool = _always(_patterns(size))
        yield Number(f"{pattern}.{size}px", f"{size} px", pattern, pattern, title, pool)


def _list_picture_numbers() -> Iterator[Number]:
    for metric, column in (("band_lost", "band_lost"), ("band_invented", "band_invented")):
        for octave, name in enumerate(OCTAVE_LABELS):
            label = f"{METRICS[metric].label.split()[-1]} {name}"
            title = "energy lost and invented, by octave in cycles per pixel"
            pool = _always(_band(column, octave))
            yield Number(f"{metric}.{octave + 1}", label, metric, metric, title, pool)
    title = "structure and artefacts"
    for key, of in (
        ("blur_px", _always(pool_mean("blur_px"))),
        ("gmsd", _always(pool_mean("gmsd"))),
        ("edge_agreement", _always(_edges)),
        ("color_shift", _always(pool_mean("color_shift"))),
        ("border_error", _always(pool_ratio("mse_border", "mse_middle"))),
        ("corner_error", _always(pool_ratio("mse_corners", "mse_middle"))),
        ("grid_pattern", _grid("grid_pattern")),
        ("grid_steps", _grid("grid_steps")),
        ("seam_step", _always(pool_mean("seam_step"))),
        ("seam_tone", _always(pool_mean("seam_tone"))),
    ):
        yield Number(key, METRICS[key].label, key, key, title, of)
    title = "worst patches and worst images"
    for metric in ("psnr_db", "ssim", "lpips_alex", "lpips_vgg"):
        label = f"{METRICS[metric].label}, worst 5 % of images"
        pool = _always(_worst_images(metric))
        yield Number(f"{metric}_images05", label, metric, f"{metric}_worst", title, pool)
        for key in (f"{metric}_worst", f"{metric}_patch05"):
            yield Number(key, METRICS[key].label, key, key, title, _always(pool_mean(key)))


NUMBERS = (*_list_chart_numbers(), *_list_picture_numbers(), *_list_face_numbers())
"""Every number, in the order of the tables."""


def choose_numbers(measured: Iterable[str]) -> tuple[Number, ...]:
    """Return the numbers that are made of these metrics: a board without them keeps its columns."""
    known = set(measured)
    return tuple(number for number in NUMBERS if number.measured_as in known)


def list_detail_tables(numbers: Sequence[Number], tasks: Sequence[str]) -> Iterator[Table]:
    """Yield the tables of the numbers, task by task; those without a number are left out later."""
    for task in tasks:
        for place, title in enumerate(dict.fromkeys(number.table for number in numbers)):
            columns = tuple(_column(task, number) for number in numbers if number.table == title)
            yield Table(f"{task}.numbers-{place + 1}", f"{task.capitalize()}: {title}", columns)


def _column(task: str, number: Number) -> Column:
    return Column(
        f"{task}.{number.key}",
        task,
        number.label,
        METRICS[number.metric],
        part=Part(task),
        rate=f"{task}.bpp",
        aspect=None if number.key == number.metric else number.label,
        make_pool=number.pool,
        measured_as=number.measured_as,
    )
