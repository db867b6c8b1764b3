"""Suites: a YAML file says which images, which tasks and metrics, which dtype and seed; its manifest
pins every image by the sha256 of its decoded pixels. Imports no torch.

The images travel with vtbench (embedded), or are a data set that the user has (`source:`); then
`attach_data` finds them. A suite whose manifest nobody has written yet is unpinned: it runs, and its
results are not published.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from vtbench.base import plugins
from vtbench.base.errors import SuiteError, UnknownName
from vtbench.base.files import read_bounded, sha256_bytes
from vtbench.base.locations import data_dir
from vtbench.base.records import Preprocess, Sample
from vtbench.base.schema import describe_invalid, load_yaml, validate_plain
from vtbench.images import SUFFIXES
from vtbench.metrics.catalogue import METRICS, SET_METRICS, SET_TASK
from vtbench.suites.copies import locate_source, open_data_set
from vtbench.suites.suite_file import (
    _LATER_KEYS,
    TASKS,
    PanelPick,
    SuiteFile,
    read_manifest_row,
)

LINES = METRICS["cer"].function
"""What reads the known lines of a page, for several metrics."""

MAX_MANIFEST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Suite:
    """A protocol with its samples.

    Attributes:
        samples: Of a suite with a `source`, what its manifest says of them, until `attach_data` has
            found them.
        published: Whether its results may reach a published table.
        fingerprint: Identifies the user's copy of the data set (`copies.DataSet`).
        left_out: What of a folder is no image of the suite, in words.
        beside: Whether its file is of a version that stands beside the current one
            (`embedded@3.yaml` beside `embedded.yaml`).
    """

    name: str
    protocol: SuiteFile
    samples: tuple[Sample, ...]
    published: bool
    fingerprint: str | None = None
    left_out: str | None = None
    beside: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder of results: NAME, or NAME@VERSION of a version beside the current
        one, so that results of two versions never meet."""
        return f"{self.name}@{self.protocol.version}" if self.beside else self.name

    @property
    def pinned(self) -> bool:
        """Whether a manifest says which pixels every image must have."""
        return self.protocol.manifest_sha256 is not None

    @property
    def sha256(self) -> str:
        """The digest of everything that can change a number: not of title, description, panel, of
        whether its images may be shown, or of where a data set is to be had."""
        prose: dict[str, Any] = dict.fromkeys(
            ("title", "description", "panel", "show_images"), True
        )
        if self.protocol.source is not None:
            prose["source"] = {"title", "licence", "where", "hub", "column"}
        content = {"name": self.name, **self.protocol.model_dump(mode="json", exclude=prose)}
        if content["source"] and content["source"].get("annotations") is None:
            del content["source"]["annotations"]  # likewise
        for key in _LATER_KEYS:  # a suite that says nothing of them keeps the digest that it had
            if content[key] is None:
                del content[key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def scripts(self) -> frozenset[str]:
        """Return the scripts of its pages of known text."""
        return frozenset(
            str(sample.meta["script"]) for sample in self.samples if "script" in sample.meta
        )

    def images_per_task(self) -> dict[str, int]:
        """Return how many images each task has, or should have where the data is not attached."""
        source = self.protocol.source
        if source is not None and not self.samples:
            return {source.task: source.n} if source.n is not None else {}
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
    """Return the suite files by name: the shipped ones, those of plug-ins, and those of the user's
    data folders."""
    paths: dict[str, Path] = {}
    for folder in (data_dir(), *plugins.list_data_folders(), *folders):
        for path in sorted((folder / "suites").glob("*.yaml")):
            if path.name.startswith("."):  # of a file system or an editor
                continue
            if path.stem in paths:
                raise SuiteError(
                    f"{path}: suite {path.stem!r} exists already in {paths[path.stem]}"
                )
            paths[path.stem] = path
    return paths


def load_suite(name: str, folders: Iterable[Path] = ()) -> Suite:
    """Return a suite by name, or by name@version. Raises UnknownName, or SuiteError naming the file
    and line; for another version than the file's, with the file's.

    The current version is in NAME.yaml; another one may be in NAME@VERSION.yaml beside it.

    The manifest must be the one that the suite pins; images are checked when they are loaded. The
    images of a suite with a `source` are attached by `attach_data`.
    """
    paths = suite_paths(folders)
    path = paths.get(name)  # the file of one version, beside that of the current one
    name, _, version = name.partition("@")
    path = path or paths.get(name)
    if path is None:
        raise UnknownName("suite", name, sorted(paths))
    beside = "@" in path.stem
    data, lines = load_yaml(path, SuiteError)
    try:
        protocol = validate_plain(SuiteFile, data)
    except ValidationError as error:
        raise SuiteError(*describe_invalid(path, error, lines)) from None
    if version and version != str(protocol.version):
        raise SuiteError(f"{path}: {name} is of version {protocol.version}, not {version}")
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
        return Suite(name, protocol, (), published=False, beside=beside)
    samples = _read_manifest(root, protocol.manifest, protocol, path)
    known = {sample.id: sample for sample in samples}
    for pick in protocol.panel:
        if pick.id not in known:
            raise SuiteError(f"{path}: panel: no image {pick.id!r} in {protocol.manifest}")
        _check_panel_crop(path, pick, known[pick.id])
    return Suite(name, protocol, samples, published=True, beside=beside)


def _check_panel_crop(path: Path, pick: PanelPick, sample: Sample) -> None:
    """Raise SuiteError for a part of an image that leaves it: a run would find out at its end."""
    if pick.crop is None:
        return
    left, top, width, height = pick.crop
    if min(left, top) < 0 or left + width > sample.width or top + height > sample.height:
        raise SuiteError(
            f"{path}: panel: {pick.id}: crop {list(pick.crop)} leaves the "
            f"{sample.width}×{sample.height} image"
        )


def _read_manifest(
    root: Path, manifest: str, protocol: SuiteFile, suite: Path
) -> tuple[Sample, ...]:
    path = root / manifest
    digest = str(protocol.manifest_sha256)
    preprocess = protocol.preprocess.record() if protocol.preprocess else Preprocess()
    try:
        content = read_bounded(path, max_bytes=MAX_MANIFEST_BYTES, raise_as=SuiteError, links=True)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror})") from None
    if (sha256 := sha256_bytes(content)) != digest:
        raise SuiteError(
            f"{path}: sha256 is {sha256[:12]}…, {suite.name} pins {digest[:12]}…: these are not this "
            f"version's images"
        )
    samples: dict[str, Sample] = {}
    of_lines = {
        task
        for task, choice in protocol.tasks.items()
        if any(METRICS[key].function == LINES for key in choice.metrics)
    }
    # Of JSON Lines a line ends at a newline alone; str.splitlines() knows eight more ends.
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        row = read_manifest_row(line, f"{path}:{number}", of_lines=of_lines)
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
            preprocess=preprocess,
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
    preprocess = suite.protocol.preprocess.record() if suite.protocol.preprocess else Preprocess()
    found = open_data_set(source, locate_source(source, given), preprocess)
    samples = found.samples
    if suite.pinned:
        # One name may be written in two ways: "é", or "e" and an accent, as a Mac packs it.
        pins = {unicodedata.normalize("NFC", sample.id): sample for sample in suite.samples}
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


_PINNED = ("id", "task", "subset", "width", "height", "sha256", "meta")


PANEL_PICTURES = 6
"""Pictures on the board of a suite that names none: the first ones."""
