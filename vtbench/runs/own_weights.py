"""Weights that were given by hand: under which row they are measured, and without which pins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_bytes
from vtbench.registry.entries import Entry
from vtbench.registry.sources import HubWeights, PageWeights
from vtbench.weights.entries import check_containers, find_weights


def name_own_weights(entry: Entry, path: Path) -> Entry:
    """Return the entry with weights that were given by hand (`--weights`).

    It is the entry itself where it pins every file's sha256. Else they are another row,
    `NAME@weights-<8 digits>` of their digest, with no pins to hold: a checkpoint of one's own must
    not score under a published name, nor in place of another one.
    """
    found = find_weights(entry, path)
    if found is None or entry.weights is None:
        return entry
    try:
        check_containers(entry, found)
    except WeightsMismatch:  # named where it is opened, so that the other tokenizers go on
        return entry
    digests = found.digests
    content = entry.weights.model_dump(mode="json")
    if digests and set(digests.values()) <= set(
        re.findall(r"\b[0-9a-f]{64}\b", json.dumps(content))
    ):
        return entry
    own = json.dumps(digests, sort_keys=True) if len(digests) > 1 else None
    digest = next(iter(digests.values())) if own is None else sha256_bytes(own.encode())
    deviations = (*entry.deviations, f"weights-{digest[:8]}")
    return unpin(entry).model_copy(update={"deviations": deviations})


def unpin(entry: Entry) -> Entry:
    """Return the entry without the digests of its weights."""
    if entry.weights is None:
        return entry
    unpinned: dict[str, Any] = {"sha256": None}
    if isinstance(entry.weights, PageWeights) and entry.weights.beside:
        unpinned["beside"] = dict.fromkeys(entry.weights.beside)
    if isinstance(entry.weights, HubWeights) and entry.weights.official is not None:
        files = dict.fromkeys(entry.weights.official.files)
        unpinned["official"] = entry.weights.official.model_copy(update={"files": files})
    return entry.model_copy(update={"weights": entry.weights.model_copy(update=unpinned)})
