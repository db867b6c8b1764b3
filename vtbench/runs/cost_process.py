"""One process's measurement of what a tokenizer costs: latency, throughput, memory.

The process is fresh and measures one tokenizer, so that neither another one's memory nor its threads
are in the numbers. `runs.cost_measurement` starts it several times and puts the results together.

Of each size and phase: two calls of warm-up, then calls with the device synchronized on both sides
until there are `MIN_REPEATS` and they took `seconds` together. Throughput is looked for at batches 1,
2, 4, ... until a batch gives less than `GAIN` times what half of it gave. Memory is the allocator's own
count of tensors: CUDA's peak, and on the CPU the sum of what torch's allocator reports to the profiler.
It is the same whatever else runs; scratch that oneDNN or cuDNN take from elsewhere is not in it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.registry.entries import Entry
from vtbench.weights.entries import WeightFiles

if TYPE_CHECKING:
    from torch import Tensor

    from vtbench.tokenizers.base import Tokenizer

MIN_REPEATS = 3
WARM_UP = 2
MAX_REPEATS = 200
GAIN = 1.05
"""Twice the batch must give this many times the images a second, or the search ends."""

MAX_BATCH = 256
MEMORY_SHARE = 0.5
"""A batch is not tried where twice the memory of the one before is more than this share of what is
free."""


@dataclass(frozen=True)
class CostJob:
    """What one process measures.

    Args:
        entry: the tokenizer.
        weights: its files; None with `random_weights`, or where it needs none.
        random_weights: the architecture with random weights: cost does not depend on their values.
        device, dtype, seed: as of a run.
        sizes: sides of the square images.
        seconds: how long each number is measured at least.
        max_batch: the largest batch that is tried.
    """

    entry: Entry
    weights: WeightFiles | None
    random_weights: bool
    device: str
    dtype: str
    seed: int
    sizes: tuple[int, ...]
    seconds: float
    max_batch: int = MAX_BATCH


@dataclass
class PhaseTimes:
    """Seconds of each call, by batch; and the allocator's peak in MiB at batch 1."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    peak_mib: float | None = None


@dataclass
class SizeTimes:
    """What one process measured at a size. fit: the size policy at work. error: why it has no more."""

    size: int
    fit: str | None = None
    encode: PhaseTimes = field(default_factory=PhaseTimes)
    decode: PhaseTimes = field(default_factory=PhaseTimes)
    error: str | None = None


@dataclass(frozen=True)
class ProcessCost:
    """What one process measured. others: share of the CPUs that other processes used meanwhile."""

    sizes: tuple[SizeTimes, ...]
    weights_mib: float | None
    parameters: int
    threads: int
    others: float


def measure_process(job: CostJob) -> ProcessCost:
    """Measure a tokenizer's cost in this process, which is meant to do nothing else."""
    # The profiler, which counts the CPU's memory, otherwise says that there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    from vtbench.base.errors import VtbenchError, describe_foreign
    from vtbench.runs.arithmetic import exact_arithmetic
    from vtbench.runs.fast_form import choose_layout
    from vtbench.runs.machine_load import OthersShare
    from vtbench.tokenizers import build_tokenizer
    from vtbench.tokenizers.cost import list_networks

    with exact_arithmetic():
        tokenizer = build_tokenizer(
            job.entry,
            device=job.device,
            dtype=job.dtype,
            seed=job.seed,
            weights=job.weights,
            random_weights=job.random_weights,
        )
        choose_layout(tokenizer)  # as a run does
        networks = list_networks(tokenizer)
        tensors = [t for net in networks for t in (*net.parameters(), *net.buffers())]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        parameters = {id(p): p.numel() for net in networks for p in net.parameters()}
        clock = OthersShare()
        times = []
        for size in job.sizes:
            found = SizeTimes(size)
            try:
                _measure_size(job, tokenizer, found, sum(storages.values()))
            except (VtbenchError, RuntimeError, ValueError, MemoryError) as error:
                found.error = describe_foreign(error)
                if job.device.startswith("cuda"):
                    torch.cuda.empty_cache()
            times.append(found)
    return ProcessCost(
        sizes=tuple(times),
        weights_mib=sum(storages.values()) / 2**20
        if counts_memory(tokenizer.device.type)
        else None,
        parameters=sum(parameters.values()),
        threads=torch.get_num_threads(),
        others=clock.stop(),
    )


def counts_memory(device_type: str) -> bool:
    """Return whether the device's allocator says what is allocated: CUDA's and the CPU's do."""
    return device_type in ("cuda", "cpu")


def draw_picture(size: int) -> Tensor:
    """Return a float32 1×3×size×size picture with a photograph's spectrum (amplitude 1/f), always the
    same one: a codec's time depends on what it sees, a network's does not."""
    import torch

    generator = torch.Generator("cpu").manual_seed(size)
    frequencies = torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2
    frequencies[0, 0] = 1.0
    shape = (1, 3, size, size)
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=generator)) / frequencies.sqrt()
    spectrum[..., 0, 0] = 0
    picture = torch.fft.irfft2(spectrum, s=(size, size))
    scaled: Tensor = 0.5 + 0.2 * picture / picture.std()
    return scaled.clamp(0, 1)


def _measure_size(job: CostJob, tokenizer: Tokenizer, found: SizeTimes, weights: int) -> None:
    """Fill in what is measured at a size: first memory, in its first calls, then time."""
    picture = draw_picture(found.size).to(tokenizer.device)
    code = tokenizer.encode(picture)
    found.fit = code.fit.policy if code.fit is not None else None
    tokenizer.decode(code)
    base = weights + picture.nbytes
    found.encode.peak_mib = measure_peak(tokenizer, lambda: tokenizer.encode(picture), base)
    held = base + (code.latents.nbytes if code.latents is not None else 0)
    found.decode.peak_mib = measure_peak(tokenizer, lambda: tokenizer.decode(code), held)
    _find_best_batch(job, tokenizer, picture, found.encode, decode=False)
    _find_best_batch(job, tokenizer, picture, found.decode, decode=True)


def _find_best_batch(
    job: CostJob, tokenizer: Tokenizer, picture: Tensor, phase: PhaseTimes, *, decode: bool
) -> None:
    import torch

    batch, before = 1, 0.0
    while batch <= job.max_batch:
        images = picture.expand(batch, -1, -1, -1).contiguous()
        code = tokenizer.encode(images) if decode else None
        call: Callable[[], Any] = (
            (lambda code=code: tokenizer.decode(code))  # type: ignore[misc]
            if decode
            else (lambda images=images: tokenizer.encode(images))  # type: ignore[misc]
        )
        try:
            phase.seconds[batch] = time_calls(tokenizer, call, seconds=job.seconds)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            return
        rate = batch / statistics.median(phase.seconds[batch])
        if rate < before * GAIN or not _has_room(tokenizer, phase, 2 * batch):
            return
        batch, before = 2 * batch, rate


def _has_room(tokenizer: Tokenizer, phase: PhaseTimes, batch: int) -> bool:
    """Return whether a batch has room in memory, to judge by what one image took."""
    import psutil
    import torch

    if tokenizer.device.type == "cuda":
        free = torch.cuda.mem_get_info(tokenizer.device)[0]
    else:
        free = psutil.virtual_memory().available
    return (phase.peak_mib or 0.0) * 2**20 * batch <= MEMORY_SHARE * free


def time_calls(tokenizer: Tokenizer, call: Callable[[], Any], *, seconds: float) -> list[float]:
    """Return the seconds of each call after the warm-up, the device synchronized on both sides."""
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    while len(times) < MIN_REPEATS or (sum(times) < seconds and len(times) < MAX_REPEATS):
        synchronize(tokenizer)
        start = time.perf_counter()
        call()
        synchronize(tokenizer)
        times.append(time.perf_counter() - start)
    return times


def synchronize(tokenizer: Tokenizer) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize(tokenizer.device)
    elif tokenizer.device.type == "mps":
        torch.mps.synchronize()


def measure_peak(tokenizer: Tokenizer, call: Callable[[], Any], held: int) -> float | None:
    """Return the allocator's peak of tensors during a call, in MiB, or None where it does not count.

    held: bytes of the tensors that exist before the call, weights and input. On CUDA the allocator
    counts them itself.
    """
    import torch

    device = tokenizer.device
    if not counts_memory(device.type):
        return None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        call()
    assert watch.profiler is not None and watch.profiler.kineto_results is not None
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in watch.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return (held + peak) / 2**20
