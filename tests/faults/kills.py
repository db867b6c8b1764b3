"""A run of a few small pictures that is killed at a drawn moment and goes on, beside an undisturbed one.

`compare_killed` is what the tests and `.ci/long` call. The kill comes from outside (SIGKILL), after a
drawn share of the time that an undisturbed run takes once it measures.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

VTBENCH = "import sys; from vtbench.cli import main; sys.exit(main(sys.argv[1:]))"
TOKENIZERS = ("jpeg-q25", "patch-pca-f8c4")
TIMES = ("encode_s", "decode_s", "peak_memory_mib")


def write_pictures(folder: Path, *, n: int = 12, side: int = 32) -> Path:
    """Write n smooth pictures of noise and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(n):
        rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        size = (side, side if seed % 3 else side + 8)
        Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).save(folder / f"{seed}.png")
    return folder


def start(*arguments: object, code: str = VTBENCH, ranks: int = 1) -> subprocess.Popen[bytes]:
    """Start vtbench with these arguments, quietly; of several ranks by torchrun."""
    port = random.SystemRandom().randint(20000, 60000)
    torchrun = f"-m torch.distributed.run --nproc-per-node {ranks} --master-port {port} -m vtbench"
    program = ["-c", code] if ranks == 1 else torchrun.split()
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_arguments(pictures: Path, out: Path) -> list[object]:
    """Return the arguments of a run of both tokenizers in batches of three."""
    flags = [part for name in TOKENIZERS for part in ("-t", name)]
    return ["run", "--images", pictures, "--device", "cpu", "--batch-size", 3, *flags, "--out", out]


def measure_undisturbed(pictures: Path, out: Path) -> float:
    """Make the run that killed ones are compared with; return how long it measured, in seconds."""
    process = start(*run_arguments(pictures, out))
    began = _wait_for(out / "suite.json", process)
    assert process.wait(timeout=600) == 0
    return time.monotonic() - began


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> float:
    while not path.exists() and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def kill_and_go_on(pictures: Path, out: Path, *, seconds: float, seed: int, ranks: int = 1) -> bool:
    """Kill a run within `seconds` after it began to measure, and let it go on to its end. Return
    whether the kill came before its end.

    ranks: how many measure it; any process of them is killed, and another number of them goes on."""
    shutil.rmtree(out, ignore_errors=True)
    draw = random.Random(seed)
    process = start(*run_arguments(pictures, out), ranks=ranks)
    _wait_for(out / "suite.json", process)
    time.sleep(draw.random() * seconds)
    killed = kill_one(process, draw)
    more = draw.randint(1, ranks)
    assert start(*run_arguments(pictures, out), ranks=more).wait(timeout=600) == 0
    return killed


def kill_one(process: subprocess.Popen[bytes], draw: random.Random) -> bool:
    """Kill a process or one of those below it; return whether that was before its end. Ranks whose
    parent was killed may go on to their end; they are waited for."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        draw.choice([psutil.Process(process.pid), *children]).kill()
    except psutil.NoSuchProcess:
        children = []
    killed = process.wait(timeout=600) != 0
    _, left = psutil.wait_procs(children, timeout=120)
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=60)
    return killed


def compare(whole: Path, resumed: Path) -> list[str]:
    """Return what differs between two results: rows but for times, and the bytes of the panel."""
    from vtbench.results.folder import read_run

    found = []
    for name in TOKENIZERS:
        rows: list[Any] = [
            [{k: v for k, v in row.items() if k not in TIMES} for row in read_run(out / name).rows]
            for out in (whole, resumed)
        ]
        if rows[0] != rows[1]:
            found.append(f"{name}: rows differ")
        panels = [
            {path.name: path.read_bytes() for path in sorted((out / name / "panel").iterdir())}
            for out in (whole, resumed)
        ]
        if panels[0] != panels[1] or not panels[0]:
            found.append(f"{name}: pictures differ")
        for end in (".partial.jsonl", ".panel", ".features"):
            if (resumed / f".{name}{end}").exists():
                found.append(f"{name}: left .{name}{end}")
    return found
