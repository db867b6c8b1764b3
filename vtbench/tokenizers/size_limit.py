"""Size limits of networks that are built from an entry's architecture without weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules import module

from vtbench.base.errors import RegistryError

MAX_PARAMETERS = 6 * 10**9
"""Of a network with random weights: 24 GB. The largest entry, vitok-v2-5b-f16c16, has 5.0·10⁹.
Counted on torch's meta device, where a parameter takes no memory, before the first one is made."""

MAX_MODULES = 5000
"""Layers and blocks of a network; a module takes memory on the meta device as well. The
largest entry has 1419."""


@dataclass
class Size:
    """What was counted so far."""

    parameters: int = 0
    tensors: int = 0
    modules: int = 0


@contextmanager
def limit_size(name: str) -> Iterator[Size]:
    """Count what is built within the block.

    Raises RegistryError as soon as a network passes MAX_PARAMETERS or MAX_MODULES, and for whatever
    else an architecture of numbers that do not fit each other makes torch raise.
    """
    size = Size()

    def count_parameter(_module: nn.Module, _name: str, parameter: Any) -> None:
        size.parameters += parameter.numel() if parameter is not None else 0
        size.tensors += 1
        if size.parameters > MAX_PARAMETERS or size.tensors > 4 * MAX_MODULES:
            raise RegistryError(
                f"{name}: its architecture has more than {MAX_PARAMETERS:,} parameters; such a network "
                "is built with its weights alone"
            )

    def count_module(_module: nn.Module, _name: str, _submodule: Any) -> None:
        size.modules += 1
        if size.modules > MAX_MODULES:
            raise RegistryError(f"{name}: its architecture has more than {MAX_MODULES:,} modules")

    hooks = (
        module.register_module_parameter_registration_hook(count_parameter),
        module.register_module_module_registration_hook(count_module),
    )
    try:
        yield size
    except (
        RuntimeError,
        ArithmeticError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise RegistryError(
            f"{name}: its architecture cannot be built ({type(error).__name__}: {why})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
