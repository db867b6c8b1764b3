"""Every architecture of the registry at full size: `python benchmarks/check_architectures.py`.

One line for each distinct plan (entries that differ in weights alone share it), the cheapest first:
`vtbench check NAME --random-weights --once` in float32 and bfloat16, each in a process of its own
with a bound on memory and on processor time. `--shapes` asks the meta device instead, where there are
no values and the largest network takes a second. What is there is kept (full_size.csv beside this file),
and a killed run goes on; `--print` prints the table and measures nothing.

    python benchmarks/check_architectures.py --shapes
    python benchmarks/check_architectures.py --seconds 600 --gib 20
    python benchmarks/check_architectures.py --seconds 3600 flextok-d18-d28-dfn  # one that takes longer
    python benchmarks/check_architectures.py --print > docs/full-size-checks.md

A processor without bfloat16 arithmetic takes minutes for one convolution (oneDNN's reference). There
`--widen` computes products of bfloat16 tensors in float32 and rounds them, as hardware that sums in
float32 does; the row says so. This is never part of CI.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib
import io
import json
import os
import platform
import resource
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vtbench.registry.entries import Entry, load_registry

TABLE = Path(__file__).with_name("full_size.csv")
DTYPES = ("fp32", "bf16")
OF_A_FILE = ("wrapper", "prefix", "averaged", "posterior")
"""Options that say how a file is read or what of it is decoded, and change no network."""

GIB = 2**30
MAX_GIB = 20
MAX_SECONDS = 600
LARGE = 1000
"""GMAC beside which what does not grow with them is little."""


@dataclass(frozen=True)
class Row:
    """What became of one check. plan: digest of the architecture; a row of another one is stale.

    contract: "once" (values were computed) or "shapes" (on the meta device). result: ok, failed, too
    large, or too slow. seconds: of processor time. peak_mib: resident memory of the process.
    """

    architecture: str
    plan: str
    dtype: str
    contract: str
    result: str
    seconds: str
    peak_mib: str
    reason: str
    machine: str


def digest_plan(entry: Entry) -> str:
    """Return a digest of what the entry's network is, whatever its weights are and whatever the entry
    calls it: no adapter reads the name of the quantizer."""
    options = {key: value for key, value in entry.options.items() if key not in OF_A_FILE}
    spec = {
        key: str(value)
        for key, value in asdict(entry.spec).items()
        if key not in ("name", "family", "quantizer")
    }
    content = json.dumps([entry.adapter, options, spec], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def group_architectures() -> dict[str, list[Entry]]:
    """Return the entries of each plan that can be built without weights, the cheapest plan first."""
    groups: dict[str, list[Entry]] = {}
    for entry in load_registry().values():
        if "config" in entry.options:
            groups.setdefault(digest_plan(entry), []).append(entry)
    return dict(sorted(groups.items(), key=lambda item: estimate_gmac(item[1][0])))


def estimate_gmac(entry: Entry) -> float:
    """Return roughly what two images take. The entry's cost is of a square of 256, or of the one
    size that a network takes; two small images of any size are about one of 256."""
    gmac = entry.gmac
    one = ((gmac.encode or 0) + (gmac.decode or 0)) if gmac else 1e9
    return 2 * one if entry.size.fixed else one


def estimate_gib(entry: Entry) -> float:
    """Return roughly the memory of a check: the weights in float32, in which a network is built
    whatever its dtype, and 1 GiB for the libraries and what two images take."""
    return 4 * (entry.parameters or 0) / GIB + 1


def find_rate(rows: Iterable[Row]) -> float:
    """Return the median of the large rows' processor seconds for a GMAC, 0 where there is none."""
    entries = load_registry()
    rates = [
        float(row.seconds) / gmac
        for row in rows
        if row.result == "ok" and row.contract == "once" and row.architecture in entries
        if (gmac := estimate_gmac(entries[row.architecture])) > LARGE
    ]
    return statistics.median(rates) if rates else 0.0


def say_untried(entry: Entry, gib: float, seconds: float, rate: float) -> str | None:
    """Return why an architecture is not tried within these limits, None for one that is.

    rate: processor seconds for a GMAC.
    """
    if (needed := estimate_gib(entry)) > gib:
        return f"not tried: about {needed:.0f} GiB"
    if (guess := rate * estimate_gmac(entry)) > seconds:
        return f"not tried: about {guess / 60:.0f} minutes"
    return None


@contextlib.contextmanager
def widen_products() -> Iterator[None]:
    """Compute products of bfloat16 tensors in float32 and round them; tensors that do not agree in
    their dtype are refused as torch refuses them."""
    import torch
    import torch.nn.functional as functional
    from torch.overrides import TorchFunctionMode

    products = {
        *(torch.conv1d, torch.conv2d, torch.conv3d, functional.linear, torch.matmul, torch.bmm),
        *(torch.conv_transpose2d, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.einsum),
        *(torch.baddbmm, functional.scaled_dot_product_attention),
    }
    narrow = torch.bfloat16

    class Widen(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = [*args, *(kwargs or {}).values()]
            flat = [t for a in given for t in (a if isinstance(a, list | tuple) else [a])]
            floats = [t for t in flat if isinstance(t, torch.Tensor) and t.is_floating_point()]
            if func not in products or not floats or any(t.dtype != narrow for t in floats):
                return func(*args, **(kwargs or {}))
            wide = [_widen(a, narrow) for a in args]
            result = func(*wide, **{key: _widen(a, narrow) for key, a in (kwargs or {}).items()})
            return result.to(narrow)

    with Widen():
        yield


def _widen(value: Any, narrow: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_widen(item, narrow) for item in value)
    return value.float() if getattr(value, "dtype", None) == narrow else value


def check_here(entry: Entry, dtype: str, contract: str, *, widen: bool) -> str | None:
    """Return why the architecture breaks the contract in this process, or None."""
    from vtbench.cli import main

    command = ["check", entry.name, "--random-weights", "--once", "--dtype", dtype]
    command += ["--device", "meta" if contract == "shapes" else "cpu"]
    said = io.StringIO()
    widened = widen_products() if widen and dtype == "bf16" else contextlib.nullcontext()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), widened:
        code = main(command)
    lines = said.getvalue().strip().splitlines() or ["no message"]
    return None if code == 0 else lines[-1].removeprefix(f"{entry.name}: ")


def check_apart(
    entry: Entry, plan: str, dtype: str, contract: str, *, limit: argparse.Namespace
) -> Row:
    """Return the row of one check, made in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        # What it writes to, not its address space, of which the libraries' files take much.
        resource.setrlimit(resource.RLIMIT_DATA, (limit.gib * GIB, limit.gib * GIB))
        resource.setrlimit(resource.RLIMIT_CPU, (limit.seconds, limit.seconds + 5))
        reason: str | None = "it ended without a word"
        try:
            reason = check_here(entry, dtype, contract, widen=limit.widen)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
        with os.fdopen(writer, "w") as pipe:
            pipe.write("" if reason is None else f"failed {reason}")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    result, reason = "ok", said.removeprefix("failed ")
    if os.WIFSIGNALED(status):
        slow = os.WTERMSIG(status) == signal.SIGXCPU
        result = "too slow" if slow else "too large"
        reason = (
            f"stopped after {limit.seconds} s of processor time"
            if slow
            else f"killed by signal {os.WTERMSIG(status)}"
        )
    elif said:
        memory = ("allocate memory", "MemoryError", "out of memory", "Cannot allocate")
        result = "too large" if any(word in said for word in memory) else "failed"
    seconds = usage.ru_utime + usage.ru_stime
    return Row(
        *(entry.name, plan, dtype, contract, result),
        *(f"{seconds:.1f}", f"{usage.ru_maxrss / 1024:.0f}", " ".join(reason.split())[:160]),
        describe_machine(widen=limit.widen and dtype == "bf16" and contract == "once"),
    )


def describe_machine(*, widen: bool) -> str:
    """Return the processor, torch's version, and whether products were widened."""
    import torch

    named = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    name = named[0].partition(": ")[2] if named else platform.machine()
    return f"{name}, torch {torch.__version__.partition('+')[0]}" + (", widened" if widen else "")


def read_table() -> dict[tuple[str, str], Row]:
    """Return the rows by plan and dtype."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {(row["plan"], row["dtype"]): Row(**row) for row in csv.DictReader(file)}


def write_table(rows: dict[tuple[str, str], Row]) -> None:
    """Write the rows, in order of their architecture, whole or not at all."""
    partial = TABLE.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        ordered = sorted(rows.values(), key=lambda row: (row.architecture, row.dtype != "fp32"))
        writer.writerows(asdict(row) for row in ordered)
    partial.replace(TABLE)


def is_due(found: Row | None, contract: str) -> bool:
    """Return whether a check is still to be made: what is computed stands for its shapes too."""
    if found is None:
        return True
    return contract == "once" and (found.contract == "shapes" or found.result != "ok")


def wait_for_memory(gib: float) -> bool:
    """Return whether so much memory came free within a minute."""
    for _ in range(12):
        said = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
        if int(said) * 1024 > gib * GIB:
            return True
        time.sleep(5)
    return False


def measure(limit: argparse.Namespace) -> None:
    """Make the checks that are due."""
    for name in ("torch", "diffusers", "transformers", "vtbench.commands.check"):
        importlib.import_module(name)  # once, for all of the processes
    import torch

    torch.set_num_threads(1)
    contract = "shapes" if limit.shapes else "once"
    for plan, entries in group_architectures().items():
        entry = entries[0]
        if limit.name and not {entry.name for entry in entries} & set(limit.name):
            continue
        for dtype in DTYPES:
            rows = read_table()
            if not is_due(rows.get((plan, dtype)), contract):
                continue
            if contract == "once":
                untried = say_untried(entry, limit.gib, limit.seconds, find_rate(rows.values()))
                if untried is None and not wait_for_memory(estimate_gib(entry)):
                    untried = "not tried: others hold the memory"
                if untried is not None:
                    print(f"{entry.name} {dtype}: {untried}", flush=True)
                    continue
            row = check_apart(entry, plan, dtype, contract, limit=limit)
            print(f"{entry.name} {dtype}: {row.result} {row.seconds} s {row.reason}", flush=True)
            found = rows.get((plan, dtype))
            if found is None or row.result in ("ok", "failed") or found.contract == contract:
                write_table({**read_table(), (plan, dtype): row})


def print_table() -> str:
    """Return the table in Markdown: one line for each architecture, measured or not."""
    rows = read_table()
    rate = find_rate(rows.values())
    lines, counts = [], dict.fromkeys(("values", "shapes", "failed", "none"), 0)
    for plan, entries in sorted(group_architectures().items(), key=lambda item: item[1][0].name):
        cells, entry = [], entries[0]
        untried = say_untried(entry, MAX_GIB, MAX_SECONDS, rate) or "not reached"
        for dtype in DTYPES:
            row = rows.get((plan, dtype))
            cells += _cells(row, untried)
            counts[_kind(row)] += 1
        others = ", ".join(other.name for other in entries[1:]) or "–"
        size = f"{entry.parameters / 1e6:,.1f}" if entry.parameters else "–"
        lines.append(f"| {entry.name} | {others} | {size} | {' | '.join(cells)} |")
    present = set(rows) & {(plan, dtype) for plan in group_architectures() for dtype in DTYPES}
    machines = sorted({rows[key].machine for key in present})
    return HEAD.format(
        n=len(lines), machines="; ".join(machines) or "–", lines="\n".join(lines), **counts
    )


def _kind(row: Row | None) -> str:
    if row is None:
        return "none"
    if row.result != "ok":
        return "failed" if row.result == "failed" else "none"
    return "values" if row.contract == "once" else "shapes"


def _cells(row: Row | None, untried: str) -> list[str]:
    if row is None:
        return [untried, "–", "–"]
    if row.result != "ok":
        return [f"{row.result}: {row.reason}".replace("|", "/"), row.seconds, row.peak_mib]
    if row.contract == "shapes":
        return ["shapes" if untried == "not reached" else f"shapes; {untried}", "–", "–"]
    return ["ok", row.seconds, row.peak_mib]


HEAD = """# Every architecture at full size

`python benchmarks/check_architectures.py` makes this from `benchmarks/full_size.csv`. There are
{n} distinct plans; entries that differ in weights alone share a line. A check builds the plan
with random weights, as large as it is published, and takes a square of its own size and an image
of 301×203 through encoder and decoder.

- *ok*: the clauses code, size, values and token-count of the contract hold on computed values.
- *shapes*: it ran on torch's meta device, where shapes and dtypes are real and values are none.
- *not tried*: by its parameters and GMAC it needs more than 20 GiB, or more than ten minutes of one
  thread. Some that do were tried all the same, by name with a larger `--seconds`.
- *not reached*: nothing ran, so nothing is said of it.

In float32 and in bfloat16 together: {values} with values, {shapes} with shapes alone, {failed}
failed, {none} not tried or not reached. Seconds are of one thread's processor time, MiB the
process's peak of resident memory. Machines: {machines}. *Widened*: the processor has no bfloat16
arithmetic, so products of bfloat16 tensors were summed in float32 and rounded.

| architecture | shared by | 10⁶ parameters | float32 | s | MiB | bfloat16 | s | MiB |
|---|---|---:|---|---:|---:|---|---:|---:|
{lines}
"""


def main() -> int:
    """Return the exit code: 1 where a check failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", help="Entries; all of them if there is none.")
    parser.add_argument("--shapes", action="store_true", help="On the meta device: no values.")
    parser.add_argument("--widen", action="store_true", help="bfloat16 products in float32.")
    parser.add_argument(
        "--seconds", type=int, default=MAX_SECONDS, help="Processor time of one check."
    )
    parser.add_argument("--gib", type=int, default=MAX_GIB, help="Memory of one check.")
    parser.add_argument("--print", action="store_true", help="Print the table, measure nothing.")
    limit = parser.parse_args()
    if not limit.print:
        measure(limit)
        return int(any(row.result == "failed" for row in read_table().values()))
    print(print_table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
