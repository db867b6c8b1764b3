"""Cache of what is computed from originals (OCR readings, features, crops), shared by processes.

The name of a store has the digest of everything that its content depends on, beside the pixels."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vtbench.base.files import sha256_bytes
from vtbench.base.locations import cache_dir
from vtbench.base.record_store import RecordStore
from vtbench.base.records import Sample
from vtbench.images import pixel_sha256, to_rgb8
from vtbench.metrics.features import Encoder
from vtbench.metrics.ocr import kept_readings
from vtbench.metrics.ocr.kept_readings import KeptReadings
from vtbench.runs import environment
from vtbench.runs.code_digest import digest_code
from vtbench.suites import kept_crops
from vtbench.suites.batches import load_pixels
from vtbench.suites.kept_crops import KeptCrops

READINGS, FEATURES = "readings", "features"
"""Folders of the cache."""


def keep_readings(readings: KeptReadings, *, scripts: Collection[str], device: str) -> None:
    """Give an engine's readings of originals their place on the disk, unless it does not say which
    models it has.

    Args:
        readings: of one engine.
        scripts: those that it was opened for.
        device: where it runs.
    """
    if not readings.identified:
        return
    reader = readings.reader
    follows = {
        "identity": dict(reader.identity),
        "scripts": sorted(scripts),
        **_describe_machine(device),
        # Their imports too; libraries by their versions.
        "code": digest_code([type(reader).__module__, kept_readings.__name__]),
    }
    readings.store = _open_store(READINGS, reader.identity.get("engine", "ocr"), follows)


class KeptFeatures:
    """The features of originals under one network, by the originals' pixels.

    Args:
        encoder: the network, which must say which weights it has.
        device: where it runs.
    """

    def __init__(self, encoder: Encoder, *, device: str) -> None:
        self.encoder = encoder
        follows = {
            "encoder": encoder.name,
            "dim": encoder.dim,
            "weights": dict(encoder.identity),
            **_describe_machine(device),
            "torch": torch.__version__,
            "code": digest_code([type(encoder).__module__]),
        }
        self._store = _open_store(FEATURES, encoder.name, follows)

    def encode(self, original: Tensor) -> Tensor:
        """Return N×dim features of uint8 N×3×H×W; those that are kept do not go through the network,
        which sees images in parts of one size, so that no feature depends on its neighbours."""
        keys = [pixel_sha256(picture) for picture in to_rgb8(original)]
        rows = [self._find(key) for key in keys]
        new = [place for place, row in enumerate(rows) if row is None]
        if new:
            features = self.encoder(original[new])[:, : self.encoder.dim].to(self.encoder.dtype)
            for place, row in zip(new, features, strict=True):
                rows[place] = row
                self._store.put(keys[place], row.contiguous().numpy().tobytes())
        return torch.stack([row for row in rows if row is not None])

    def _find(self, key: str) -> Tensor | None:
        content = self._store.get(key)
        if content is None or len(content) != self.encoder.dim * self.encoder.dtype.itemsize:
            return None
        kind = np.float64 if self.encoder.dtype == torch.float64 else np.float32
        row = torch.from_numpy(np.frombuffer(content, kind).copy())
        return row if bool(torch.isfinite(row).all()) else None


def open_crops(samples: Sequence[Sample]) -> KeptCrops | None:
    """Return the kept pictures of a data set; None where no sample is cut to a square."""
    if all(sample.preprocess.size is None for sample in samples):
        return None
    code = digest_code([kept_crops.__name__, load_pixels.__module__])
    return KeptCrops({"code": code, "processor": environment.processor()})


def _describe_machine(device: str) -> Mapping[str, object]:
    return {"device": environment.device_name(device), "processor": environment.processor()}


def _open_store(kind: str, name: str, follows: Mapping[str, object]) -> RecordStore:
    digest = sha256_bytes(json.dumps(follows, sort_keys=True).encode())
    return RecordStore(cache_dir() / kind / f"{name}.{digest[:20]}")
