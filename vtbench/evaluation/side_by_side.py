"""One image through several tokenizers: reconstructions, error maps, rates, scores, and what is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtbench.base.errors import (
    ContractError,
    VtbenchError,
    WeightsMissing,
    describe_foreign,
)
from vtbench.base.records import State
from vtbench.evaluation.result import Score
from vtbench.evaluation.score import score
from vtbench.images import RGB8, error_map, to_float, to_rgb8, to_uint8
from vtbench.metrics.ocr import open_reader
from vtbench.metrics.ocr.reader import SCRIPTS_WITHOUT_SPACES, LineReader
from vtbench.metrics.text import normalize_text, score_lines
from vtbench.registry.entries import Registry
from vtbench.runs.arithmetic import exact_arithmetic
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Code, Tokenizer

ERROR_GAIN = 4
"""An error map shows the largest difference of the three channels times this."""

KEPT_TOKENIZERS = 4
"""Tokenizers that stay in memory between two images; the one that was used longest ago goes first."""


def reconstruct_image(tokenizer: Tokenizer, picture: RGB8) -> tuple[Code, Tensor]:
    """Return the code of an image and its reconstruction, uint8 1×3×H×W.

    Args:
        tokenizer: any.
        picture: uint8 H×W×3.

    Raises:
        ContractError: the reconstruction has another size than the image, or NaN or infinite values.
        Exception: whatever the tokenizer raises.
    """
    original = to_float([picture], tokenizer.device)
    with exact_arithmetic():
        code = tokenizer.encode(original)
        decoded = tokenizer.decode(code)
    if decoded.shape != original.shape:
        shapes = f"{tuple(original.shape)} went in, {tuple(decoded.shape)} came back"
        raise ContractError("size", shapes)
    if not bool(decoded.isfinite().all()):
        raise ContractError("values", "the reconstruction has NaN or infinite values")
    return code, to_uint8(decoded)


@dataclass(frozen=True)
class Reading:
    """What an OCR engine reads of an image.

    Attributes:
        lines: The lines that the engine found, in reading order.
        cer: The character error rate against the reading of the original; None for the original
            itself, and where nothing is read on it.
    """

    lines: tuple[str, ...]
    cer: float | None


@dataclass(frozen=True)
class Reconstructed:
    """One image after one tokenizer.

    Attributes:
        name: The tokenizer's.
        state: measured; missing where its weights are not here; failed where it raised an error.
        reason: Why it is not measured; None where it is.
        image: The reconstruction, uint8 H×W×3; None unless measured, as all that follows.
        error: Its error map, uint8 H×W: the largest difference of the channels × ERROR_GAIN.
        tokens: Tokens of the image.
        bpp: Bits of its code a pixel, before any entropy coding.
        scores: The scores of `vtbench.score`, with the state and reason of those that are missing.
        reading: What is read of it; None where no reading was asked for.
    """

    name: str
    state: State
    reason: str | None = None
    image: RGB8 | None = None
    error: NDArray[np.uint8] | None = None
    tokens: float | None = None
    bpp: float | None = None
    scores: tuple[Score, ...] = ()
    reading: Reading | None = None


class SideBySide:
    """Takes one image after another through tokenizers of a registry.

    A tokenizer that fails, or whose weights are missing, says so in its own place; the others go on.

    Args:
        registry: The tokenizers.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: fp32, bf16 or fp16, of the networks.
        weights: Files or folders in place of an entry's own source, by name.
        ocr: The engine that reads text.
        max_pixels: The most pixels of an image; None for the usual number.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        device: str = "auto",
        dtype: str = "fp32",
        weights: Mapping[str, Path] | None = None,
        ocr: str = "rapidocr",
        max_pixels: int | None = None,
    ) -> None:
        self.registry = registry
        self.device = device
        self.dtype = dtype
        self.ocr = ocr
        self.max_pixels = max_pixels
        self.weights = dict(weights or {})
        self._build = functools.lru_cache(maxsize=KEPT_TOKENIZERS)(self._build_tokenizer)
        self._open = functools.lru_cache(maxsize=1)(self._open_reader)

    def open(self, name: str) -> None:
        """Load a tokenizer, so that what is wrong with it is known before it is asked for.

        Raises:
            WeightsError, RegistryError, CellFailed: as `build_tokenizer`.
        """
        self._build(name)

    def _build_tokenizer(self, name: str) -> Tokenizer:
        return build_tokenizer(
            self.registry[name],
            device=self.device,
            dtype=self.dtype,
            weights=self.weights.get(name),
        )

    def _open_reader(self, script: str) -> LineReader:
        return open_reader(self.ocr, scripts=(script,))

    def reconstruct(self, picture: RGB8, name: str) -> Reconstructed:
        """Return an image after one tokenizer: pictures, rate and scores, and no reading.

        Args:
            picture: The image, uint8 H×W×3.
            name: The tokenizer's; an unknown one has failed.
        """
        try:
            code, image = reconstruct_image(self._build(name), picture)
            result = score(
                [picture],
                [image],
                bits_per_image=[code.bits[0]],
                device=self.device,
                max_pixels=self.max_pixels,
            )
        except WeightsMissing as error:
            return Reconstructed(name, "missing", str(error))
        except VtbenchError as error:
            return Reconstructed(name, "failed", str(error))
        except Exception as error:  # a codec or network of strangers may raise anything
            return Reconstructed(name, "failed", describe_foreign(error))
        (after,) = to_rgb8(image)
        return Reconstructed(
            name,
            "measured",
            image=after,
            error=error_map(picture, after, gain=ERROR_GAIN),
            tokens=code.tokens[0],
            bpp=code.bits[0] / (picture.shape[0] * picture.shape[1]),
            scores=tuple(one for one in result.summary() if one.group == "reconstruction"),
        )

    def read(
        self, picture: RGB8, others: Sequence[RGB8], *, script: str
    ) -> tuple[Reading, list[Reading]]:
        """Return what is read of an image, and of its reconstructions, with their error rates.

        The lines of a reading are joined: an engine finds other lines on another image.

        Args:
            picture: The original, uint8 H×W×3.
            others: Its reconstructions.
            script: The script of the text, one of `ocr.reader.SCRIPTS`.

        Raises:
            VtbenchError: The engine does not read this script, or its models are not here.
        """
        reader = self._open(script)
        if script not in reader.scripts:
            known = ", ".join(sorted(reader.scripts))
            raise VtbenchError(f"{self.ocr} does not read {script}; it reads {known}")
        has_words = script not in SCRIPTS_WITHOUT_SPACES
        true = tuple(reader.read_page(picture, script=script))
        readings = []
        for other in others:
            lines = tuple(reader.read_page(other, script=script))
            readings.append(Reading(lines, _error_rate(true, lines, has_words=has_words)))
        return Reading(true, None), readings

    def compare(
        self,
        picture: RGB8,
        names: Sequence[str],
        *,
        script: str | None = None,
        report: Callable[[int, str], None] | None = None,
    ) -> Comparison:
        """Return an image beside its reconstructions by several tokenizers.

        Args:
            picture: The image, uint8 H×W×3.
            names: The tokenizers.
            script: The script of the text to read; None reads nothing.
            report: Hears before each tokenizer how many are done, and its name.
        """
        shown = []
        for done, name in enumerate(dict.fromkeys(names)):
            if report is not None:
                report(done, name)
            shown.append(self.reconstruct(picture, name))
        if script is None:
            return Comparison(picture, tuple(shown))
        images = [one.image for one in shown if one.image is not None]
        try:
            original, readings = self.read(picture, images, script=script)
        except VtbenchError as error:
            return Comparison(picture, tuple(shown), unread=str(error))
        left = iter(readings)
        read = (one if one.image is None else replace(one, reading=next(left)) for one in shown)
        return Comparison(picture, tuple(read), original)


@dataclass(frozen=True)
class Comparison:
    """An image beside its reconstructions.

    Attributes:
        original: The image, uint8 H×W×3.
        reconstructed: One for each tokenizer, in the order of their names in the request.
        reading: What is read of the original; None where nothing was to be read.
        unread: Why nothing could be read; None where it could, or was not to be.
    """

    original: RGB8
    reconstructed: tuple[Reconstructed, ...]
    reading: Reading | None = None
    unread: str | None = None


def _error_rate(true: Sequence[str], read: Sequence[str], *, has_words: bool) -> float | None:
    """Return the character error rate of joined lines; None where the true ones have no character."""
    joined = "\n".join(true)
    if not normalize_text(joined, has_words=has_words):
        return None
    counts = score_lines([joined], ["\n".join(read)], has_words=has_words)
    return counts.char_edits / counts.chars
