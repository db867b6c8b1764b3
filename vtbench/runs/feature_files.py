"""Features on disk: of the originals, cached; of a run's images, spooled."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vtbench.base.errors import OutputError, VtbenchError
from vtbench.base.files import read_bounded, sha256_file, write_atomic
from vtbench.base.records import Sample
from vtbench.metrics import distribution
from vtbench.metrics.distribution import Features

Rows = Features

MAX_PIXELS_BYTES = 2**28
"""Of a cached reference's names and digests: two million images."""


class Reference:
    """The originals' features in the suite's order: an .npy file, and beside it the digest of that
    file, which image each row is of, and the digest of that image's pixels."""

    def __init__(self, features: Rows, pixels: Mapping[str, str]) -> None:
        self.features = features
        self.pixels = pixels
        self._row = {name: row for row, name in enumerate(pixels)}

    @classmethod
    def open(cls, path: Path, width: int | None = None) -> Reference | None:
        """Return a cached reference mapped from disk; None where it is absent, damaged, or has features
        of another width."""
        beside = path.with_suffix(".json")
        try:
            said = json.loads(read_bounded(beside, max_bytes=MAX_PIXELS_BYTES, links=True))
            if not path.is_file() or said["features_sha256"] != sha256_file(path):
                return None
            pixels = said["pixels"]
            features = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, VtbenchError, ValueError, LookupError, TypeError, RecursionError):
            return None
        if not isinstance(pixels, dict) or not isinstance(features, np.ndarray):
            return None
        if features.ndim != 2 or features.dtype.kind != "f" or len(features) != len(pixels):
            return None
        if width is not None and features.shape[1] != width:
            return None
        with contextlib.suppress(OSError):  # the time of writing says when it was last of use
            for file in (path, beside):
                os.utime(file)
        return cls(features, pixels)

    @classmethod
    def write(cls, path: Path, features: Rows, pixels: Mapping[str, str]) -> Reference:
        """Write a reference, the features first, and return it as it is read again."""
        write_array(path, features)
        said = {"features_sha256": sha256_file(path), "pixels": dict(pixels)}
        write_atomic(path.with_suffix(".json"), json.dumps(said).encode())
        written = cls.open(path)
        if written is None:
            raise OutputError(f"cannot read {path} again")
        return written

    def find(self, samples: Sequence[Sample]) -> Tensor | None:
        """Return the features of some images, None unless all are there."""
        if not all(sample.id in self._row for sample in samples):
            return None
        rows = [self._row[sample.id] for sample in samples]
        return torch.from_numpy(np.array(self.features[rows]))


class FeatureSpool:
    """Rows of one width and dtype, appended to a file as they come."""

    def __init__(self, path: Path, width: int, dtype: torch.dtype) -> None:
        self.path, self.width, self.dtype = path, width, dtype
        self._bytes = width * dtype.itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self._bytes if self.path.exists() else 0

    def keep(self, rows: int) -> None:
        """Drop what is behind the first `rows` rows, a torn row too."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(rows * self._bytes)

    def append(self, features: Tensor) -> None:
        """Add rows; they survive a kill from here on."""
        try:
            with self.path.open("ab") as file:
                file.write(features.to(self.dtype).contiguous().numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def read(self, order: Sequence[int]) -> Rows:
        """Return the rows in an order, mapped from disk where it is the order of the file."""
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        rows: Rows = np.memmap(self.path, kind, "r", shape=(len(self), self.width))
        if list(order) == list(range(len(self))):
            return rows
        return write_array(self.path.with_name(f"{self.path.name}.sorted.npy"), rows, order)


def write_array(path: Path, rows: Rows, order: Sequence[int] | None = None) -> Rows:
    """Write rows to an .npy file a part at a time, whole or not at all; return them mapped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    order = range(len(rows)) if order is None else order
    try:
        target = np.lib.format.open_memmap(
            part, mode="w+", dtype=rows.dtype, shape=(len(order), rows.shape[1])
        )
        for start in range(0, len(order), distribution.ROWS):
            some = order[start : start + distribution.ROWS]
            target[start : start + len(some)] = rows[np.asarray(some)]
        target.flush()
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    written: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    return written
