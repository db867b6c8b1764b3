"""Metrics of whole sets: features are spooled to disk as the pass goes, distances taken at its end.

    batch ─► FeatureSets.encode: each network once a side ─► SetRun.append ─► <run>.features/ on disk
    end of the run ─► SetRun.finish: originals and reconstructions in the suite's order ─► SetRecord

Memory does not grow with the number of images. The spool holds one row a row of the partial file
that has no error, in the same order, and is written first: a killed run goes on from both. Features
of the originals are computed once a suite and network and kept in the user's cache.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vtbench.base.errors import TooFewImages, WeightsError
from vtbench.base.files import sha256_bytes
from vtbench.base.locations import cache_dir
from vtbench.base.records import Sample
from vtbench.metrics import distribution
from vtbench.metrics.catalogue import (
    COSINE_METRICS,
    FEATURE_SOURCES,
    METRICS,
    SET_METRICS,
    SET_TASK,
)
from vtbench.metrics.encoders import open_encoder
from vtbench.metrics.features import Encoder, cosine_similarity
from vtbench.metrics.inception import Inception
from vtbench.results.rows import Row, is_unreadable
from vtbench.results.schema import MetricRecord, SetRecord
from vtbench.runs.code_digest import digest_code
from vtbench.runs.feature_files import FeatureSpool, Reference, Rows
from vtbench.runs.kept_originals import KeptFeatures
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import Suite

Pair = tuple[Tensor, Tensor]
"""Features of the originals and of the reconstructions of a batch."""


class FeatureSets:
    """The feature networks that a suite's metrics need, opened once, shared by all tokenizers.

    A metric whose weights are not here is `missing`, one of a set too small for it, or of a run with
    a limit, `not-applicable`, each with its reason in `states`. networks: sha256 of what was opened.
    """

    def __init__(
        self,
        suite: Suite,
        keys: Mapping[str, Sequence[str]],
        *,
        device: str,
        limit: int | None,
    ) -> None:
        self.suite = suite
        self.keys = keys
        self.states: dict[str, MetricRecord] = {}
        self.networks: dict[str, str] = {}
        self._device = device
        self._encoders: dict[str, Encoder] = {}
        self._of: dict[str, str] = {}
        self._inceptions: dict[str, Inception] = {}
        self._references: dict[str, Reference] = {}
        self._kept: dict[str, KeptFeatures] = {}
        counts = suite.images_per_task()
        wanted = {key for of_task in keys.values() for key in of_task}
        for key in (key for key in FEATURE_SOURCES if key in wanted):
            version = METRICS[key].version
            try:
                if key in SET_METRICS:
                    _require_set(key, counts.get(SET_TASK, 0), limit)
                self._of[key] = self._open(key, with_logits="inception_score" in wanted)
                record = MetricRecord(version=version, state="measured")
            except TooFewImages as error:
                record = MetricRecord(version=version, state="not-applicable", reason=str(error))
            except WeightsError as error:
                record = MetricRecord(version=version, state="missing", reason=str(error))
            self.states[key] = record

    def _open(self, key: str, *, with_logits: bool) -> str:
        source, score = FEATURE_SOURCES[key], FEATURE_SOURCES["inception_score"]
        if source.network in self._encoders:
            return source.network
        # Metrics of one Inception share its pass, so all of them have the logits that one needs.
        shared = replace(source, distance=score.distance) == score
        encoder = open_encoder(
            source,
            device=self._device,
            with_logits=with_logits and shared,
            inceptions=self._inceptions,
        )
        self._encoders.setdefault(encoder.name, encoder)
        self.networks |= encoder.identity
        return encoder.name

    def narrow(self, keys: Mapping[str, Sequence[str]]) -> FeatureSets:
        """Return the same networks for some metrics of each task."""
        part = copy.copy(self)
        part.keys = keys
        return part

    def identify(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the sha256 of the weights that stand behind these metrics, by file name."""
        names = {self._of[key] for key in keys if key in self._of}
        found: dict[str, str] = {}
        for name in sorted(names):
            found |= self._encoders[name].identity
        return found

    def measured(self, task: str, among: Iterable[str]) -> dict[str, str]:
        """Return the metrics of a task that can be measured, with their encoder."""
        wanted = self.keys.get(task, ())
        return {key: self._of[key] for key in among if key in wanted and key in self._of}

    def set_encoders(self) -> dict[str, Encoder]:
        """Return the encoders of the set metrics by name."""
        if SET_TASK not in self.suite.protocol.tasks:
            return {}
        names = dict.fromkeys(self.measured(SET_TASK, SET_METRICS).values())
        return {name: self._encoders[name] for name in names}

    def encode(
        self, task: str, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> dict[str, Pair]:
        """Return the features of a batch by encoder. Both sides are uint8 N×3×H×W. Originals whose
        features are in the cache do not go through the network again."""
        pairs = {}
        for name in dict.fromkeys(self.measured(task, FEATURE_SOURCES).values()):
            encoder = self._encoders[name]
            kept = self.reference(name) if task == SET_TASK else None
            known = kept.find(samples) if kept is not None else None
            if known is None:
                known = self._encode_originals(task, name, original)
            pairs[name] = (known, encoder(image))
        return pairs

    def _encode_originals(self, task: str, name: str, original: Tensor) -> Tensor:
        """Return the features of originals. Those of a whole set are spooled by the run, which writes
        the reference; others are kept by their pixels."""
        encoder = self._encoders[name]
        if task == SET_TASK and name in self.set_encoders():
            return encoder(original)[:, : encoder.dim]
        if name not in self._kept:
            self._kept[name] = KeptFeatures(encoder, device=self._device)
        return self._kept[name].encode(original)

    def put_cosines(self, task: str, pairs: Mapping[str, Pair], rows: Sequence[Row]) -> None:
        """Put the cosine similarities of a batch into its rows."""
        for key, name in self.measured(task, COSINE_METRICS).items():
            reference, image = pairs[name]
            values = cosine_similarity(reference, image[:, : self._encoders[name].dim])
            for row, value in zip(rows, values, strict=True):
                row[key] = float(value)

    def reference(self, name: str) -> Reference | None:
        """Return the cached features of the originals of SET_TASK, None where there are none."""
        if name not in self._references:
            if name not in self.set_encoders():
                return None
            found = Reference.open(self.reference_path(name), self._encoders[name].dim)
            if found is None:
                return None
            self._references[name] = found
        return self._references[name]

    def forget_reference(self, name: str) -> None:
        """Remove cached features that turned out to be of other pixels."""
        self._references.pop(name, None)
        self.reference_path(name).unlink(missing_ok=True)

    @functools.cached_property
    def _images_sha256(self) -> str:
        """Which images, of which copy of a data set, and what is cut of them. A suite that gains a
        metric has the same."""
        images = [
            (sample.id, sample.sha256, sample.crop, sample.preprocess)
            for sample in self.suite.samples
            if sample.task == SET_TASK
        ]
        return sha256_bytes(repr((self.suite.fingerprint, images)).encode())

    def reference_path(self, name: str) -> Path:
        """Return where the originals' features are cached: named by everything that they follow
        from: the images with their crops, the network's weights and code, the device."""
        encoder = self._encoders[name]
        follows = {
            "images": self._images_sha256,
            "encoder": name,
            "weights": dict(encoder.identity),
            "device": self._device.partition(":")[0],
            "torch": torch.__version__,
            "code": digest_code([type(encoder).__module__, load_pixels.__module__]),
        }
        digest = hashlib.sha256(json.dumps(follows, sort_keys=True).encode()).hexdigest()
        return cache_dir() / "references" / f"{self.suite.name}.{name}.{digest[:20]}.npy"


def _require_set(key: str, n: int, limit: int | None) -> None:
    if limit is not None:
        raise TooFewImages(f"{key} is of all images: not with --limit")
    if (least := METRICS[key].minimum_n) > 1:
        distribution.require_images(n, least - 1, METRICS[key].label)


class SetRun:
    """The features of one tokenizer's run, in a hidden folder until the run is complete."""

    def __init__(self, sets: FeatureSets, folder: Path) -> None:
        self.sets, self.folder = sets, folder
        self._encoders = sets.set_encoders()
        self._images = {
            name: FeatureSpool(folder / f"{name}.images", encoder.width, encoder.dtype)
            for name, encoder in self._encoders.items()
        }
        self._originals = {
            name: FeatureSpool(folder / f"{name}.originals", encoder.dim, encoder.dtype)
            for name, encoder in self._encoders.items()
            if sets.reference(name) is None
        }
        self._ids: list[str] = []

    def resume(self, rows: Sequence[Row]) -> bool:
        """Resume after the kept rows. Return False if their features are missing: the run then begins
        anew, and the caller discards the rows."""
        kept = [row["id"] for row in rows if row["task"] == SET_TASK]
        spools = [*self._images.values(), *self._originals.values()]
        whole = all(len(spool) >= len(kept) for spool in spools)
        self._ids = kept if whole else []
        for spool in spools:
            spool.keep(len(self._ids))
        return whole

    def append(
        self, task: str, samples: Sequence[Sample], pairs: Mapping[str, Pair], rows: Sequence[Row]
    ) -> None:
        """Spool the features of a batch's images, those without an error alone."""
        if task != SET_TASK or not self._encoders:
            return
        good = [index for index, row in enumerate(rows) if row["error"] is None]
        for name, spool in self._images.items():
            spool.append(pairs[name][1][good])
        for name, spool in self._originals.items():
            spool.append(pairs[name][0][good])
        self._ids += [samples[index].id for index in good]

    def finish(self, rows: Sequence[Row]) -> dict[str, SetRecord]:
        """Return the set metrics of a run by `<task>.<metric>`. rows: in the suite's order."""
        if SET_TASK not in self.sets.suite.protocol.tasks:
            return {}
        wanted = self.sets.keys.get(SET_TASK, ())
        keys = [key for key in SET_METRICS if key in wanted and key in self.sets.states]
        of_task = [row for row in rows if row["task"] == SET_TASK and not is_unreadable(row)]
        failed = sum(row["error"] is not None for row in of_task)
        sides = {} if failed else {name: self._sides(name, of_task) for name in self._encoders}
        records: dict[str, SetRecord] = {}
        for key in keys:
            state = self.sets.states[key]
            record = SetRecord(version=state.version, state=state.state, reason=state.reason)
            if state.state == "measured":
                if failed:
                    reason = f"{failed} of {len(of_task)} images failed"
                    record = record.model_copy(update={"state": "failed", "reason": reason})
                else:
                    name = self.sets.measured(SET_TASK, [key])[key]
                    record = _measure_record(key, self._encoders[name], sides[name], record)
            records[f"{SET_TASK}.{key}"] = record
        return records

    def _sides(self, name: str, rows: Sequence[Row]) -> tuple[Rows, Rows] | None:
        """Return the features of originals and reconstructions in the order of the rows, and cache
        the originals'. None where the cached ones are of other pixels: they are removed."""
        place = {image: index for index, image in enumerate(self._ids)}
        order = [place[row["id"]] for row in rows]
        pixels = {row["id"]: row["sha256"] for row in rows}
        if name in self._originals:
            path = self.sets.reference_path(name)
            kept = Reference.write(path, self._originals[name].read(order), pixels)
        else:
            found = self.sets.reference(name)
            if found is None or dict(found.pixels) != pixels:
                self.sets.forget_reference(name)
                return None
            kept = found
        return kept.features, self._images[name].read(order)

    def discard(self) -> None:
        """Remove the spools: the run is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _measure_record(
    key: str, encoder: Encoder, sides: tuple[Rows, Rows] | None, record: SetRecord
) -> SetRecord:
    if sides is None:
        reason = "cached features of the originals were of other pixels: removed, run again"
        return record.model_copy(update={"state": "failed", "reason": reason})
    reference, image = sides
    try:
        estimate = distribution.measure_set(
            FEATURE_SOURCES[key].distance, reference, image, encoder.dim, what=METRICS[key].label
        )
    except TooFewImages as error:
        return record.model_copy(update={"state": "not-applicable", "reason": str(error)})
    except (np.linalg.LinAlgError, ValueError) as error:
        return record.model_copy(update={"state": "failed", "reason": str(error)})
    return record.model_copy(
        update={
            "value": estimate.value,
            "standard_error": estimate.standard_error,
            "n": len(image),
            "warning": distribution.warn_few(len(image))
            if FEATURE_SOURCES[key].distance in ("frechet", "frechet-jackknife")
            else None,
            "weights": dict(encoder.identity),
        }
    )
