"""Freed memory is kept: the next block of its size costs no new pages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from vtbench.base.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
fill = lambda: bytearray(64 * 2**20)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = memoryview(fill())
    for place in range(0, len(block), 4096):
        block[place] = 1
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="no glibc")
def test_a_block_comes_again_without_new_pages() -> None:
    # Five blocks of 16,384 pages, or fewer faults where the system has larger pages.
    kept, given_back = count_faults("keep"), count_faults("")
    assert kept < 0.1 * given_back
