"""vtbench with a small network behind every feature metric: what the tests of ranks start.

    torchrun --nproc-per-node N tests/runs/rank_driver.py COMMAND ...

VTBENCH_TEST_CACHES=DIR gives each rank a cache of its own, DIR/<rank>, as hosts have that share nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vtbench.cli import main
from vtbench.metrics.catalogue import METRICS
from vtbench.runs import set_features
from vtbench.runs.set_features import FeatureSets

DIM = 2


class Colours:
    """Two features and three logits of a picture: means of its colours and edges."""

    def __init__(self, name: str) -> None:
        self.name, self.dim, self.width = name, DIM, DIM + 3
        self.identity: Mapping[str, str] = {"colours.pth": "0" * 64}
        self.dtype = torch.float64 if name.endswith("float64") else torch.float32

    def __call__(self, images: Tensor) -> Tensor:
        x = images.to(self.dtype) / 255
        edges = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3))
        return torch.stack([x[:, 0].mean((1, 2)), edges * 9, *x.mean((2, 3)).T], dim=1)


def open_small(self: FeatureSets, key: str, *, with_logits: bool) -> str:
    """Open the small network in place of the published one."""
    source = set_features.FEATURE_SOURCES[key]
    encoder = Colours(f"{source.network}.{source.resizing}.{source.dtype}")
    self._encoders.setdefault(encoder.name, encoder)
    self.networks |= encoder.identity
    return encoder.name


if __name__ == "__main__":
    if caches := os.environ.get("VTBENCH_TEST_CACHES"):
        os.environ["XDG_CACHE_HOME"] = f"{caches}/{os.environ.get('RANK', '0')}"
    FeatureSets._open = open_small  # type: ignore[method-assign]
    set_features.METRICS = {  # type: ignore[attr-defined]
        key: replace(metric, minimum_n=DIM + 1) if metric.minimum_n > 1 else metric
        for key, metric in METRICS.items()
    }
    sys.exit(main(sys.argv[1:]))
