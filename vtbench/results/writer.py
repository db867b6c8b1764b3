"""One writer a run's folder: a lock that dies with its process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtbench.base.errors import OutputError

TORN = re.compile(
    r"\.(run\.json|images\.parquet|codes\.parquet|[0-9]+(\.error)?\.png)\.[a-z0-9_]{8}"
)
"""A file that was killed before it was whole (`files.write_atomic`)."""


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a run's folder."""
    for path in (*folder.glob(".*"), *(folder / "panel").glob(".*")):
        if TORN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def hold_run(folder: Path, run: str) -> Iterator[None]:
    """Hold `<folder>/.<run>.lock`, which no other process, here or on another machine that shares the
    folder, can hold meanwhile. The file stays: whoever removed it would let a third one in.

    Args:
        folder: the results of a suite.
        run: the run's name.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder / f".{run}.lock"
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"{folder / run}: another process is writing it; wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    _sweep(folder / run)
    try:
        yield
    finally:
        lock.release()
