"""The weight files that metrics need: one catalogue, where each file is looked for, and whether it is
the published one. Imports no torch and no network client; `downloads` brings what is missing.

The catalogue is `data/metric_weights.yaml`. A key (`lpips-alex`) is a name that `vtbench fetch` takes,
as a tokenizer's is. Files are where the package that publishes them keeps them itself, so that nothing
is downloaded twice: torch.hub's checkpoints (TORCH_HOME), the hub's cache (HF_HOME), EasyOCR's folder
(EASYOCR_MODULE_PATH), insightface's, or the installed wheel. `$VTBENCH_WEIGHTS/KEY/` comes before
all of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from vtbench.base.errors import RegistryError, UnknownName, WeightsMismatch, WeightsMissing
from vtbench.base.locations import cache_dir, data_dir, home_dir
from vtbench.base.names import NAME
from vtbench.base.schema import Sha256, Strict, describe_invalid, load_yaml
from vtbench.registry.sources import HubWeights
from vtbench.weights.entries import WeightFiles, find_in_hub_cache

TESSDATA = "TESSDATA_PREFIX"
"""Tesseract's own variable: the folder of its trained data."""

FileName = Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]


class PublishedFile(Strict):
    """A file at an address of its own. also: other names under which the same bytes are published and
    may lie here. member: the address is a zip, and this is the file in it; the digests are of the
    unpacked file. md5: where its publisher states that alone."""

    name: FileName
    also: tuple[FileName, ...] = ()
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    member: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")] | None = None
    sha256: Sha256 | None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class UrlWeights(Strict):
    """Files that are kept where torch.hub, EasyOCR, insightface or docTR keeps its own."""

    source: Literal["url"]
    place: Literal["torch", "easyocr", "insightface", "doctr"]
    files: Annotated[tuple[PublishedFile, ...], Field(min_length=1)]
    licence: str


class WheelWeights(Strict):
    """Files that come inside an installed package, below `folder`."""

    source: Literal["wheel"]
    package: str
    folder: str
    install: str
    sha256: dict[FileName, Sha256]
    licence: str


class SystemWeights(Strict):
    """Files that the system's package manager brings, all in the first of `folders` that has them."""

    source: Literal["system"]
    folders: Annotated[tuple[str, ...], Field(min_length=1)]
    install: str
    sha256: dict[FileName, Sha256]
    licence: str


class MetricWeights(Strict):
    """One entry of the catalogue. metrics: the keys that need it, alone or together with others.
    ocr: it is needed only where this engine reads. bytes: of the download; None for a wheel's."""

    title: str
    metrics: tuple[str, ...]
    ocr: str | None = None
    bytes: Annotated[int, Field(ge=1)] | None = None
    weights: Annotated[
        UrlWeights | HubWeights | WheelWeights | SystemWeights, Field(discriminator="source")
    ]

    # Set by the loader, not by the file.
    key: str = ""

    @property
    def command(self) -> str:
        """The command that brings the files."""
        if isinstance(self.weights, WheelWeights | SystemWeights):
            return self.weights.install
        return f"vtbench fetch {self.key}"

    @property
    def fetched(self) -> bool:
        """Whether `vtbench fetch` brings the files; a wheel's and the system's it does not."""
        return not isinstance(self.weights, WheelWeights | SystemWeights)


def catalogue_path() -> Path:
    """Return the catalogue's file."""
    return data_dir() / "metric_weights.yaml"


@functools.cache
def metric_weights() -> Mapping[str, MetricWeights]:
    """Return the catalogue by key. Raises RegistryError naming file and line."""
    path = catalogue_path()
    data, lines = load_yaml(path, RegistryError)
    for key, content in data.items():
        if not NAME.fullmatch(key) or not isinstance(content, dict) or "key" in content:
            raise RegistryError(
                f"{path}:{lines[(key,)]}: {key}: not a key with a mapping of its own"
            )
        content["key"] = key
    try:
        catalogue = TypeAdapter(dict[str, MetricWeights]).validate_python(data)
    except ValidationError as error:
        raise RegistryError(*describe_invalid(path, error, lines)) from None
    return MappingProxyType(catalogue)


def get_metric_weights(key: str) -> MetricWeights:
    """Return an entry of the catalogue. Raises UnknownName."""
    if key not in metric_weights():
        raise UnknownName("metric", key, list(metric_weights()))
    return metric_weights()[key]


def needed_weights(metrics: Iterable[str], ocr: str) -> list[MetricWeights]:
    """Return what these metric keys need where `ocr` reads, in the catalogue's order.

    A named convention of a metric (`rfid@clean-fid`) needs what the metric does.
    """
    wanted = {key.partition("@")[0] for key in metrics}
    return [
        entry
        for entry in metric_weights().values()
        if wanted & set(entry.metrics) and entry.ocr in (None, ocr)
    ]


def find_metric_weights(key: str) -> WeightFiles:
    """Return where the files of an entry of the catalogue are on this machine, unread.

    Raises WeightsMissing with the place and the command that brings them, UnknownName.
    """
    entry = get_metric_weights(key)
    weights = entry.weights
    if root := os.environ.get("VTBENCH_WEIGHTS"):
        folder = Path(root) / key
        if (found := _all_in(folder, entry)) is not None:
            return found
    found = None
    if isinstance(weights, HubWeights):
        with contextlib.suppress(WeightsMissing):
            found = find_in_hub_cache(key, weights)
    else:
        found = _all_in(default_folder(entry), entry)
    if found is None:
        names = ", ".join(file_names(entry))
        raise WeightsMissing(
            f"{key} needs {names} in {default_folder(entry)}: run `{entry.command}`"
        )
    return found


def file_names(entry: MetricWeights) -> tuple[str, ...]:
    """Return the names of an entry's files, below its folder."""
    if isinstance(entry.weights, HubWeights):
        return entry.weights.files
    if isinstance(entry.weights, WheelWeights | SystemWeights):
        return tuple(entry.weights.sha256)
    return tuple(file.name for file in entry.weights.files)


def default_folder(entry: MetricWeights) -> Path:
    """Return where the files belong when VTBENCH_WEIGHTS says nothing."""
    weights = entry.weights
    if isinstance(weights, WheelWeights):
        # Finding a package does not import it.
        spec = find_spec(weights.package)
        root = Path(spec.origin).parent if spec and spec.origin else Path(weights.package)
        return root / weights.folder
    if isinstance(weights, HubWeights):
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE)
    if isinstance(weights, SystemWeights):
        folders = [Path(os.environ[TESSDATA])] if TESSDATA in os.environ else []
        folders += [Path(folder) for folder in weights.folders]
        return next((f for f in folders if _all_in(f, entry)), folders[0])
    if weights.place == "easyocr":
        home = os.environ.get("EASYOCR_MODULE_PATH") or os.environ.get("MODULE_PATH")
        return Path(home or _home() / ".EasyOCR") / "model"
    if weights.place == "doctr":
        home = os.environ.get("DOCTR_CACHE_DIR")
        return Path(home or _home() / ".cache" / "doctr") / "models"
    if weights.place == "insightface":
        # insightface keeps an archive's members in a folder of the archive's name.
        return _home() / ".insightface" / "models" / _archive(weights)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"


def _archive(weights: UrlWeights) -> str:
    return weights.files[0].url.rpartition("/")[2].partition(".")[0]


def _home() -> Path:
    return home_dir() or cache_dir()  # without a home nothing is there, and nothing stays


def _all_in(folder: Path, entry: MetricWeights) -> WeightFiles | None:
    """Return the entry's files if every one is in the folder, under any of its names."""
    files = []
    for name in file_names(entry):
        path = next(
            (folder / n for n in (name, *_also(entry, name)) if (folder / n).is_file()), None
        )
        if path is None:
            return None
        files.append(path)
    return WeightFiles(files[0] if len(files) == 1 else folder, tuple(files))


def _also(entry: MetricWeights, name: str) -> tuple[str, ...]:
    if isinstance(entry.weights, UrlWeights):
        return next(file.also for file in entry.weights.files if file.name == name)
    return ()


def check_metric_weights(key: str, found: WeightFiles | None = None) -> dict[str, str]:
    """Return the sha256 of each file, by its published name; reads them all.

    Raises WeightsMissing, and WeightsMismatch for a file that is not the published one. A file whose
    digest nobody has stated passes unproven; it is in the returned mapping all the same.
    """
    entry = get_metric_weights(key)
    found = found or find_metric_weights(key)
    measured = dict(zip(file_names(entry), found.digests.values(), strict=True))
    for (name, sha256), path in zip(measured.items(), found.files, strict=True):
        stated, md5 = stated_digests(entry, name)
        wrong = (
            f"sha256 {sha256[:12]}…, not {stated[:12]}…" if stated not in (None, sha256) else None
        )
        if md5 is not None and (other := md5_file(path)) != md5:
            wrong = f"MD5 {other[:12]}…, not {md5[:12]}…"
        if wrong is not None:
            raise WeightsMismatch(
                f"{key}: {path} has {wrong}: another file or a damaged one; remove it and run "
                f"`{entry.command}`"
            )
    return measured


def stated_digests(entry: MetricWeights, name: str) -> tuple[str | None, str | None]:
    """Return the sha256 and the MD5 that are stated for one of the entry's files."""
    if isinstance(entry.weights, UrlWeights):
        file = next(file for file in entry.weights.files if file.name == name)
        return file.sha256, file.md5
    return (entry.weights.sha256 or {}).get(name), None


def md5_file(path: Path) -> str:
    """Return the hex MD5 of a file, for what is published with no better digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
