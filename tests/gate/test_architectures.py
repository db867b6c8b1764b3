"""An architecture of a stranger is counted before anything of it is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vtbench.base.locations import registry_dir
from vtbench.cli import main


@pytest.mark.slow  # a library is imported, and 5000 modules are made
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_out_channels": [10**9] * 4}, "cannot be built|more than 6,000,000,000 parameters"),
        ({"block_out_channels": [20_000] * 4}, "more than 6,000,000,000 parameters"),
        ({"layers_per_block": 10**9}, "more than 5,000 modules"),
        ({"block_out_channels": [-4] * 4}, "cannot be built|negative dimension"),
    ],
)
def test_an_architecture_that_is_too_large_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = yaml.safe_load((registry_dir() / "sd-vae-ft-mse.yaml").read_text(encoding="utf-8"))
    fields = {key: fields[key] for key in fields if key not in ("reported", "gmac", "parameters")}
    fields["options"]["config"] |= change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    own = ("--registry", str(tmp_path))
    assert main(["show", "mine", "--measure", *own]) == 2
    said = capsys.readouterr().err
    assert any(words in said for words in message.split("|")) and said.count("\n") == 1, said
    assert main(["check", "mine", "--random-weights", *own]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vtbench: mine: ") and said.count("\n") == 1, said
