"""Faces whose place is annotated: whether each is still the same person, and how far its features moved.

A face is cut upright out of the picture by a similarity transform of its five points (eyes, tip of the
nose, corners of the mouth) onto ArcFace's template, at the same place of original and reconstruction:
no detector decides what is compared. Beside each face stand two calibrations: the same face through
JPEG, and another person of the same picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vtbench.base.files import sha256_bytes
from vtbench.base.padding import find_padding, unpad_square
from vtbench.base.records import Sample
from vtbench.images import RGB8, pixel_sha256, to_rgb8
from vtbench.metrics.faces import SIDE, FaceFeatures, open_session
from vtbench.weights.metrics import file_names, get_metric_weights, stated_digests

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Where the five points lie in ArcFace's square of 112 px (deepinsight/insightface,
python-package/insightface/utils/face_align.py)."""

POINTS, POINTS_SIDE, AROUND = 106, 192, 1.5
"""Landmarks of 2d106det, the side of its input, and how many faces wide that is
(model_zoo/landmark.py)."""

JPEG_QUALITY = 75
"""Of the calibration by the same person."""


class FaceNetwork(Protocol):
    """What is read off a face. key: the row column."""

    key: str

    def read(self, image: RGB8, points: Floats) -> Floats:
        """Return what the network says of the face with these five points."""
        ...

    def compare(self, first: Floats, second: Floats) -> float:
        """Return how alike, or how far apart, two faces are."""
        ...


def find_alignment(points: Floats, *, side: int = SIDE, around: float = 1.0) -> Floats:
    """Return the 2×3 similarity transform (turn, one scale, shift) from a picture into the square of a
    face: least squares between the five points and the template.

    Args:
        points: 5×2, x and y in pixels of the picture.
        side: of the square.
        around: how many of the template's squares fit into it, the face in the middle.
    """
    scale = side / (SIDE * around)
    target = (TEMPLATE - SIDE / 2) * scale + side / 2
    z, w = (own[:, 0] + 1j * own[:, 1] for own in (np.asarray(points, np.float64), target))
    center = z - z.mean()
    turn = (center.conj() * (w - w.mean())).sum() / (np.abs(center) ** 2).sum()
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def cut_face(image: RGB8, matrix: Floats, side: int) -> RGB8:
    """Return the square that the transform cuts out, bilinear, black outside, as insightface does."""
    import cv2

    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderValue=0), dtype=np.uint8)


class FaceIdentity:
    """The cosine between ArcFace embeddings of two aligned faces; 1 for the same pixels."""

    key = "face_identity"

    def __init__(self, features: FaceFeatures) -> None:
        self._features = features

    def read(self, image: RGB8, points: Floats) -> Floats:
        """Return the embedding."""
        face = cut_face(image, find_alignment(points), SIDE)
        x = (face.astype(np.float32).transpose(2, 0, 1) - 127.5) / 127.5
        return self._features.embed(x).astype(np.float64)

    def compare(self, first: Floats, second: Floats) -> float:
        """Return the cosine, in [−1, 1]."""
        length = float(np.linalg.norm(first) * np.linalg.norm(second))
        return float(first @ second) / length if length else math.nan


class FaceShift:
    """How far the landmarks of two aligned faces lie apart, over the distance of the eyes; 0 for the
    same pixels.

    weights: 2d106det.onnx. sha256: the digest that it must have; None: unproven. Raises WeightsMismatch
    for another file or network.
    """

    key = "face_shift"

    def __init__(self, weights: Path, *, sha256: str | None = None) -> None:
        shape = (3, POINTS_SIDE, POINTS_SIDE), (2 * POINTS,)
        self._session = open_session(weights, shape, name="2d106det", sha256=sha256)
        self._input = self._session.get_inputs()[0].name

    def read(self, image: RGB8, points: Floats) -> Floats:
        """Return 106×2 landmarks over the distance of the annotated eyes."""
        matrix = find_alignment(points, side=POINTS_SIDE, around=AROUND)
        face = cut_face(image, matrix, POINTS_SIDE)
        # The network has its own scaling of 0 to 255 inside, and its output is in [−1, 1].
        x = face.astype(np.float32).transpose(2, 0, 1)[None]
        found = self._session.run(None, {self._input: x})[0][0].astype(np.float64)
        left, right = (matrix @ [*points[place], 1.0] for place in (0, 1))
        eyes = float(np.linalg.norm(left - right))
        places: Floats = (found.reshape(POINTS, 2) + 1) * (POINTS_SIDE / 2) / eyes
        return places

    def compare(self, first: Floats, second: Floats) -> float:
        """Return the mean distance of the landmarks."""
        return float(np.linalg.norm(first - second, axis=1).mean())


class FaceMeter:
    """Compares the annotated faces of two pictures, in the order of the annotations.

    What is read of originals, and of their JPEGs, is kept by content: one process reads each once.
    """

    def __init__(self, network: FaceNetwork) -> None:
        self._network = network
        self._known: dict[str, tuple[list[Floats], list[Floats]]] = {}

    def __call__(
        self, samples: Sequence[Sample], original: Tensor, image: Tensor
    ) -> list[dict[str, Any]]:
        """Return one mapping of row columns an image; of the pictures that have faces."""
        pairs = zip(samples, to_rgb8(original), to_rgb8(image), strict=True)
        return [self._measure(*pair) for pair in pairs]

    def _measure(self, sample: Sample, original: RGB8, image: RGB8) -> dict[str, Any]:
        faces = sample.meta.get("faces")
        if not faces:
            return {}
        places = [np.array(face["points"], dtype=np.float64) for face in faces]
        known, same = self._read_original(original, sample, places)
        drawn = self._read(_at_own_size(image, sample), places)
        compare, key = self._network.compare, self._network.key
        # Faces of one picture are of different people; a picture with one face has no other.
        others = [*known[1:], known[0]] if len(known) > 1 else []
        return {
            "face_ratio": [float(face["ratio"]) for face in faces],
            key: [compare(*pair) for pair in zip(known, drawn, strict=True)],
            f"{key}_jpeg": [compare(*pair) for pair in zip(known, same, strict=True)],
            f"{key}_other": [compare(*pair) for pair in zip(known, others, strict=False)],
        }

    def _read(self, image: RGB8, places: Sequence[Floats]) -> list[Floats]:
        return [self._network.read(image, points) for points in places]

    def _read_original(
        self, square: RGB8, sample: Sample, places: Sequence[Floats]
    ) -> tuple[list[Floats], list[Floats]]:
        key = pixel_sha256(square) + sha256_bytes(np.array(places).tobytes())
        if key not in self._known:
            plain, same = (
                self._read(_at_own_size(x, sample), places) for x in (square, through_jpeg(square))
            )
            self._known[key] = plain, same
        return self._known[key]


def _at_own_size(square: RGB8, sample: Sample) -> RGB8:
    """Return the picture of a padded square at the size that its annotations are in."""
    width, height = sample.meta["size"]
    if square.shape[:2] == (height, width):
        return square
    return unpad_square(square, find_padding(width, height, square.shape[0]))


def through_jpeg(image: RGB8) -> RGB8:
    """Return the picture after Pillow's JPEG of JPEG_QUALITY, chroma at half the resolution."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling="4:2:0")
    return np.asarray(Image.open(buffer).convert("RGB"))


def open_identity(weights: Path, *, device: str) -> FaceMeter:
    """Return what measures `face_identity`. weights: glintr100.onnx. device: not asked, it runs on the
    CPU."""
    return FaceMeter(FaceIdentity(FaceFeatures(weights, sha256=_stated("antelopev2"))))


def open_shift(weights: Path, *, device: str) -> FaceMeter:
    """Return what measures `face_shift`. weights: 2d106det.onnx. device: not asked, it runs on the
    CPU."""
    return FaceMeter(FaceShift(weights, sha256=_stated("face-landmarks")))


def _stated(key: str) -> str | None:
    entry = get_metric_weights(key)
    return stated_digests(entry, *file_names(entry))[0]
