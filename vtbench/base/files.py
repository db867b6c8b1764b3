"""Reading files within limits, writing them atomically inside a folder, and hashing them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path, PurePosixPath

from vtbench.base.errors import OutputError, VtbenchError


def read_bounded(
    path: Path,
    *,
    max_bytes: int,
    raise_as: type[VtbenchError] = VtbenchError,
    links: bool = False,
) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Pipes, devices and folders are refused, and symbolic links unless `links`: a file of a stranger
    may be any of them. A link is followed where nothing of the file's content is passed on.

    Raises:
        FileNotFoundError: the file does not exist.
        raise_as: it is no regular file, too large, or cannot be read.
    """
    try:
        # Without O_NONBLOCK opening a pipe waits for its writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, flags if links else flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        link = " (a symbolic link)" if path.is_symlink() else ""
        raise raise_as(f"{path}: cannot be read ({error.strerror}){link}") from None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        raise raise_as(f"{path}: not a regular file")
    with os.fdopen(handle, "rb") as file:
        if facts.st_size > max_bytes:
            raise raise_as(f"{path}: {facts.st_size:,} bytes; larger than {max_bytes:,}, not read")
        try:
            content = file.read(max_bytes + 1)  # some files of /proc say that they have no bytes
        except OSError as error:
            raise raise_as(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > max_bytes:
        raise raise_as(f"{path}: larger than {max_bytes:,} bytes, not read")
    return content


def resolve_below(root: Path, relative: str | Path) -> Path:
    """Return root/relative, whose place must be below the root.

    Raises OutputError for a path that is absolute, has a `..`, or leads through a symbolic link.
    """
    parts = PurePosixPath(Path(relative).as_posix())
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise OutputError(f"{relative}: leaves {root}")
    path = root
    for part in parts.parts:
        path = path / part
        if path.is_symlink():
            raise OutputError(f"{path}: a symbolic link; it could lead out of {root}")
    return path


def find_place(path: Path) -> Path:
    """Return the absolute path without links; `Path.resolve` raises on a loop of links."""
    return Path(os.path.realpath(path))


def list_below(root: Path) -> list[Path]:
    """Return everything below a folder but the folders that could be listed, sorted. Links are not
    followed, and no depth is too large (`Path.rglob` calls itself)."""
    found, folders = [], [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # closed to this user, or a path that is too long
            found.append(folder)
            continue
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else found).append(Path(entry.path))
    return sorted(found)


def write_atomic(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write the file whole or not at all (temporary file beside it, then replace).

    Args:
        path: the file.
        content: all of it.
        durable: return when it would also be there after the machine stopped.

    Raises OutputError when the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            # mkstemp makes files private; results are for reading by others.
            Path(name).chmod(0o644)
            Path(name).replace(path)
            if durable:
                _sync_folder(path.parent)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Make the names of a folder durable, where its system knows that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot, and need not
            os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # some of /proc wait for what is to come
            return hashlib.sha256().hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Return the hex sha256 of a byte string."""
    return hashlib.sha256(content).hexdigest()
