"""Files of weights, mutated for a while: an error of ours names the file, or it is read."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path

import pytest
import torch
from gate.fuzz.mutate import fuzz, mutate_bytes
from safetensors.torch import save

from vtbench.base.errors import WeightsMismatch
from vtbench.weights.states import load_state

pytestmark = pytest.mark.slow

STATE = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3), "steps": torch.tensor(7)}


def write_torch(*, zipped: bool) -> bytes:
    target = io.BytesIO()
    torch.save(STATE, target, _use_new_zipfile_serialization=zipped)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "zip", "stream"])
def test_weights(tmp_path: Path, kind: str) -> None:
    whole = save(STATE) if kind == "safetensors" else write_torch(zipped=kind == "zip")
    path = tmp_path / ("mine.safetensors" if kind == "safetensors" else "mine.pt")

    def make(draw: random.Random) -> bytes:
        return mutate_bytes(whole, draw)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of storages and of the format before 1.6
                load_state(path)
        except WeightsMismatch as error:
            assert path.name in str(error) and "\n" not in str(error)
            raise

    fuzz(make, read)
