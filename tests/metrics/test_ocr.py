"""The crops of lines, what RapidOCR and EasyOCR read, and what each engine is asked for."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from vtbench.base.errors import UnknownName, WeightsMismatch, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr import easy, open_reader
from vtbench.metrics.ocr.rapid import RapidOcrReader
from vtbench.metrics.ocr.reader import crop_line, order_boxes, to_bgr
from vtbench.weights.metrics import file_names, get_metric_weights

# Geometry


def gradient(height: int, width: int) -> RGB8:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 2, y * 3, x + y], axis=2).astype(np.uint8)


def test_an_upright_box_is_an_exact_slice() -> None:
    image = gradient(60, 100)
    box = [[10, 5], [70, 5], [70, 25], [10, 25]]
    assert np.array_equal(crop_line(image, box), image[5:25, 10:70])
    fraction = [[10.2, 5.9], [69.5, 5.9], [69.5, 24.1], [10.2, 24.1]]
    assert np.array_equal(crop_line(image, fraction), image[5:25, 10:70])
    beyond = [[-4, -3], [120, -3], [120, 9], [-4, 9]]
    assert np.array_equal(crop_line(image, beyond), image[:9])
    outside = [[200, 5], [260, 5], [260, 25], [200, 25]]
    assert crop_line(image, outside).size == 0
    left = [[-20, 5], [-10, 5], [-10, 25], [-20, 25]]
    assert crop_line(image, left).size == 0


def test_a_turned_box_comes_upright() -> None:
    image = gradient(60, 100)
    # Text that runs downwards: its top left corner is at the right.
    box = [[70, 5], [70, 45], [50, 45], [50, 5]]
    expected = np.rot90(image[5:45, 50:70])
    crop = crop_line(image, box)
    assert crop.shape == expected.shape
    # OpenCV's fixed-point weights: one level.
    assert np.abs(crop.astype(int) - expected).max() <= 1
    # The mutant: corners taken for pixel centres lie half a pixel off, and more than a level.
    shifted = np.asarray(box) + 0.5
    assert np.abs(crop_line(image, shifted.tolist()).astype(int) - expected).max() > 1


def test_a_slanted_box_keeps_its_size() -> None:
    image = gradient(90, 90)
    crop = crop_line(image, [[20, 30], [60, 0], [72, 16], [32, 46]])
    assert crop.shape == (20, 50, 3) and crop.dtype == np.uint8
    with pytest.raises(ValueError, match="four"):
        crop_line(image, [[0, 0], [5, 5]])


def test_boxes_are_read_by_rows() -> None:
    def box(x: float, y: float) -> list[list[float]]:
        return [[x, y], [x + 30, y], [x + 30, y + 10], [x, y + 10]]

    boxes = [box(50, 22), box(40, 1), box(0, 20), box(0, 3), box(0, 40)]
    assert order_boxes(boxes) == [3, 1, 2, 0, 4]
    assert order_boxes([]) == []


# RapidOCR

LINES = ["Seven apples fell", "from the tree", "at 12:45 today"]


def render(lines: list[str], size: int) -> tuple[RGB8, list[list[list[float]]]]:
    """Return dark red lines on light gray (so that RGB and BGR differ), and their boxes."""
    font = ImageFont.load_default(size=size)
    step = 2 * size
    page = Image.new("RGB", (14 * size, step * len(lines) + size), (225, 225, 225))
    draw = ImageDraw.Draw(page)
    boxes = []
    for index, line in enumerate(lines):
        x, y = size, index * step + size // 2
        draw.text((x, y), line, font=font, fill=(120, 0, 0))
        left, top, right, bottom = draw.textbbox((x, y), line, font=font)
        left, top, right, bottom = left - 3, top - 3, right + 3, bottom + 3
        boxes.append([[left, top], [right, top], [right, bottom], [left, bottom]])
    return np.array(page), boxes


@pytest.fixture(scope="module")
def reader() -> RapidOcrReader:
    opened = open_reader("rapidocr", scripts={"latin"})
    assert isinstance(opened, RapidOcrReader)
    return opened


@pytest.mark.slow
def test_it_reads_lines_and_pages(reader: RapidOcrReader) -> None:
    page, boxes = render(LINES, 28)
    assert reader.read_lines(page, boxes, script="latin") == LINES
    assert reader.read_page(page, script="latin") == LINES
    assert reader.read_lines(page, [], script="latin") == []


@pytest.mark.slow
def test_nothing_reads_as_nothing(reader: RapidOcrReader) -> None:
    blank: RGB8 = np.full((64, 64, 3), 255, dtype=np.uint8)
    corners = [(0, 0, 60, 20), (0, 0, 1, 1), (5, 5, 7, 60), (100, 0, 120, 20)]
    boxes = [[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in corners]
    assert reader.read_lines(blank, boxes, script="latin") == [""] * 4
    assert reader.read_page(blank, script="latin") == []


@pytest.mark.slow
def test_a_reading_does_not_depend_on_its_neighbours(reader: RapidOcrReader) -> None:
    lines = ["5 lazy dogs; 17 €", "The quick brown fox", "Straße, naïve café", "x" * 90]
    page, boxes = render(lines, 8)
    page = np.pad(page, ((0, 0), (0, 400), (0, 0)), constant_values=225)
    alone = [reader.read_lines(page, [box], script="latin")[0] for box in boxes]
    assert reader.read_lines(page, boxes, script="latin") == alone
    assert reader.read_lines(page, boxes[::-1], script="latin") == alone[::-1]
    # The mutant: rapidocr's own batches of lines, padded to the widest; scores move with them.
    from rapidocr.ch_ppocr_rec import TextRecInput

    recogniser = reader._engines[0]._load_rec_model()
    assert recogniser.rec_batch_num == 1  # for the lines that it finds on a page
    crops = [to_bgr(crop_line(page, box)) for box in boxes]
    single = [recogniser(TextRecInput(img=[crop], return_word_box=False)) for crop in crops]
    recogniser.rec_batch_num = 6
    try:
        batch = recogniser(TextRecInput(img=crops, return_word_box=False))
    finally:
        recogniser.rec_batch_num = 1
    assert [one.scores[0] for one in single] != list(batch.scores)


def test_rapidocr_is_given_what_it_takes_for_a_file(reader: RapidOcrReader) -> None:
    # rapidocr converts PIL images from RGB itself: the same channels must arrive from arrays.
    page, boxes = render(LINES[:1], 12)
    crop = crop_line(page, boxes[0])
    options = {"use_det": False, "use_cls": False, "use_rec": True}
    theirs = reader._engines[0](Image.fromarray(crop), **options)
    ours = reader._engines[0](to_bgr(crop), **options)
    mutant = reader._engines[0](crop, **options)
    assert ours.scores == theirs.scores and ours.txts == theirs.txts
    assert mutant.scores != theirs.scores
    # And nothing resizes a low crop before the recogniser does.
    assert crop.shape[0] < 30
    from rapidocr.ch_ppocr_rec import TextRecInput

    direct = reader._engines[0]._load_rec_model()(
        TextRecInput(img=[to_bgr(crop)], return_word_box=False)
    )
    assert ours.scores == direct.scores


def test_the_reader_says_what_it_is(reader: RapidOcrReader) -> None:
    assert reader.identity["engine"] == "rapidocr"
    names = file_names(get_metric_weights("rapidocr"))
    assert len(names) == 2 and all(len(reader.identity[name]) == 64 for name in names)


@pytest.mark.slow
def test_a_missing_or_other_model_is_never_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rapidocr.utils.download_file import DownloadFile

    def refuse(*_: object) -> None:
        raise AssertionError("rapidocr downloads")

    monkeypatch.setattr(DownloadFile, "run", refuse)
    page, _ = render(LINES[:1], 28)
    assert RapidOcrReader().read_page(page, script="latin") == LINES[:1]
    elsewhere = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("vtbench.weights.metrics.find_spec", lambda _: elsewhere)
    with pytest.raises(WeightsMissing, match="pip install"):
        RapidOcrReader()
    (tmp_path / "models").mkdir()
    for name in file_names(get_metric_weights("rapidocr")):
        (tmp_path / "models" / name).write_bytes(b"other")
    with pytest.raises(WeightsMismatch, match="another file or a damaged one"):
        RapidOcrReader()


# EasyOCR's models are not to be had here: the package below stands for it, with the calls, arguments
# and errors of easyocr 1.7.2.


class StandInReader:
    def __init__(
        self, lang_list: list[str], *, model_storage_directory: str, **options: object
    ) -> None:
        assert (Path(model_storage_directory) / "zh_sim_g2.pth").is_file()
        assert options == {
            "gpu": False,
            "download_enabled": False,
            "verbose": False,
            "quantize": False,
        }
        if "damaged" in lang_list:
            raise FileNotFoundError("MD5 mismatch for craft_mlt_25k.pth and downloads disabled")

    def recognize(
        self,
        img_cv_grey: RGB8,
        horizontal_list: list[list[int]],
        free_list: list[object],
        decoder: str,
        batch_size: int,
        detail: int,
    ) -> list[str]:
        assert (free_list, decoder, batch_size, detail) == ([], "greedy", 1, 0)
        height, width = img_cv_grey.shape[:2]
        assert horizontal_list == [[0, width, 0, height]]
        if int(64 * max(width / height, height / width)) == 0 or not img_cv_grey.any():
            return []
        blue, _, red = img_cv_grey[0, 0]
        return [f"{width}x{height} red {red} blue {blue}"]

    def readtext(
        self, image: RGB8, decoder: str, batch_size: int, detail: int
    ) -> list[tuple[list[list[int]], str, float]]:
        assert image.ndim == 3 and (decoder, batch_size, detail) == ("greedy", 1, 1)
        low = [[0, 50], [40, 50], [40, 60], [0, 60]]
        high = [[0, 5], [40, 5], [40, 15], [0, 15]]
        return [(low, "second", 0.9), (high, "first", 0.8)]


@pytest.fixture
def easyocr_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    package = types.ModuleType("easyocr")
    vars(package).update(Reader=StandInReader)
    monkeypatch.setitem(sys.modules, "easyocr", package)
    monkeypatch.setattr(easy, "version", lambda name: f"{name} 1")
    monkeypatch.setenv("EASYOCR_MODULE_PATH", str(tmp_path))
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_easyocr_is_called_as_it_documents(easyocr_folder: Path) -> None:
    (easyocr_folder / "craft_mlt_25k.pth").write_bytes(b"")
    with pytest.raises(WeightsMissing, match=r"zh_sim_g2\.pth in .*fetch easyocr-chinese"):
        open_reader("easyocr", scripts={"chinese"})
    (easyocr_folder / "zh_sim_g2.pth").write_bytes(b"")
    reader = open_reader("easyocr", scripts={"chinese"})
    assert reader.identity["languages of chinese"] == "ch_sim,en"
    assert len(reader.identity["zh_sim_g2.pth"]) == 64
    page: RGB8 = np.zeros((40, 60, 3), dtype=np.uint8)
    page[:20] = (200, 0, 10)
    boxes = [[[0, y], [50, y], [50, y + 10], [0, y + 10]] for y in (0, 25, 90)]
    assert reader.read_lines(page, boxes, script="chinese") == ["50x10 red 200 blue 10", "", ""]
    assert reader.read_page(page, script="chinese") == ["first", "second"]


def test_easyocr_with_other_models_is_refused(
    easyocr_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("craft_mlt_25k.pth", "zh_sim_g2.pth"):
        (easyocr_folder / name).write_bytes(b"")
    script = (("damaged",), "zh_sim_g2.pth", "easyocr-chinese")
    monkeypatch.setitem(easy.EASYOCR_SCRIPTS, "chinese", script)
    with pytest.raises(WeightsMismatch, match="MD5"):
        open_reader("easyocr", scripts={"chinese"})
    # Greek is none of EasyOCR's: nothing is opened for it, and nothing missing.
    assert "greek" not in open_reader("easyocr", scripts={"greek"}).scripts


def test_easyocr_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "easyocr", None)
    with pytest.raises(WeightsMissing, match=r'pip install "vtbench\[easyocr\]"'):
        open_reader("easyocr", scripts={"chinese"})


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UnknownName, match="rapidocr"):
        open_reader("rapidocrr", scripts=())
