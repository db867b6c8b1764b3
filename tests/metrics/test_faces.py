"""Face embeddings: the crop, the scaling and the refusal of other networks, on a small random one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders import photo
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from vtbench.base.errors import VtbenchError, WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.metrics.faces import FaceFeatures, show

MATRIX = np.random.default_rng(0).standard_normal((3 * 14 * 14, 512)).astype(np.float32) / 24


def write_network(path: Path, *, side: int = 112) -> Path:
    """Write a network of the published one's inputs and outputs: means over 8×8, and a matrix."""
    given = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, side, side])
    out = helper.make_tensor_value_info("1333", TensorProto.FLOAT, ["None", 512])
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["a"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "m"], ["1333"]),
    ]
    matrix = MATRIX if side == 112 else MATRIX[: 3 * (side // 8) ** 2]
    graph = helper.make_graph(nodes, "g", [given], [out], [numpy_helper.from_array(matrix, "m")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def portraits(side: int = 256) -> Tensor:
    arrays = [photo(seed, side, side) for seed in range(3)]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def test_the_embedding_is_of_the_face_in_the_portrait(tmp_path: Path) -> None:
    path = write_network(tmp_path / "glintr100.onnx")
    embed = FaceFeatures(path)
    images = portraits()
    rows = embed(images)
    assert rows.shape == (3, 512) and rows.dtype == embed.dtype
    # By hand: rows and columns of pixel2style2pixel, means over areas, insightface's scaling.
    face = images[:, :, 35:223, 32:220].double()
    x = (torch.nn.functional.adaptive_avg_pool2d(face, 112) - 127.5) / 127.5
    pooled = torch.nn.functional.avg_pool2d(x, 8).flatten(1).numpy()
    assert np.abs(pooled @ MATRIX - rows.numpy()).max() < 1e-5  # float32 sums of 588 products
    # The mutant: rows and columns exchanged, a shift of three pixels.
    shifted = images[:, :, 32:220, 35:223].double()
    x = (torch.nn.functional.adaptive_avg_pool2d(shifted, 112) - 127.5) / 127.5
    wrong = torch.nn.functional.avg_pool2d(x, 8).flatten(1).numpy() @ MATRIX
    assert np.abs(wrong - rows.numpy()).max() > 1e-2
    alone = torch.cat([embed(image[None]) for image in images])
    assert torch.equal(alone, rows)
    assert embed.identity == {"glintr100.onnx": sha256_file(path)}


def test_larger_portraits_are_brought_to_256_by_area() -> None:
    large = portraits(512)
    quarters = large.float().reshape(3, 3, 256, 2, 256, 2).mean(dim=(3, 5))
    by_hand = torch.nn.functional.adaptive_avg_pool2d(quarters[..., 35:223, 32:220], 112)
    assert torch.allclose(show(large), (by_hand - 127.5) / 127.5, atol=1e-5)
    assert float(show(large).abs().max()) <= 1


def test_what_is_no_portrait_or_no_network_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "glintr100.onnx")
    with pytest.raises(VtbenchError, match="square portraits, not 200×256"):
        FaceFeatures(path)(portraits()[..., :200])
    with pytest.raises(WeightsMismatch, match="another network"):
        FaceFeatures(write_network(tmp_path / "other.onnx", side=96))
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsMismatch, match="no network that onnxruntime reads"):
        FaceFeatures(tmp_path / "torn.onnx")
    with pytest.raises(WeightsMismatch, match="does not start with 00000000"):
        FaceFeatures(path, sha256="00000000")
