"""Whether a cost is a number: `python benchmarks/cost_repeats.py [--times 5] [--sizes 256] [NAME ...]`.

Measures three tokenizers (default: three of the reference ones) several times, each time in another
order, each in fresh processes, as `vtbench run --task efficiency` does. Prints every latency with its
spread, whether each pair of measurements agrees (each median lies in the other's spread or
the other way round), and how far the memory that the table shows is from what torch's
memory timeline, another reading of the allocator's events, says in this process. Exit 1 where one does
not hold. Latencies say nothing on a machine that is busy: that is printed too.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vtbench.registry.entries import load_registry
from vtbench.results.cost_record import CostRecord, Spread
from vtbench.runs.cost_measurement import CostRequest, measure_costs
from vtbench.tokenizers import resolve_device

NAMES = ("ref-kl-f8", "ref-vq-f16", "ref-titok-64")
PHASES = ("encode", "decode")
TOLERANCE = 0.1


def measure(names: list[str], sizes: tuple[int, ...], device: str) -> dict[str, CostRecord]:
    """Return the costs by name, measured in this order."""
    registry = load_registry(())
    with tempfile.TemporaryDirectory() as folder:
        entries = tuple(registry[name] for name in names)
        request = CostRequest(entries, Path(folder), resolve_device(device), sizes=sizes)
        outcomes = measure_costs(request)
    for outcome in outcomes:
        if outcome.record is None or outcome.reason is not None:
            sys.exit(f"{outcome.run}: {outcome.reason}")
    return {o.record.tokenizer: o.record for o in outcomes if o.record is not None}


def list_spreads(record: CostRecord) -> Iterator[tuple[str, Spread]]:
    """Yield each latency of a record by what it is of."""
    for cost in record.sizes:
        for phase in PHASES:
            yield f"{record.tokenizer} {phase} {cost.size}²", getattr(cost, phase).latency_s


def agree(one: Spread, other: Spread) -> bool:
    """Return whether one median lies in the other's spread."""
    return one.low <= other.median <= one.high or other.low <= one.median <= other.high


def count_memory(name: str, size: int, device: str) -> dict[str, float]:
    """Return the peak of each phase in MiB: CUDA's own statistics, or torch's memory timeline."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from vtbench.runs.cost_process import draw_picture
    from vtbench.runs.fast_form import choose_layout
    from vtbench.tokenizers import build_tokenizer

    tokenizer = build_tokenizer(load_registry(())[name], device=device)
    choose_layout(tokenizer)  # as a run does: another layout holds other copies
    networks = [net for net in vars(tokenizer).values() if isinstance(net, torch.nn.Module)]
    held = {t.data_ptr(): t.nbytes for n in networks for t in (*n.parameters(), *n.buffers())}
    picture = draw_picture(size).to(tokenizer.device)
    code = tokenizer.encode(picture)
    tokenizer.decode(code)
    peaks = {}
    for phase, call in (
        ("encode", lambda: tokenizer.encode(picture)),
        ("decode", lambda: tokenizer.decode(code)),
    ):
        if tokenizer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            call()
            peaks[phase] = torch.cuda.memory_stats()["allocated_bytes.all.peak"] / 2**20
            continue
        with profile(
            activities=[ProfilerActivity.CPU],
            profile_memory=True,
            record_shapes=True,
            with_stack=True,
        ) as watch:
            call()
        base = sum(held.values()) + picture.nbytes
        if phase == "decode" and code.latents is not None:
            base += code.latents.nbytes
        now = peak = 0
        for _, action, (_, _), size_bytes in watch._memory_profile().timeline:
            if action.name == "CREATE":
                now += size_bytes
            elif action.name == "DESTROY":
                now -= size_bytes
            peak = max(peak, now)
        peaks[phase] = (base + peak) / 2**20
    return peaks


def main() -> int:
    """Print the measurements and what does not hold; return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--sizes", default="256")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    sizes = tuple(map(int, options.sizes.split(",")))
    names = options.names or list(NAMES)
    orders = itertools.cycle(itertools.permutations(names))
    found = []
    for _ in range(options.times):
        order = list(next(orders))
        records = measure(order, sizes, options.device)
        found.append(records)
        for name in names:
            others = records[name].load.others
            for what, value in list_spreads(records[name]):
                ends = f"{1e3 * value.low:.3g}–{1e3 * value.high:.3g}"
                calls = f"{value.repeats} calls; others used {100 * others:.0f} % of the CPUs"
                print(f"{what}: {1e3 * value.median:.3g} ms ({ends}), {calls}", flush=True)
    wrong = pairs = 0
    for name in names:
        for one, other in itertools.combinations([records[name] for records in found], 2):
            for (what, a), (_, b) in zip(list_spreads(one), list_spreads(other), strict=True):
                pairs += 1
                if not agree(a, b):
                    wrong += 1
                    print(f"DISAGREE {what}: {1e3 * a.median:.3g} ms and {1e3 * b.median:.3g} ms")
    print(f"latency: {pairs - wrong} of {pairs} pairs of measurements agree within their spread")
    off = []
    for name in names:
        for size in sizes:
            own = count_memory(name, size, options.device)
            cost = found[0][name].find_size(size)
            assert cost is not None
            for phase in PHASES:
                shown = getattr(cost, phase).peak_mib
                off.append(abs(shown - own[phase]) / own[phase])
                print(f"{name} {phase} {size}²: {shown:.2f} MiB, the timeline {own[phase]:.2f} MiB")
    print(f"memory: at most {100 * max(off):.1f} % from the allocator's timeline")
    return 1 if wrong or max(off) > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
