"""What tokenizers cost on this machine: each measured in several fresh processes, put together in a
record.

The processes take turns (all tokenizers once, then all again), so that a machine that gets slower or
busier meanwhile is so for each of them alike, and the spread over the processes shows it.
"""

from __future__ import annotations

import math
import multiprocessing
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vtbench.base.errors import (
    CellFailed,
    RegistryError,
    VtbenchError,
    WeightsError,
    describe_foreign,
)
from vtbench.base.version import __version__
from vtbench.registry.entries import Entry
from vtbench.results.cost_record import (
    COST_FILE,
    PROTOCOL_VERSION,
    CostRecord,
    Load,
    PhaseCost,
    SizeCost,
    Spread,
    Throughput,
    digest_cost_key,
    read_cost,
    write_cost,
)
from vtbench.results.schema import Environment
from vtbench.results.writer import hold_run
from vtbench.runs import environment
from vtbench.runs.code_digest import digest_code
from vtbench.runs.cost_process import CostJob, PhaseTimes, ProcessCost, measure_process
from vtbench.runs.machine_load import BUSY_SHARE, read_load_average
from vtbench.weights.entries import WeightFiles, check_hashes, find_weights

SIZES = (256, 512, 1024)

PROCESSES = 3

SECONDS = 1.0


@dataclass(frozen=True)
class CostRequest:
    """What is measured.

    Args:
        entries: the tokenizers, with what the command line changed in them.
        out: the folder of results.
        device, dtype: where and in what the networks are.
        sizes: sides of the square images.
        processes: how many fresh processes measure each tokenizer.
        seconds: how long each number is measured at least, in each process.
        weights: in place of the entries' own sources, by name.
        random_weights: architectures with random weights; cost does not depend on their values.
        fresh: measure again what is complete and current.
    """

    entries: tuple[Entry, ...]
    out: Path
    device: str
    dtype: str = "fp32"
    sizes: tuple[int, ...] = SIZES
    processes: int = PROCESSES
    seconds: float = SECONDS
    weights: Mapping[str, Path] = field(default_factory=dict)
    random_weights: bool = False
    fresh: bool = False

    def run_name(self, entry: Entry) -> str:
        """Return the entry's name, with what deviates after an @."""
        deviations = [*entry.deviations, *([] if self.dtype == "fp32" else [self.dtype])]
        return entry.name + ("@" + "+".join(deviations) if deviations else "")


@dataclass(frozen=True)
class CostOutcome:
    """How one tokenizer's measurement ended: its record, or the reason why there is none.

    refused: whether it was never begun, since its entry or its weights cannot be."""

    run: str
    record: CostRecord | None = None
    reason: str | None = None
    reused: bool = False
    refused: bool = False


@dataclass
class _Measured:
    """A tokenizer on the way: what is known before, and what each process measured."""

    entry: Entry
    job: CostJob
    draft: CostRecord
    costs: list[ProcessCost] = field(default_factory=list)
    failure: str | None = None


def measure_costs(
    request: CostRequest, heard: Callable[[str], None] = lambda line: None
) -> tuple[CostOutcome, ...]:
    """Measure every tokenizer's cost, write its record, and return how each ended.

    heard: is told what is begun, a line a process. Raises OutputError where results cannot be written.
    """
    outcomes: dict[str, CostOutcome] = {}
    waiting: list[_Measured] = []
    for entry in request.entries:
        name = request.run_name(entry)
        try:
            measured = _prepare(request, entry)
        except (RegistryError, WeightsError) as error:
            outcomes[name] = CostOutcome(name, reason=str(error), refused=True)
            continue
        if not request.fresh and (record := _find_current(request, measured.draft)) is not None:
            outcomes[name] = CostOutcome(name, record, reused=True)
        else:
            outcomes[name] = CostOutcome(name)  # its place
            waiting.append(measured)
    for number in range(request.processes):
        for measured in waiting:
            if measured.failure is None:
                heard(f"{measured.draft.run}: process {number + 1} of {request.processes}")
                _measure_once(measured)
    for measured in waiting:
        outcomes[measured.draft.run] = _finish(request, measured)
    return tuple(outcomes.values())


def _prepare(request: CostRequest, entry: Entry) -> _Measured:
    """Return what is known of a tokenizer before it is measured, its key among it."""
    from vtbench.tokenizers import load_adapter

    found: WeightFiles | None = None
    kind: Literal["loaded", "random", "none needed"]
    if request.random_weights and "config" in entry.options:
        kind = "random"
    else:
        found = find_weights(entry, request.weights.get(entry.name))
        kind = "none needed" if found is None else "loaded"
    adapter = load_adapter(entry)
    hashes = {} if found is None else check_hashes(entry, found)
    here = describe_machine(request.device, adapter.__module__)
    parts = {
        "protocol": PROTOCOL_VERSION,
        "entry": entry.sha256,
        "weights": hashes or kind,
        "dtype": request.dtype,
        "sizes": request.sizes,
        "processes": request.processes,
        "seconds": request.seconds,
        "libraries": adapter.libraries(entry.options),
        "environment": here.model_dump(exclude={"commit", "dirty", "vtbench"}),
    }
    job = CostJob(
        entry=entry,
        weights=found,
        random_weights=kind == "random",
        device=request.device,
        dtype=request.dtype,
        seed=0,
        sizes=request.sizes,
        seconds=request.seconds,
    )
    gmac = entry.gmac
    draft = CostRecord(
        run=request.run_name(entry),
        key=digest_cost_key(parts),
        tokenizer=entry.name,
        title=entry.title,
        family=entry.family,
        kind=entry.kind,
        entry_sha256=entry.sha256,
        weights=kind,
        dtype=request.dtype,
        processes=request.processes,
        seconds=request.seconds,
        parameters=entry.parameters,
        entry_gmac={} if gmac is None else {"encode": gmac.encode, "decode": gmac.decode},
        weights_mib=None,
        environment=here,
        load=Load(load_average=read_load_average(), others=0.0, busy=False),
        sizes=(),
    )
    return _Measured(entry, job, draft)


def describe_machine(device: str, adapter: str) -> Environment:
    """Return where it is measured, and the digest of the code that is timed."""
    import torch

    head, dirty = environment.commit()
    roots = ["vtbench.runs.cost_process", adapter]
    return Environment(
        device=environment.device_name(device),
        processor=environment.processor(),
        threads=torch.get_num_threads(),
        platform=environment.platform_name(),
        python=platform.python_version(),
        versions=environment.library_versions(),
        vtbench=__version__,
        code_sha256=digest_code(roots),
        commit=head,
        dirty=dirty,
    )


def _find_current(request: CostRequest, draft: CostRecord) -> CostRecord | None:
    """Return the folder's record if it is of this key and nothing had failed."""
    path = request.out / draft.run / COST_FILE
    if not path.is_file():
        return None
    try:
        record = read_cost(path)
    except VtbenchError:
        return None  # damaged: it is measured again
    failed = any(size.error is not None for size in record.sizes)
    return record if record.key == draft.key and not failed else None


def _measure_once(measured: _Measured) -> None:
    """Measure a tokenizer in one fresh process, and keep what it found or why it failed."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        try:
            measured.costs.append(pool.submit(measure_process, measured.job).result())
        except BrokenProcessPool:
            measured.failure = "its process was killed (out of memory?)"
        except VtbenchError as error:
            measured.failure = str(error)
        except Exception as error:  # of a stranger's constructor
            measured.failure = describe_foreign(error)


def _finish(request: CostRequest, measured: _Measured) -> CostOutcome:
    """Write a tokenizer's record from what its processes measured."""
    name = measured.draft.run
    if measured.failure is not None:
        return CostOutcome(name, reason=measured.failure)
    first = measured.costs[0]
    others = max(cost.others for cost in measured.costs)
    load = measured.draft.load.model_copy(update={"others": others, "busy": others > BUSY_SHARE})
    sizes = tuple(
        merge_size(size, measured.costs, count_gmac(measured.entry, size)) for size in request.sizes
    )
    facts = {
        "parameters": measured.entry.parameters
        if measured.entry.parameters is not None
        else first.parameters,
        "weights_mib": first.weights_mib,
        "load": load,
        "sizes": sizes,
    }
    record = CostRecord.model_validate(measured.draft.model_copy(update=facts).model_dump())
    with hold_run(request.out, name):
        write_cost(request.out, record)
    errors = [f"{size.size}²: {size.error}" for size in sizes if size.error is not None]
    return CostOutcome(name, record, "; ".join(errors) or None)


def count_gmac(entry: Entry, size: int) -> tuple[float | None, float | None]:
    """Return the 10⁹ multiply-accumulates of encode and decode at a size, by torch's counter; None
    where they cannot be counted."""
    from vtbench.tokenizers.cost import measure_cost

    if "config" not in entry.options:
        return None, None
    try:
        cost = measure_cost(entry, size)
    except (CellFailed, RegistryError):
        return None, None
    return cost.encode_gmac, cost.decode_gmac


def merge_size(
    size: int, costs: Sequence[ProcessCost], gmac: tuple[float | None, float | None]
) -> SizeCost:
    """Return the cost at a size from what each process measured; an error of one of them is the
    size's."""
    times = [next(found for found in cost.sizes if found.size == size) for cost in costs]
    error = next((found.error for found in times if found.error is not None), None)
    if error is not None:
        return SizeCost(size=size, error=error)
    encode, decode = gmac
    return SizeCost(
        size=size,
        fit=times[0].fit,
        encode=merge_phase([found.encode for found in times], encode),
        decode=merge_phase([found.decode for found in times], decode),
    )


def merge_phase(phases: Sequence[PhaseTimes], gmac: float | None) -> PhaseCost:
    """Return one phase's cost from what each process measured.

    The best batch is the one of the highest median of the processes' rates, among those that all of them
    tried."""
    common = set.intersection(*(set(phase.seconds) for phase in phases))
    rates = {
        batch: [[batch / s for s in phase.seconds[batch]] for phase in phases]
        for batch in sorted(common)
    }
    tried = {batch: spread(of_batch).median for batch, of_batch in rates.items()}
    best = max(tried, key=lambda batch: tried[batch])
    peaks = [phase.peak_mib for phase in phases if phase.peak_mib is not None]
    return PhaseCost(
        latency_s=spread([phase.seconds[1] for phase in phases]),
        throughput=Throughput(batch=best, images_per_s=spread(rates[best]), tried=tried),
        peak_mib=max(peaks) if peaks else None,
        gmac=gmac,
    )


def spread(processes: Sequence[Sequence[float]]) -> Spread:
    """Return the median of the processes' medians with the range of the calls, widened to where another
    measurement's median is expected (`find_reach`)."""
    medians = [statistics.median(values) for values in processes]
    median = statistics.median(medians)
    reach = find_reach(medians)
    together = sorted(value for values in processes for value in values)
    last = len(together) - 1
    return Spread(
        median=median,
        low=min(together[round(0.05 * last)], *medians, median / reach),
        high=max(together[round(0.95 * last)], *medians, median * reach),
        repeats=len(together),
    )


def find_reach(medians: Sequence[float]) -> float:
    """Return the factor within which another measurement of as many processes lies in 19 of 20 cases.

    Processes differ by more than calls of one process do (memory layout, the machine's clock). The
    medians' logarithms are taken as normal with deviation s. The median of n has the standard error
    s·√(π/2n) for large n, and less for few; so the difference of two has s·√(π/n), and Student's t of
    n − 1 degrees of freedom is its quantile. One process says nothing of this: 1.
    """
    from scipy.stats import t  # type: ignore[import-untyped]

    if len(medians) < 2:
        return 1.0
    deviation = statistics.stdev(math.log(value) for value in medians)
    quantile = float(t.ppf(0.975, len(medians) - 1))
    return math.exp(quantile * deviation * math.sqrt(math.pi / len(medians)))
