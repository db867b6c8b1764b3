"""EasyOCR: CRAFT and a CRNN for each script."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.images import RGB8
from vtbench.metrics.ocr.reader import Box, crop_line, order_boxes, to_bgr
from vtbench.weights.metrics import find_metric_weights

EASYOCR_SCRIPTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "latin": (("en", "fr", "de", "es", "cs", "pl", "sv"), "latin_g2.pth", "easyocr-scripts"),
    "chinese": (("ch_sim", "en"), "zh_sim_g2.pth", "easyocr-chinese"),
    "japanese": (("ja", "en"), "japanese_g2.pth", "easyocr-scripts"),
    "korean": (("ko", "en"), "korean_g2.pth", "easyocr-scripts"),
    "cyrillic": (("ru", "uk", "en"), "cyrillic_g2.pth", "easyocr-scripts"),
    "hindi": (("hi", "en"), "devanagari.pth", "easyocr-scripts"),
    "arabic": (("ar", "en"), "arabic.pth", "easyocr-scripts"),
}
"""Of each script: EasyOCR's languages, the recogniser that they select, and the catalogue's key of
its file. EasyOCR has no Greek."""

DETECTOR = "craft_mlt_25k.pth"


class EasyOcrReader:
    """CRAFT and a CRNN through EasyOCR 1.7, on `device`.

    Written from the source of easyocr 1.7.2; not run by its authors here, where its models cannot be
    had. Greedy decoding, one crop a call, so that no reading depends on its neighbours: a batch is
    padded to its widest crop. Quantization is off, so that CPU and GPU run the same network.

    Args:
        device: "cpu", "cuda", "mps".
        scripts: what is to be read; models of those that EasyOCR knows are opened.

    Raises:
        WeightsMissing: the package or a model is not here (in $VTBENCH_WEIGHTS/KEY,
            $EASYOCR_MODULE_PATH or ~/.EasyOCR); nothing is downloaded.
        WeightsMismatch: EasyOCR finds another checksum.
    """

    unit: Literal["line", "word"] = "line"
    scripts = frozenset(EASYOCR_SCRIPTS)

    def __init__(self, device: str, *, scripts: Collection[str]) -> None:
        try:
            import easyocr
        except ModuleNotFoundError as error:
            raise WeightsMissing(
                f'easyocr cannot be imported ({error}): `pip install "vtbench[easyocr]"`'
            ) from error
        self.identity = {
            "engine": "easyocr",
            "easyocr": version("easyocr"),
            "torch": version("torch"),
        }
        self._readers: dict[str, Any] = {}
        for script, (languages, recogniser, key) in EASYOCR_SCRIPTS.items():
            if script not in scripts:
                continue
            folder = find_metric_weights(key).path
            try:
                self._readers[script] = easyocr.Reader(
                    list(languages),
                    gpu=False if device == "cpu" else device,
                    model_storage_directory=str(folder),
                    download_enabled=False,
                    verbose=False,
                    quantize=False,
                )
            except FileNotFoundError as error:  # what it raises for a wrong MD5, too
                raise WeightsMismatch(f"easyocr: {error}") from error
            self.identity |= self._describe(folder, script, languages, recogniser)

    @staticmethod
    def _describe(
        folder: Path, script: str, languages: Sequence[str], recogniser: str
    ) -> dict[str, str]:
        return {
            f"languages of {script}": ",".join(languages),
            **{name: sha256_file(folder / name) for name in (DETECTOR, recogniser)},
        }

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        return [self._read(crop_line(image, box), script) for box in boxes]

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines that the detector finds, in reading order."""
        reader = self._readers[script]
        found = reader.readtext(to_bgr(image), decoder="greedy", batch_size=1, detail=1)
        return [str(found[index][1]) for index in order_boxes([item[0] for item in found])]

    def _read(self, crop: RGB8, script: str) -> str:
        if crop.size == 0:
            return ""
        height, width = crop.shape[:2]
        read = self._readers[script].recognize(
            to_bgr(crop),
            horizontal_list=[[0, width, 0, height]],
            free_list=[],
            decoder="greedy",
            batch_size=1,
            detail=0,
        )
        return str(read[0]) if read else ""
