"""Luma of batches."""

from __future__ import annotations

import pytest
import torch

from vtbench.metrics.luma import luma


def test_luma_is_rec_601() -> None:
    red = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    red[0, 0] = 100
    assert luma(red).item() == pytest.approx(29.9, abs=1e-12)
