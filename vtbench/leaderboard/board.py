"""What a board is made of: numbers, the columns and lines that they stand in, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vtbench.base.records import Kind, Metric, State
from vtbench.results.folder import Run
from vtbench.results.schema import Failure, RunRecord, SuiteFolder

Bound = Literal["=", ">=", "<"]
Block = Literal["tokenizers", "codecs", "sanity", "incomplete", "originals"]

BLOCKS: tuple[Block, ...] = ("tokenizers", "codecs", "sanity", "incomplete")
"""The order of the lines; inside a block, by rate. Incomplete runs come last, whatever they are."""


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
    standard_error: of a set metric. spread: standard deviation between the seeds of a random
    tokenizer. warning: what must be said beside the number.

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
    spread: float | None = None
    warning: str | None = None


class Cells(dict[str, Cell]):
    """The cells of a line by column key. What it has no cell for does not apply to it: a metric of
    another board that stands beside."""

    def __missing__(self, key: str) -> Cell:
        return Cell(None, 0, "not-applicable")


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
    """One run, or those of one random tokenizer with several seeds (run and other_seeds).

    problem: why it has no numbers, or None. capped: images of PSNR 100 dB. ranks: by column key,
    between which ranks among tokenizers and codecs 95 % of the draws put it."""

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
