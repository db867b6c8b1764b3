"""Suites: a YAML file says which images, which tasks and metrics, which dtype and seed; its manifest
pins every image by the sha256 of its decoded pixels. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from vtbench.errors import ImageError, SuiteError, UnknownName
from vtbench.files import sha256_bytes, sha256_file
from vtbench.images import RGB8, SUFFIXES, crop_rgb8, load_rgb8, pixel_sha256
from vtbench.locations import data_dir
from vtbench.metrics.catalogue import METRICS, SET_METRICS, SET_TASK
from vtbench.records import Sample
from vtbench.registry import Strict, describe_invalid, load_yaml

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

    subset: str
    batch_size: Annotated[int, Field(ge=1)]


class PanelPick(Strict):
    """A picture of the board's side-by-side panel: a sample, or a part of one."""

    id: str
    crop: tuple[int, int, int, int] | None = None


class SuiteFile(Strict):
    """The schema of a suite's YAML file."""

    title: str
    version: Annotated[int, Field(ge=1)]
    description: str
    manifest: str
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    dtype: Literal["fp32", "bf16", "fp16"]
    seed: int
    ocr: Literal["rapidocr", "easyocr"]
    tasks: dict[str, TaskProtocol]
    cost: Cost | None = None
    panel: tuple[PanelPick, ...] = ()


class ManifestRow(Strict):
    """The schema of one line of a manifest."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    task: str
    subset: str
    file: str
    crop: tuple[int, int, int, int] | None
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """A protocol with its samples. published: whether its results may reach a published table."""

    name: str
    protocol: SuiteFile
    samples: tuple[Sample, ...]
    published: bool

    @property
    def sha256(self) -> str:
        """The digest of everything that can change a number: not of title, description, panel."""
        prose = {"title", "description", "panel"}
        content = {"name": self.name, **self.protocol.model_dump(mode="json", exclude=prose)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def images_per_task(self) -> dict[str, int]:
        """Return how many images each task has."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            counts[sample.task] = counts.get(sample.task, 0) + 1
        return counts


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

    The manifest must be the one that the suite pins; images are checked when they are loaded.
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
    samples = _read_manifest(root, protocol, path)
    known = {sample.id for sample in samples}
    for pick in protocol.panel:
        if pick.id not in known:
            raise SuiteError(f"{path}: panel: no image {pick.id!r} in {protocol.manifest}")
    return Suite(name, protocol, samples, published=True)


def _read_manifest(root: Path, protocol: SuiteFile, suite: Path) -> tuple[Sample, ...]:
    path = root / protocol.manifest
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SuiteError(f"{path}: larger than {MAX_MANIFEST_BYTES // 2**20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror})") from None
    if (sha256 := sha256_bytes(content)) != protocol.manifest_sha256:
        raise SuiteError(
            f"{path}: sha256 is {sha256[:12]}…, {suite.name} pins "
            f"{protocol.manifest_sha256[:12]}…: these are not this version's images"
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
        )
    return tuple(samples.values())


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
                metrics=("psnr_db", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg")
            )
        },
        cost=Cost(subset="images", batch_size=8),
        panel=tuple(PanelPick(id=sample.id) for sample in samples[:6]),
    )
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    name = f"images-{slug}" if slug else "images"
    return Suite(name, protocol, tuple(samples), published=False)


def load_pixels(sample: Sample) -> RGB8:
    """Return a sample's pixels, uint8 H×W×3, cropped as its manifest says.

    Raises ImageError where the file cannot be decoded, and SuiteError where its pixels are not the
    pinned ones: another image under the same name must not score under the suite's name.
    """
    pixels = load_rgb8(sample.path)
    if sample.crop is not None:
        try:
            pixels = crop_rgb8(pixels, sample.crop)
        except ImageError as error:
            raise SuiteError(f"image {sample.id}: {error}") from None
    if sample.sha256 is not None and pixel_sha256(pixels) != sample.sha256:
        raise SuiteError(
            f"image {sample.id}: the pixels of {sample.path} are not the ones that the manifest pins"
        )
    return pixels
