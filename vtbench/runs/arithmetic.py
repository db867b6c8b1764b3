"""How a GPU computes within a run: as the protocol says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Within it a GPU computes as the protocol says: no TF32 in products and convolutions (its
    10-bit mantissa moves a PSNR), and no convolution algorithm that is chosen by timing or whose sums
    come in another order each time. What was set before is set again after it."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = (
        False,
        False,
        True,
        False,
    )
    try:
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
