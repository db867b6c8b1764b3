"""One writer a run's folder: a lock that dies with its process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
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


def refuse_links(folder: Path, run: str | None = None) -> None:
    """Raise OutputError for a symbolic link where results are written: in a folder of a stranger it may
    lead anywhere. The folder itself may be one. Neither is a pipe or folder in place of a file.

    Args:
        folder: the results of a suite.
        run: a run's name; without one, what the suite has beside its runs.
    """
    places = [folder / "originals", *(folder / "originals").glob("*")]
    if run is not None:
        own = folder / run
        places += [own, *own.glob("*"), *own.glob("panel/*"), *folder.glob(f".{escape(run)}.*")]
    for path in places:
        if path.is_symlink():
            raise OutputError(f"{path}: a symbolic link; it could lead out of {folder}")
        if path.suffix in (".lock", ".json", ".jsonl") and path.exists() and not path.is_file():
            raise OutputError(f"{path}: not a regular file; remove it, or give another --out")


@contextmanager
def hold_run(folder: Path, run: str) -> Iterator[None]:
    """Hold `<folder>/.<run>.lock`, which no other process, here or on another machine that shares the
    folder, can hold meanwhile. The file stays: whoever removed it would let a third one in.

    Args:
        folder: the results of a suite.
        run: the run's name.

    Raises:
        OutputError: another process holds it, the folder cannot be written, or a symbolic link stands
            where the run is written.
    """
    from filelock import FileLock, Timeout

    refuse_links(folder, run)
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
