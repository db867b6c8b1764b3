"""Processes that read Parquet end with their own status (a thread that drops a Python object at the
end aborts 1 to 4 % of them)."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import exits


@pytest.mark.slow
def test_some_twenty_processes_end_by_themselves(tmp_path: Path) -> None:
    for name, (arguments, expected) in exits.prepare(tmp_path).items():
        for _ in range(7):
            assert exits.run(arguments) == expected, name
