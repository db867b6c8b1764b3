"""A registry with one small tokenizer: a golden's architecture with its derived weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from parity.golden import load_golden, write_checkpoint


def write_registry(folder: Path, golden: str, *, name: str = "small", group: int = 1) -> list[str]:
    """Write the golden's derived weights and an entry of them whose tokens are ordered, in groups of
    this many; return the option that adds it."""
    facts = load_golden(golden)
    write_checkpoint(facts, folder / "official.pth")
    spec: dict[str, Any] = facts["ours"]["spec"]
    config = facts["ours"]["options"]["config"]
    entry = {
        "title": "Small",
        "family": "small",
        "adapter": facts["ours"]["adapter"],
        "options": {"config": config, "wrapper": facts["checkpoint"]["wrapper"]},
        **{key: value for key, value in spec.items() if key != "fixed"},
        "size": {"fixed": spec["fixed"], "policy": "resize"},
        "ordered": {"tokens": config["tokens"], "group": group},
        "licence": "MIT",
        "weights": {"source": "local", "path": str(folder / "official.pth"), "licence": "MIT"},
        "description": "For a test.",
    }
    registry = folder / "registry"
    registry.mkdir()
    (registry / f"{name}.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    return ["--registry", str(registry)]
