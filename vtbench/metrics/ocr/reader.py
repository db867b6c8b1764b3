"""The interface of OCR engines, and the crop of a line's pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from vtbench.images import RGB8

Box = Sequence[Sequence[float]]
"""Four (x, y) corners, clockwise from the top left of the text as it is read; the pixel in column i
covers x from i to i + 1."""

SCRIPTS = (*("latin", "cyrillic", "greek", "chinese", "japanese", "korean", "hindi", "arabic"),)
"""Scripts that suites name. "chinese" is written in simplified characters."""

SCRIPTS_WITHOUT_SPACES = frozenset({"chinese", "japanese"})
"""Scripts in which words are not separated: a word error rate has no meaning."""


class LineReader(Protocol):
    """An OCR engine. The same pixels give the same reading, whatever else is in the call.

    Attributes:
        identity: engine, versions and the sha256 of each model file; it goes into run.json.
        scripts: what the engine reads. Any other script is not applicable to it, never an error.
        unit: whether it reads a line at once, or only single words.
    """

    identity: dict[str, str]
    scripts: frozenset[str]
    unit: Literal["line", "word"]

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        ...

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines that the engine itself finds, in reading order."""
        ...


def read_known_lines(
    reader: LineReader, image: RGB8, lines: Sequence[Mapping[str, Any]], *, script: str
) -> list[str] | None:
    """Return the reading of each line of a manifest, or None where the engine cannot read them.

    An engine that reads single words is given the lines' word boxes, and its readings are joined by
    spaces; lines without word boxes are not applicable to it.
    """
    if script not in reader.scripts:
        return None
    if reader.unit == "line":
        return reader.read_lines(image, [line["box"] for line in lines], script=script)
    if not all(line.get("words") for line in lines):
        return None
    boxes = [word["box"] for line in lines for word in line["words"]]
    words = iter(reader.read_lines(image, boxes, script=script))
    return [" ".join(next(words) for _ in line["words"]).strip() for line in lines]


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


def order_boxes(boxes: Sequence[Box]) -> list[int]:
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


def to_bgr(image: RGB8) -> RGB8:
    """Return the image with its channels in OpenCV's order."""
    return np.ascontiguousarray(image[:, :, ::-1])
