"""Face identity: embeddings of insightface's recognition network on aligned portraits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from vtbench.base.errors import VtbenchError, WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.base.library_reports import forbid_reports

PORTRAIT, SIDE, WIDTH = 256, 112, 512
"""Side of the portrait that is cropped, of the network's input, width of an embedding."""

ROWS, COLUMNS = slice(35, 223), slice(32, 220)
"""The face in a portrait aligned as FFHQ's are, as pixel2style2pixel's identity loss cuts it
(Richardson et al., CVPR 2021; eladrich/pixel2style2pixel, criteria/id_loss.py)."""


class FaceFeatures:
    """ArcFace's ResNet-100 trained on Glint360K (antelopev2 of deepinsight/insightface), by onnxruntime
    on the CPU, one image a call, so that no embedding depends on its batch.

    weights: glintr100.onnx. sha256: the digest that it must have, or its first digits; None: unproven.
    Raises WeightsMismatch for another file or network.
    """

    name = "antelopev2"
    dtype = torch.float32
    dim = width = WIDTH

    def __init__(self, weights: Path, *, sha256: str | None = None) -> None:
        self.identity: Mapping[str, str] = {weights.name: sha256_file(weights)}
        self._session = open_session(
            weights, ((3, SIDE, SIDE), (WIDTH,)), name=self.name, sha256=sha256
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 N×512 of uint8 N×3×S×S portraits aligned as FFHQ's are.

        Raises VtbenchError for images that are not square.
        """
        height, width = images.shape[-2:]
        if height != width:
            raise VtbenchError(f"{self.name} takes square portraits, not {width}×{height}")
        return torch.stack([torch.from_numpy(self.embed(x)) for x in show(images).numpy()])

    def embed(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embedding, 512, of one aligned face, 3×112×112 RGB in [−1, 1]."""
        return np.asarray(self._session.run(None, {self._input: face[None]})[0][0])


def open_session(
    weights: Path,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    name: str,
    sha256: str | None = None,
) -> Any:
    """Return a network of one input and one output by onnxruntime, on the CPU.

    Args:
        weights: the ONNX file.
        shapes: of its input and output, without the batch.
        name: of the network, in messages.
        sha256: the digest that the file must have, or its first digits; None: unproven.

    Raises:
        WeightsMismatch: another file or network.
    """
    forbid_reports()
    import onnxruntime

    if sha256 is not None and not sha256_file(weights).startswith(sha256):
        raise WeightsMismatch(f"{name}: sha256 of {weights} does not start with {sha256}")
    try:
        session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime has an exception of its own for each way in which a file can be wrong.
        raise WeightsMismatch(
            f"{name}: {weights} is no network that onnxruntime reads: {error}"
        ) from error
    found = [tuple(x.shape[1:]) for x in (*session.get_inputs(), *session.get_outputs())]
    if found != [*shapes]:
        raise WeightsMismatch(f"{name}: {weights} is another network: {found}")
    return session


def show(images: Tensor) -> Tensor:
    """Return uint8 portraits as the network takes them: to 256², the face, to 112², each by the mean
    over areas; float32 RGB in [−1, 1]."""
    x = images.cpu().to(torch.float32)
    if x.shape[-1] != PORTRAIT:
        x = functional.adaptive_avg_pool2d(x, PORTRAIT)
    face = functional.adaptive_avg_pool2d(x[..., ROWS, COLUMNS], SIDE)
    return (face - 127.5) / 127.5
