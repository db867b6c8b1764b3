"""Whatever a child does, the process that asks it goes on, and so does the next request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vtbench.base import child_process
from vtbench.base.child_process import ChildFailed, ChildProcess

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of a process")


@pytest.fixture(scope="module")
def child() -> Iterator[ChildProcess]:
    child = ChildProcess("base.odd_child")
    yield child
    child.stop()


def test_an_answer_comes_back_whole(child: ChildProcess) -> None:
    content = bytes(range(256)) * 5000
    assert child.ask(b"echo", content) == (True, bytearray(content))
    assert child.ask(b"", b"") == (True, bytearray())
    assert child.ask(b"print", b"x") == (True, bytearray(b"x"))
    assert child.ask(b"refuse", b"x") == (False, bytearray(b"it is none"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (b"abort", "ended its process by SIGABRT"),
        (b"raise", "ended its process with status 1"),
        (b"allocate", r"took more than 1\.5 GiB"),
        pytest.param(b"compute", "took more than 8 s", marks=pytest.mark.slow),
    ],
)
def test_a_child_that_ends_fails_one_request(
    child: ChildProcess, asked: bytes, message: str
) -> None:
    with pytest.raises(ChildFailed, match=message):
        child.ask(asked, b"x" * 2**20)
    assert child.ask(b"echo", b"y") == (True, bytearray(b"y"))


def test_a_child_that_never_answers_is_ended(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.ask(b"echo", b"")
    monkeypatch.setattr(child_process, "WALL_SECONDS", 0.3)
    with pytest.raises(ChildFailed, match="took more than 0 s"):
        child.ask(b"sleep", b"")
    monkeypatch.undo()
    assert child.ask(b"echo", b"y")[0]


def test_a_child_that_left_is_started_again_once(child: ChildProcess) -> None:
    """Having nothing to do for a while, it leaves with status 0."""
    with pytest.raises(ChildFailed, match="ended its process with status 0"):
        child.ask(b"leave", b"")
    assert child.ask(b"echo", b"y")[0]


def test_an_interrupted_request_is_not_answered_later(child: ChildProcess) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        child.ask(b"echo", b"")
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            child.ask(b"sleep", b"old")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert child.ask(b"echo", b"new") == (True, bytearray(b"new"))


def test_a_child_ends_with_its_parent() -> None:
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:];"
        "from vtbench.base.child_process import ChildProcess as C; c = C('base.odd_child');"
        "c.ask(b'echo', b''); print(c._process.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *filter(None, sys.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(done.stdout)
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", str(pid)], capture_output=True, text=True)
        if state.stdout.strip()[:1] in ("", "Z"):
            return
    raise AssertionError("the child is still there")
