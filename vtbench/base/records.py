"""Frozen records that the rooms exchange: a tokenizer's Spec, a suite's Sample, a Metric. Plain data,
no torch, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["codec", "discrete", "continuous", "pixels"]
"""What a `Code` carries: bytes, indices, float latents, or 8-bit pixels (the sanity rows)."""

State = Literal["measured", "missing", "failed", "not-applicable"]
"""missing: something is not on this machine. failed: it was tried and broke. not-applicable: the
question does not make sense here (WER of Chinese, MS-SSIM below 161 px). NaN is none of them."""


@dataclass(frozen=True)
class SizePolicy:
    """Which sizes a network takes, and what is done with the others.

    multiple: both sides must divide by it. fixed: the only (height, width) it takes, or None.
    policy: "pad" reflects up to the next multiple and crops back; of fixed-size networks, "resize"
    resamples to `fixed` and back, "tile" cuts the image into tiles of it, each coded by itself. What
    happened to an image is recorded in its `Code.fit`.
    """

    multiple: int = 1
    fixed: tuple[int, int] | None = None
    policy: Literal["pad", "resize", "tile"] = "pad"


@dataclass(frozen=True)
class Spec:
    """What a tokenizer declares of itself; filled from its registry entry.

    input_range is the network's: `Tokenizer` converts [0, 1] to it and back. downsample is the
    factor between image and code grid (None for codecs). codebook_size is of one token of a discrete
    tokenizer; latent_channels of one position of a continuous one.
    """

    name: str
    family: str
    kind: Kind
    quantizer: str
    downsample: int | None = None
    codebook_size: int | None = None
    latent_channels: int | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    size: SizePolicy = field(default_factory=SizePolicy)
    stochastic: bool = False


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an original becomes the picture that is measured: a crop of `images.CROPS`, the side of
    its square (None for "none"), and whether EXIF orientation is applied before it."""

    crop: str = "none"
    size: int | None = None
    upright: bool = True

    @property
    def name(self) -> str:
        """The crop and its size, as `--crop` takes them: "adm-256"."""
        return self.crop if self.size is None else f"{self.crop}-{self.size}"


@dataclass(frozen=True, slots=True)
class TarPlace:
    """Where a picture lies in a tar: its name there, its first byte and its length in bytes."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ParquetPlace:
    """Where a picture lies in a Parquet file: its name there, row group, row in it, and column."""

    name: str
    row_group: int
    row: int
    column: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a suite: where it is, which pixels it must have, what is known of it.

    path is the picture's file, or the archive in which it lies at `place`. crop is (left, top,
    width, height) in the decoded file; preprocess follows it; sha256 is `images.pixel_sha256` of
    what results, None for images that nobody pinned (`--images FOLDER`). width and height are 0
    where they are known only after decoding. meta holds ground truth (lines of text and their boxes,
    drawing parameters of a chart). max_pixels: of the file, None for `images.MAX_PIXELS`. stamp: of the
    file when the suite's digest was made of it (`contents.take_stamp`), None where a manifest pins the
    pixels. Slots, because a suite may have 50 000 of them.
    """

    id: str
    task: str
    subset: str
    path: Path
    width: int
    height: int
    crop: tuple[int, int, int, int] | None = None
    sha256: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    place: TarPlace | ParquetPlace | None = None
    preprocess: Preprocess = Preprocess()
    max_pixels: int | None = None
    stamp: int | None = None


Takes = Literal["pair", "samples", "tiles", "ocr", "features", "quantized", "set", "run", "rows"]
"""What measures a metric, and what it is given:

pair: a function of the batch, f(original, image), both uint8 N×3×H×W. It returns float64 (N,), None
    where the metric does not apply at this size, or a mapping of such values by row column.
samples: f(samples, original, image) → a mapping of row columns an image; it knows the ground truth.
tiles: f(original, image, fit) → a mapping of row columns an image; fit says where tiles meet.
ocr: as samples, of an object that is opened with the suite's OCR engine.
features: the cosine of two images' deep features.
quantized: of what 8-bit latents decode to.
set: all images of a task together.
run: the pass itself (rate, time, memory).
rows: other columns, when the rows are pooled.
"""

Shown = Literal["overview", "breakdown", "own"]
"""Where a metric of images stands: in the overview and the breakdowns, in the breakdowns alone, or in
tables of its own."""


@dataclass(frozen=True)
class Metric:
    """One number: its public facts, what measures it, and where it stands.

    Attributes:
        better: "higher" or "lower"; None for a number that is neither (a count).
        version: Changes when the value for the same pixels may change.
        pooled: How images become one number, in words.
        function: "module:name" of what measures it.
        columns: The row columns that it fills, with their Arrow types; by default one float64 of
            its own key.
        weights: What it is opened with, by name in `data/metric_weights.yaml`. A function with
            weights is called once with their paths and `device`, and what it returns measures.
        minimum_n: The number of images below which it is refused.
        nonnegative: Those of its columns that are never below 0, beside integers, which all count.
        heading: What stands above its column in place of label and unit.
        tolerance: The largest difference between values of the same pixels on a CPU, a CUDA device
            and Metal, and at two batch sizes; of a set as a share of the value. 0 is equal to the
            last bit on one machine: integers, or computed on the CPU image by image. None: nothing
            is stated, as of times.
    """

    key: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    version: int
    pooled: str
    definition: str
    source: str
    decimals: int = 3
    takes: Takes = "rows"
    function: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    shown: Shown = "own"
    minimum_n: int = 1
    nonnegative: tuple[str, ...] = ()
    heading: str = ""
    tolerance: float | None = None

    @property
    def row_columns(self) -> Mapping[str, str]:
        """The row columns that it fills, with their Arrow types."""
        if self.columns or self.takes in ("set", "run", "rows"):
            return self.columns
        return {self.key: "float64"}
