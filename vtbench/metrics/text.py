"""Can it still be read: OCR engines, and error rates of a reading against the true text."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vtbench.base.errors import UnknownName, WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.images import RGB8
from vtbench.weights.metrics import check_metric_weights, find_metric_weights

Box = Sequence[Sequence[float]]
"""Four (x, y) corners, clockwise from the top left of the text as it is read; the pixel in column i
covers x from i to i + 1."""


# Scores


@dataclass(frozen=True)
class LineScores:
    """Edit counts of some lines, to be pooled, and their mean similarity.

    CER = Σ char_edits / Σ chars and WER = Σ word_edits / Σ words over everything that is reported
    together; neither is clipped. word_edits and words are None for scripts without spaces. ned is
    the mean over these lines of 1 − d / max(length), in [0, 1].
    """

    char_edits: int
    chars: int
    word_edits: int | None
    words: int | None
    ned: float


def score_lines(truth: Sequence[str], read: Sequence[str], *, has_words: bool) -> LineScores:
    """Return the errors of each reading against the true line of the same place.

    Both go through `normalize_text` first; case counts. Levenshtein distance with cost 1 for an
    insertion, deletion or substitution, over code points and over words. has_words: False for
    scripts without spaces (Chinese), where words are not applicable.

    Raises ValueError for unequal lengths, no lines, or an empty true line: no text is no proof of
    legibility and must not score as perfect.
    """
    from rapidfuzz.distance import Levenshtein

    if len(truth) != len(read):
        raise ValueError(f"{len(truth)} true lines, {len(read)} readings")
    if not truth:
        raise ValueError("no true lines: there is nothing that could have been read")
    char_edits = chars = word_edits = words = 0
    similarity = []
    for index, (raw, reading) in enumerate(zip(truth, read, strict=True)):
        t = normalize_text(raw, has_words=has_words)
        r = normalize_text(reading, has_words=has_words)
        if not t:
            raise ValueError(f"true line {index} is empty ({raw!r})")
        distance = Levenshtein.distance(t, r)
        char_edits += distance
        chars += len(t)
        similarity.append(1.0 - distance / max(len(t), len(r)))
        if has_words:
            word_edits += Levenshtein.distance(t.split(" "), r.split())
            words += len(t.split(" "))
    ned = math.fsum(similarity) / len(similarity)
    if not has_words:
        return LineScores(char_edits, chars, None, None, ned)
    return LineScores(char_edits, chars, word_edits, words, ned)


def normalize_text(text: str, *, has_words: bool) -> str:
    """Return the text in Unicode NFKC, stripped, each run of white space one space, or none of it
    where the script has no words. NFKC makes full-width forms half-width and "…" three dots."""
    return (" " if has_words else "").join(unicodedata.normalize("NFKC", text).split())


# Geometry


def crop_line(image: RGB8, box: Box) -> RGB8:
    """Return the pixels of a line, upright, h×w×3 uint8; h or w is 0 for a box outside the image.

    An axis-aligned box is an exact slice: floor of its left and top, ceil of its right and bottom,
    clipped to the image. Any other is rectified: perspective warp onto the longer of its opposite
    sides (rounded, at least 1 px), bicubic, border replicated, so that pixel areas and not centres
    match the corners.
    """
    corners = np.asarray(box, dtype=np.float64)
    if corners.shape != (4, 2):
        raise ValueError(f"a box is four (x, y) corners, not {box!r}")
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners.tolist()
    if y0 == y1 and x1 == x2 and y2 == y3 and x3 == x0 and x1 > x0 and y2 > y0:
        height, width = image.shape[:2]
        rows = slice(max(0, math.floor(y0)), min(height, max(0, math.ceil(y2))))
        columns = slice(max(0, math.floor(x0)), min(width, max(0, math.ceil(x1))))
        return np.ascontiguousarray(image[rows, columns])
    import cv2

    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width = max(1, round(max(sides[0], sides[2])))
    height = max(1, round(max(sides[1], sides[3])))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    # OpenCV's coordinates name pixel centres.
    matrix = cv2.getPerspectiveTransform(
        (corners - 0.5).astype(np.float32), (target - 0.5).astype(np.float32)
    )
    warped = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)


def _reading_order(boxes: Sequence[Box]) -> list[int]:
    """Return the boxes' indices by rows from the top, each from the left.

    A box belongs to the row of the box above when its centre is less than half of that one's height
    further down.
    """
    spans = []
    for index, box in enumerate(boxes):
        ys = [float(y) for _, y in box]
        spans.append((min(ys), max(ys), min(float(x) for x, _ in box), index))
    spans.sort(key=lambda span: span[0] + span[1])
    rows: list[list[tuple[float, float, float, int]]] = []
    for span in spans:
        if rows:
            top, bottom, _, _ = rows[-1][0]
            if (span[0] + span[1]) / 2 - (top + bottom) / 2 < (bottom - top) / 2:
                rows[-1].append(span)
                continue
        rows.append([span])
    return [span[3] for row in rows for span in sorted(row, key=lambda span: span[2])]


def _bgr(image: RGB8) -> RGB8:
    return np.ascontiguousarray(image[:, :, ::-1])


# Engines


class LineReader(Protocol):
    """An OCR engine. The same pixels give the same reading, whatever else is in the call.

    identity: engine, versions and the sha256 of each model file; it goes into run.json.
    """

    identity: dict[str, str]

    def read_lines(self, image: RGB8, boxes: Sequence[Box]) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        ...

    def read_page(self, image: RGB8) -> list[str]:
        """Return the lines that the engine itself finds, in reading order."""
        ...


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

    def __init__(self) -> None:
        found = find_metric_weights("rapidocr")
        models = check_metric_weights("rapidocr", found)
        detector, recogniser = found.files
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

    def read_lines(self, image: RGB8, boxes: Sequence[Box]) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        crops = [crop_line(image, box) for box in boxes]
        count = len(self._engines)

        def read_share(place: int) -> list[str]:
            return [self._read(self._engines[place], crop) for crop in crops[place::count]]

        readings = [""] * len(crops)
        for place, share in enumerate(self._pool.map(read_share, range(count))):
            readings[place::count] = share
        return readings

    def read_page(self, image: RGB8) -> list[str]:
        """Return the lines that the detector finds, in reading order."""
        result = self._engines[0](_bgr(image), use_det=True, use_cls=False, use_rec=True)
        if result.txts is None:
            return []
        return [result.txts[index] for index in _reading_order(result.boxes)]

    def _read(self, engine: Any, crop: RGB8) -> str:
        if crop.size == 0:
            return ""
        # Arrays are taken as BGR, as OpenCV reads files; only paths and PIL images are converted.
        result = engine(_bgr(crop), use_det=False, use_cls=False, use_rec=True)
        return str(result.txts[0]) if result.txts else ""


EASYOCR_SCRIPTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "english": (("en",), "gen2", "english_g2"),
    "latin": (("en", "fr", "de", "es"), "gen2", "latin_g2"),
    "chinese": (("ch_sim", "en"), "gen2", "zh_sim_g2"),
    "japanese": (("ja", "en"), "gen2", "japanese_g2"),
    "korean": (("ko", "en"), "gen2", "korean_g2"),
    "cyrillic": (("ru", "en"), "gen2", "cyrillic_g2"),
}
"""Per script: EasyOCR's languages, and the generation and name of the recogniser they select."""


class EasyOcrReader:
    """CRAFT and a CRNN through EasyOCR 1.7, on `device`.

    Written from the source of easyocr 1.7.2; not run by its authors here, where its models cannot be
    had. script: one of EASYOCR_SCRIPTS; "chinese" reads simplified Chinese and English. Greedy
    decoding, one crop a call, so that no reading depends on its neighbours. Quantization is off, so
    that CPU and GPU run the same network.

    Raises WeightsMissing when the package or its models (in $VTBENCH_WEIGHTS/easyocr-chinese,
    $EASYOCR_MODULE_PATH or ~/.EasyOCR) are not here, WeightsMismatch when EasyOCR finds another
    checksum; nothing is downloaded.
    """

    def __init__(self, device: str, *, script: str = "chinese") -> None:
        if script not in EASYOCR_SCRIPTS:
            raise UnknownName("script", script, list(EASYOCR_SCRIPTS))
        try:
            import easyocr
            from easyocr.config import MODULE_PATH, detection_models, recognition_models
        except ModuleNotFoundError as error:
            raise WeightsMissing(
                f'easyocr cannot be imported ({error}): `pip install "vtbench[easyocr]"`'
            ) from error
        languages, generation, recogniser = EASYOCR_SCRIPTS[script]
        models = (detection_models["craft"], recognition_models[generation][recogniser])
        folder = Path(MODULE_PATH) / "model"
        if script == "chinese":  # what suites read with; the catalogue of weights has it
            folder = find_metric_weights("easyocr-chinese").path
        files = [folder / model["filename"] for model in models]
        for path, model in zip(files, models, strict=True):
            if not path.is_file():
                raise WeightsMissing(
                    f"easyocr: {path} is not here: "
                    f"`python -c 'import easyocr; easyocr.Reader({list(languages)})'` "
                    f"or unpack {model['url']} there"
                )
        try:
            self._reader: Any = easyocr.Reader(
                list(languages),
                gpu=False if device == "cpu" else device,
                model_storage_directory=str(folder),
                download_enabled=False,
                verbose=False,
                quantize=False,
            )
        except FileNotFoundError as error:  # what it raises for a wrong MD5, too
            raise WeightsMismatch(f"easyocr: {error}") from error
        self.identity = {
            "engine": "easyocr",
            "easyocr": version("easyocr"),
            "torch": version("torch"),
            "languages": ",".join(languages),
            **{path.name: sha256_file(path) for path in files},
        }

    def read_lines(self, image: RGB8, boxes: Sequence[Box]) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        return [self._read(crop_line(image, box)) for box in boxes]

    def read_page(self, image: RGB8) -> list[str]:
        """Return the lines that the detector finds, in reading order."""
        found = self._reader.readtext(_bgr(image), decoder="greedy", batch_size=1, detail=1)
        return [str(found[index][1]) for index in _reading_order([item[0] for item in found])]

    def _read(self, crop: RGB8) -> str:
        if crop.size == 0:
            return ""
        height, width = crop.shape[:2]
        read = self._reader.recognize(
            _bgr(crop),
            horizontal_list=[[0, width, 0, height]],
            free_list=[],
            decoder="greedy",
            batch_size=1,
            detail=0,
        )
        return str(read[0]) if read else ""


ENGINES = ("rapidocr", "easyocr")
"""OCR engines that `open_reader` knows."""


def open_reader(name: str, device: str = "cpu") -> LineReader:
    """Return the OCR engine `name`; rapidocr runs on the CPU whatever the device.

    Raises UnknownName, WeightsMissing, WeightsMismatch.
    """
    if name == "rapidocr":
        return RapidOcrReader()
    if name == "easyocr":
        return EasyOcrReader(device)
    raise UnknownName("ocr engine", name, list(ENGINES))
