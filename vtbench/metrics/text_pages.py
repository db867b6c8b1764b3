"""What an OCR engine still reads of a page: the rows of the task text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.base.records import Sample
from vtbench.images import RGB8, pixel_sha256, to_rgb8
from vtbench.metrics.text import LineScores, open_reader, score_lines

if TYPE_CHECKING:
    from torch import Tensor

SCRIPTS_WITHOUT_SPACES = frozenset({"chinese", "japanese"})
"""Scripts in which a word error rate has no meaning."""


class PageMeter:
    """Reads pages of known text with one OCR engine, and scores what it read.

    The readings of originals are kept by content: one process reads each original once.

    Args:
        ocr: the engine's name.
        device: the torch device of engines that have one.

    Raises:
        WeightsMissing, WeightsMismatch: the engine's models are not here, or are others.
    """

    def __init__(self, ocr: str, *, device: str) -> None:
        self._reader = open_reader(ocr, device=device)
        self.identity: Mapping[str, str] = dict(self._reader.identity)
        """Engine, versions and models, as run.json states them."""
        self._readings: dict[str, list[str]] = {}

    def __call__(
        self, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[dict[str, Any]]:
        """Return one mapping of row columns an image. Both batches are uint8 N×3×H×W."""
        pairs = zip(samples, to_rgb8(original), to_rgb8(image), strict=True)
        return [self._measure(*pair) for pair in pairs]

    def _measure(self, sample: Sample, reference: RGB8, reconstruction: RGB8) -> dict[str, Any]:
        lines = sample.meta["lines"]
        truth = [line["text"] for line in lines]
        has_words = sample.meta["script"] not in SCRIPTS_WITHOUT_SPACES
        known = self._read(reference, lines, keep=True)
        of_original = score_lines(truth, known, has_words=has_words)
        read = self._read(reconstruction, lines)
        score = score_lines(truth, read, has_words=has_words)
        return {
            "script": sample.meta["script"],
            "glyph_px": float(sample.meta["glyph_px"]),
            "lines": len(truth),
            "chars": score.chars,
            "words": score.words,
            "reading": read,
            "original_reading": known,
            **_name_scores(score, ""),
            **_name_scores(of_original, "original_"),
        }

    def _read(
        self, page: RGB8, lines: Sequence[Mapping[str, Any]], *, keep: bool = False
    ) -> list[str]:
        # The same pixels read the same, so a perfect reconstruction finds its original's reading.
        key = pixel_sha256(page)
        if key in self._readings:
            return self._readings[key]
        reading = self._reader.read_lines(page, [line["box"] for line in lines])
        if keep:
            self._readings[key] = reading
        return reading


def _name_scores(score: LineScores, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}char_edits": score.char_edits,
        f"{prefix}word_edits": score.word_edits,
        f"{prefix}ned": score.ned,
    }
