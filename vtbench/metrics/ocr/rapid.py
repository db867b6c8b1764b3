"""RapidOCR: PP-OCRv6 through onnxruntime, with the models that come in its wheel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Literal

from vtbench.base.library_reports import forbid_reports
from vtbench.images import RGB8
from vtbench.metrics.ocr.reader import Box, crop_line, order_boxes, to_bgr
from vtbench.weights.metrics import check_metric_weights, find_metric_weights

MAX_ENGINES = 8
"""Lines read at once, where there are as many processors; each has an engine of its own."""


class RapidOcrReader:
    """PP-OCRv6 (small; Chinese, English and more) through rapidocr and onnxruntime, on the CPU.

    Lines: the recogniser alone, on exact crops. rapidocr's own resizing before it is off: for crops
    under 30 px it stretches both sides to multiples of 32, unequally, and changes readings. One
    crop a batch: the recogniser pads a batch to its widest line, so a reading would depend on its
    neighbours (seen at 7 to 16 px). One thread a line and several lines at once, which reads the same
    whatever the machine. No confidence threshold for
    lines; 0.5, the engine's, for the lines that it finds itself on a page.

    Raises WeightsMissing or WeightsMismatch unless the two models of the wheel are the catalogue's
    (another model is another metric); they are passed by path, so rapidocr has nothing to download.
    """

    unit: Literal["line", "word"] = "line"
    scripts = frozenset({"latin", "chinese", "japanese"})
    """Its alphabet of 18,708 characters has all of these; of Greek it lacks the accents, and of the
    other scripts nearly everything."""

    def __init__(self) -> None:
        found = find_metric_weights("rapidocr")
        models = check_metric_weights("rapidocr", found)
        detector, recogniser = found.files
        forbid_reports()
        import rapidocr

        self.identity = {
            "engine": "rapidocr",
            "rapidocr": version("rapidocr"),
            "onnxruntime": version("onnxruntime"),
            **models,
        }
        params = {
            "Global.log_level": "error",
            "Global.use_preprocess_img": False,
            "Det.model_path": str(detector),
            "Rec.model_path": str(recogniser),
            "Rec.rec_batch_num": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
        }
        # An engine keeps what it was last called with, so each thread has its own.
        count = min(os.cpu_count() or 1, MAX_ENGINES)
        self._engines: list[Any] = [rapidocr.RapidOCR(params=params) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="rapidocr")

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        crops = [crop_line(image, box) for box in boxes]
        count = len(self._engines)

        def read_share(place: int) -> list[str]:
            return [self._read(self._engines[place], crop) for crop in crops[place::count]]

        readings = [""] * len(crops)
        for place, share in enumerate(self._pool.map(read_share, range(count))):
            readings[place::count] = share
        return readings

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines that the detector finds, in reading order."""
        result = self._engines[0](to_bgr(image), use_det=True, use_cls=False, use_rec=True)
        if result.txts is None:
            return []
        return [result.txts[index] for index in order_boxes(result.boxes)]

    def _read(self, engine: Any, crop: RGB8) -> str:
        if crop.size == 0:
            return ""
        # Arrays are taken as BGR, as OpenCV reads files; only paths and PIL images are converted.
        result = engine(to_bgr(crop), use_det=False, use_cls=False, use_rec=True)
        return str(result.txts[0]) if result.txts else ""
