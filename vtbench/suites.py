"""Suites: a YAML file says which images, which tasks and metrics, which dtype and seed; its manifest
pins every image by the sha256 of its decoded pixels. Imports no torch.

The images travel with vtbench (embedded), or are a data set that the user has (`source:`); then
`attach_data` finds them. A suite whose manifest nobody has written yet is unpinned: it runs, and its
results are not published.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from vtbench.datasets import Source, locate_source, open_data_set, open_sample
from vtbench.errors import ImageError, SuiteError, UnknownName
from vtbench.files import sha256_bytes, sha256_file
from vtbench.images import (
    CROPS,
    RGB8,
    SUFFIXES,
    crop_rgb8,
    load_rgb8,
    pixel_sha256,
    preprocess_rgb8,
)
from vtbench.locations import data_dir
from vtbench.metrics.catalogue import METRICS, SET_METRICS, SET_TASK
from vtbench.records import Preprocess, Sample
from vtbench.registry import MAX_NAME, Strict, Subset, describe_invalid, load_yaml

TASKS: dict[str, str] = {
    "reconstruction": "how close is the picture",
    "detail": "which fine structure survives",
    "text": "can it still be read",
}
"""The tasks and the question that each asks."""

MAX_MANIFEST_BYTES = 64 * 2**20


class TaskProtocol(Strict):
    """Which metrics a task's images are measured with."""

    metrics: tuple[str, ...]


class Cost(Strict):
    """Which images time is taken on, and in what batches."""

    subset: Subset
    batch_size: Annotated[int, Field(ge=1)]


class PanelPick(Strict):
    """A picture of the board's side-by-side panel: a sample, or a part of one."""

    id: str
    crop: tuple[int, int, int, int] | None = None


class PreprocessFile(Strict):
    """How an original becomes the picture that is measured: see `images.preprocess_rgb8`.

    orientation: "exif" turns a picture as its EXIF tag says; "stored" leaves it as its samples lie,
    as the loaders of the field do.
    """

    crop: str
    size: Annotated[int, Field(ge=1, le=16384)] | None = None
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

    source: the data set, null where the images lie beside the manifest. manifest and
    manifest_sha256: both, or for a data set that nobody has hashed yet neither. seeds: of stochastic
    decoders, which run once with each; the first is `seed`. posterior, tf32, reference: what every
    run of vtbench does, written down: latents are the posterior's mode, TF32 is off, and the
    reference of a set-level metric is the suite's own originals after the same crop.
    """

    title: str
    version: Annotated[int, Field(ge=1)]
    description: str
    source: Source | None = None
    preprocess: PreprocessFile | None = None
    manifest: str | None = None
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    dtype: Literal["fp32", "bf16", "fp16"]
    tf32: Literal[False] | None = None
    posterior: Literal["mode"] | None = None
    seed: int
    seeds: tuple[int, ...] | None = None
    ocr: Literal["rapidocr", "easyocr"]
    reference: Literal["originals"] | None = None
    tasks: dict[str, TaskProtocol]
    cost: Cost | None = None
    panel: tuple[PanelPick, ...] = ()

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


_LATER_KEYS = ("source", "preprocess", "tf32", "posterior", "seeds", "reference")


@dataclass(frozen=True)
class Suite:
    """A protocol with its samples. published: whether its results may reach a published table.

    samples: of a suite with a `source`, what its manifest says of them, until `attach_data` has
    found them; then fingerprint identifies the copy (`datasets.DataSet`)."""

    name: str
    protocol: SuiteFile
    samples: tuple[Sample, ...]
    published: bool
    fingerprint: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether a manifest says which pixels every image must have."""
        return self.protocol.manifest_sha256 is not None

    @property
    def sha256(self) -> str:
        """The digest of everything that can change a number: not of title, description, panel, or
        of where a data set is to be had."""
        prose: dict[str, Any] = dict.fromkeys(("title", "description", "panel"), True)
        if self.protocol.source is not None:
            prose["source"] = {"title", "licence", "where", "hub", "column"}
        content = {"name": self.name, **self.protocol.model_dump(mode="json", exclude=prose)}
        for key in _LATER_KEYS:  # a suite that says nothing of them keeps the digest that it had
            if content[key] is None:
                del content[key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def images_per_task(self) -> dict[str, int]:
        """Return how many images each task has, or should have where the data is not attached."""
        source = self.protocol.source
        if source is not None and not self.samples:
            return {source.task: source.n}
        counts: dict[str, int] = {}
        for sample in self.samples:
            counts[sample.task] = counts.get(sample.task, 0) + 1
        return counts

    def shared_files(self) -> dict[str, str]:
        """Return the images that are parts of one picture file, by id, each with the id of the first
        of its file. Crops of one photograph are not independent of each other.

        Many pictures in one archive do not share a picture.
        """
        files: dict[Path, list[str]] = {}
        for sample in self.samples:
            if sample.path.suffix.lower() in SUFFIXES:
                files.setdefault(sample.path, []).append(sample.id)
        return {own: ids[0] for ids in files.values() if len(ids) > 1 for own in ids}


def suite_paths(folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the suite files by name: the shipped ones and those of the user's data folders."""
    paths: dict[str, Path] = {}
    for folder in (data_dir(), *folders):
        for path in sorted((folder / "suites").glob("*.yaml")):
            if path.stem in paths:
                raise SuiteError(
                    f"{path}: suite {path.stem!r} exists already in {paths[path.stem]}"
                )
            paths[path.stem] = path
    return paths


def load_suite(name: str, folders: Iterable[Path] = ()) -> Suite:
    """Return a suite by name. Raises UnknownName, or SuiteError naming the file and line.

    The manifest must be the one that the suite pins; images are checked when they are loaded. The
    images of a suite with a `source` are attached by `attach_data`.
    """
    paths = suite_paths(folders)
    if name not in paths:
        raise UnknownName("suite", name, sorted(paths))
    path = paths[name]
    data, lines = load_yaml(path, SuiteError)
    try:
        protocol = SuiteFile.model_validate(data)
    except ValidationError as error:
        raise SuiteError(describe_invalid(path, error, lines)) from None
    for task, choice in protocol.tasks.items():
        if task not in TASKS:
            raise SuiteError(f"{path}:{lines[('tasks', task)]}: no task named {task!r}")
        for metric in choice.metrics:
            if metric not in METRICS:
                line = lines[("tasks", task, "metrics")]
                raise SuiteError(f"{path}:{line}: no metric named {metric!r}")
            if metric in SET_METRICS and task != SET_TASK:
                line = lines[("tasks", task, "metrics")]
                raise SuiteError(
                    f"{path}:{line}: {metric} is of a whole set, and only {SET_TASK} has one"
                )
    root = path.parent.parent
    if protocol.manifest is None:
        return Suite(name, protocol, (), published=False)
    samples = _read_manifest(root, protocol.manifest, protocol, path)
    known = {sample.id for sample in samples}
    for pick in protocol.panel:
        if pick.id not in known:
            raise SuiteError(f"{path}: panel: no image {pick.id!r} in {protocol.manifest}")
    return Suite(name, protocol, samples, published=True)


def _read_manifest(
    root: Path, manifest: str, protocol: SuiteFile, suite: Path
) -> tuple[Sample, ...]:
    path = root / manifest
    digest = str(protocol.manifest_sha256)
    how = protocol.preprocess.record() if protocol.preprocess else Preprocess()
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SuiteError(f"{path}: larger than {MAX_MANIFEST_BYTES // 2**20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror})") from None
    if (sha256 := sha256_bytes(content)) != digest:
        raise SuiteError(
            f"{path}: sha256 is {sha256[:12]}…, {suite.name} pins {digest[:12]}…: these are not this "
            f"version's images"
        )
    samples: dict[str, Sample] = {}
    for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
        try:
            row = ManifestRow.model_validate_json(line)
        except ValidationError as error:
            raise SuiteError(f"{path}:{number}: {error.errors()[0]['msg']}") from None
        if row.id in samples:
            raise SuiteError(f"{path}:{number}: image {row.id!r} appears twice")
        if row.task not in protocol.tasks:
            raise SuiteError(f"{path}:{number}: task {row.task!r} is not one of {suite.name}'s")
        relative = PurePosixPath(row.file)
        if relative.is_absolute() or ".." in relative.parts:
            raise SuiteError(f"{path}:{number}: {row.file} leaves the data folder")
        samples[row.id] = Sample(
            id=row.id,
            task=row.task,
            subset=row.subset,
            path=root / relative,
            width=row.width,
            height=row.height,
            crop=row.crop,
            sha256=row.sha256,
            meta=row.meta,
            preprocess=how,
        )
    return tuple(samples.values())


def attach_data(suite: Suite, given: Mapping[str, Path] | None = None) -> Suite:
    """Return the suite with the images of its data set on this machine; others as they are.

    given: paths by data set name, from `--source`. Raises DataMissing where the data set is not
    here, and SuiteError where it is not the one: another number of pictures, or other names than
    those that the manifest pins. Pixels are compared when they are loaded.
    """
    source = suite.protocol.source
    unused = sorted(set(given or {}) - ({source.name} if source else set()))
    if unused:
        raise SuiteError(f"--source {unused[0]}=…: suite {suite.name} has no data set of that name")
    if source is None:
        return suite
    how = suite.protocol.preprocess.record() if suite.protocol.preprocess else Preprocess()
    found = open_data_set(source, locate_source(source, given), how)
    samples = found.samples
    if suite.pinned:
        pins = {sample.id: sample for sample in suite.samples}
        names = {sample.id for sample in samples}
        if names != set(pins):
            raise SuiteError(
                f"data set {source.name} is not the one that {suite.name} pins: missing "
                f"{_name_some(set(pins) - names)}; not of it {_name_some(names - set(pins))}"
            )
        samples = tuple(
            replace(sample, **{key: getattr(pins[sample.id], key) for key in _PINNED})
            for sample in samples
        )
    protocol = suite.protocol
    known = {sample.id for sample in samples}
    for pick in protocol.panel:
        if pick.id not in known:
            raise SuiteError(f"suite {suite.name}: panel: no image {pick.id!r} in {source.name}")
    if not protocol.panel:
        picks = tuple(PanelPick(id=sample.id) for sample in samples[:PANEL_PICTURES])
        protocol = protocol.model_copy(update={"panel": picks})
    fingerprint = None if suite.pinned else found.fingerprint
    return replace(suite, protocol=protocol, samples=samples, fingerprint=fingerprint)


def _name_some(names: set[str], most: int = 3) -> str:
    told = ", ".join(sorted(names)[:most])
    return f"{told} and {len(names) - most} more" if len(names) > most else told or "none"


_PINNED = ("task", "subset", "width", "height", "sha256", "meta")

PANEL_PICTURES = 6
"""Pictures on the board of a suite that names none: the first ones."""


def parse_crop(text: str) -> PreprocessFile:
    """Return what `--crop NAME-SIZE` asks for ("adm-256", "none"). Raises SuiteError."""
    match = re.fullmatch(rf"({'|'.join(CROPS)})(?:-([1-9][0-9]{{0,4}}))?", text)
    size = int(match[2]) if match and match[2] else None
    if match is None or (size is None) != (match[1] == "none"):
        known = ", ".join(name if name == "none" else f"{name}-SIZE" for name in CROPS)
        raise SuiteError(f"--crop {text}: expected one of {known}")
    return PreprocessFile(crop=match[1], size=size)


def change_crop(suite: Suite, crop: PreprocessFile) -> Suite:
    """Return the suite with another crop, its images unpinned: a deviation, which `Request` puts
    into the run's name. The orientation stays the suite's. Raises SuiteError for a suite whose
    manifest has boxes or ground truth at places in the picture, which another crop would lose."""
    own = suite.protocol.preprocess
    if own is not None:
        crop = crop.model_copy(update={"orientation": own.orientation})
        if crop.record() == own.record():
            return suite
    if any(sample.crop is not None or sample.meta for sample in suite.samples):
        raise SuiteError(
            f"--crop: the manifest of {suite.name} fixes what is cut from each picture"
        )
    how = crop.record()
    samples = (
        replace(sample, preprocess=how, sha256=None, width=0, height=0) for sample in suite.samples
    )
    panel = tuple(PanelPick(id=pick.id) for pick in suite.protocol.panel)
    protocol = suite.protocol.model_copy(update={"panel": panel})
    return replace(suite, protocol=protocol, samples=tuple(samples))


def folder_suite(folder: Path) -> Suite:
    """Return an ad-hoc suite of a folder's pictures: reconstruction and rate, never published.

    Pictures are the files with an image ending, at any depth, sorted by path. The manifest's digest
    is that of the files' names and bytes, the name "images-" and the folder's, so that two folders
    do not share results. Raises SuiteError for a folder without pictures.
    """
    if not folder.is_dir():
        raise SuiteError(f"--images {folder}: not a folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SuiteError(f"--images {folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    digest = hashlib.sha256()
    samples = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{sha256_file(path)}\n".encode())
        # The size is known only after decoding, which may fail: that is the image's own failure.
        samples.append(Sample(name, "reconstruction", "images", path, width=0, height=0))
    protocol = SuiteFile(
        title=f"{len(files)} images of {folder.name}",
        version=1,
        description="An ad-hoc suite of one's own pictures; its numbers are not comparable.",
        manifest="",
        manifest_sha256=digest.hexdigest(),
        dtype="fp32",
        seed=0,
        ocr="rapidocr",
        tasks={
            "reconstruction": TaskProtocol(
                metrics=(
                    *("psnr_db", "mae", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg"),
                    *("haarpsi", "dists"),
                )
            )
        },
        cost=Cost(subset="images", batch_size=8),
        panel=tuple(PanelPick(id=sample.id) for sample in samples[:PANEL_PICTURES]),
    )
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    name = f"images-{slug}" if slug else "images"
    return Suite(name[:MAX_NAME], protocol, tuple(samples), published=False)


def load_pixels(sample: Sample) -> RGB8:
    """Return a sample's pixels, uint8 H×W×3, cropped as its manifest and its suite say.

    Raises ImageError where the file cannot be decoded, and SuiteError where its pixels are not the
    pinned ones: another image under the same name must not score under the suite's name.
    """
    pixels = load_rgb8(open_sample(sample), upright=sample.preprocess.upright)
    if sample.crop is not None:
        try:
            pixels = crop_rgb8(pixels, sample.crop)
        except ImageError as error:
            raise SuiteError(f"image {sample.id}: {error}") from None
    pixels = preprocess_rgb8(pixels, sample.preprocess)
    if sample.sha256 is not None and pixel_sha256(pixels) != sample.sha256:
        raise SuiteError(
            f"image {sample.id}: the pixels of {sample.path} are not the ones that the manifest pins"
        )
    return pixels
