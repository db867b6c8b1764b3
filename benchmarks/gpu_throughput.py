"""Images a second of five architectures on one GPU: `python benchmarks/gpu_throughput.py`.

Under ten minutes on one H100 or H200. Each architecture with random weights (speed does not depend on
their values; nothing is downloaded), in bf16 and fp32, on pictures of 256², 512² and 1024². Two numbers
each, images a second through encode and decode together:

- bare: the network alone in PyTorch, images and code on the device;
- vtbench: `Tokenizer.encode` and `decode` as a run calls them, from 8-bit pixels in the CPU's memory to
  8-bit pixels there, with range, size, checks and the code's counts.

Both under the protocol's arithmetic (no TF32, no algorithm chosen by timing), every batch of as many
pixels. Prints Markdown with the device's name; `--json FILE` keeps the numbers. Without a GPU it
refuses; `--device cpu --sizes 64 --names ref-kl-f8` tries the script itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vtbench.images import to_uint8
from vtbench.registry.entries import load_registry
from vtbench.runs import environment
from vtbench.runs.arithmetic import exact_arithmetic
from vtbench.runs.cost_process import draw_picture
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Tokenizer

NAMES = (
    *("sd-vae-ft-mse", "dc-ae-f32c32-in-1.0", "llamagen-ds16", "cosmos-di16x16"),
    "vitok-v2-350m-f16c16",
)
SIZES = (256, 512, 1024)
DTYPES = ("bf16", "fp32")
PIXELS = 32 * 256 * 256
"""Of a batch: 32 images of 256², 8 of 512², 2 of 1024²."""


@dataclass(frozen=True)
class Result:
    """Images a second of one architecture, dtype and size; error where there are none."""

    name: str
    dtype: str
    size: int
    batch: int
    bare: float | None = None
    vtbench: float | None = None
    peak_mib: float | None = None
    error: str | None = None


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_per_second(
    call: Callable[[], Any], device: torch.device, *, images: int, seconds: float
) -> float:
    """Return the images a second: the median of calls after two that are not timed."""
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    return images / statistics.median(times)


def make_bare(tokenizer: Tokenizer, images: torch.Tensor) -> Callable[[], Any]:
    """Return a call of the network alone, through encode and decode."""
    low, high = tokenizer.spec.input_range
    model: Any = tokenizer.model  # type: ignore[attr-defined]
    ranged = (images * (high - low) + low).to(tokenizer.device, tokenizer.dtype)
    continuous = tokenizer.spec.kind == "continuous"

    def of_library() -> Any:
        code = model.encode(ranged)
        latents = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latent
        return model.decode(latents).sample

    def of_ours() -> Any:
        return model.decode(model.compute_latents(ranged) if continuous else model.encode(ranged))

    call = of_library if type(model).__module__.startswith("diffusers.") else of_ours
    return torch.inference_mode()(call)


def make_vtbench(tokenizer: Tokenizer, pixels: torch.Tensor) -> Callable[[], Any]:
    """Return a call as a run makes it. pixels: uint8 N×3×H×W in the CPU's memory."""

    def call() -> Any:
        images = (pixels.to(torch.float32) / 255).to(tokenizer.device)
        return to_uint8(tokenizer.decode(tokenizer.encode(images))).cpu()

    return call


def measure(
    name: str, dtype: str, sizes: Sequence[int], device: str, seconds: float
) -> list[Result]:
    """Return the results of an architecture in a dtype."""
    entry = load_registry(())[name]
    tokenizer = build_tokenizer(entry, device=device, dtype=dtype, random_weights=True)
    results = []
    for size in sizes:
        batch = max(1, PIXELS // size**2) if tokenizer.device.type == "cuda" else 1
        images = draw_picture(size).expand(batch, -1, -1, -1).contiguous()
        pixels = to_uint8(images)
        try:
            if tokenizer.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            rates = [
                count_per_second(call, tokenizer.device, images=batch, seconds=seconds)
                for call in (make_bare(tokenizer, images), make_vtbench(tokenizer, pixels))
            ]
            peak = (
                torch.cuda.max_memory_allocated() / 2**20
                if tokenizer.device.type == "cuda"
                else None
            )
            results.append(Result(name, dtype, size, batch, rates[0], rates[1], peak))
        except RuntimeError as error:  # out of memory, or a kernel that is not there in this dtype
            message = str(error).strip().splitlines()[0]
            results.append(Result(name, dtype, size, batch, error=message))
    return results


def describe(device: str) -> str:
    """Return the device's name and the libraries."""
    versions = environment.library_versions(("torch", "diffusers"))
    cuda = f", CUDA {torch.version.cuda}" if device.startswith("cuda") else ""
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{environment.device_name(device)}, {environment.processor()}: {libraries}{cuda}"


def show(results: Sequence[Result]) -> str:
    """Return the table."""
    head = (
        "architecture",
        "dtype",
        "size",
        "batch",
        "bare image/s",
        "vtbench image/s",
        "share",
        "MiB",
    )
    lines = [head, ("---", "---", *["---:"] * 6)]
    for r in results:
        facts = (r.name, r.dtype, f"{r.size}²", str(r.batch))
        if r.bare is None or r.vtbench is None:
            lines.append((*facts, f"failed: {r.error}", "", "", ""))
            continue
        peak = "–" if r.peak_mib is None else f"{r.peak_mib:.0f}"
        lines.append(
            (*facts, f"{r.bare:.3g}", f"{r.vtbench:.3g}", f"{100 * r.vtbench / r.bare:.0f} %", peak)
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0, 1 where something failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each number at least")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "no CUDA device here: run this where there is one, or try the script with --device cpu "
            "--sizes 64 --names ref-kl-f8",
            file=sys.stderr,
        )
        return 2
    sizes = tuple(map(int, options.sizes.split(",")))
    print(f"{describe(options.device)}\n", flush=True)
    results: list[Result] = []
    start = time.perf_counter()
    with exact_arithmetic():
        for name in options.names.split(","):
            for dtype in options.dtypes.split(","):
                results += measure(name, dtype, sizes, options.device, options.seconds)
                print(f"{name} {dtype}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
                if options.device.startswith("cuda"):
                    torch.cuda.empty_cache()
    print(show(results))
    if options.json is not None:
        content = {"machine": describe(options.device), "results": [asdict(r) for r in results]}
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 1 if any(result.error is not None for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
