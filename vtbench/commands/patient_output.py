"""Standard output and error that end no command: a disk may be full, a reader gone (`| head`)."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator


class _PatientFile(io.RawIOBase):
    """Writes to another file until that fails, then drops what it is given and keeps the error."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: object) -> int | None:
        """Write, or drop. Returns how many bytes were taken."""
        view = memoryview(content)  # type: ignore[arg-type]
        if self.error is None:
            try:
                return self._file.write(view)
            except OSError as error:
                self.error = error
        return view.nbytes

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return self._file.isatty()


@contextlib.contextmanager
def patient_output() -> Iterator[list[OSError]]:
    """Let what a command prints fail without ending it: its work goes on, and its files are written.

    Yields a list that has, afterwards, the error for which standard output is not whole; none where
    its reader had read enough. What an encoding lacks is printed as "?": a redirected console may be
    cp1252 or ASCII, and a file's name may be no Unicode at all.
    """
    failed: list[OSError] = []
    before = sys.stdout, sys.stderr
    opened: list[tuple[io.TextIOWrapper, _PatientFile]] = []
    sys.stdout, sys.stderr = (_open(stream, opened) for stream in before)
    try:
        yield failed
    finally:
        sys.stdout, sys.stderr = before
        for stream, file in opened:
            stream.flush()
            if file.fileno() == 1 and not isinstance(file.error, BrokenPipeError | None):
                failed.append(file.error)
            stream.detach()


def _open(stream: object, opened: list[tuple[io.TextIOWrapper, _PatientFile]]) -> object:
    """Return what stands for a stream of the process; one that somebody put there stays."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")
    raw = getattr(stream.buffer, "raw", None)
    if type(raw) is not io.FileIO or raw.fileno() not in (1, 2):
        return stream
    stream.flush()
    file = _PatientFile(raw)
    patient = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    opened.append((patient, file))
    return patient
