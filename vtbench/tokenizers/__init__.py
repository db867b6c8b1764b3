"""Adapters, one file a family, and `build_tokenizer`, which turns an entry into one."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.base.errors import (
    CellFailed,
    RegistryError,
    UnknownName,
    VtbenchError,
    WeightsMismatch,
    describe_foreign,
)
from vtbench.registry.adapters import find_adapter_fault
from vtbench.registry.entries import Entry
from vtbench.registry.sources import HubWeights, PageWeights
from vtbench.weights.entries import WeightFiles, check_hashes, find_official, find_weights

if TYPE_CHECKING:
    from vtbench.tokenizers.base import Tokenizer


def build_tokenizer(
    entry: Entry,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    seed: int = 0,
    weights: Path | WeightFiles | None = None,
    random_weights: bool = False,
) -> Tokenizer:
    """Return the entry's tokenizer with its weights loaded, on the device, in eval mode.

    weights: in place of the entry's own source, or as they were found already.

    random_weights: the entry's architecture (options.config) with random weights by the seed, for
    checks; on the device "meta", with none at all.

    Raises WeightsMissing or WeightsMismatch (hashes are checked before anything is built), and
    RegistryError for an adapter or option that does not exist, or for random weights of an entry
    without options.config or whose network would be too large (`size_limit`). Whatever else a
    constructor raises is a CellFailed.
    """
    from vtbench.tokenizers.base import DTYPES
    from vtbench.tokenizers.size_limit import limit_size

    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, list(DTYPES))
    adapter = load_adapter(entry)
    accepted = set(inspect.signature(adapter.__init__).parameters)
    accepted -= {"self", "spec", "device", "dtype", "seed", "weights"}
    if unknown := sorted(set(entry.options) - accepted):
        raise RegistryError(
            f"{entry.path}: options.{unknown[0]}: {adapter.__name__} takes {sorted(accepted)}"
        )
    options = dict(entry.options)
    if random_weights:
        if "config" not in options:
            raise RegistryError(
                f"{entry.name}: the architecture is not in the entry (options.config), so it cannot be "
                "built without its weights"
            )
        options["weights"] = None
    elif (found := _find(entry, weights)) is not None:
        check_hashes(entry, found)
        options["weights"] = found.path
        # A folder, as a snapshot of the hub, may hold the files of other entries too.
        file = name_single_file(entry)
        if file is not None and found.path.is_dir() and find_official(entry, found) is None:
            options["weights"] = found.path / file

    def build(on: str) -> Tokenizer:
        try:
            return adapter(entry.spec, device=on, dtype=DTYPES[dtype], seed=seed, **options)
        except WeightsMismatch as error:
            place = options.get("weights")
            # Of a network that was built: what did not fit it says not which file it came from.
            if isinstance(place, Path) and place.name not in str(error):
                said = str(error).removeprefix(f"{entry.name}: ")
                raise WeightsMismatch(f"{entry.name}: {place}: {said}") from None
            raise
        except VtbenchError:
            raise
        except Exception as error:  # an entry or file of a stranger may make a constructor raise it
            if isinstance(error, TypeError) and "required keyword" in str(error):
                raise RegistryError(f"{entry.path}: options: {error}") from None
            raise CellFailed(f"{entry.name}: cannot be built: {describe_foreign(error)}") from error

    if random_weights:
        with limit_size(entry.name):  # before anything is allocated
            tokenizer = build("meta")
        if device == "meta":
            return tokenizer
    return build(resolve_device(device))


def _find(entry: Entry, weights: Path | WeightFiles | None) -> WeightFiles | None:
    return weights if isinstance(weights, WeightFiles) else find_weights(entry, weights)


def name_single_file(entry: Entry) -> str | None:
    """Return the name of the one file that the entry's weights are, or None where they are several."""
    if isinstance(entry.weights, HubWeights) and len(entry.weights.files) == 1:
        return entry.weights.files[0]
    return entry.weights.file if isinstance(entry.weights, PageWeights) else None


def load_adapter(entry: Entry) -> type[Tokenizer]:
    """Return the class that the entry names. Only vtbench's own modules and those that an installed
    package offers under the entry-point group `vtbench.tokenizers` are imported: an entry may come
    from a stranger."""
    from vtbench.tokenizers.base import Tokenizer

    module_name, class_name = entry.adapter.split(":")
    if fault := find_adapter_fault(entry.adapter):
        raise RegistryError(f"{entry.path}: adapter: {fault}")
    try:
        adapter = getattr(importlib.import_module(module_name), class_name)
    except AttributeError as error:
        raise RegistryError(f"{entry.path}: adapter: {entry.adapter}: {error}") from None
    except Exception as error:  # a stranger's module may raise anything when it is imported
        raise RegistryError(
            f"{entry.path}: adapter: {entry.adapter}: {describe_foreign(error)}"
        ) from error
    if not (isinstance(adapter, type) and issubclass(adapter, Tokenizer)):
        raise RegistryError(f"{entry.path}: adapter: {entry.adapter} is not a Tokenizer")
    return adapter


def resolve_device(device: str) -> str:
    """Return the torch device for auto, cpu, cuda, cuda:N or mps; UnknownName for one not here."""
    import torch

    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if device == "auto":
        return next((d for d in ("cuda", "mps") if d in here), "cpu")
    if device not in here:
        raise UnknownName("device", device, here)
    return device
