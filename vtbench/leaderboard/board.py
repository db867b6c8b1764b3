"""The records of a leaderboard: cells, columns, lines and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vtbench.base.records import Kind, Metric, State
from vtbench.results.folder import Run
from vtbench.results.schema import Failure, RunRecord, SuiteFolder

Bound = Literal["=", ">=", "<"]
Block = Literal["tokenizers", "codecs", "curves", "sanity", "incomplete", "originals"]
Origin = Literal["rows", "codes", "sets"]
Floats = NDArray[np.float64]

BLOCKS: tuple[Block, ...] = ("tokenizers", "codecs", "curves", "sanity", "incomplete")
"""The order of the lines; inside a block, by rate. Incomplete runs come last, whatever they are."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images behind a number, by ascending id, and the clusters in which they are drawn.

    A cluster is a photograph with all images cut from it, or an image by itself. Numbers of the same
    images share one object.

    Attributes:
        ids: Of each image.
        clusters: The place of each image's cluster in `names`.
        names: Of the clusters, ascending.
        strata: Of each cluster, the subsets of its images.
    """

    ids: tuple[str, ...]
    clusters: NDArray[np.intp]
    names: tuple[str, ...]
    strata: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Shares:
    """What each image gives to a number, which is Σ numerator ÷ Σ denominator.

    Its interval is that of a cluster bootstrap: clusters of images are drawn, not images.
    """

    images: Images
    numerators: Floats
    denominators: Floats

    @property
    def clusters(self) -> NDArray[np.intp]:
        """The cluster of each image."""
        return self.images.clusters


@dataclass(frozen=True)
class Cell:
    """A number, or why there is none.

    Attributes:
        n: The images (patches, for contrast) behind it.
        bound: Whether the true value is `value`, at least it, or below it (MTF50 outside the charts).
        low, high: Its 95 % interval over images, None where there is none.
        shares: What it is made of, None for what is no sample of images (charts of fixed design,
            time, memory).
        standard_error: Of a set metric.
        spread: Standard deviation between the seeds of a random tokenizer.
        warning: What must be said beside the number.
        failures: The images that failed, beside the `n` that did not.
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
    spread: float | None = None
    warning: str | None = None
    failures: int = 0


class Cells(dict[str, Cell]):
    """The cells of a line by column key. What it has no cell for does not apply to it: a metric of
    another board that stands beside."""

    def __missing__(self, key: str) -> Cell:
        return Cell(None, 0, "not-applicable")


@dataclass(frozen=True)
class Part:
    """Which images of a suite a number is of; a field that is None restricts nothing."""

    task: str | None = None
    subset: str | None = None
    glyph_px: float | None = None
    script: str | None = None


EVERYTHING = Part()


@dataclass(frozen=True)
class Column:
    """One number of every line.

    Attributes:
        key: Its name in the CSV.
        group: The heading that it stands below: a task, "rate" or "cost".
        part: The images that it is of; None for no image.
        origin: The rows, the counts of codes.parquet, or the set metrics of run.json.
        rate: Key of the column in bits per pixel that it stands beside; None for a number that is
            not ranked beside one.
        cpp: The frequency of a contrast transfer, in cycles per pixel; None for all.
        aspect: What of the metric it is ("dot 2 px"), None for the number of its name.
        make_pool: Of a number that the catalogue's metric does not pool by itself: from the
            tokenizer's stride (None: no grid) to its pool.
        measured_as: The metric of run.json that it is made of, None for its own.
        codebook: Which of several codebooks it is of, from 1; None for all together.
        ranked: Whether tokenizers and codecs are ranked by it, whatever their rate.
        interval: Whether Markdown shows its intervals; page and CSV have them all.
    """

    key: str
    group: str
    label: str
    metric: Metric
    part: Part | None = EVERYTHING
    origin: Origin = "rows"
    rate: str | None = None
    cpp: float | None = None
    aspect: str | None = None
    make_pool: Callable[[int | None], Any] | None = field(default=None, compare=False, repr=False)
    measured_as: str | None = None
    codebook: int | None = None
    ranked: bool = False
    interval: bool = False

    @property
    def task(self) -> str | None:
        """The task that it is a number of; None for rate and cost."""
        return self.part.task if self.part is not None else None

    @property
    def whole(self) -> bool:
        """Whether it is of all images of a task."""
        plain = self.cpp is None and self.aspect is None
        return plain and self.task is not None and self.part == Part(self.task)


@dataclass(frozen=True)
class Line:
    """One run, or those of one random tokenizer with several seeds (run and other_seeds).

    Attributes:
        problem: Why it has no numbers, or None.
        capped: Images of PSNR 100 dB.
        ranks: By column key, between which ranks among tokenizers and codecs 95 % of the draws put
            it.
    """

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
    other_seeds: tuple[Run, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", Cells(self.cells))

    @property
    def record(self) -> RunRecord:
        """The line's run.json; the line of the originals has none."""
        assert self.run is not None
        return self.run.record

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """The run.json of every run behind the line."""
        return (self.record, *(run.record for run in self.other_seeds))

    @property
    def series(self) -> str:
        """The curve that it is a point of, as a legend names it: its entry's series, else of a codec
        its title, of others the family."""
        named = self.run.record.tokenizer.series if self.run is not None else None
        return named or (self.title if self.joined else self.family)

    @property
    def joined(self) -> bool:
        """Whether it is a codec's point, which a line joins with the others of its series."""
        return self.block in ("codecs", "curves")

    @property
    def competes(self) -> bool:
        """Whether it can be best of anything: a tokenizer or codec with numbers, and no point that is
        there for its curve alone."""
        return self.block in ("tokenizers", "codecs")


@dataclass(frozen=True)
class Table:
    """A choice of columns.

    Attributes:
        originals: Whether the OCR engine's own error is its last line.
        kind: Of the tokenizers that it is about, None for all.
        overview: Whether it is the first table, which says family and kind.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    originals: bool = False
    kind: Kind | None = None
    overview: bool = False


@dataclass(frozen=True)
class Board:
    """A folder of results as numbers. tables[0] is the overview. left_out: originals that cannot be
    read, which no line's numbers are of. damaged: complaints about runs that are not shown."""

    suite: SuiteFolder
    lines: tuple[Line, ...]
    originals: tuple[Line, ...]
    tables: tuple[Table, ...]
    columns: tuple[Column, ...]
    """Every number, also of the columns that no table shows because no run has them."""
    left_out: tuple[Failure, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> tuple[Line, ...]:
        """The lines that have numbers."""
        return tuple(line for line in self.lines if line.problem is None)

    @property
    def overview(self) -> Table:
        """The first table."""
        return self.tables[0]
