"""Where the package's entries and suites are."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
