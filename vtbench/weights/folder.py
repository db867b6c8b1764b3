"""A folder of weights that can be carried to a machine without a network: `vtbench fetch --to DIR`
writes it, `VTBENCH_WEIGHTS=DIR` finds everything in it, `vtbench validate DIR` reads it through.

    DIR/weights.json                    what is in it: sha256, bytes, origin and licence of each file
       /sd-vae-ft-mse/config.json       NAME/FILE, for tokenizers and for the metrics' KEYs alike
       /lpips-alex/alexnet-owt-7be5be79.pth
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vtbench.base.errors import OutputError, WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file, write_atomic
from vtbench.base.schema import Sha256, Strict

MANIFEST = "weights.json"


class PackedFile(Strict):
    """One file. origin: the address, or repository@commit, that it came from."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    origin: str
    licence: str


class WeightsManifest(Strict):
    """The schema of weights.json; files by their path below the folder."""

    schema_version: Literal[1]
    files: dict[str, PackedFile]


def pack_weights(
    folder: Path, name: str, files: Mapping[str, Path], *, hashes: Mapping[str, str],
    origin: str, licence: str,
) -> Path:  # fmt: skip
    """Put files into `folder/name/` and into the folder's manifest; return `folder/name`.

    files: where they are, by their name below it. hashes: the sha256 that each was found to have; a
    file that is there with that digest stays. On one file system nothing is copied (hard links).
    Raises OutputError.
    """
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    packed = dict(manifest.files) if manifest else {}
    for file, path in files.items():
        target = folder / name / file
        try:
            if not (target.is_file() and sha256_file(target) == hashes[file]):
                _place(path, target)
            size = target.stat().st_size
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from None
        packed[f"{name}/{file}"] = PackedFile(
            sha256=hashes[file], bytes=size, origin=origin, licence=licence
        )
    content = WeightsManifest(schema_version=1, files=dict(sorted(packed.items())))
    text = json.dumps(content.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / MANIFEST, (text + "\n").encode())
    return folder / name


def _place(source: Path, target: Path) -> None:
    """Link or copy a file to its place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".packing-") as scratch:
        new = Path(scratch) / target.name
        try:
            os.link(source.resolve(), new)  # the hub's cache is made of symbolic links
        except OSError:
            shutil.copyfile(source, new)
        new.replace(target)


def read_manifest(folder: Path) -> WeightsManifest:
    """Return a folder's weights.json. Raises WeightsMismatch for one that is malformed."""
    path = folder / MANIFEST
    try:
        manifest = WeightsManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WeightsMissing(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise WeightsMismatch(f"{path}: {error.errors()[0]['msg']}") from None
    for file in manifest.files:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise WeightsMismatch(f"{path}: {file} leaves the folder")
    return manifest


def check_folder(folder: Path) -> int:
    """Return how many files a folder's manifest lists; every one is there and unchanged.

    Raises WeightsMissing or WeightsMismatch for the first that is not.
    """
    manifest = read_manifest(folder)
    for file, facts in manifest.files.items():
        path = folder / file
        if not path.is_file():
            raise WeightsMissing(f"{path} is in {MANIFEST} and not here: copy the folder again")
        if path.stat().st_size != facts.bytes or sha256_file(path) != facts.sha256:
            raise WeightsMismatch(f"{path} is not the file of {MANIFEST}: copy the folder again")
    return len(manifest.files)
