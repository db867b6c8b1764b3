"""What a run costs beside plain PyTorch: `python benchmarks/pass_efficiency.py`.

Each contestant encodes, decodes and measures the same images in the same batches, in a process of its
own, round after round in turn; the first batch, which pays for start-up, is left out.

    plain           torch's default layout
    channels-last   the same with networks and images in channels-last layout
    vtbench         `vtbench run`, the pass and what it writes

All three decode the same PNG files, take PSNR, SSIM and MS-SSIM from the same functions, and run LPIPS
(Alex) and the FID Inception with random weights (`stand_ins`): the plain ones as their packages are
used, a batch at a time. A ratio is plain's processor time over vtbench's, the best round of each; above
1 vtbench is the faster. `sys` is system time as a share of user time.

    python benchmarks/pass_efficiency.py --models taesd resize-2x --batches 1 2 4 8
    python benchmarks/pass_efficiency.py --models sd-vae-ft-mse --batches 1 2 --images 4
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtbench.suites.suites import Suite

CONTESTANTS = ("plain", "channels-last", "vtbench")
SIDE = 256


@dataclass
class Clock:
    """Wall, user and system seconds of this process, with images counted."""

    marks: list[tuple[float, float, float, int]]

    def mark(self, images: int) -> None:
        """Note the time at which so many images were done."""
        use = resource.getrusage(resource.RUSAGE_SELF)
        self.marks.append((time.perf_counter(), use.ru_utime, use.ru_stime, images))

    def report(self) -> dict[str, float]:
        """Return seconds an image between the first mark and the last, and the peak memory in MiB."""
        first, last = self.marks[0], self.marks[-1]
        images = last[3] - first[3]
        wall, user, system = ((b - a) / images for a, b in zip(first[:3], last[:3], strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return {"wall": wall, "user": user, "system": system, "peak": peak}


def write_images(folder: Path, count: int) -> None:
    """Write `count` squares of the embedded suite's photographs, 256 px, as PNG."""
    from PIL import Image

    from vtbench.suites.batches import load_pixels
    from vtbench.suites.suites import load_suite

    squares = [s for s in load_suite("embedded").samples if s.subset == "crop256"]
    for number in range(count):
        pixels = load_pixels(squares[number % len(squares)])
        shifted = (pixels.astype(int) + number // len(squares)).clip(0, 255).astype("uint8")
        Image.fromarray(shifted).save(folder / f"{number:05}.png")


def run_plain(options: argparse.Namespace, clock: Clock) -> None:
    """Encode, decode and measure as a script of one's own would."""
    import numpy as np
    import stand_ins
    import torch
    from PIL import Image

    from vtbench.metrics import pixel
    from vtbench.registry.entries import load_registry
    from vtbench.tokenizers import build_tokenizer

    layout = torch.channels_last if options.contestant == "channels-last" else None
    entry = load_registry()[options.model]
    tokenizer = build_tokenizer(entry, device="cpu", random_weights="config" in entry.options)
    networks = {}
    if options.networks:
        networks = {
            "lpips": stand_ins.open_lpips(),
            "fid": stand_ins.open_inception(options.folder),
        }
    model = getattr(tokenizer, "model", None)
    if layout is not None:
        for network in (*networks.values(), *([model] if model is not None else [])):
            network.to(memory_format=layout)
    paths = sorted((options.folder / "images").iterdir())

    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    done = 0
    sums = torch.zeros(4, dtype=torch.float64)
    features = []
    with torch.inference_mode():
        for start in range(0, len(paths), options.batch):
            originals = torch.stack([read(p) for p in paths[start : start + options.batch]])
            images = originals.float() / 255
            if layout is not None:
                images = images.contiguous(memory_format=layout)
            decoded = tokenizer.decode(tokenizer.encode(images))
            rounded = (decoded.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
            originals, rounded = originals.contiguous(), rounded.contiguous()
            sums[0] += pixel.psnr_db(originals, rounded).sum()
            both = pixel.ssim_and_ms_ssim(originals, rounded)
            sums[1:3] += torch.stack([value.sum() for value in both if value is not None])
            if networks:
                x, y = (side.float() / 127.5 - 1 for side in (originals, rounded))
                if layout is not None:
                    x, y = (side.contiguous(memory_format=layout) for side in (x, y))
                sums[3] += networks["lpips"](x, y).sum()
                for side in (x, y):
                    resized = torch.nn.functional.interpolate(side, (299, 299), mode="bilinear")
                    features.append(networks["fid"](resized))
            done += len(originals)
            clock.mark(done)


def open_images(options: argparse.Namespace) -> Suite:
    """Return the folder's images as a suite with the metrics that are compared."""
    import stand_ins

    from vtbench.suites.image_folder import folder_suite
    from vtbench.suites.suite_file import TaskProtocol

    metrics = ["psnr_db", "ssim", "ms_ssim"]
    if options.networks:
        stand_ins.use_weights(options.folder)
        metrics += ["lpips_alex", "kid"]
    suite = folder_suite(options.folder / "images")
    tasks = {"reconstruction": TaskProtocol(metrics=tuple(metrics))}
    protocol = suite.protocol.model_copy(update={"tasks": tasks})
    return replace(suite, protocol=protocol)


def run_vtbench(
    suite: Suite, options: argparse.Namespace, clock: Clock, *, whole: bool = False
) -> None:
    """Run the pass over a suite's images as `vtbench run` does. whole: count the first batch too."""
    from vtbench.registry.entries import load_registry
    from vtbench.runs.planning import plan_run
    from vtbench.runs.reconstruction import LiveReconstructor
    from vtbench.runs.runner import run_suite
    from vtbench.tokenizers import build_tokenizer

    registry = load_registry()
    entry = registry[options.model]

    class Listener:
        done = 0

        def started(self, run: str, index: int, total: int, images: int) -> None:
            if whole:
                clock.mark(0)

        def advanced(self, images: int) -> None:
            self.done += images
            if images:
                clock.mark(self.done)

        def finished(self, outcome: object) -> None:
            if getattr(outcome, "status", "") != "measured":
                raise SystemExit(f"vtbench: {outcome}")

    given = {}
    if "config" in entry.options:
        tokenizer = build_tokenizer(entry, device="cpu", random_weights=True)
        given = {entry.name: LiveReconstructor(tokenizer)}
        # A model that is given needs no files.
        registry = type(registry)({entry.name: entry.model_copy(update={"weights": None})})
    request = plan_run(
        suite,
        registry,
        names=[entry.name],
        device="cpu",
        batch_size=options.batch,
        out=Path(tempfile.mkdtemp(dir=options.folder)) / "results",
    )
    run_suite(replace(request, given=given), Listener(), steady=True)
    clock.mark(clock.marks[-1][3])  # what is written at the end counts


def call_script(
    script: str, arguments: list[str], environment: dict[str, str] | None = None
) -> dict[str, float]:
    """Return what a process of a script reports in its last line. Raises SystemExit where it fails."""
    own = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **(environment or {})}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1:]}")
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


def compare(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the table's lines, one a model and batch size."""
    yield (
        "| model | batch | plain s/image (CPU) | channels-last | vtbench | "
        "of plain | of channels-last | vtbench sys | wall of plain | wall of channels-last |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for model in options.models:
        for batch in options.batches:
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
            networks = [] if model in options.without else ["--networks"]
            for _ in range(options.rounds):
                for name, reports in rounds.items():
                    given = ["--contestant", name, "--model", model, "--batch", str(batch)]
                    reports.append(
                        call_script(__file__, [*given, *networks, "--folder", str(folder)])
                    )
            best = {
                name: min(reports, key=lambda r: r["user"] + r["system"])
                for name, reports in rounds.items()
            }
            wall = {name: min(r["wall"] for r in reports) for name, reports in rounds.items()}
            cpu = {name: report["user"] + report["system"] for name, report in best.items()}
            own = best["vtbench"]
            yield (
                f"| {model} | {batch} | "
                + " | ".join(f"{cpu[name]:.3f}" for name in CONTESTANTS)
                + f" | {cpu['plain'] / cpu['vtbench']:.2f}"
                + f" | {cpu['channels-last'] / cpu['vtbench']:.2f}"
                + f" | {own['system'] / own['user']:.1%}"
                + f" | {wall['plain'] / wall['vtbench']:.2f}"
                + f" | {wall['channels-last'] / wall['vtbench']:.2f} |"
            )


def main() -> None:
    """Print a Markdown table, or be one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["taesd", "resize-2x"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--without", nargs="*", default=["resize-2x"], help="Models without LPIPS and Inception."
    )
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--networks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        clock = Clock([])
        if options.contestant == "vtbench":
            run_vtbench(open_images(options), options, clock)
        else:
            run_plain(options, clock)
        print(json.dumps(clock.report()))
        return
    import stand_ins

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        write_images(folder / "images", options.images)
        stand_ins.write_weights(folder)
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
        for line in compare(options, folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()
