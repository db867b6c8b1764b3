"""The schema of a suite's YAML file and of its manifest."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from vtbench.base.errors import SuiteError
from vtbench.base.names import Subset, check_below
from vtbench.base.records import Preprocess
from vtbench.base.schema import Strict
from vtbench.images import CROPS
from vtbench.metrics.catalogue import METRIC_LISTS
from vtbench.suites.copies import Source
from vtbench.suites.ground_truth import check_ground_truth

TASKS: dict[str, str] = {
    "reconstruction": "how close is the picture",
    "detail": "which fine structure survives",
    "text": "can it still be read",
}
"""The tasks and the question that each asks."""


class TaskProtocol(Strict):
    """Which metrics a task's images are measured with, by key, or by the name of a list."""

    metrics: tuple[str, ...]

    @field_validator("metrics")
    @classmethod
    def _lists_become_their_members(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        members = (METRIC_LISTS.get(name, (name,)) for name in names)
        return tuple(dict.fromkeys(key for keys in members for key in keys))


class Cost(Strict):
    """Which images time is taken on, and in what batches."""

    subset: Subset
    batch_size: Annotated[int, Field(ge=1)]


class PanelPick(Strict):
    """A picture of the board's side-by-side panel: a sample, or a part of one."""

    id: str
    crop: tuple[int, int, int, int] | None = None


MAX_CROP_SIDE = 4096
"""Pixels on a side: whatever is cut or enlarged stays below the pictures that are read."""


class PreprocessFile(Strict):
    """How an original becomes the picture that is measured: see `images.preprocess_rgb8`.

    orientation: "exif" turns a picture as its EXIF tag says; "stored" leaves it as its samples lie,
    as the loaders of the field do.
    """

    crop: str
    size: Annotated[int, Field(ge=1, le=MAX_CROP_SIDE)] | None = None
    orientation: Literal["exif", "stored"] = "exif"

    @model_validator(mode="after")
    def _is_a_crop(self) -> PreprocessFile:
        if self.crop not in CROPS:
            raise ValueError(f"no crop named {self.crop!r}: {', '.join(CROPS)}")
        if (self.size is None) != (self.crop == "none"):
            raise ValueError(f"crop {self.crop!r} {'takes no' if self.size else 'needs a'} size")
        return self

    def record(self) -> Preprocess:
        """Return it as the record that samples carry."""
        return Preprocess(self.crop, self.size, upright=self.orientation == "exif")


class SuiteFile(Strict):
    """The schema of a suite's YAML file.

    Attributes:
        source: The data set; null where the images lie beside the manifest.
        manifest: The file that lists the images; given together with manifest_sha256, or, for a
            data set that nobody has hashed yet, neither is.
        manifest_sha256: Of that file.
        seeds: Of stochastic decoders, which run once with each; the first is `seed`.
        posterior: What every run of vtbench does, written down: latents are the posterior's mode.
        tf32: Likewise: TF32 is off.
        reference: Likewise: of a set-level metric, the suite's own originals after the same crop.
        show_images: False where the licence of the images does not let pages show them.
    """

    title: str
    version: Annotated[int, Field(ge=1)]
    description: str
    source: Source | None = None
    preprocess: PreprocessFile | None = None
    manifest: Annotated[str, AfterValidator(check_below)] | None = None
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    dtype: Literal["fp32", "bf16", "fp16"]
    tf32: Literal[False] | None = None
    posterior: Literal["mode"] | None = None
    seed: int
    seeds: tuple[int, ...] | None = None
    ocr: Literal["rapidocr", "easyocr", "tesseract", "doctr-parseq", "vision-language"]
    reference: Literal["originals"] | None = None
    tasks: dict[str, TaskProtocol]
    cost: Cost | None = None
    panel: tuple[PanelPick, ...] = ()
    show_images: bool = True

    @model_validator(mode="after")
    def _is_whole(self) -> SuiteFile:
        if (self.manifest is None) != (self.manifest_sha256 is None):
            raise ValueError("manifest and manifest_sha256 belong together")
        if self.source is None and self.manifest is None:
            raise ValueError("needs a manifest or a source")
        if self.source is not None and self.source.task not in self.tasks:
            raise ValueError(f"source.task {self.source.task!r} is not one of the tasks")
        if self.seeds is not None and (
            self.seeds[:1] != (self.seed,) or len(set(self.seeds)) < len(self.seeds)
        ):
            raise ValueError("seeds must differ and begin with seed")
        return self


class ManifestRow(Strict):
    """The schema of one line of a manifest."""

    id: Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$", max_length=255)]
    task: str
    subset: Subset
    file: str
    crop: tuple[int, int, int, int] | None
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    meta: dict[str, Any]


def read_manifest_row(
    line: str | bytes, place: str, *, of_lines: Collection[str] = ()
) -> ManifestRow:
    """Return one line of a manifest, its ground truth checked.

    Args:
        line: the JSON object.
        place: what messages call the line, `file:number`.
        of_lines: tasks with a metric that compares what is read with known lines.

    Raises:
        SuiteError: the line is none, with the key and what is wrong of it.
    """
    try:
        row = ManifestRow.model_validate_json(line)
        check_ground_truth(row.task, row.meta, row.width, row.height, of_lines=row.task in of_lines)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise SuiteError(f"{place}: {key + ': ' if key else ''}{first['msg']}") from None
    except ValueError as error:
        raise SuiteError(f"{place}: {error}") from None
    return row


_LATER_KEYS = ("source", "preprocess", "tf32", "posterior", "seeds", "reference")
