"""A folder that lives as long as the object that uses it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class ScratchFolder:
    """A temporary folder, removed when nothing refers to this object any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="vtbench-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
