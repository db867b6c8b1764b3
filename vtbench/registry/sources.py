"""Where an entry's weights come from: the package, this machine, the hub, or a web page."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vtbench.base.names import check_repository
from vtbench.base.schema import Sha256, Strict
from vtbench.base.text import Line, Link, check_line


def check_relative(path: str) -> str:
    """Return a path that stays below where it starts. Raises ValueError for any other."""
    check_line(path)
    parts = PurePosixPath(path).parts
    if PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path or ":" in path:
        raise ValueError(f"{path} leaves its folder")
    if not parts:
        raise ValueError("names no file")
    if str(PurePosixPath(path)) != path:
        raise ValueError(f"{path} is written otherwise than {PurePosixPath(path)}")
    return path


def check_local(path: str) -> str:
    """Return a path that is absolute, or stays below where it starts. Raises ValueError."""
    check_line(path)
    if ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path} leaves its folder")
    return path


RelativePath = Annotated[str, Field(max_length=255), AfterValidator(check_relative)]

LocalPath = Annotated[str, Field(max_length=1024), AfterValidator(check_local)]

FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=120)]


class PackageWeights(Strict):
    """Parameters that travel with vtbench: a file below `data/`."""

    source: Literal["package"]
    file: RelativePath
    sha256: Sha256
    licence: Line


class LocalWeights(Strict):
    """A file or folder on this machine; a relative path starts at the entry's own folder."""

    source: Literal["local"]
    path: LocalPath
    sha256: Sha256 | None = None
    licence: Line | None = None


class OfficialFiles(Strict):
    """The authors' own files, where those of the hub are another form of the same weights. They are
    taken from a folder that somebody gives. files: each with its sha256, or null until pinned."""

    url: Link
    files: Annotated[dict[FileName, Sha256 | None], Field(min_length=1)]


class HubWeights(Strict):
    """Files of a Hugging Face repository. revision and sha256 are null until someone has pinned
    them on a machine with a network; a null revision means the repository's main branch. Only where
    all files have a digest they are pinned. official: what `--weights` takes instead."""

    source: Literal["hub"]
    repo: Annotated[str, AfterValidator(check_repository)]
    subfolder: RelativePath | None = None
    files: Annotated[tuple[RelativePath, ...], Field(min_length=1)] = (
        "config.json",
        "diffusion_pytorch_model.safetensors",
    )
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: dict[str, Sha256] | None = None
    official: OfficialFiles | None = None
    licence: Line
    gated: bool = False

    @model_validator(mode="after")
    def _names_each_once(self) -> HubWeights:
        # Also where capitals make no difference: there one would take the other's place.
        if len({name.casefold() for name in self.files}) < len(self.files):
            raise ValueError("files: one is named twice")
        return self

    def find_pin_fault(self) -> str | None:
        """Return how the names in `sha256` and `files` differ, by the first; None if they agree."""
        if self.sha256 is None or not (odd := set(self.sha256) ^ set(self.files)):
            return None
        first = min(odd)
        what = "is no digest of" if first in self.files else "has one of"
        return f"sha256 must pin the files and nothing else; it {what} {first}"


class PageWeights(Strict):
    """A file that its authors publish where no client can fetch it: inside an archive, behind a
    share link or a form. Somebody downloads it and gives it with `--weights NAME=FILE`. beside: the
    other files that must lie in its folder, each with its sha256, or null until someone has pinned it.
    """

    source: Literal["page"]
    url: Link
    file: FileName
    sha256: Sha256 | None = None
    beside: dict[FileName, Sha256 | None] = Field(default_factory=dict)
    licence: Line
    gated: bool = False


Weights = Annotated[
    PackageWeights | LocalWeights | HubWeights | PageWeights, Field(discriminator="source")
]
