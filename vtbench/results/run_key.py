"""A run's key: the digest of everything that changes a number, computed again from its run.json."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vtbench.results.schema import RunRecord

_PROTOCOL_3 = (
    *("dtype", "seed", "tasks", "metrics", "ocr", "limit", "crop", "posterior", "networks"),
)
"""The choices that schema version 3 knew."""

_BATCH_SIZES = (None, *range(1, 257))
"""What schema version 3 did not write down: `--batch-size`, mostly the suite's own (None)."""


def digest_key(record: RunRecord) -> str:
    """Return the key of a run with `inputs`.

    A choice that is at its default is left out, so that one which a later version knows leaves the keys
    of earlier runs as they are."""
    assert record.inputs is not None
    choices = record.protocol.model_dump(mode="json", exclude_defaults=True)
    return _digest(_list_common(record) | record.inputs.model_dump() | {"protocol": choices})


def has_own_key(record: RunRecord) -> bool | None:
    """Return whether a record has the key that follows from what it says; None where it does not say
    all of it (schema version 4, or a copy of a data set that no manifest pinned)."""
    if record.inputs is not None:
        return digest_key(record) == record.key
    if record.upgraded_from != 3 or record.suite.manifest_sha256 is None:
        return None
    choices = record.protocol.model_dump(mode="json", include=set(_PROTOCOL_3))
    known = _list_common(record) | {"protocol": choices, "data": None}
    return any(_digest(known | {"batch_size": size}) == record.key for size in _BATCH_SIZES)


def _list_common(record: RunRecord) -> dict[str, Any]:
    here = record.environment
    return {
        "suite": record.suite.sha256,
        "entry": record.tokenizer.entry_sha256,
        "weights": record.tokenizer.weights,
        "libraries": record.tokenizer.libraries,
        "device": here.device,
        "threads": here.threads,
        "versions": here.versions,
        "code": here.code_sha256,
    }


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
