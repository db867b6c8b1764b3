"""Where vtbench's own files are, in a checkout and in an installed wheel, and where results go."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent

_PATH = re.compile(r"(?<![\w:/.…])(?:~|[A-Za-z]:)?[/\\][^\s,;:()'\"`]*")
"""An absolute path: one run of characters without a choice, so that it is found in linear time."""


def list_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths; one string is one path, not a sequence of letters."""
    return [Path(path) for path in ((paths,) if isinstance(paths, str | Path) else paths)]


def package_dir() -> Path:
    """Return the folder of the package's code."""
    return _PACKAGE


def share_dir() -> Path:
    """Return the folder that holds `registry/`, `data/` and `results/`.

    A wheel carries them inside the package; a checkout (editable install) has them beside it.
    """
    packed = _PACKAGE / "_share"
    return packed if packed.is_dir() else _PACKAGE.parent


def registry_dir() -> Path:
    """Return the folder of the shipped entries."""
    return share_dir() / "registry"


def data_dir() -> Path:
    """Return the folder of the shipped suites, manifests, images and small weights."""
    return share_dir() / "data"


def published_dir(suite: str) -> Path:
    """Return the folder of the published results of a suite; it may not exist."""
    return share_dir() / "results" / suite


def local_dir(suite: str) -> Path:
    """Return where a user's own results of a suite go: in the folder that vtbench is run in."""
    return Path("results") / "local" / suite


def scratch_dir(suite: str) -> Path:
    """Return where partial (`--limit`) results go; no board ever reads it."""
    return Path("results") / "scratch" / suite


def cache_dir() -> Path:
    """Return where what can be computed again is kept: $XDG_CACHE_HOME/vtbench.

    Without a home (a container's user of a bare number) it is a folder of this process alone."""
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "vtbench"
    return _home_cache()


def _home_cache() -> Path:
    own = home_dir()
    return own / ".cache" / "vtbench" if own is not None else _process_dir()


def home_dir() -> Path | None:
    """Return the user's home, None where the system knows of none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


@functools.cache
def _process_dir() -> Path:
    path = Path(tempfile.mkdtemp(prefix="vtbench-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def without_paths(text: str) -> str:
    """Return a message with every absolute path cut to its last part, on one line."""
    return _PATH.sub(_cut_path, " ".join(text.split()))


def _cut_path(match: re.Match[str]) -> str:
    path = match[0].rstrip("/\\")
    parts = re.split(r"[/\\]", path)
    # A root alone ("/", "~", "C:") has no last part.
    return f"…/{parts[-1]}{match[0][len(path) :]}" if len(parts) > 1 else match[0]
