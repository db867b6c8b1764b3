"""The lists of tokenizers, suites and metrics, and what loads one by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.base.errors import UnknownName, WeightsMissing
from vtbench.base.locations import list_paths
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import load_registry
from vtbench.suites.suites import Suite, attach_data, suite_paths
from vtbench.suites.suites import load_suite as load_suite_file
from vtbench.weights.entries import find_weights

if TYPE_CHECKING:
    from vtbench.tokenizers.base import Tokenizer


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    seed: int = 0,
    registry: str | Path | Sequence[str | Path] = (),
    weights: str | Path | None = None,
) -> Tokenizer:
    """Return a tokenizer of the registry, ready to call.

    `code = t.encode(x); y = t.decode(code)` with x float32 N×3×H×W RGB in [0, 1] of any size;
    `t(x)` is both.

    Args:
        name: The name of its entry.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: The dtype of the network: fp32, bf16 or fp16. Images stay float32.
        seed: The seed of a stochastic decoder.
        registry: A folder of your own entries, or several, added to the shipped ones.
        weights: A file or folder in place of the entry's source.

    Raises:
        UnknownName: No entry has this name.
        WeightsMissing: Its weights are not here; the message has the command that fetches them.
        WeightsMismatch: Its weights are not those that the entry pins.
        RegistryError: An entry is malformed.
    """
    from vtbench.tokenizers import build_tokenizer

    return build_tokenizer(
        load_registry(list_paths(registry))[name],
        device=device,
        dtype=dtype,
        seed=seed,
        weights=Path(weights) if weights else None,
    )


def list_tokenizers(
    *,
    family: str | None = None,
    here: bool = False,
    registry: str | Path | Sequence[str | Path] = (),
) -> list[str]:
    """Return the names of the registry's tokenizers.

    Args:
        family: Return only tokenizers of this family.
        here: Return only tokenizers whose weights are on this machine.
        registry: A folder of your own entries, or several.

    Raises:
        UnknownName: No entry is of this family.
    """
    entries = load_registry(list_paths(registry))
    families = sorted({entry.family for entry in entries.values()})
    if family is not None and family not in families:
        raise UnknownName("family", family, families)
    names = []
    for name, entry in entries.items():
        if family not in (None, entry.family):
            continue
        try:
            if here:
                find_weights(entry)
        except WeightsMissing:
            continue
        names.append(name)
    return names


def list_suites(data: str | Path | Sequence[str | Path] = ()) -> list[str]:
    """Return the names of the shipped suites and of those in your own data folders, sorted.

    Args:
        data: A folder with suites of your own, or several.
    """
    return sorted(suite_paths(list_paths(data)))


def list_metrics() -> list[str]:
    """Return the keys of the metrics that `metrics=` and `--metrics` take, in the tables' order."""
    return [key for key, metric in METRICS.items() if metric.takes not in ("run", "rows")]


def load_suite(
    name: str,
    *,
    data: str | Path | Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
) -> Suite:
    """Return a suite with its images.

    Args:
        name: The name of the suite; `NAME@VERSION` for another version than the current one.
        data: A folder with suites of your own, or several.
        sources: The folder or archive of each data set, by its name. Default: $VTBENCH_DATA/NAME.

    Raises:
        UnknownName: There is no such suite.
        SuiteError: The suite is malformed, or an image is not the pinned one.
        DataMissing: Its data set is not on this machine; the message says where to get it.
    """
    suite = load_suite_file(name, list_paths(data))
    return attach_data(suite, {key: Path(path) for key, path in (sources or {}).items()})
