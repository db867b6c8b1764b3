"""A child of `test_child_process`: it does what a request says, sane or not."""

from __future__ import annotations

import os
import sys
import time

from vtbench.base.child_process import serve
from vtbench.base.errors import ResultsError


def answer(asked: bytes, content: bytes) -> bytes:
    """Return the content, or do what is asked for instead."""
    match bytes(asked):
        case b"abort":
            os.abort()
        case b"raise":
            raise KeyError("of a library")
        case b"refuse":
            raise ResultsError("it is none")
        case b"compute":
            while True:
                pass
        case b"sleep":
            time.sleep(600)
        case b"allocate":
            return bytes(2 << 30)
        case b"leave":
            os._exit(0)
        case b"print":
            print("not an answer")
    return bytes(content)


if __name__ == "__main__":
    sys.exit(serve(answer, 2))
