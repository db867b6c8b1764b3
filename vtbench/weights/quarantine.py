"""Take the tensors out of a checkpoint in a process that can neither reach a network nor start another
program. `vtbench convert` runs this module as that process; see `vtbench.commands.convert`.

The file's own program is not run at all (`pickles`); the walls are there in case that is wrong. They
need no privilege: a seccomp filter, which a process can lay on itself and not take off again, and
limits of memory and of the size of files.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

from vtbench.base.errors import VtbenchError, WeightsError, WeightsMismatch

MEMORY = 8 << 30
"""Bytes that the process may have beside four times those of the file."""

TIMES_THE_FILE = 4
"""The tensors may be together at most so many times as large as the file: those that share their
memory are written once each, and one that is shared by all would fill the disk."""

# The number of the architecture, and of socket, execve, execveat, ptrace, process_vm_writev and
# io_uring_setup in it (linux/audit.h, asm/unistd.h).
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (41, 59, 322, 101, 311, 425)),
    "aarch64": (0xC00000B7, (198, 221, 281, 117, 271, 425)),
}
SECCOMP = {"x86_64": 317, "aarch64": 277}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("start", ctypes.POINTER(_Instruction)))


def isolate(file_bytes: int) -> None:
    """Take from this process, for good: sockets, other programs, other processes' memory, core dumps,
    and more memory and larger files than a checkpoint of so many bytes needs.

    Raises WeightsError where that cannot be had, or is had and does not hold.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in SYSTEM_CALLS:
        raise WeightsError(
            f"a process of {platform.system()} on {machine} cannot be kept from the network here; "
            "convert the file on Linux (x86-64 or arm64)"
        )
    import resource  # not on every system

    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, MEMORY + TIMES_THE_FILE * file_bytes),
        (resource.RLIMIT_FSIZE, (16 << 20) + TIMES_THE_FILE * file_bytes),
    ):
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))
    architecture, calls = SYSTEM_CALLS[machine]
    refuse = len(calls) + 2  # the jump from the comparison at 2 to the last instruction
    steps = [
        (0x20, 0, 0, 4),  # the architecture
        (0x15, 0, refuse + 1, architecture),
        (0x20, 0, 0, 0),  # the call's number; from 2³⁰ on it is one of another numbering
        (0x35, refuse - 1, 0, 0x40000000),
        *((0x15, refuse - 2 - index, 0, call) for index, call in enumerate(calls)),
        (0x06, 0, 0, 0x7FFF0000),  # allow
        (0x06, 0, 0, 0x00050001),  # refuse: EPERM
    ]
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    # 38: no new privileges, which a filter needs; 1, 1: a filter, for all threads.
    if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(SECCOMP[machine], 1, 1, ctypes.byref(program)):
        raise WeightsError(
            f"a process cannot be kept from the network here ({os.strerror(ctypes.get_errno())}); "
            "convert the file on a Linux that allows seccomp filters"
        )
    try:
        socket.socket().close()
    except PermissionError:
        return
    raise WeightsError("a process was to be kept from the network and is not; nothing was read")


def extract_tensors(
    source: Path, target: Path, wrapper: str | None, metadata: dict[str, str]
) -> dict[str, Any]:
    """Write the tensors at the wrapper, under the path of their keys, as safetensors; return their
    number, and the names of the classes and functions that the file has and nobody called.

    Raises WeightsMismatch for a file that is damaged or has no tensors there.
    """
    from safetensors.torch import save_file

    from vtbench.weights.pickles import PickledFile, name_tensors

    with PickledFile(source) as file:
        below = wrapper + "." if wrapper else ""
        tensors = {
            key: tensor
            for key, tensor in name_tensors(file.content).items()
            if key.startswith(below)
        }
        if not tensors:
            held = ", ".join(map(str, file.content)) if isinstance(file.content, dict) else ""
            raise WeightsMismatch(
                f"{source} has no tensors{f' at {wrapper!r}' if wrapper else ''}"
                + (f"; it has {held[:200]}" if held else "")
            )
        size = sum(
            math.prod(tensor.shape) * tensor.storage.dtype.itemsize for tensor in tensors.values()
        )
        if size > TIMES_THE_FILE * source.stat().st_size:
            raise WeightsMismatch(f"{source}: its tensors are together larger than they can be")
        save_file({key: file.open(tensor) for key, tensor in tensors.items()}, target, metadata)
        return {"tensors": len(tensors), "left": sorted(file.placeholders)}


def main() -> int:
    """Do what the one argument asks for, as JSON; print what came of it, as JSON."""
    asked = json.loads(sys.argv[1])
    source, target = Path(asked["source"]), Path(asked["target"])
    # Before the walls: a library may start programs when it is imported, and the file is not open yet.
    import safetensors.torch  # noqa: F401

    import vtbench.weights.pickles  # noqa: F401

    try:
        isolate(source.stat().st_size)
        done = extract_tensors(source, target, asked["wrapper"], asked["metadata"])
    except VtbenchError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        return 1
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
