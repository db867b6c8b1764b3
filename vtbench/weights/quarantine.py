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
import struct
import sys
from pathlib import Path
from typing import Any

from vtbench.base.errors import VtbenchError, WeightsError, WeightsMismatch

MEMORY = 8 << 30
"""Bytes that the process may have beside four times those of the file."""

MAX_EXPANSION = 4
"""Upper limit on (bytes of tensors) / (bytes of the file). Shared storage is written once per tensor, so
a small file could otherwise fill the disk."""

# The number of the architecture, and of socket, execve, execveat, ptrace, process_vm_writev,
# io_uring_setup, and fork and vfork where there are such, in it (linux/audit.h, asm/unistd.h).
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (41, 59, 322, 101, 311, 425, 57, 58)),
    "aarch64": (0xC00000B7, (198, 221, 281, 117, 271, 425)),
}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
CLONE_THREAD = 0x10000
"""Of clone's flags: a thread of this process, which arithmetic needs, and no process."""

LANDLOCK = (444, 445, 446)
"""landlock_create_ruleset, landlock_add_rule and landlock_restrict_self, on every architecture."""

LANDLOCK_WRITES = 0b1111111110010
"""Write, remove and make files of any kind (linux/landlock.h, its first version)."""
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


def _write_filter(machine: str) -> list[tuple[int, int, int, int]]:
    """Return the seccomp filter as steps of (operation, jump if so, jump if not, value)."""
    architecture, calls = SYSTEM_CALLS[machine]
    n = len(calls)
    # Behind the calls: clone3 (2 steps), clone (3), and the three ends: allow, refuse, unknown.
    return [
        (0x20, 0, 0, 4),  # the architecture
        (0x15, 0, n + 7, architecture),
        (0x20, 0, 0, 0),  # the call's number; from 2³⁰ on it is one of another numbering
        (0x35, n + 5, 0, 0x40000000),
        *((0x15, n + 4 - index, 0, call) for index, call in enumerate(calls)),
        (0x15, 5, 0, CLONE3),  # its flags cannot be seen: the library falls back to clone
        (0x15, 0, 2, CLONE[machine]),
        (0x20, 0, 0, 16),  # clone's flags
        (0x45, 0, 1, CLONE_THREAD),
        (0x06, 0, 0, 0x7FFF0000),  # allow
        (0x06, 0, 0, 0x00050001),  # refuse: EPERM
        (0x06, 0, 0, 0x00050026),  # ENOSYS
    ]


def keep_writes_in(folder: Path) -> bool:
    """Let this process write below the folder alone, where the kernel has Landlock (5.13 or later);
    return whether it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    create, add, restrict = LANDLOCK
    handled = ctypes.c_uint64(LANDLOCK_WRITES)
    rules = libc.syscall(create, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if rules < 0:
        return False
    place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", LANDLOCK_WRITES, place))
        # 1: a rule for what lies beneath a path. 38: no new privileges, which it needs.
        return not (
            libc.syscall(add, rules, 1, rule, 0)
            or libc.prctl(38, 1, 0, 0, 0)
            or libc.syscall(restrict, rules, 0)
        )
    finally:
        os.close(place)
        os.close(rules)


def isolate(file_bytes: int, writable: Path | None = None) -> None:
    """Take from this process, for good: sockets, other programs and processes, other processes'
    memory, core dumps, more memory and larger files than a checkpoint of so many bytes needs, and
    where the kernel can the writing of files that are not below `writable`.

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
        (resource.RLIMIT_DATA, MEMORY + MAX_EXPANSION * file_bytes),
        (resource.RLIMIT_FSIZE, (16 << 20) + MAX_EXPANSION * file_bytes),
    ):
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))
    if writable is not None:
        keep_writes_in(writable)
    steps = _write_filter(machine)
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
        if size > MAX_EXPANSION * source.stat().st_size:
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
        isolate(source.stat().st_size, target.parent)
        done = extract_tensors(source, target, asked["wrapper"], asked["metadata"])
    except VtbenchError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        return 1
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
