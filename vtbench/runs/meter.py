"""Measures a batch: originals and reconstructions in, columns of the rows out.

The catalogue says which function stands behind which key; nothing here knows a metric by name.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsError
from vtbench.base.records import Metric, Sample
from vtbench.images import Fit
from vtbench.metrics import pixel
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.ocr.kept_readings import KeptReadings
from vtbench.results.rows import Row
from vtbench.results.schema import MetricRecord
from vtbench.runs.kept_originals import keep_readings
from vtbench.runs.set_features import FeatureSets, Pair
from vtbench.suites.suites import Suite
from vtbench.weights.metrics import find_metric_weights

Measure = Callable[..., Any]


class Meter:
    """Measures batches of one suite; what it needs (OCR engine, networks) is opened once.

    A metric whose weights are not on this machine is `missing` with its reason in `states`, never
    computed with others.

    Args:
        suite: whose metrics are measured.
        tasks: those of the suite that are run.
        device: where networks and tensors are.
        ocr: the engine that reads text.
        limit: The most images of each task; metrics of whole sets do not apply then.
        extra: keys measured beside the suite's own (`--metrics`), of every task that they apply to.
    """

    def __init__(
        self,
        suite: Suite,
        tasks: Sequence[str],
        *,
        device: str,
        ocr: str,
        limit: int | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.keys = {
            task: tuple(dict.fromkeys((*suite.protocol.tasks[task].metrics, *extra)))
            for task in tasks
        }
        """The metrics of each task."""
        self.states: dict[str, MetricRecord] = {}
        self.ocr: dict[str, str] = {}
        self._ocr, self._device, self._scripts = ocr, device, suite.scripts()
        self._opened: dict[str, Measure] = {}
        self.sets = FeatureSets(suite, self.keys, device=device, limit=limit)
        self.states |= self.sets.states
        wanted = {key for keys in self.keys.values() for key in keys}
        for key in sorted(wanted - self.states.keys()):
            reason = None
            try:
                self._open(METRICS[key])
            except WeightsError as error:
                reason = str(error)
            self.states[key] = MetricRecord(
                version=METRICS[key].version,
                state="missing" if reason else "measured",
                reason=reason,
            )

    def narrow(self, keys: Mapping[str, Sequence[str]]) -> Meter:
        """Return a meter of some metrics of each task, with what is open already.

        Args:
            keys: by task, of those that this meter measures.
        """
        part = copy.copy(self)
        part.keys = {task: tuple(keys.get(task, ())) for task in self.keys}
        part.sets = self.sets.narrow(part.keys)
        return part

    def _open(self, metric: Metric) -> None:
        """Open what measures a metric, once for all metrics that it stands behind."""
        if not metric.function or metric.function in self._opened:
            return
        target = load_function(metric)
        if metric.takes == "ocr":
            target = target(self._ocr, device=self._device, scripts=self._scripts)
            self.ocr = dict(target.identity)
            if isinstance(kept := getattr(target, "originals", None), KeptReadings):
                keep_readings(kept, scripts=self._scripts, device=self._device)
        elif metric.weights:
            paths = [find_metric_weights(name).path for name in metric.weights]
            target = target(*paths, device=self._device)
        self._opened[metric.function] = target

    def measure(
        self,
        task: str,
        samples: Sequence[Sample],
        original: Tensor,
        image: Tensor,
        features: Mapping[str, Pair],
        fit: Fit | None = None,
    ) -> list[Row]:
        """Return one mapping of columns an image, without those of OCR (`read`).

        Args:
            task: The task whose metrics are measured.
            samples: The images.
            original: uint8 N×3×H×W.
            image: The reconstructions, uint8 N×3×H×W.
            features: What `sets.encode` returned for both.
            fit: How the batch was brought to the network's size; None if unknown.
        """
        rows: list[Row] = [{} for _ in samples]
        for metric in self._choose(task):
            measure = self._opened[metric.function]
            if metric.takes == "ocr":
                continue
            if metric.takes == "pair":
                _spread(rows, metric.key, measure(original, image))
            elif metric.takes == "tiles":
                parts = measure(original, image, fit) if fit and fit.policy == "tile" else ()
                for row, values in zip(rows, parts, strict=False):
                    row.update(values)
            else:
                for row, values in zip(rows, measure(samples, original, image), strict=True):
                    row.update(values)
        if features:
            self.sets.put_cosines(task, features, rows)
        return rows

    def read(
        self, task: str, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[Row]:
        """Return one mapping of columns an image: what OCR reads. Both batches are uint8 N×3×H×W, on
        the CPU. It may run in another thread than `measure`."""
        rows: list[Row] = [{} for _ in samples]
        for metric in self._choose(task):
            if metric.takes == "ocr":
                values = self._opened[metric.function](samples, original, image)
                for row, own in zip(rows, values, strict=True):
                    row.update(own)
        return rows

    def _choose(self, task: str) -> list[Metric]:
        """Return the measured metrics of a task, one a function."""
        return choose_functions(
            key for key in self.keys[task] if self.states[key].state == "measured"
        )

    def wants_quantized(self, task: str) -> bool:
        """Whether the task asks what its continuous latents are worth in 8 bits."""
        return any(METRICS[key].takes == "quantized" for key in self.keys[task])

    @staticmethod
    def measure_quantized(original: Tensor, image: Tensor, bits: Sequence[float]) -> list[Row]:
        """Return the columns of what quantized latents cost and decode to. Both batches are uint8
        N×3×H×W."""
        rows: list[Row] = [{"q8_bits": own} for own in bits]
        _spread(rows, "psnr_q8_db", pixel.psnr_db(original, image))
        return rows


def choose_functions(keys: Iterable[str]) -> list[Metric]:
    """Return the metrics of these keys that are measured, one a function; of two functions that fill the
    same columns, the one that fills more."""
    by_function = {METRICS[key].function: METRICS[key] for key in keys if METRICS[key].function}
    metrics = list(by_function.values())
    return [
        metric
        for metric in metrics
        if not any(metric.row_columns.keys() < other.row_columns.keys() for other in metrics)
    ]


def load_function(metric: Metric) -> Measure:
    """Return what the metric's record names. Raises RegistryError where it does not exist."""
    module, _, name = metric.function.partition(":")
    try:
        function: Measure = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RegistryError(f"metric {metric.key}: {metric.function}: {error}") from None
    return function


def _spread(
    rows: Sequence[Row], key: str, values: Tensor | Mapping[str, Tensor | None] | None
) -> None:
    """Put one value an image into the rows; None is not applicable at this size."""
    if isinstance(values, Mapping):
        for column, own in values.items():
            _spread(rows, column, own)
        return
    for index, row in enumerate(rows):
        row[key] = None if values is None else float(values[index])
