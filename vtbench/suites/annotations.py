"""Annotation files of data sets. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from vtbench.base.errors import SuiteError
from vtbench.base.expressions import check_expression
from vtbench.base.files import read_bounded
from vtbench.base.records import Sample
from vtbench.base.schema import Strict

MAX_ANNOTATION_BYTES = 2**25


class AnnotationFiles(Strict):
    """Which files of a copy hold annotations.

    format: "tokbench", a list of pictures with their words, "tokbench-faces", with their faces, both as
    TokBench publishes them. files: a regular expression of their names, whose first group is the subset
    that a file is of.
    """

    format: Literal["tokbench", "tokbench-faces"]
    files: str

    @field_validator("files")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        check_expression(value)
        if re.compile(value).groups != 1:
            raise ValueError("needs one group, for the subset")
        return value


class _Published(BaseModel):
    """Other people's files may say more than is used here."""

    model_config = ConfigDict(extra="ignore")


_Pixel = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class TokBenchAnnotation(_Published):
    """A word. bbox: left, top, right, bottom in pixels. ratio: its height over the longer side."""

    bbox: tuple[_Pixel, _Pixel, _Pixel, _Pixel]
    rec: Annotated[str, Field(min_length=1, max_length=1000)]
    ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TokBenchPicture(_Published):
    """A picture and its words."""

    file_name: Annotated[str, Field(min_length=1, max_length=255)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    annotations: list[TokBenchAnnotation]


class TokBenchFace(_Published):
    """A face. kps: eyes, tip of the nose, corners of the mouth, x and y in pixels, each pair from the
    picture's left to its right. ratio: the face's size over the picture's longer side."""

    kps: Annotated[list[tuple[_Pixel, _Pixel]], Field(min_length=5, max_length=5)]
    ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TokBenchFacePicture(_Published):
    """A picture and its faces. image_name: the file's, with folders above it or without."""

    image_name: Annotated[str, Field(min_length=1, max_length=1000)]
    img_height: Annotated[int, Field(ge=1)]
    img_width: Annotated[int, Field(ge=1)]
    faces: Annotated[list[TokBenchFace], Field(max_length=1000)]

    @property
    def file_name(self) -> str:
        """The file's name without folders."""
        return self.image_name.rpartition("/")[2]


_FILES: dict[str, TypeAdapter[list[TokBenchPicture]] | TypeAdapter[list[TokBenchFacePicture]]] = {
    "tokbench": TypeAdapter(list[TokBenchPicture]),
    "tokbench-faces": TypeAdapter(list[TokBenchFacePicture]),
}


def annotate_samples(
    annotations: AnnotationFiles,
    samples: Mapping[tuple[str, str], Sample],
    files: Sequence[Path],
) -> dict[tuple[str, str], Sample]:
    """Return those samples that annotations speak of, with what they say as `meta`.

    Args:
        annotations: which of the files they are.
        samples: the pictures by subset and id; an id ends in the picture's file name.
        files: all files of the copy.

    Raises:
        SuiteError: no annotation file, one that cannot be read, or a picture that is not there.
    """
    found: dict[tuple[str, str], Sample] = {}
    matches = [(path, re.fullmatch(annotations.files, path.name)) for path in files]
    for path, match in matches:
        if match is None:
            continue
        subset = match[1]
        try:
            pictures = _FILES[annotations.format].validate_json(
                read_bounded(path, max_bytes=MAX_ANNOTATION_BYTES, raise_as=SuiteError)
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SuiteError(f"{path}: {where}: {first['msg']}") from None
        for picture in pictures:
            key = (subset, f"{subset}-{picture.file_name}")
            if key not in samples:
                raise SuiteError(f"{path}: {picture.file_name} is not among the pictures")
            if meta := _describe(picture):
                found[key] = replace(samples[key], meta=meta)
    if not found:
        raise SuiteError(f"no annotations: no file whose name matches {annotations.files}")
    return found


def _describe(picture: TokBenchPicture | TokBenchFacePicture) -> dict[str, Any]:
    """Return what an annotation says of a picture; empty where it has no words or faces."""
    if isinstance(picture, TokBenchFacePicture):
        faces = [{"points": [*map(list, face.kps)], "ratio": face.ratio} for face in picture.faces]
        return {"size": [picture.img_width, picture.img_height], "faces": faces} if faces else {}
    if not picture.annotations:
        return {}
    return {
        "script": "latin",
        "size": [picture.width, picture.height],
        "tokbench": [
            {"text": word.rec, "bbox": list(word.bbox), "ratio": word.ratio}
            for word in picture.annotations
        ],
    }
