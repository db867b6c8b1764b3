"""Reading of pages with known text by an OCR engine: the rows of the task `text`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.base.padding import find_padding, unpad_square
from vtbench.base.records import Sample
from vtbench.images import RGB8, to_rgb8
from vtbench.metrics.ocr import open_reader
from vtbench.metrics.ocr.kept_readings import KeptReadings
from vtbench.metrics.ocr.reader import SCRIPTS_WITHOUT_SPACES
from vtbench.metrics.text import LineScores, count_lost, score_lines
from vtbench.metrics.text_protocols import TokBenchWord, score_omnidoc, score_words

if TYPE_CHECKING:
    from torch import Tensor


class PageMeter:
    """Reads pages of known text with one OCR engine, and scores what it read.

    The readings of originals are kept by content: each original is read once, by any process.

    Args:
        ocr: the engine's name.
        device: the torch device of engines that have one.
        scripts: those of the suite's pages. A page of a script that the engine cannot read gets no
            reading and no scores: they are not applicable.

    Raises:
        WeightsMissing, WeightsMismatch: the engine's models are not here, or are others.
    """

    def __init__(self, ocr: str, *, device: str, scripts: Collection[str]) -> None:
        self._reader = open_reader(ocr, scripts=scripts, device=device)
        self.identity: Mapping[str, str] = dict(self._reader.identity)
        """Engine, versions and models, as run.json states them."""
        self.originals = KeptReadings(self._reader)

    def __call__(
        self, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[dict[str, Any]]:
        """Return one mapping of row columns an image. Both batches are uint8 N×3×H×W."""
        pairs = zip(samples, to_rgb8(original), to_rgb8(image), strict=True)
        return [self._measure(*pair) for pair in pairs]

    def _measure(self, sample: Sample, reference: RGB8, reconstruction: RGB8) -> dict[str, Any]:
        lines = sample.meta["lines"]
        page = {
            "script": sample.meta["script"],
            "glyph_px": float(sample.meta["glyph_px"]),
            "lines": len(lines),
        }
        script = sample.meta["script"]
        known = self.originals.read_lines(reference, lines, script=script, keep=True)
        read = self.originals.read_lines(reconstruction, lines, script=script)
        if known is None or read is None:
            return page
        truth = [line["text"] for line in lines]
        has_words = script not in SCRIPTS_WITHOUT_SPACES
        score = score_lines(truth, read, has_words=has_words)
        counts = [
            count_lost(*texts, has_words=has_words)
            for texts in zip(truth, known, read, strict=True)
        ]
        readable, _, lost = (sum(column) for column in zip(*counts, strict=True))
        of_original = score_lines(truth, known, has_words=has_words)
        return {
            **page,
            "chars": score.chars,
            "words": score.words,
            "reading": read,
            "original_reading": known,
            "words_read": score.words_read,
            "exact_lines": score.exact_lines,
            "glyphs_readable": readable,
            "glyphs_lost": lost,
            **_name_scores(score, ""),
            **_name_scores(of_original, "original_"),
        }


def _name_scores(score: LineScores, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}char_edits": score.char_edits,
        f"{prefix}word_edits": score.word_edits,
        f"{prefix}ned": score.ned,
    }


class TokBenchMeter:
    """TokBench's words on padded squares: each picture is brought back to its own size, each word cut
    out at its box, whose corners are truncated to whole pixels, and read alone.

    Args:
        ocr: the engine's name; TokBench's own is doctr-parseq.
        device: the torch device of engines that have one.
        scripts: not asked: the words are Latin.
    """

    def __init__(self, ocr: str, *, device: str, scripts: Collection[str]) -> None:
        self._reader = open_reader(ocr, scripts={"latin"}, device=device)
        self.identity: Mapping[str, str] = dict(self._reader.identity)

    def __call__(
        self, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[dict[str, Any]]:
        """Return one mapping of row columns an image; of the pictures that have words."""
        return [self._measure(*pair) for pair in zip(samples, to_rgb8(image), strict=True)]

    def _measure(self, sample: Sample, square: RGB8) -> dict[str, Any]:
        known = sample.meta.get("tokbench")
        if not known:
            return {}
        width, height = sample.meta["size"]
        picture = unpad_square(square, find_padding(width, height, square.shape[0]))
        boxes = []
        for word in known:
            left, top, right, bottom = (float(int(edge)) for edge in word["bbox"])
            boxes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        read = self._reader.read_lines(picture, boxes, script="latin")
        words = [
            TokBenchWord(word["text"], reading, word["ratio"])
            for word, reading in zip(known, read, strict=True)
        ]
        exact, similar = score_words(words)
        return {
            "word_exact": exact,
            "word_similar": similar,
            "word_ratio": [word.ratio for word in words],
        }


class OmniDocMeter:
    """OmniDoc-TokenBench's NED: the engine's reading of the whole picture against its own reading of the
    original. Its authors read with PaddleOCR's PP-OCR; here the suite's engine does.

    Args:
        ocr: the engine's name.
        device: the torch device of engines that have one.
        scripts: not asked: pictures are English or Chinese, and a model of Chinese reads both.
    """

    def __init__(self, ocr: str, *, device: str, scripts: Collection[str]) -> None:
        self._reader = open_reader(ocr, scripts={"chinese"}, device=device)
        self.identity: Mapping[str, str] = dict(self._reader.identity)
        self.originals = KeptReadings(self._reader)

    def __call__(
        self, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[dict[str, Any]]:
        """Return one mapping of row columns an image; None where the original reads as nothing."""
        rows = []
        for reference, reconstruction in zip(to_rgb8(original), to_rgb8(image), strict=True):
            known = self.originals.read_page(reference, script="chinese", keep=True)
            read = self.originals.read_page(reconstruction, script="chinese")
            rows.append({"omnidoc_ned": score_omnidoc([known], [read]).ned})
        return rows
