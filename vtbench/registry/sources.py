"""Where an entry's weights come from: the package, this machine, the hub, or a web page."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vtbench.base.schema import Sha256, Strict


class PackageWeights(Strict):
    """Parameters that travel with vtbench: a file below `data/`."""

    source: Literal["package"]
    file: str
    sha256: Sha256
    licence: str


class LocalWeights(Strict):
    """A file or folder on this machine; a relative path starts at the entry's own folder."""

    source: Literal["local"]
    path: str
    sha256: Sha256 | None = None
    licence: str | None = None


class HubWeights(Strict):
    """Files of a Hugging Face repository. revision and sha256 are null until someone has pinned
    them on a machine with a network; a null revision means the repository's main branch."""

    source: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    subfolder: str | None = None
    files: tuple[str, ...] = ("config.json", "diffusion_pytorch_model.safetensors")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: dict[str, Sha256] | None = None
    licence: str
    gated: bool = False

    @model_validator(mode="after")
    def _files_stay_below(self) -> HubWeights:
        for file in (self.subfolder or ".", *self.files):
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file} leaves the repository")
        return self


class PageWeights(Strict):
    """A file that its authors publish where no client can fetch it: inside an archive, behind a
    share link or a form. Somebody downloads it and gives it with `--weights NAME=FILE`. beside: the
    other files that must lie in its folder, each with its sha256, or null until someone has pinned it.
    """

    source: Literal["page"]
    url: Annotated[str, Field(pattern=r"^https://\S+$")]
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    beside: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Sha256 | None] = Field(
        default_factory=dict
    )
    licence: str
    gated: bool = False


Weights = Annotated[
    PackageWeights | LocalWeights | HubWeights | PageWeights, Field(discriminator="source")
]
