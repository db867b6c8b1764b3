"""Training losses of reconstructions, without networks or weights."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from vtbench.registry.recipe import Training

EDGE_SCALES = 3
"""Resolutions at which gradients are compared: whole, half and a quarter."""


def reconstruction_loss(images: Tensor, targets: Tensor, recipe: Training) -> Tensor:
    """Return mse + l1 · mean |error| + edges · `edge_loss` of N×3×H×W, a scalar."""
    error = images - targets
    loss = error.square().mean()
    if recipe.l1:
        loss = loss + recipe.l1 * error.abs().mean()
    if recipe.edges:
        loss = loss + recipe.edges * edge_loss(error)
    return loss


def edge_loss(error: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbours of the error, rows and columns, over
    `EDGE_SCALES` resolutions: what gradients of the reconstruction miss of the original's."""
    total = error.new_zeros(())
    for scale in range(EDGE_SCALES):
        if scale:
            error = functional.avg_pool2d(error, 2)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total / EDGE_SCALES
