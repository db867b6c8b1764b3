"""vtbench: what a visual tokenizer keeps of an image, at what rate, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtbench.base.version import __version__

if TYPE_CHECKING:
    from vtbench.tokenizers.base import Tokenizer

__all__ = ["__version__", "load"]


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    seed: int = 0,
    registry: str | None = None,
    weights: str | None = None,
) -> Tokenizer:
    """Return the registry's tokenizer `name`, ready to call in a notebook.

    `code = t.encode(x); y = t.decode(code)` with x float32 NCHW RGB in [0, 1] of any size.
    device: auto, cpu, cuda, cuda:1, mps. dtype: fp32, bf16 or fp16 (the network's; images stay
    float32). registry: a folder of your own entries, searched beside the shipped ones. weights: a
    local file or folder instead of the entry's source. Raises UnknownName, WeightsMissing,
    WeightsMismatch, RegistryError.
    """
    from pathlib import Path

    from vtbench.registry.entries import load_registry
    from vtbench.tokenizers import build_tokenizer

    entries = load_registry([Path(registry)] if registry else [])
    return build_tokenizer(
        entries[name],
        device=device,
        dtype=dtype,
        seed=seed,
        weights=Path(weights) if weights else None,
    )
