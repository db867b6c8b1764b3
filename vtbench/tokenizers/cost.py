"""Parameters and multiply-accumulates of an entry's network, counted without weights or memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vtbench.base.errors import RegistryError
from vtbench.registry.entries import Entry
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Tokenizer

SIZE = 256
"""Side of the square image that stored numbers are of."""


@dataclass(frozen=True)
class Cost:
    """parameters: of all networks of the tokenizer, codebook included, each tensor once. GMAC: 10⁹
    multiply-accumulates for one image, or None where they cannot be counted; why says the reason."""

    parameters: int
    encode_gmac: float | None
    decode_gmac: float | None
    why: str | None = None


def measure_cost(entry: Entry, size: int = SIZE) -> Cost:
    """Return the cost of coding one size×size image with the entry's architecture (options.config).

    Counts what `torch.utils.flop_counter` does: convolutions, matrix products and attention, with
    the padding of a convolution counted as pixels; not norms, elementwise operations or the search
    in a codebook by `torch.cdist`. A network of video counts the empty frames around the only one.
    Raises RegistryError for an entry whose architecture is not in it, or cannot run.
    """
    tokenizer = build_tokenizer(entry, device="meta", random_weights=True)
    parameters = {id(p): p.numel() for net in list_networks(tokenizer) for p in net.parameters()}
    total = sum(parameters.values())
    images = torch.zeros(1, 3, size, size, device="meta")
    code, encode, why = _count(entry, lambda: tokenizer.encode(images))
    if code is None:
        return Cost(total, None, None, f"encode: {why}")
    _, decode, why = _count(entry, lambda: tokenizer.decode(code))
    return Cost(total, encode, decode, None if why is None else f"decode: {why}")


def list_networks(tokenizer: Tokenizer) -> list[nn.Module]:
    """Return the networks that a tokenizer is made of."""
    return [value for value in vars(tokenizer).values() if isinstance(value, nn.Module)]


def _count(entry: Entry, call: Callable[[], Any]) -> tuple[Any, float | None, str | None]:
    from torch.utils.flop_counter import FlopCounterMode

    # The fused fast path of nn.MultiheadAttention would be counted as nothing.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            result = call()
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # A network that looks at its values cannot go without them (.item() of a schedule).
        if "meta tensor" in reason:
            return None, None, reason
        raise RegistryError(f"{entry.name}: {reason}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return result, counter.get_total_flops() / 2e9, None
