"""What there is to evaluate and with: tokenizers, suites, metrics, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.base.errors import UnknownName, WeightsMissing
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
        name: of its entry.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: fp32, bf16 or fp16, of the network; images stay float32.
        seed: of a stochastic decoder.
        registry: a folder of your own entries, or several, searched beside the shipped ones.
        weights: a file or folder in place of the entry's source.

    Raises:
        UnknownName: there is no such tokenizer.
        WeightsMissing: its weights are not here; the message says what brings them.
        WeightsMismatch: its weights are not what the entry declares.
        RegistryError: an entry is malformed.
    """
    from vtbench.tokenizers import build_tokenizer

    folders = [registry] if isinstance(registry, str | Path) else registry
    return build_tokenizer(
        load_registry([Path(folder) for folder in folders])[name],
        device=device,
        dtype=dtype,
        seed=seed,
        weights=Path(weights) if weights else None,
    )


def list_tokenizers(
    *,
    family: str | None = None,
    here: bool = False,
    registry: Sequence[str | Path] = (),
) -> list[str]:
    """Return the names of the registry's tokenizers.

    Args:
        family: only those of it.
        here: only those whose weights are on this machine.
        registry: folders of your own entries.

    Raises:
        UnknownName: no entry is of that family.
    """
    entries = load_registry([Path(folder) for folder in registry])
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


def list_suites(data: Sequence[str | Path] = ()) -> list[str]:
    """Return the names of the suites: the shipped ones and those of your own data folders."""
    return sorted(suite_paths([Path(folder) for folder in data]))


def list_metrics() -> list[str]:
    """Return the keys of the metrics that are measured, in the order of the tables."""
    return [key for key, metric in METRICS.items() if metric.takes not in ("run", "rows")]


def load_suite(
    name: str,
    *,
    data: Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
) -> Suite:
    """Return a suite with its images.

    Args:
        name: of its file.
        data: folders with suites of your own.
        sources: where data sets are, by name; else VTBENCH_DATA/NAME.

    Raises:
        UnknownName: there is no such suite.
        SuiteError: it is malformed, or an image is not the pinned one.
        DataMissing: its data set is not here; the message says where to get it.
    """
    suite = load_suite_file(name, [Path(folder) for folder in data])
    return attach_data(suite, {key: Path(path) for key, path in (sources or {}).items()})
