"""Evaluation in the middle of a training that leaves the training as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module | None = None) -> Iterator[None]:
    """Put a model into evaluation mode, without gradients and autocast, and restore everything after.

    The context manager restores the training flag of each submodule, the random states of torch (CPU
    and the devices in use), numpy and random, grad mode, autocast, and torch's number of threads. It
    does not touch gradients that the parameters hold.

    Args:
        model: The model. None if there is none.
    """
    training = {name: part.training for name, part in model.named_modules()} if model else {}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Asking a GPU that nobody has used yet would start it.
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if started else []
    threads = torch.get_num_threads()
    device = _device_type(model)
    try:
        if model is not None:
            model.eval()
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        if model is not None:
            for name, part in model.named_modules():
                part.training = training[name]
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_num_threads(threads)


def _device_type(model: nn.Module | None) -> str:
    parameter = next(model.parameters(), None) if model is not None else None
    return "cpu" if parameter is None else parameter.device.type
