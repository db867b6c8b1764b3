"""Where weight files come from: the package, a local path, or the hub's cache; and their hashes.

A tokenizer's files; those of metrics are in `metrics`, and `downloads` brings both. Finding
files imports neither torch nor a network client. HF_HOME and HF_HUB_CACHE are respected.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.base.locations import data_dir
from vtbench.registry.entries import Entry
from vtbench.registry.sources import HubWeights, LocalWeights, PackageWeights, PageWeights, Weights
from vtbench.weights.containers import MAX_HEADER_BYTES, check_container, check_holes

CONVERTED = "vtbench.converted"
"""The metadata key of a safetensors file that `vtbench convert` wrote: what it was made of, as JSON.
Its keys are those of the checkpoint with the wrapper before them, so it is read like the checkpoint."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightFiles:
    """An entry's weights as found on this machine: a file, or a folder that holds `files`.

    searched: whether they were found where vtbench looks; otherwise the user gave them.
    """

    path: Path
    files: tuple[Path, ...]
    searched: bool = False

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Each file's name (below `path`) and sha256; reads them all, once."""
        folder = self.path.parent if self.path in self.files else self.path
        return {file.relative_to(folder).as_posix(): _hash_once(file) for file in self.files}


_SETTLED_NS = 2_000_000_000
"""Age from which a file's times tell a change: file systems count in steps of up to two seconds."""


def _hash_once(file: Path) -> str:
    """Return a file's sha256. A process reads a file again only where it has changed: a checkpoint is
    many gigabytes, and planning, provenance and every seed ask for it. A file that was written just now
    is read each time: its next change may carry the same time."""
    facts = file.stat()
    check_holes(file, facts)
    if time.time_ns() - facts.st_ctime_ns < _SETTLED_NS:
        return sha256_file(file)
    return _hash_state(file, facts.st_dev, facts.st_ino, facts.st_size, facts.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _hash_state(file: Path, *_state: int) -> str:
    return sha256_file(file)


def find_weights(entry: Entry, override: Path | None = None) -> WeightFiles | None:
    """Return where the entry's weights are, or None for an entry that needs none.

    Looked for, in this order: `override` (`--weights NAME=PATH`), `$VTBENCH_WEIGHTS/NAME` (a folder,
    or NAME.safetensors), the entry's own source. Raises WeightsMissing with the places and with the
    command that brings them; also where a file is one that stands for the weights (`_name_stand_in`).
    Hashes are not read here; see `check_hashes`. A package that the entry needs and that is not
    installed is missing in the same way.
    """
    if entry.needs is not None and find_spec(entry.needs) is None:
        raise WeightsMissing(
            f"{entry.name} needs the package {entry.needs}: `pip install {entry.needs}`"
        )
    try:
        found = _find(entry, override)
    except OSError as error:  # a folder that cannot be listed, a name that is none
        place = override or error.filename or "its place"
        raise WeightsMissing(
            f"weights of {entry.name}: {str(place)[:300]} cannot be read ({error.strerror})"
        ) from None
    for file in found.files if found is not None else ():
        if what := _name_stand_in(file):
            raise WeightsMissing(f"{entry.name}: {file} is {what}")
    return found


def _name_stand_in(path: Path) -> str | None:
    """Return what a download left in place of the weights (a web page, an LFS pointer), or None."""
    try:
        # Some files of /proc say that they are empty, and wait for what is to come.
        if path.suffix == ".json" or not path.is_file() or not path.stat().st_size:
            return None
        with path.open("rb") as file:
            start = file.read(512).lstrip()
    except OSError:
        return None
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file that it names: `git lfs pull` brings it"
    if re.match(rb"<(!doctype\s+html|html|head|\?xml)\b", start, re.IGNORECASE):
        return "a web page, not a file of weights: download the file itself"
    return None


def _find(entry: Entry, override: Path | None) -> WeightFiles | None:
    weights = entry.weights
    if weights is None:
        if override is not None:
            raise WeightsMismatch(f"{entry.name} takes no weights, but was given {override}")
        return None
    if override is not None:
        if not override.exists():
            raise WeightsMissing(f"weights of {entry.name}: {override} does not exist")
        return _files_at(entry.name, override, weights)
    if root := os.environ.get("VTBENCH_WEIGHTS"):
        for candidate in (Path(root) / entry.name, Path(root) / f"{entry.name}.safetensors"):
            if candidate.exists():
                return replace(_files_at(entry.name, candidate, weights), searched=True)
    if isinstance(weights, PackageWeights):
        path = data_dir() / weights.file
        if not path.is_file():
            raise WeightsMissing(f"weights of {entry.name}: {path} should have come with vtbench")
        return WeightFiles(path, (path,), searched=True)
    if isinstance(weights, LocalWeights):
        path = entry.path.parent / weights.path
        if not path.exists():
            raise WeightsMissing(f"weights of {entry.name}: {path} does not exist")
        return replace(_files_at(entry.name, path, weights), searched=True)
    if isinstance(weights, PageWeights):
        raise WeightsMissing(
            f"weights of {entry.name}: {weights.file} is published at {weights.url}, which vtbench "
            f"cannot fetch; download it and give `--weights {entry.name}=FILE`"
        )
    return find_in_hub_cache(entry.name, weights)


def _files_at(name: str, path: Path, weights: Weights) -> WeightFiles:
    if isinstance(weights, PageWeights) and weights.beside:
        folder = path if path.is_dir() else path.parent
        needed = tuple(folder / file for file in (weights.file, *weights.beside))
        if missing := [file for file in needed if not file.is_file()]:
            pickled = missing[0].with_suffix(".pkl")
            made = f": `vtbench convert {name} {pickled}` makes it" if pickled.is_file() else ""
            raise WeightsMissing(
                f"{folder} has no {missing[0].name}{made}; it needs {len(needed)} files"
            )
        return WeightFiles(folder, needed)
    if isinstance(weights, HubWeights):
        # A whole pipeline, as the hub has it, holds the tokenizer in a folder of its own.
        for folder in (path, path / (weights.subfolder or "vae")):
            declared = tuple(folder / file for file in weights.files)
            if all(file.is_file() for file in declared):
                return WeightFiles(folder, declared)
        if weights.official is not None:
            folder = path if path.is_dir() else path.parent
            declared = tuple(folder / file for file in weights.official.files)
            if all(file.is_file() for file in declared) and path in (folder, *declared):
                return WeightFiles(folder if len(declared) > 1 else declared[0], declared)
    if path.is_file():
        return WeightFiles(path, (path,))
    own = (file for file in path.iterdir() if not file.name.startswith("."))  # not a file system's
    files = tuple(sorted(file for file in own if file.is_file()))
    if not files:
        raise WeightsMissing(f"{path} is an empty folder")
    return WeightFiles(path, files)


_REVISION = re.compile(r"[0-9a-f]{7,64}")


def find_in_hub_cache(name: str, weights: HubWeights) -> WeightFiles:
    """Return the files of a hub repository that are in the hub's cache. Raises WeightsMissing."""
    # The cache's layout is documented; asking huggingface_hub itself would cost `list` its import
    # of an HTTP client.
    from huggingface_hub.constants import HF_HUB_CACHE

    repo = Path(HF_HUB_CACHE) / f"models--{weights.repo.replace('/', '--')}"
    revision = weights.revision
    if revision is None and (reference := repo / "refs" / "main").is_file():
        revision = reference.read_bytes()[:100].decode("ascii", "replace").strip()
        if not _REVISION.fullmatch(revision):
            raise WeightsMissing(f"weights of {name}: {reference} names no commit")
    folder = repo / "snapshots" / (revision or "main") / (weights.subfolder or "")
    files = tuple(folder / file for file in weights.files)
    if not all(file.is_file() for file in files):
        gate = " (gated: accept its licence on the hub and log in first)" if weights.gated else ""
        raise WeightsMissing(
            f"weights of {name} are not in {Path(HF_HUB_CACHE)}: "
            f"run `vtbench fetch {name}`{gate}, or give `--weights {name}=FOLDER`"
        )
    return WeightFiles(folder, files, searched=True)


def find_official(entry: Entry, found: WeightFiles) -> dict[str, str | None] | None:
    """Return the entry's sha256 of the authors' own files, if it is these that were found."""
    weights = entry.weights
    if not isinstance(weights, HubWeights) or weights.official is None:
        return None
    names = {file.name for file in found.files}
    return dict(weights.official.files) if names == set(weights.official.files) else None


def is_pinned(entry: Entry, found: WeightFiles | None = None) -> bool:
    """Return whether revision and hashes of the entry's weights are fixed; of the files that were
    found, where they are given."""
    weights = entry.weights
    if found is not None and (official := find_official(entry, found)) is not None:
        return None not in official.values()
    if isinstance(weights, HubWeights):
        all_files = set(weights.sha256 or ()) == set(weights.files)
        return weights.revision is not None and all_files
    if isinstance(weights, PageWeights) and None in weights.beside.values():
        return False
    return weights is None or weights.sha256 is not None


def find_origin(found: WeightFiles) -> str | None:
    """Return the source checkpoint's sha256 as recorded in a converted file, or None.

    The claim cannot be verified without the checkpoint.
    """
    single = found.path if found.path in found.files else found.files[0]
    if (len(found.files) != 1 and single != found.path) or single.suffix != ".safetensors":
        return None
    try:
        with single.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
        return str(json.loads(header["__metadata__"][CONVERTED])["sha256"])
    except (OSError, ValueError, LookupError, TypeError, struct.error, RecursionError):
        return None  # not converted, or damaged, which its reader says


def check_containers(entry: Entry, found: WeightFiles) -> None:
    """Raise WeightsMismatch, with the entry's name, for a file that cannot be whole weights by what
    stands in its header or directory; nothing more of it is read (`containers`)."""
    if damage := _name_damage(found):
        raise WeightsMismatch(f"weights of {entry.name}: {damage}")


def check_hashes(entry: Entry, found: WeightFiles) -> dict[str, str]:
    """Return the sha256 of each weights file. Raises WeightsMismatch where the entry pins another.

    A file that `vtbench convert` wrote has other bytes than the checkpoint that is pinned. What it says
    of its origin counts only where the user gave it, and for a pickle; that is said on the terminal,
    since nobody can check it.
    """
    measured = found.digests
    weights = entry.weights
    pinned: dict[str, str] = {}
    if (official := find_official(entry, found)) is not None:
        pinned = {name: sha256 for name, sha256 in official.items() if sha256 is not None}
    elif isinstance(weights, HubWeights):
        pinned = weights.sha256 or {}
    elif isinstance(weights, PageWeights) and weights.beside:
        stated = {weights.file: weights.sha256, **weights.beside}
        pinned = {name: sha256 for name, sha256 in stated.items() if sha256 is not None}
    elif (
        isinstance(weights, PackageWeights | LocalWeights | PageWeights)
        and weights.sha256 is not None
    ):
        if found.path in found.files:
            pinned = {found.path.name: weights.sha256}
        elif len(measured) != 1:
            raise WeightsMismatch(
                f"weights of {entry.name}: the entry pins the sha256 of one file, but {found.path} "
                f"is a folder of {len(measured)}; give the file, or a folder that holds it alone"
            )
        else:
            pinned = dict.fromkeys(measured, weights.sha256)
    claims = bool(pinned) and not found.searched and _is_pickled(weights)
    if claims and (origin := find_origin(found)) is not None:
        if origin not in pinned.values():
            raise WeightsMismatch(
                f"weights of {entry.name}: {found.path} was converted from a file of sha256 "
                f"{origin[:12]}…, which is none that the entry pins"
            )
        _tell_claim(entry.name, found.path, origin)
        return measured
    for name, sha256 in pinned.items():
        if name not in measured:
            raise WeightsMismatch(f"weights of {entry.name}: {name} is pinned but not there")
        if measured[name] != sha256:
            raise WeightsMismatch(
                f"weights of {entry.name}: {name} has sha256 {measured[name][:12]}…, the entry pins "
                f"{sha256[:12]}…; {_name_damage(found) or 'fetch it again or correct the entry'}"
            )
    return measured


def _name_damage(found: WeightFiles) -> str:
    """Return what a file that is not whole says of itself; "" for whole ones."""
    for file in found.files:
        try:
            check_container(file)
        except WeightsMismatch as error:
            return str(error)
    return ""


def hash_beside(found: WeightFiles | None, names: Collection[str]) -> dict[str, str]:
    """Return the sha256 of those of the names that lie beside a single file, by name."""
    if found is None or found.path.is_dir():
        return {}
    files = (found.path.with_name(name) for name in names)
    return {f.name: _hash_once(f) for f in files if f != found.path and f.is_file()}


def _is_pickled(weights: Weights | None) -> bool:
    """Return whether the files that an entry names are not safetensors, which need no conversion."""
    names: tuple[str, ...] = ()
    if isinstance(weights, HubWeights):
        names = weights.files
    elif isinstance(weights, LocalWeights):
        names = (weights.path,)
    elif isinstance(weights, PackageWeights | PageWeights):
        names = (weights.file,)
    return any(not name.endswith((".safetensors", ".sft", ".json")) for name in names)


@functools.cache
def _tell_claim(name: str, path: Path, origin: str) -> None:
    _LOG.warning(
        "vtbench: weights of %s: %s says that it was converted from the pinned file (sha256 %s…), "
        "which cannot be checked; its results are not pinned",
        name,
        path,
        origin[:12],
    )
