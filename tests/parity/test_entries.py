"""Entries that name the golden of their architecture: it is there, and of the same adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtbench.registry.entries import load_registry

FOLDER = Path(__file__).parent
PLACES = {path.stem: path for path in FOLDER.glob("*/*.json")}
NAMED = {name: entry for name, entry in load_registry().items() if entry.golden is not None}


@pytest.mark.parametrize("name", NAMED)
def test_the_golden_of_an_entry_is_of_its_adapter(name: str) -> None:
    entry = NAMED[name]
    assert entry.golden in PLACES, f"no golden {entry.golden} in tests/parity"
    ours = json.loads(PLACES[entry.golden].read_text(encoding="utf-8"))["ours"]
    assert ours["adapter"] == entry.adapter
    # Qwen-Image's class is Wan 2.1's network under another name.
    same = {"AutoencoderKLQwenImage": "AutoencoderKLWan"}
    wanted = entry.options.get("class_name")
    assert ours.get("class_name") == same.get(str(wanted), wanted)
