"""Annotated faces: alignment against skimage, identity and shift on networks whose answer is known, the
calibrations, TokBench's annotations and buckets. No published weights are here; the networks are small
ones of the published shapes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from builders import photo
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from skimage.transform import SimilarityTransform

from vtbench.base.errors import SuiteError, WeightsMismatch
from vtbench.base.records import Sample
from vtbench.leaderboard.detail_numbers import NUMBERS
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.face_sizes import find_bucket
from vtbench.metrics.faces import FaceFeatures
from vtbench.metrics.known_faces import (
    TEMPLATE,
    FaceIdentity,
    FaceMeter,
    FaceShift,
    cut_face,
    find_alignment,
    through_jpeg,
)
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import attach_data, load_suite

RNG = np.random.default_rng(3)


def place_face(left: float, top: float, size: float, turn: float = 0.0) -> np.ndarray[Any, Any]:
    """Return five points of a face of about that width, turned by an angle, not quite the template's."""
    unit = (TEMPLATE - 56) / 112 * size
    cos, sin = np.cos(turn), np.sin(turn)
    unit = unit @ np.array([[cos, sin], [-sin, cos]]) + [left + size / 2, top + size / 2]
    noise: np.ndarray[Any, Any] = unit + RNG.normal(0, size / 60, unit.shape)
    return noise


def write_network(path: Path, *, side: int, outputs: int, pool: int) -> Path:
    """Write a network of those inputs and outputs: means over squares, then a random matrix."""
    matrix = np.random.default_rng(0).standard_normal((3 * (side // pool) ** 2, outputs))
    matrix = (matrix / 4000).astype(np.float32)
    given = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["None", 3, side, side])
    out = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, ["None", outputs])
    nodes = [
        helper.make_node(
            "AveragePool", ["data"], ["a"], kernel_shape=[pool] * 2, strides=[pool] * 2
        ),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "m"], ["fc1"]),
    ]
    graph = helper.make_graph(nodes, "g", [given], [out], [numpy_helper.from_array(matrix, "m")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


class Brightest:
    """Reads where the brightest pixel of an aligned face lies, over the distance of its eyes."""

    key = "face_shift"
    compare = FaceShift.compare

    def read(self, image: Any, points: Any) -> Any:
        face = cut_face(image, find_alignment(points, side=192, around=1.5), 192)
        row, column = np.unravel_index(int(face.sum(axis=2).argmax()), (192, 192))
        # The template's eyes are 35.24 px of 112 apart: 40.27 of 192 at one and a half faces.
        return np.array([[column, row]]) / 40.27


def batch(image: Any) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def sample_of(image: Any, *faces: Any, ratios: tuple[float, ...] = ()) -> Sample:
    known = [
        {"points": points.tolist(), "ratio": ratio}
        for points, ratio in zip(faces, ratios or (0.1,) * len(faces), strict=True)
    ]
    height, width = image.shape[:2]
    made = SimpleNamespace(meta={"size": [width, height], "faces": known} if faces else {})
    return made  # type: ignore[return-value]


@pytest.mark.parametrize("turn", [0.0, 0.6, -2.0])
def test_alignment_is_skimages_and_the_cut_is_insightfaces(turn: float) -> None:
    points = place_face(60, 40, 90, turn)
    theirs = SimilarityTransform.from_estimate(points, TEMPLATE)
    ours = find_alignment(points)
    assert np.abs(ours - theirs.params[:2]).max() < 1e-9
    picture = photo(1, 240, 240)
    warped = cv2.warpAffine(picture, theirs.params[:2], (112, 112), borderValue=0.0)
    assert np.abs(cut_face(picture, ours, 112).astype(int) - warped.astype(int)).max() <= 1
    # One and a half faces wide: the template's square is the middle of 192 px, 128 px wide.
    wide = find_alignment(points, side=192, around=1.5)
    middle = (ours - [[0, 0, 56], [0, 0, 56]]) * (128 / 112) + [[0, 0, 96], [0, 0, 96]]
    assert np.abs(wide - middle).max() < 1e-9


def test_the_shift_of_a_feature_is_its_displacement_over_the_eyes_distance() -> None:
    meter = FaceMeter(Brightest())  # type: ignore[arg-type]
    points = place_face(50, 30, 112)
    dark = np.full((200, 220, 3), 20, np.uint8)
    before, after = dark.copy(), dark.copy()
    before[84:88, 100:104] = 255
    after[84:88, 110:114] = 255  # ten pixels to the right
    (row,) = meter([sample_of(dark, points)], batch(before), batch(after))
    eyes = np.linalg.norm(points[0] - points[1])
    # The landmark is a whole pixel of the cut, 1.14 a pixel of the picture; and eyes are annotated ones.
    assert row["face_shift"][0] == pytest.approx(10 / eyes, rel=0.12)
    (same,) = meter([sample_of(dark, points)], batch(before), batch(before))
    assert same["face_shift"] == [0.0] and same["face_shift_other"] == []


def test_identity_stands_between_the_same_person_and_another(tmp_path: Path) -> None:
    network = FaceIdentity(
        FaceFeatures(write_network(tmp_path / "a.onnx", side=112, outputs=512, pool=8))
    )
    meter = FaceMeter(network)
    picture = np.concatenate([photo(1, 200, 200), photo(2, 200, 200)], axis=1)
    faces = [place_face(30, 30, 120), place_face(230, 40, 110, 0.3)]
    blurred = cv2.GaussianBlur(picture, (0, 0), 6)
    sample = sample_of(picture, *faces, ratios=(0.3, 0.275))
    (row,) = meter([sample], batch(picture), batch(blurred))
    (perfect,) = meter([sample], batch(picture), batch(picture))
    assert row["face_ratio"] == [0.3, 0.275]
    assert perfect["face_identity"] == pytest.approx([1, 1], abs=1e-6)
    assert perfect["face_identity_jpeg"] == row["face_identity_jpeg"]  # of the original alone
    for place in (0, 1):
        other, blur, jpeg = (row[f"face_identity{kind}"][place] for kind in ("_other", "", "_jpeg"))
        assert other < blur < jpeg < 1
    # By hand: the cosine of two embeddings of the aligned cuts.
    cuts = [cut_face(x, find_alignment(faces[0]), 112) for x in (picture, through_jpeg(picture))]
    a, b = (
        FaceFeatures.embed(
            network._features, (c.transpose(2, 0, 1).astype(np.float32) - 127.5) / 127.5
        )
        for c in cuts
    )
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert row["face_identity_jpeg"][0] == pytest.approx(cosine, abs=1e-5)
    # A picture without faces has no columns, one with a single face no other person.
    assert meter([sample_of(picture)], batch(picture), batch(blurred)) == [{}]
    (alone,) = meter([sample_of(picture, faces[0])], batch(picture), batch(blurred))
    assert alone["face_identity_other"] == [] and len(alone["face_identity_jpeg"]) == 1


def test_landmarks_come_from_a_network_of_the_published_shape(tmp_path: Path) -> None:
    path = write_network(tmp_path / "2d106det.onnx", side=192, outputs=212, pool=16)
    network = FaceShift(path)
    picture, points = photo(4, 220, 220), place_face(40, 40, 120, 0.2)
    found = network.read(picture, points)
    assert found.shape == (106, 2)
    assert network.compare(found, found) == 0
    assert network.compare(found, found + np.array([0.3, 0.4])) == pytest.approx(0.5)
    with pytest.raises(WeightsMismatch, match="another network"):
        FaceShift(write_network(tmp_path / "b.onnx", side=112, outputs=212, pool=8))
    with pytest.raises(WeightsMismatch, match="does not start with 00"):
        FaceShift(path, sha256="00")


@pytest.mark.parametrize(
    ("ratio", "side", "bucket"),
    [(0.0, 256, 0), (0.0999, 256, 0), (0.1, 256, 1), (0.1, 512, 2), (0.05, 1024, 1), (0.2, 256, 2)],
)
def test_buckets_are_tokbenchs_and_half_open(ratio: float, side: int, bucket: int) -> None:
    assert find_bucket(ratio, side) == bucket
    assert find_bucket(1.0, side) is None and find_bucket(ratio, 300) is None


def selection(rows: list[dict[str, Any]]) -> Any:
    """Return what a pool asks of a selection of rows."""
    names = np.arange(len(rows))
    return SimpleNamespace(rows=rows, images=lambda known: names[known])


def test_faces_pool_by_size_with_their_calibrations() -> None:
    pools = {number.key: number.pool(8) for number in NUMBERS}
    base = {"width": 256, "face_ratio": [0.05, 0.15], "face_identity_jpeg": [0.9, 0.95]}
    first = base | {"face_identity": [0.2, 0.6], "face_identity_other": [0.1, 0.1]}
    last = {"width": 256, "face_ratio": [0.5], "face_identity": [0.7]}
    last |= {"face_identity_jpeg": [1.0], "face_identity_other": []}
    without = dict.fromkeys(first) | {"width": 256}
    rows = selection([first, last, without])
    assert pools["face_identity"](rows).value == pytest.approx((0.2 + 0.6 + 0.7) / 3)
    assert pools["face_identity.medium"](rows).value == pytest.approx(0.6)
    assert pools["face_identity.jpeg"](rows).value == pytest.approx((0.9 + 0.95 + 1.0) / 3)
    assert pools["face_identity.other"](rows).value == pytest.approx(0.1)
    # An empty bucket gives no mean of three, and the others stand.
    some = selection([first])
    assert pools["face_identity"](some) is None
    assert pools["face_identity.small"](some).value == pytest.approx(0.2)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / "face_data"
    folder.mkdir(parents=True)
    Image.fromarray(photo(5, 320, 480)).save(folder / "a.png")
    Image.fromarray(photo(6, 200, 200)).save(folder / "b.png")
    face = {"kps": place_face(60, 60, 120).tolist(), "ratio": 0.25, "box": [1, 2, 3, 4]}
    pictures = [
        {"image_name": "WFLW/a.png", "img_height": 320, "img_width": 480, "faces": [face]},
        {"image_name": "b.png", "img_height": 200, "img_width": 200, "faces": []},
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "face_meta.json").write_text(json.dumps(pictures))
    return tmp_path


def test_tokbenchs_faces_are_attached_and_measured_at_their_own_size(
    copy: Path, tmp_path: Path
) -> None:
    suite = attach_data(load_suite("tokbench-faces-256"), {"tokbench": copy})
    (sample,) = suite.samples  # b.png has no face
    assert sample.meta["size"] == [480, 320] and len(sample.meta["faces"][0]["points"]) == 5
    square = batch(load_pixels(sample))
    assert square.shape == (1, 3, 256, 256)
    path = write_network(tmp_path / "n.onnx", side=112, outputs=512, pool=8)
    (row,) = FaceMeter(FaceIdentity(FaceFeatures(path)))([sample], square, square)
    assert row["face_identity"] == pytest.approx([1.0], abs=1e-6)
    keys = suite.protocol.tasks["reconstruction"].metrics
    assert {"face_identity", "face_shift"} <= set(keys) <= set(METRICS)


def test_other_annotations_of_faces_are_refused_by_name(copy: Path) -> None:
    path = copy / "annotations" / "face_meta.json"
    broken = (
        '[{"image_name": "a.png", "img_height": 9, "img_width": 9, "faces": [{"kps": [[1, 2]]}]}]'
    )
    path.write_text(broken)
    with pytest.raises(SuiteError, match=r"face_meta\.json: 0\.faces\.0"):
        attach_data(load_suite("tokbench-faces-512"), {"tokbench": copy})
    path.write_text(broken.replace('"a.png"', '"gone.png"').replace('[{"kps": [[1, 2]]}]', "[]"))
    with pytest.raises(SuiteError, match=r"gone\.png is not among"):
        attach_data(load_suite("tokbench-faces-512"), {"tokbench": copy})
