"""OCR engines behind one interface: which there are, what each can read, and how one is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vtbench.base.errors import UnknownName

if TYPE_CHECKING:
    from vtbench.metrics.ocr.reader import LineReader

ENGINES = ("rapidocr", "easyocr", "tesseract", "doctr-parseq", "vision-language")
"""OCR engines that `open_reader` knows."""


def open_reader(name: str, *, scripts: Iterable[str], device: str = "cpu") -> LineReader:
    """Return the OCR engine `name`, ready for those of the scripts that it can read.

    Args:
        name: one of ENGINES.
        scripts: what is to be read. The engine opens models for those that it knows; which these are
            stands in its `scripts`.
        device: of the engines that run in torch; rapidocr and tesseract run on the CPU.

    Raises:
        UnknownName: no engine of that name.
        WeightsMissing: the engine, or a model for one of the scripts, is not on this machine.
        WeightsMismatch: a model is not the pinned one.
    """
    wanted = frozenset(scripts)
    if name == "rapidocr":
        from vtbench.metrics.ocr.rapid import RapidOcrReader

        return RapidOcrReader()
    if name == "easyocr":
        from vtbench.metrics.ocr.easy import EasyOcrReader

        return EasyOcrReader(device, scripts=wanted)
    if name == "tesseract":
        from vtbench.metrics.ocr.tesseract import TesseractReader

        return TesseractReader(scripts=wanted)
    if name == "doctr-parseq":
        from vtbench.metrics.ocr.parseq import ParseqReader

        return ParseqReader(device)
    if name == "vision-language":
        from vtbench.metrics.ocr.vision_language import VisionLanguageReader

        return VisionLanguageReader(device)
    raise UnknownName("ocr engine", name, list(ENGINES))
