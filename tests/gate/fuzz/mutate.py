"""Mutations of bytes and of JSON values from a seed, and the clock and the rules of a fuzz target.

`VTBENCH_FUZZ_SECONDS` is how long each target runs: 10 in `.ci/run`, 3 by default. Those of entries,
run.json, Parquet and images run six times as long: a minute in `.ci/run`.
"""

from __future__ import annotations

import copy
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

from vtbench.base.errors import VtbenchError

SECONDS = float(os.environ.get("VTBENCH_FUZZ_SECONDS", "3"))
MAX_SECONDS = 10.0
"""Of one input."""
MAX_MIB = 2048
"""Above what the process had when the target began."""

ODD_BYTES = (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x5C, 0x7B)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, -0.0, "", "x" * 5000),
    *("\x00", "\u202e", "../x", "/etc/passwd", "con", "=1+1", "NaN", [], {}, [[]], {"": None}),
)


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """Return the content with one to eight changes."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        place = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1 and data:
            data[place % len(data)] = draw.choice(ODD_BYTES)
        elif kind == 2:
            del data[place : place + draw.choice((1, 2, 4, 64, len(data)))]
        elif kind == 3:
            data[place:place] = bytes(draw.choices(ODD_BYTES, k=draw.choice((1, 4, 64))))
        elif kind == 4 and data:
            start = draw.randrange(len(data))
            data[place:place] = data[start : start + draw.choice((4, 64, 1024))]
        elif len(data) >= 4:
            place = place % (len(data) - 3)
            value = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, draw.getrandbits(32)))
            data[place : place + 4] = value.to_bytes(4, draw.choice(("little", "big")))
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield from _places(inner, (*path, key))


def mutate_value(value: Any, draw: random.Random) -> Any:
    """Return a JSON value with one to three of its parts replaced, removed, added or nested."""
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        places = [place for place in _places(value) if place]
        if not places:
            return value
        *parents, key = draw.choice(places)
        holder = value
        for parent in parents:
            holder = holder[parent]
        kind = draw.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(draw.choice(("x", "run", "\u202e", "name", key)))] = draw.choice(ODD_VALUES)
        elif kind == 2:
            inner: Any = holder[key]
            for _ in range(draw.choice((1, 12, 60))):
                inner = [inner]
            holder[key] = inner
        elif kind == 3 and isinstance(holder[key], int | float):
            holder[key] = -holder[key] * draw.choice((1, 10, 10**6))
        else:
            holder[key] = draw.choice(ODD_VALUES)
    return value


def fuzz(
    make: Callable[[random.Random], Any], read: Callable[[Any], object], *, times: int = 1
) -> int:
    """Read inputs until the time is over; return how many were read without an error.

    Args:
        make: an input of a seed.
        read: what is tried. It may raise VtbenchError, and that with lines that can be printed.
        times: how many times as long as another target.

    Raises:
        AssertionError: another error, a slow input or memory, with the seed that makes it again.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    end = time.monotonic() + times * SECONDS
    start = int(os.environ.get("VTBENCH_FUZZ_SEED", "0"))
    seed, good = start, 0
    while time.monotonic() < end or seed - start < 20:
        content = make(random.Random(seed))
        began = time.monotonic()
        try:
            read(content)
            good += 1
        except VtbenchError as error:
            assert error.args and all(str(line).strip() for line in error.args), f"seed {seed}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        took = time.monotonic() - began
        assert took < MAX_SECONDS, f"seed {seed}: {took:.1f} s"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert peak - before < MAX_MIB, f"seed {seed}: {peak - before:.0f} MiB"
        seed += 1
    print(f"{seed - start} inputs, {good} of them read")
    return good
