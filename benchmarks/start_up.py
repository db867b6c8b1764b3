"""What each command costs before it works: `python benchmarks/start_up.py`.

Runs each command's --help, and those that need no weights on what is shipped, each in a process of its
own, round after round in turn; prints the best wall and processor seconds, and beside them those of an
interpreter that imports torch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from vtbench.cli import COMMANDS

WORK: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("list", "suites"),
    ("list", "metrics"),
    ("show", "sd-vae-ft-mse"),
    ("cache",),
    ("table", "--results", "results/embedded"),
)


def measure(command: list[str]) -> tuple[float, float]:
    """Return wall and processor seconds of a process. Raises SystemExit where it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, use = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode(errors='replace').strip()}")
    return time.perf_counter() - start, use.ru_utime + use.ru_stime


def main() -> None:
    """Print a Markdown table, the cheapest first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    python = [sys.executable]
    commands = {
        "python -c 'import torch'": [*python, "-c", "import torch"],
        "python -c 'import vtbench'": [*python, "-c", "import vtbench"],
        **{
            f"vtbench {verb} --help": [*python, "-m", "vtbench", verb, "--help"]
            for verb in COMMANDS
        },
        **{f"vtbench {' '.join(work)}": [*python, "-m", "vtbench", *work] for work in WORK},
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            found[name].append(measure(command))
    best = {name: tuple(map(min, zip(*times, strict=True))) for name, times in found.items()}
    print("| command | wall (s) | processor (s) |\n|---|---:|---:|")
    for name, (wall, processor) in sorted(best.items(), key=lambda item: item[1][1]):
        print(f"| `{name}` | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
