"""The records of `run.json` and `suite.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vtbench.base.locations import without_paths
from vtbench.base.names import Name, RunName
from vtbench.base.records import Kind, State
from vtbench.base.schema import Sha256, Strict
from vtbench.base.text import Stripped, strip_hidden
from vtbench.metrics.rate import Unit

Version = Literal[5]
SCHEMA_VERSION: Version = 5
"""Of run.json, suite.json and images.parquet together."""


class ResultFile(Strict):
    """What run.json and suite.json have in common."""

    schema_version: Version = SCHEMA_VERSION
    upgraded_from: Annotated[int | None, Field(exclude=True)] = None
    """The schema version that the file was written with, where it is older; never in a file."""


class TokenizerRecord(Strict):
    """What was run: the entry's digest and facts, and the hashes of the weights actually loaded."""

    name: Name
    title: Stripped
    family: Stripped
    kind: Kind
    quantizer: Stripped
    downsample: int | None
    codebook_size: int | None
    latent_channels: int | None
    parameters: int | None
    stochastic: bool
    entry_sha256: str
    weights: dict[Stripped, Stripped]
    pinned: bool
    libraries: dict[Stripped, Stripped]
    series: Stripped | None = None
    """The curve that it is a point of, as a legend names it."""
    curve_only: bool = False
    """Whether it is there for that curve alone: drawn, and not ranked."""
    registered: bool = True
    """Whether it is an entry of a registry; a model of one's own is not, and never published."""


class SuiteRecord(Strict):
    """Which protocol: the suite's name, version and digest, and its manifest's: null where no
    manifest pins the pixels, which then are known by the rows' sha256 alone."""

    name: Name
    version: int
    sha256: Sha256
    manifest_sha256: str | None
    published: bool


PathlessText = Annotated[str, AfterValidator(without_paths), AfterValidator(strip_hidden)]
"""What a result file says of a failure: no path of the machine that it failed on."""


class MetricRecord(Strict):
    """Whether a metric was measured in this run, by which version, and if not, why."""

    version: int
    state: State
    reason: PathlessText | None = None


class Protocol(Strict):
    """The choices of this run. A deviation from the suite's own is part of the run's name."""

    dtype: Stripped
    seed: int
    tasks: tuple[str, ...]
    metrics: dict[str, MetricRecord]
    ocr: dict[Stripped, Stripped]
    limit: int | None
    source: Literal["pass", "files"] = "pass"
    """Whether the reconstructions went through the tokenizer, or were read from files."""
    crop: str | None = None  # instead of the suite's
    posterior: Literal["mode", "sample"] | None = None  # None: the tokenizer has none
    networks: dict[str, str] = Field(default_factory=dict)
    """sha256 of the weights behind the metrics of deep features, by file name."""
    compiled: bool = False
    """Whether the tokenizer's networks were compiled by torch (`--compile`)."""
    extra: tuple[Stripped, ...] = ()
    """Metrics that were asked for beside the suite's own, of every task that they apply to."""


class SetRecord(Strict):
    """A number of all images of a task together, or why there is none."""

    value: float | None = None
    standard_error: float | None = None
    n: int = 0
    state: State
    reason: PathlessText | None = None
    warning: str | None = None
    version: int
    weights: dict[str, str] = Field(default_factory=dict)


class Environment(Strict):
    """Where it ran. No host names, user names or paths."""

    device: Stripped
    processor: Stripped
    threads: int
    platform: Stripped
    python: Stripped
    versions: dict[Stripped, Stripped]
    vtbench: Stripped
    code_sha256: Stripped
    commit: Stripped | None
    dirty: bool | None


class Failure(Strict):
    """One image that has no numbers."""

    id: str
    error: PathlessText


class CodebookRecord(Strict):
    """One codebook of codes.parquet: its words, what was counted, and over how many tokens."""

    size: Annotated[int, Field(ge=1)]
    unit: Unit
    tokens: int


class CodesRecord(Strict):
    """codes.parquet: its digest, its codebooks, and the images that the tokens are of."""

    sha256: str
    images: int
    codebooks: tuple[CodebookRecord, ...]


class BatchTrial(Strict):
    """A batch that was tried: images in it, and images a second; None where memory did not suffice."""

    images: Annotated[int, Field(ge=1)]
    images_per_second: Annotated[float, Field(ge=0)] | None


class BatchRecord(Strict):
    """How many images went through the tokenizer together, where that was looked for
    (`--batch-size auto`) or memory did not suffice for it.

    Args:
        size: images of 256² in the first batches.
        last: in the last ones; fewer where memory did not suffice for some batch.
        shape: height and width of the images that were tried.
        trials: what was tried, in order.
        ended: why no larger one was tried.
        seconds: of the search.
    """

    size: Annotated[int, Field(ge=1)]
    last: Annotated[int, Field(ge=1)]
    shape: tuple[int, int] | None = None
    trials: tuple[BatchTrial, ...] = ()
    ended: PathlessText | None = None
    seconds: float = 0.0


Levels = Annotated[float, Field(ge=0)]


class CompilationRecord(Strict):
    """How far the reconstructions of a run's first batch moved when its networks were compiled.

    Args:
        images: in the batch.
        modules: that were compiled.
        most_levels: the largest difference of a pixel, in levels of 8 bits.
        rms_levels: the root mean square of all.
        tolerance_levels: the most that was allowed: largest in float32, root mean square in 16 bits.
        tokens: discrete tokens of the batch.
        tokens_changed: how many of them are others; none in float32.
        seconds: of compiling and the first call.
    """

    images: int
    modules: int
    most_levels: Levels
    rms_levels: Levels
    tolerance_levels: Levels
    tokens: int
    tokens_changed: int
    seconds: float


class Inputs(Strict):
    """What a run's key is made of and no other part of run.json says.

    Args:
        data: which copy of a data set that no manifest pins.
        batch_size: as asked for: "auto" for the fastest that fits, None for the suite's own.
        measures: digest of what the catalogue says of each metric that can change its number.
        given: another each time for a model that was handed over; None for the registry's.
    """

    data: str | None
    batch_size: int | Literal["auto"] | None
    measures: str
    given: str | None


class RunRecord(ResultFile):
    """run.json. key: digest of everything that changes a number, for reuse of own results
    (`results.run_key`). inputs: None where it was written before schema version 5."""

    run: RunName
    key: str
    inputs: Inputs | None = None
    suite: SuiteRecord
    tokenizer: TokenizerRecord
    protocol: Protocol
    environment: Environment
    n_expected: int
    n_done: int
    failures: tuple[Failure, ...]
    started: str
    seconds: float
    rows_sha256: str
    codes: CodesRecord | None = None
    sets: dict[str, SetRecord] = Field(default_factory=dict)
    """The set metrics, by `<task>.<metric>`."""
    batches: BatchRecord | None = None
    """None where every batch had the size that was asked for."""
    compilation: CompilationRecord | None = None
    """None where nothing was compiled."""

    @property
    def complete(self) -> bool:
        """Whether every image of the whole suite has its numbers."""
        return self.n_done == self.n_expected and self.protocol.limit is None


class Skipped(Strict):
    """A registry entry that was not run, and why."""

    name: RunName
    reason: PathlessText


class PanelItem(Strict):
    """One picture of the side-by-side panel: originals/<n>.png, <run>/panel/<n>.png."""

    n: Annotated[int, Field(ge=0)]
    id: str
    task: str
    width: int
    height: int


class SuiteFolder(ResultFile):
    """suite.json: what a folder of runs has in common. The board is made from it and the runs."""

    name: Name
    version: int
    title: Stripped
    description: Stripped
    sha256: Sha256
    published: bool
    pinned: bool = True
    limit: int | None = None
    """The most images of each task that were measured (`--limit`)."""
    tasks: tuple[str, ...] | None = None
    """The tasks that were measured, where they are not all of the suite's."""
    images: dict[str, int]
    metrics: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The metrics of each task, as the suite names them."""
    show_images: bool = True
    """Whether pages may show the suite's images: not where their licence forbids it."""
    cost_subset: str | None
    panel: tuple[PanelItem, ...]
    skipped: tuple[Skipped, ...]
    cut_from: dict[str, str] = Field(default_factory=dict)
    """Images that share a picture file, each with the first of its file: one draw of a bootstrap."""

    @property
    def partial(self) -> str | None:
        """What of the suite it is, None for the whole. A part never stands for the suite."""
        parts = [] if self.tasks is None else [f"--task {task}" for task in self.tasks]
        parts += [] if self.limit is None else [f"--limit {self.limit}"]
        return f"partial: {' '.join(parts)}" if parts else None
