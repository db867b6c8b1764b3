"""docTR's PARSeq: single words of Latin script, the reader of TokBench."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from vtbench.base.errors import MetricError, WeightsMismatch, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr.reader import Box, crop_line
from vtbench.weights.metrics import check_metric_weights, find_metric_weights

HEIGHT, WIDTH = 32, 128
"""What the network takes."""

FILE, DIGEST = "parseq-56125471.pt", "56125471"
"""The published file, whose name states how its sha256 begins."""

BATCH = 32
"""Words a pass, always: the last one is filled up, so that a reading does not depend on how many words
there are."""


class ParseqReader:
    """PARSeq of docTR (vocabulary "french", at most 32 characters), on `device`.

    A word is cut out, brought to 32×128 with its aspect kept (bilinear, antialiased, float), and padded
    with black at the right or below, as in TokBench; then normalized with docTR's mean and deviation.
    Its vocabulary has no space, so it reads words and not lines.

    Raises:
        WeightsMissing: python-doctr or the weights are not on this machine.
        WeightsMismatch: the file is not the catalogue's, or does not fit the network.
    """

    unit: Literal["line", "word"] = "word"
    scripts = frozenset({"latin"})

    def __init__(self, device: str) -> None:
        found = find_metric_weights("doctr-parseq")
        sums = check_metric_weights("doctr-parseq", found)
        if not sums[FILE].startswith(DIGEST):
            raise WeightsMismatch(f"doctr-parseq: {found.path}: its sha256 does not begin {DIGEST}")
        try:
            from doctr.models import recognition
        except ModuleNotFoundError as error:
            raise WeightsMissing(
                f'docTR cannot be imported ({error}): `pip install "vtbench[doctr]"`'
            ) from error
        import torch

        network = recognition.parseq(pretrained=False)
        try:
            state = torch.load(found.path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except Exception as error:  # of a stranger's file anything
            raise WeightsMismatch(f"doctr-parseq: {found.path} does not fit: {error}") from None
        self._network: Any = network.eval().to(device)
        self._device = device
        self.identity = {
            "engine": "doctr-parseq",
            "python-doctr": version("python-doctr"),
            "torch": version("torch"),
            **sums,
        }

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, each of which holds one word."""
        import torch

        crops = [crop_line(image, box) for box in boxes]
        readings = [""] * len(crops)
        places = [place for place, crop in enumerate(crops) if crop.size]
        for start in range(0, len(places), BATCH):
            share = places[start : start + BATCH]
            batch = np.zeros((BATCH, 3, HEIGHT, WIDTH), dtype=np.float32)
            for row, place in enumerate(share):
                batch[row] = fit_word(crops[place])
            mean, std = (
                np.asarray(self._network.cfg[key], dtype=np.float32).reshape(1, 3, 1, 1)
                for key in ("mean", "std")
            )
            with torch.inference_mode():
                images = torch.from_numpy((batch - mean) / std).to(self._device)
                words = self._network(images, return_preds=True)["preds"]
            for place, (word, _) in zip(share, words, strict=False):
                readings[place] = str(word)
        return readings

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Raise MetricError: the engine finds no text by itself."""
        raise MetricError("doctr-parseq reads words at given places, not pages")


def fit_word(crop: RGB8) -> Any:
    """Return a word as the network takes it, before normalization: 3×32×128 float32 in [0, 1]."""
    import torch
    from torchvision.transforms.functional import resize

    height, width = crop.shape[:2]
    if height * WIDTH > width * HEIGHT:
        size = (HEIGHT, max(int(HEIGHT / (height / width)), 1))
    else:
        size = (max(int(WIDTH * (height / width)), 1), WIDTH)
    image = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float().div(255)
    image = resize(image, list(size), antialias=True)
    padded = np.zeros((3, HEIGHT, WIDTH), dtype=np.float32)
    padded[:, : size[0], : size[1]] = image.numpy()
    return padded
