"""A user's copy of a data set: its place, its form, and its images.

A suite names its data set (`source:`); the copy on this machine is a folder of pictures, a tar or a
folder of tar shards, or Parquet files as the Hugging Face hub keeps them. The same pictures have the
same ids and the same order in each form. Nothing is unpacked: the names and places are listed once,
a few hundred bytes an image, and each picture is read where it lies when its turn comes. Imports no
torch.
"""

from __future__ import annotations

import functools
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, Field, field_validator, model_validator

from vtbench.base.errors import DataMissing, ImageError, SuiteError
from vtbench.base.expressions import NameSearch, check_expression
from vtbench.base.names import check_below, check_repository, printable
from vtbench.base.records import ParquetPlace, Preprocess, Sample, TarPlace
from vtbench.base.schema import Strict
from vtbench.base.text import Line, check_line
from vtbench.images import SUFFIXES
from vtbench.suites.annotations import AnnotationFiles, annotate_samples
from vtbench.suites.contents import fingerprint, take_stamp
from vtbench.suites.found_files import Found, describe_left_out, find_files
from vtbench.suites.parquet_files import ROW_GROUP, list_parquet
from vtbench.suites.tar_files import MAX_ENCODED_BYTES, list_tar, read_tar, require_content

DATA_VARIABLE = "VTBENCH_DATA"
"""The environment variable that names a folder of data sets, each under its own name."""

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")


MAX_PICTURES = 10**9
"""Of a data set."""


def _check_pattern(pattern: str) -> str:
    """Return a pattern of files below a folder. Raises ValueError for one that leaves it, that no folder
    can be searched for, or that searches folders below each folder twice."""
    parts = check_below(pattern).split("/")
    if not all(parts) or any("**" in part and part != "**" for part in parts):
        raise ValueError(f"{pattern} is no pattern of files")
    if parts.count("**") > 1:
        raise ValueError("has more than one **")
    return pattern


class HubFiles(Strict):
    """Parquet files of a data set repository of the Hugging Face hub.

    revision: null takes whatever snapshot is in the cache.
    """

    repository: Annotated[str, AfterValidator(check_repository)]
    files: Annotated[str, Field(max_length=300), AfterValidator(_check_pattern)] = "**/*.parquet"
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None


class Source(Strict):
    """Which data set a suite is about, and what of it.

    Attributes:
        name: What `--source NAME=PATH` and $VTBENCH_DATA/NAME refer to.
        n: Images that it must have; null, with annotations, where nobody has stated it.
        names: A regular expression. Its match in an image's file name is the image's id, and what
            does not match is not of this data set. Without it every image is taken, and the id is
            the file name without its ending.
        subsets: A regular expression whose match in the image's path is its subset; without it the
            subset is the data set's name.
        column: Of the images in Parquet files.
        annotations: What is known of the images. Those without any are not of the data set.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Line
    licence: Line
    where: Annotated[str, Field(max_length=1000), AfterValidator(check_line)]
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)] | None
    task: str
    names: str | None = None
    subsets: str | None = None
    column: str = "image"
    hub: HubFiles | None = None
    annotations: AnnotationFiles | None = None

    @model_validator(mode="after")
    def _is_counted(self) -> Source:
        if self.n is None and self.annotations is None:
            raise ValueError("n may be null only where annotations say which pictures there are")
        return self

    @field_validator("names", "subsets")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        check_expression(value or "")
        return value


@dataclass(frozen=True)
class DataSet:
    """The pictures of a data set on this machine, sorted by subset and id.

    fingerprint: the digest of the files' names and contents. It is the identity of pictures that no
    manifest pins: a changed copy is another one.
    """

    samples: tuple[Sample, ...]
    fingerprint: str


def parse_sources(pairs: Sequence[str]) -> dict[str, Path]:
    """Return `NAME=PATH` options as a mapping. Raises SuiteError for one of another form."""
    parsed = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not name or not path:
            raise SuiteError(f"--source {pair}: expected NAME=PATH")
        parsed[name] = Path(path)
    return parsed


def locate_source(source: Source, given: Mapping[str, Path] | None = None) -> Found:
    """Return the files of the data set's copy, sorted by path, and what of it is left out.

    It is looked for where `given` says, in VTBENCH_DATA/NAME, and among the snapshots of the Hugging
    Face cache; nothing is downloaded. Raises DataMissing, which says where to get it, and
    SuiteError for a path that was given and is wrong.
    """
    if given and source.name in given:
        root = given[source.name]
        if not root.exists():
            raise SuiteError(f"--source {source.name}={root}: no such file or folder")
        return find_files(root)
    looked = []
    if folder := os.environ.get(DATA_VARIABLE):
        root = Path(folder) / source.name
        if root.exists():
            return find_files(root)
        looked.append(str(root))
    if source.hub is not None:
        if (found := _find_snapshot(source.hub)) is not None:
            return found
        looked.append(f"the Hugging Face cache ({source.hub.repository})")
    where = source.where
    if source.hub is not None:
        where += (
            f" (`hf download {source.hub.repository} --repo-type dataset --include "
            f"'{source.hub.files}'`)"
        )
    elsewhere = f" (not in {' nor in '.join(looked)})" if looked else ""
    raise DataMissing(
        f"data set {source.name} is not on this machine{elsewhere}: {source.title}, from "
        f"{where}; licence: {source.licence}; point at it with --source {source.name}=PATH "
        f"or {DATA_VARIABLE}"
    )


def _find_snapshot(hub: HubFiles) -> Found | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        root = Path(
            snapshot_download(
                hub.repository,
                repo_type="dataset",
                revision=hub.revision,
                allow_patterns=hub.files,
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, OSError):
        return None
    files = tuple(sorted(root.glob(hub.files)))
    return Found(root, files) if files else None


def open_data_set(source: Source, found: Found, preprocess: Preprocess) -> DataSet:
    """Return the pictures in the files, which are of one form: pictures, tars, or Parquet.

    Raises SuiteError for another number of pictures than the data set has, for two of one id, for
    files of several forms and for an archive that cannot be read. A picture that cannot be decoded,
    or whose name or size in the archive is absurd, fails when it is read, alone.
    """
    root, files = found.root, found.files
    samples: dict[tuple[str, str], Sample] = {}
    counts: dict[str, int] = {}
    stamps = functools.lru_cache(1)(take_stamp)  # an archive's pictures follow each other
    find_subset, find_name = _Search(source.subsets), _Search(source.names)
    for path, name, place in _list_pictures(source, found):
        inner = PurePosixPath(unicodedata.normalize("NFC", name))
        subset = source.name
        if source.subsets is not None:
            found_subset = find_subset(f"{path.relative_to(root).as_posix()}/{name}", path)
            if found_subset is None:
                continue
            subset = printable(found_subset)
        number = counts[subset] = counts.get(subset, -1) + 1
        if source.names is None:  # Parquet rows need not have names
            label = inner.stem if name else f"{number:05d}"
        elif (found_name := find_name(inner.name, path)) is not None:
            label = found_name
        else:
            continue
        identifier = printable(label if source.subsets is None else f"{subset}-{label}")
        if (other := samples.get((subset, identifier))) is not None:
            raise SuiteError(
                f"{source.name}: two pictures are called {identifier}: {_locate(other)} and "
                f"{path}{f': {name}' if place else ''}"
            )
        samples[subset, identifier] = Sample(
            identifier,
            source.task,
            subset,
            path,
            0,
            0,
            place=place,
            preprocess=preprocess,
            stamp=stamps(path),
        )
    if source.annotations is not None:
        samples = annotate_samples(source.annotations, samples, files)
    if source.n is not None and len(samples) != source.n:
        which = f" whose names match {source.names}" if source.names else ""
        raise SuiteError(
            f"data set {source.name} has {source.n:,} pictures; {len(samples):,}{which} are in "
            f"{root}{_tell_left_out(found)}"
        )
    return DataSet(tuple(samples[key] for key in sorted(samples)), fingerprint(files, root))


def _tell_left_out(found: Found) -> str:
    told = describe_left_out(found.left_out)
    return f" ({told})" if told else ""


class _Search:
    """A suite's expression, or none, tried on names in a file."""

    def __init__(self, expression: str | None) -> None:
        self._search = None if expression is None else NameSearch(expression)

    def __call__(self, name: str, path: Path) -> str | None:
        """Return the match. Raises SuiteError for a name that the expression is not tried on."""
        try:
            return None if self._search is None else self._search.find(name)
        except ValueError as error:
            raise SuiteError(f"{path}: {error}") from None


_Found = tuple[Path, str, TarPlace | ParquetPlace | None]


def _list_pictures(source: Source, found: Found) -> Iterator[_Found]:
    """Yield (file, name of the picture, place in the file), sorted by file and as they lie there."""
    root, files = found.root, found.files
    forms = {
        "Parquet files": [path for path in files if path.suffix == ".parquet"],
        "tars": [path for path in files if path.suffix == ".tar"],
        "pictures": [path for path in files if path.suffix.lower() in SUFFIXES],
    }
    present = [form for form, paths in forms.items() if paths]
    if len(present) > 1:
        raise SuiteError(f"{root}: holds {' and '.join(present)}; point at one of them")
    if not present:
        packed = next((path for path in files if path.name.endswith(COMPRESSED)), None)
        if packed is not None:
            raise SuiteError(f"{packed}: compressed archives cannot be read in place; unpack it")
        raise SuiteError(
            f"{root}: no pictures, tars or Parquet files of {source.name} in it"
            f"{_tell_left_out(found)}"
        )
    for path in forms["pictures"]:
        yield path, path.name, None
    for path in (*forms["tars"], *forms["Parquet files"]):
        require_content(path)
    for path in forms["tars"]:
        yield from list_tar(path)
    for path in forms["Parquet files"]:
        yield from list_parquet(path, source.column)


def _locate(sample: Sample) -> str:
    inner = "" if sample.place is None else f": {sample.place.name or sample.id}"
    return printable(f"{sample.path}{inner}")


def sort_for_reading(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples in their order, except that those of a Parquet row group are together.

    A row group is decompressed whole and one is kept; in files that are stored in order of name, as
    most are, nothing moves.
    """

    def place_of(sample: Sample) -> tuple[str, int]:
        if isinstance(sample.place, ParquetPlace):
            return str(sample.path), sample.place.row_group
        return "", 0

    return sorted(samples, key=place_of)


def open_sample(sample: Sample) -> Path | BinaryIO:
    """Return the picture's path, or its bytes in the archive as an open file with a name.

    Raises ImageError for bytes that cannot be had.
    """
    place = sample.place
    if place is None:
        return sample.path
    label = _locate(sample)
    if isinstance(place, TarPlace):
        content: bytes | None = read_tar(sample.path, place, label)
    else:
        content = ROW_GROUP.read(sample)
    if content is None:
        raise ImageError(f"{label}: the row has no bytes")
    if len(content) > MAX_ENCODED_BYTES:
        raise ImageError(f"{label}: more than {MAX_ENCODED_BYTES >> 30} GiB")
    return _NamedBytes(content, label)


class _NamedBytes(io.BytesIO):
    """Bytes with the name that messages call them by."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name
