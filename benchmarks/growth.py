"""How a run grows with its images: `python benchmarks/growth.py --counts 2000 20000`.

`vtbench run --images` of so many pictures of 64×64 with `resize-2x`, the leaderboard and its page
included, each in a process of its own. Prints wall and processor seconds, the peak of resident memory,
and what it is of the first line's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE = 64


def write_pictures(folder: Path, count: int) -> None:
    """Write seeded noise over slopes, no two alike."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    slope = np.linspace(0, 160, SIDE)[None, :, None]
    for number in range(count):
        noise = random.integers(0, 95, (SIDE, SIDE, 3))
        Image.fromarray((slope + noise).astype("uint8")).save(folder / f"{number:06}.png")


def measure(pictures: Path, out: Path) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and the peak in MiB of a run in a process of its own."""
    import time

    command = [sys.executable, "-m", "vtbench", "run", "--images", str(pictures)]
    command += ["-t", "resize-2x", "--device", "cpu", "--out", str(out)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, use = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    return time.perf_counter() - start, use.ru_utime + use.ru_stime, use.ru_maxrss / 2**10


def main() -> None:
    """Print a Markdown table, a line a number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="+", type=int, default=[2000, 20000])
    options = parser.parse_args()
    print(
        "| images | wall (s) | processor (s) | peak (MiB) | of the first |\n|---:|---:|---:|---:|---:|"
    )
    first = None
    for count in options.counts:
        with tempfile.TemporaryDirectory() as place:
            pictures = Path(place) / "pictures"
            pictures.mkdir()
            write_pictures(pictures, count)
            wall, processor, peak = measure(pictures, Path(place) / "out")
        first = first or peak
        print(
            f"| {count} | {wall:.0f} | {processor:.0f} | {peak:.0f} | {peak / first:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
