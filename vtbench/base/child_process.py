"""A process that reads what may end the process that reads it: one for many requests.

Libraries in C++ abort on some damaged files, or never come back. The child's memory and time are
limited, and when it ends its request alone has failed. A module that serves calls `serve`.
"""

from __future__ import annotations

import atexit
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from vtbench.base.errors import VtbenchError

CPU_SECONDS = 8
"""Of a request, by all threads of the child; a slow or busy machine gives it as much."""

WALL_SECONDS = 120.0
"""Of a request that takes no processor time, or shares a processor with many."""

MEMORY_BYTES = 3 << 29
"""1.5 GiB of the child: twice the largest table, which exists there as it was read and as it is sent."""

IDLE_SECONDS = 60.0
"""After these the child ends by itself: a notebook or a training need not hold it."""

_LENGTH = struct.Struct("<Q")
_KINDS = {b"+": True, b"-": False}


class ChildFailed(Exception):
    """The child ended before it had answered; the message says how."""


class ChildProcess:
    """A process of this Python that runs a module, started when it is first needed and again when it
    has ended.

    Args:
        module: its `main` calls `serve`.
        memory_bytes: what it may have, for messages; None where that is another for each request.
    """

    def __init__(self, module: str, *, memory_bytes: int | None = MEMORY_BYTES) -> None:
        self._module = module
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process if none runs, and do not wait until it is ready."""
        with self._lock:
            self._start()

    def ask(self, *parts: bytes, wall_seconds: float | None = None) -> tuple[bool, bytearray]:
        """Return whether the request succeeded, and the answer or what was wrong, in UTF-8.

        Args:
            parts: the request, as `serve` hands it on.
            wall_seconds: how long it is waited for; None for WALL_SECONDS.

        Raises:
            ChildFailed: the process ended, or took longer than it may.
        """
        patience = WALL_SECONDS if wall_seconds is None else wall_seconds
        with self._lock:
            try:
                return self._ask(parts, patience)
            except ChildFailed:
                if self._status != 0:
                    raise
                # It had nothing to do for a while, and ended when it was asked again.
                return self._ask(parts, patience)

    def stop(self) -> None:
        """Kill the process, if one runs."""
        with self._lock:
            self._end(kill=True)

    def _start(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if self._owner != os.getpid():  # a fork of the process that has it
            process = None
        if process is None or process.poll() is not None:
            if self._owner == os.getpid():
                self._end()
            kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
            path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-m", self._module],
                    env={**kept, **_SET, "PYTHONPATH": path},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd=os.sep,
                )
            except OSError as error:
                raise ChildFailed(f"no process could be started: {error}") from None
            if self._owner == 0:
                atexit.register(self.stop)
            self._process, self._owner = process, os.getpid()
        assert process.stdin is not None and process.stdout is not None
        return process.stdin, process.stdout

    def _ask(self, parts: tuple[bytes, ...], wall_seconds: float) -> tuple[bool, bytearray]:
        sink, source = self._start()
        assert self._process is not None
        late = threading.Event()
        process = self._process

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(wall_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            _send(sink, *parts)
            kind, answer = _receive(source, 2)
            return _KINDS[bytes(kind)], answer
        except (OSError, EOFError, KeyError):
            raise ChildFailed(self._tell_end(wall_seconds if late.is_set() else None)) from None
        except BaseException:  # Ctrl-C: its answer would be taken for that of the next request
            self._end(kill=True)
            raise
        finally:
            timer.cancel()

    def _tell_end(self, late: float | None) -> str:
        code = self._end()
        if late is not None:
            return f"took more than {late:.0f} s"
        if code == -_XCPU:
            return f"took more than {CPU_SECONDS} s"
        if code == _NO_MEMORY:
            if self._memory_bytes is None:
                return "took more memory than it may"
            return f"took more than {self._memory_bytes / 2**30:.1f} GiB"
        if code < 0:
            return f"ended its process by {signal.Signals(-code).name}"
        return f"ended its process with status {code}"

    def _end(self, *, kill: bool = False) -> int:
        """End the process, if one runs; return the exit status of the last one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return self._status
        if kill:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not sent goes nowhere
                if pipe is not None:
                    pipe.close()
        try:
            self._status = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            self._status = process.wait()
        return self._status

    _status = 0


_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
_SET = {
    # Of Arrow: plain malloc, which the limit of memory sees as it is used.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_XCPU = getattr(signal, "SIGXCPU", 0)
_NO_MEMORY = 3


def serve(
    answer: Callable[..., bytes | memoryview], n_parts: int, *, most_memory: int = MEMORY_BYTES
) -> int:
    """Answer requests on standard input until there are none; return the exit status.

    Args:
        answer: What is asked: of the parts of a request, in their order. A VtbenchError of it is sent
            as what was wrong; another exception, and too much memory, ends the process.
        n_parts: how many parts a request has.
        most_memory: bytes up to which `answer` may `allow` itself more than MEMORY_BYTES.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, and ends this with it
    _limit_memory(most_memory)
    while _await_input(source):
        try:
            parts = _receive(source, n_parts)
        except EOFError:
            return 0
        allow(CPU_SECONDS)
        try:
            kind, said = b"+", answer(*parts)
        except VtbenchError as error:
            kind, said = b"-", str(error).encode("utf-8", "replace")
        except MemoryError:
            return _NO_MEMORY
        _send(sink, kind, said)
        del parts, said
    return 0


def _await_input(source: IO[bytes]) -> bool:
    if os.name != "posix":
        return True
    import select

    return bool(select.select([source], [], [], IDLE_SECONDS)[0])


def _limit_memory(most_memory: int) -> None:
    """Keep this process from more memory than MEMORY_BYTES, and for good from more than `most_memory`
    and from core dumps."""
    if os.name != "posix":
        return
    import resource

    for limit, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_DATA, MEMORY_BYTES, most_memory),
    ):
        _, most = resource.getrlimit(limit)
        hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
        with suppress(ValueError, OSError):  # a system without this limit
            resource.setrlimit(limit, (min(soft, hard), hard))


def allow(cpu_seconds: float, memory_bytes: int = 0) -> None:
    """Say what this child may take from now on.

    Args:
        cpu_seconds: processor time of all threads until the next request.
        memory_bytes: of the process; never less than it was, nor more than `serve` was told.
    """
    if os.name != "posix":
        return
    import resource

    until = int(time.process_time() + cpu_seconds) + 1
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        soft = max(soft, memory_bytes)
    for limit, value in ((resource.RLIMIT_CPU, until), (resource.RLIMIT_DATA, soft)):
        _, most = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY and value != resource.RLIM_INFINITY:
            value = min(value, most)
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, most))


def _send(sink: IO[bytes], *parts: bytes | memoryview) -> None:
    for part in parts:
        sink.write(_LENGTH.pack(len(part)))
        sink.write(part)
    sink.flush()


def _receive(source: IO[bytes], n_parts: int) -> list[bytearray]:
    return [_read(source, _LENGTH.unpack(_read(source, _LENGTH.size))[0]) for _ in range(n_parts)]


def _read(source: IO[bytes], size: int) -> bytearray:
    """Return exactly so many bytes. Raises EOFError where they end before."""
    if size > MEMORY_BYTES:
        raise EOFError
    content = bytearray(size)
    view, done = memoryview(content), 0
    while done < size:
        n = source.readinto(view[done:])  # type: ignore[attr-defined]
        if not n:
            raise EOFError
        done += n
    return content
