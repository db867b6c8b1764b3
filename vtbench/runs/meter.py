"""What a task measures on a batch: original and reconstruction in, columns of the rows out.

The one place that knows which metric function stands behind which key of a suite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vtbench.base.errors import WeightsError
from vtbench.base.records import Sample
from vtbench.images import RGB8, pixel_sha256, to_rgb8
from vtbench.metrics import detail, pixel
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.dists import Dists
from vtbench.metrics.haarpsi import haarpsi
from vtbench.metrics.perceptual import Lpips
from vtbench.metrics.text import LineReader, LineScores, open_reader, score_lines
from vtbench.results.rows import Row
from vtbench.results.schema import MetricRecord
from vtbench.runs.set_features import FeatureSets, Pair
from vtbench.suites.suites import Suite
from vtbench.weights.metrics import find_metric_weights

SCRIPTS_WITHOUT_SPACES = frozenset({"chinese", "japanese"})
"""Scripts in which a word error rate has no meaning."""


class Meter:
    """Measures batches of one suite; what it needs (OCR engine, networks) is opened once.

    The readings of originals are kept by content, shared by all tokenizers of a process. A metric
    whose weights are not on this machine is `missing` with its reason in `states`, never computed
    with others.
    """

    def __init__(
        self,
        suite: Suite,
        tasks: Sequence[str],
        *,
        device: str,
        ocr: str,
        limit: int | None = None,
    ) -> None:
        self.suite = suite
        self.states: dict[str, MetricRecord] = {}
        self.ocr: dict[str, str] = {}
        self._networks: dict[str, Lpips | Dists] = {}
        self._reader: LineReader | None = None
        self._readings: dict[str, list[str]] = {}
        wanted = {key for task in tasks for key in suite.protocol.tasks[task].metrics}
        self.sets = FeatureSets(suite, tasks, device=device, limit=limit)
        self.states |= self.sets.states
        for key in sorted(wanted - self.states.keys()):
            reason = None
            try:
                if key.startswith("lpips_"):
                    net = key.removeprefix("lpips_")
                    backbone = find_metric_weights(f"lpips-{net}").path
                    self._networks[key] = Lpips(net, backbone, device=device)
                elif key == "dists":
                    backbone = find_metric_weights("lpips-vgg").path
                    factors = find_metric_weights("dists").path
                    self._networks[key] = Dists(backbone, factors, device=device)
                elif key in ("cer", "wer", "ned") and self._reader is None:
                    self._reader = open_reader(ocr, device=device)
                    self.ocr = dict(self._reader.identity)
            except WeightsError as error:
                reason = str(error)
            self.states[key] = MetricRecord(
                version=METRICS[key].version,
                state="missing" if reason else "measured",
                reason=reason,
            )

    def measure(
        self,
        task: str,
        samples: Sequence[Sample],
        original: Tensor,
        image: Tensor,
        features: Mapping[str, Pair],
    ) -> list[Row]:
        """Return one mapping of columns an image. Both batches are uint8 N×3×H×W; features are what
        `sets.encode` gave for them."""
        wanted = [
            key
            for key in self.suite.protocol.tasks[task].metrics
            if self.states[key].state == "measured"
        ]
        rows: list[Row] = [{} for _ in samples]
        self._measure_pixels(wanted, original, image, rows)
        for key in wanted:
            if key in self._networks:
                _spread(rows, key, self._networks[key](original, image))
        self.sets.put_cosines(task, features, rows)
        if "contrast_transfer" in wanted:
            self._measure_contrast(samples, original, image, rows)
        if self._reader is not None and {"cer", "wer", "ned"} & set(wanted):
            self._measure_text(self._reader, samples, original, image, rows)
        return rows

    def wants_quantized(self, task: str) -> bool:
        """Whether the task asks what its continuous latents are worth in 8 bits."""
        return "psnr_q8_db" in self.suite.protocol.tasks[task].metrics

    @staticmethod
    def measure_quantized(original: Tensor, image: Tensor, bits: Sequence[float]) -> list[Row]:
        """Return the columns of what quantized latents cost and decode to. Both batches are uint8
        N×3×H×W."""
        rows: list[Row] = [{"q8_bits": own} for own in bits]
        _spread(rows, "psnr_q8_db", pixel.psnr_db(original, image))
        return rows

    @staticmethod
    def _measure_pixels(
        wanted: Sequence[str], original: Tensor, image: Tensor, rows: list[Row]
    ) -> None:
        if "psnr_db" in wanted:
            mse = pixel.mse(original, image)
            _spread(rows, "mse", mse)
            _spread(rows, "psnr_db", pixel.psnr_of_mse(mse))
        if "mae" in wanted:
            _spread(rows, "mae", pixel.mae(original, image))
        if "haarpsi" in wanted:
            _spread(rows, "haarpsi", haarpsi(original, image))
        if "ms_ssim" in wanted:
            ssim, ms_ssim = pixel.ssim_and_ms_ssim(original, image)
            _spread(rows, "ssim", ssim)
            _spread(rows, "ms_ssim", ms_ssim)
        elif "ssim" in wanted:
            _spread(rows, "ssim", pixel.ssim(original, image))

    @staticmethod
    def _measure_contrast(
        samples: Sequence[Sample], original: Tensor, image: Tensor, rows: list[Row]
    ) -> None:
        pairs = zip(samples, to_rgb8(original), to_rgb8(image), rows, strict=True)
        for sample, reference, reconstruction, row in pairs:
            if sample.meta.get("chart") == "grating":
                patches = sample.meta["patches"]
                row["contrast_transfer"] = detail.contrast_transfer(
                    reference, reconstruction, patches
                )
                row["patch_cpp"] = [1.0 / patch["period_px"] for patch in patches]

    def _measure_text(
        self,
        reader: LineReader,
        samples: Sequence[Sample],
        original: Tensor,
        image: Tensor,
        rows: list[Row],
    ) -> None:
        pairs = zip(samples, to_rgb8(original), to_rgb8(image), rows, strict=True)
        for sample, reference, reconstruction, row in pairs:
            lines = sample.meta["lines"]
            truth = [line["text"] for line in lines]
            has_words = sample.meta["script"] not in SCRIPTS_WITHOUT_SPACES
            row["script"] = sample.meta["script"]
            row["glyph_px"] = float(sample.meta["glyph_px"])
            row["lines"] = len(truth)
            known = self._read(reader, reference, lines, keep=True)
            score = score_lines(truth, known, has_words=has_words)
            row["original_reading"] = known
            _put_text(row, score, "original_")
            read = self._read(reader, reconstruction, lines)
            score = score_lines(truth, read, has_words=has_words)
            row["reading"] = read
            row["chars"], row["words"] = score.chars, score.words
            _put_text(row, score, "")

    def _read(
        self,
        reader: LineReader,
        page: RGB8,
        lines: Sequence[Mapping[str, Any]],
        *,
        keep: bool = False,
    ) -> list[str]:
        # The same pixels read the same, so a perfect reconstruction finds its original's reading.
        key = pixel_sha256(page)
        if key in self._readings:
            return self._readings[key]
        reading = reader.read_lines(page, [line["box"] for line in lines])
        if keep:
            self._readings[key] = reading
        return reading


def _put_text(row: Row, score: LineScores, prefix: str) -> None:
    row[f"{prefix}char_edits"] = score.char_edits
    row[f"{prefix}word_edits"] = score.word_edits
    row[f"{prefix}ned"] = score.ned


def _spread(rows: list[Row], key: str, values: Tensor | None) -> None:
    """Put one value an image into the rows; None is not applicable at this size."""
    for index, row in enumerate(rows):
        row[key] = None if values is None else float(values[index])
