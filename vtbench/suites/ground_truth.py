"""What a manifest says that is in a picture, checked before anything is measured: the lines of a page
of text, the patches of a grating chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vtbench.images import RGB8
from vtbench.metrics.detail import contrast_transfer
from vtbench.metrics.text import normalize_text

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]

SLACK_PX = 2.0
"""A corner of a rotated line may lie so far outside the picture."""


class _Facts(BaseModel):
    """A part of a row's `meta`; what else is in it describes how the picture was made."""

    model_config = ConfigDict(extra="ignore")


def _check_text(text: str) -> str:
    if not normalize_text(text, has_words=True):
        raise ValueError("a line without text")
    return text


def _check_box(box: tuple[Point, Point, Point, Point]) -> tuple[Point, Point, Point, Point]:
    pairs = zip(box, (*box[1:], box[0]), strict=True)
    area = sum(x * below - y * beside for (x, y), (beside, below) in pairs)
    if abs(area) < 2:
        raise ValueError("a box of no area")
    return box


class TextLine(_Facts):
    """One line of a page: what is written, and the four corners (x, y) around it in pixels."""

    text: Annotated[str, AfterValidator(_check_text)]
    box: Annotated[tuple[Point, Point, Point, Point], AfterValidator(_check_box)]


class TextPage(_Facts):
    """A page of the task text."""

    script: Annotated[str, Field(min_length=1)]
    glyph_px: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    lines: Annotated[tuple[TextLine, ...], Field(min_length=1)]


class Patch(_Facts):
    """One patch of a grating chart: left, top, width and height, and the period, in pixels."""

    box: tuple[int, int, int, int]
    period_px: Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Grating(_Facts):
    """A chart of gratings."""

    chart: Literal["grating"]
    patches: Annotated[tuple[Patch, ...], Field(min_length=1)]


def check_ground_truth(
    task: str, meta: Mapping[str, Any], width: int, height: int, *, of_lines: bool
) -> None:
    """Check what a row says of a picture of width×height pixels.

    of_lines: whether a metric of its task compares what is read with known lines.

    Raises:
        pydantic.ValidationError: something is missing, empty or of another form.
        ValueError: a box leaves the picture.
    """
    if task == "text" and (of_lines or "lines" in meta):
        for number, line in enumerate(TextPage.model_validate(meta).lines):
            inside = all(
                -SLACK_PX <= value <= side + SLACK_PX
                for point in line.box
                for value, side in zip(point, (width, height), strict=True)
            )
            if not inside:
                raise ValueError(f"lines.{number}.box leaves the {width}×{height} picture")
    elif task == "detail" and meta.get("chart") == "grating":
        for number, patch in enumerate(Grating.model_validate(meta).patches):
            left, top, wide, high = patch.box
            right, bottom = left + wide, top + high
            if min(left, top) < 0 or min(wide, high) < 2 or right > width or bottom > height:
                raise ValueError(f"patches.{number}.box leaves the {width}×{height} picture")


def check_contrast(meta: Mapping[str, Any], pixels: RGB8) -> None:
    """Check that the gratings of a chart are in its picture, uint8 H×W×3.

    Raises:
        ValueError: a patch is flat: it has no contrast that could be kept.
    """
    if meta.get("chart") == "grating":
        contrast_transfer(pixels, pixels, meta["patches"])
