"""What tokenizers cost, as Markdown, CSV and JSON: a block a machine, for numbers of two machines are
not compared. Imports no torch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence

from vtbench.base.text_table import fit_table
from vtbench.leaderboard.csv_file import SafeWriter
from vtbench.leaderboard.markdown import escape_markdown
from vtbench.results.cost_record import CostRecord, PhaseCost, SizeCost, Spread

FILES = ("efficiency.md", "efficiency.csv", "efficiency.json")

HEADS = (
    *("tokenizer", "dtype", "10⁶ parameters", "size"),
    *("encode GMAC", "decode GMAC"),
    *("encode ms", "decode ms"),
    *("encode image/s", "decode image/s"),
    *("weights MiB", "encode MiB", "decode MiB"),
)

_OPTIONAL = (
    *("dtype", "10⁶ parameters", "encode MiB", "decode MiB", "weights MiB"),
    *("encode image/s", "decode image/s"),
)
"""Heads that a narrow terminal leaves out, the least wanted first."""

NOTES = (
    "Numbers of one machine (device, processor, threads, torch) stand in one table and are compared "
    "with each other alone; another machine's are in another table.",
    "ms: latency of one image at batch 1; image/s: throughput at the best batch (×batch). Each is the "
    "median of several fresh processes' medians; in brackets the 5th and 95th percentile of all "
    "repeats, widened to where another measurement's median is expected in 19 of 20 cases. After two "
    "calls of warm-up, the device synchronized on both sides.",
    "MiB: what torch's allocator counted: the weights, and the peak during encode and decode of one "
    "image, weights and input included. Scratch that oneDNN or cuDNN take from elsewhere is not in it.",
    "GMAC: 10⁹ multiply-accumulates of one image, counted by torch (its FLOP count divided by two); in "
    "brackets what the entry says, where it is for this size and differs by more than 0.5 %.",
    "Arithmetic is the protocol's: no TF32, and on CUDA no convolution algorithm chosen by timing.",
)

ENTRY_SIZE = 256
TOLERANCE = 0.005


def render_costs(records: Sequence[CostRecord]) -> dict[str, bytes]:
    """Return the files of a folder's costs, by name."""
    return {
        "efficiency.md": _render_markdown(records).encode(),
        "efficiency.csv": _render_csv(records).encode(),
        "efficiency.json": _render_json(records).encode(),
    }


def render_text(records: Sequence[CostRecord], width: int | None = None) -> str:
    """Return the tables for a terminal. width: of it; columns that do not fit are left out."""
    parts = []
    for machine, own in group_machines(records):
        rows = [HEADS, *(row for record in own for row in list_rows(record))]
        parts += [machine, fit_table(rows, width, optional=_OPTIONAL)]
        parts += [note for record in own for note in describe_doubts(record)]
    return "\n\n".join(parts)


def group_machines(records: Sequence[CostRecord]) -> list[tuple[str, list[CostRecord]]]:
    """Return the machines by name, each with its records by run name."""
    groups: dict[str, list[CostRecord]] = {}
    for record in sorted(records, key=lambda record: record.run):
        groups.setdefault(record.machine, []).append(record)
    return sorted(groups.items())


def list_rows(record: CostRecord) -> Iterator[tuple[str, ...]]:
    """Yield a row a size, a cell a head."""
    parameters = "–" if record.parameters is None else format_digits(record.parameters / 1e6)
    for cost in record.sizes:
        facts = (record.run, record.dtype, parameters, f"{cost.size}²{_describe_fit(cost)}")
        if cost.encode is None or cost.decode is None:
            yield (*facts, *["failed"] * (len(HEADS) - len(facts)))
            continue
        phases = (("encode", cost.encode), ("decode", cost.decode))
        yield (
            *facts,
            *(_format_gmac(record, cost.size, name, phase) for name, phase in phases),
            *(_format_spread(phase.latency_s, 1e3) for _, phase in phases),
            *(
                f"{_format_spread(phase.throughput.images_per_s)} ×{phase.throughput.batch}"
                for _, phase in phases
            ),
            *(
                "not measured" if mib is None else format_digits(mib)
                for mib in (record.weights_mib, *(phase.peak_mib for _, phase in phases))
            ),
        )


def describe_doubts(record: CostRecord) -> Iterator[str]:
    """Yield what a reader must know of a record's numbers: a busy machine, random weights, failures."""
    if record.load.busy:
        yield (
            f"{record.run}: the machine was busy: other processes used "
            f"{100 * record.load.others:.0f} % of its CPUs meanwhile; its times are too long."
        )
    if record.weights == "random":
        yield f"{record.run}: the architecture with random weights, on whose values no cost depends."
    for cost in record.sizes:
        if cost.error is not None:
            yield f"{record.run}: {cost.size}²: failed: {cost.error}"


def format_digits(value: float) -> str:
    """Return a number with three significant digits, thousands by commas and no exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    digits = (
        0 if abs(rounded) >= 100 else 1 if abs(rounded) >= 10 else 2 if abs(rounded) >= 1 else 4
    )
    return f"{rounded:,.{digits}f}" if abs(rounded) >= 1 else f"{rounded:.3g}"


def _format_spread(value: Spread, times: float = 1.0) -> str:
    low, high = (format_digits(times * end) for end in (value.low, value.high))
    return f"{format_digits(times * value.median)} ({low}–{high})"


def _format_gmac(record: CostRecord, size: int, name: str, phase: PhaseCost) -> str:
    stated = record.entry_gmac.get(name) if size == ENTRY_SIZE else None  # type: ignore[call-overload]
    if phase.gmac is None:
        return "not counted" if stated is None else f"{format_digits(stated)} (entry)"
    counted = format_digits(phase.gmac)
    # The entry's has two decimals.
    if stated is None or abs(stated - phase.gmac) <= max(0.005, TOLERANCE * phase.gmac):
        return counted
    return f"{counted} ({format_digits(stated)})"


def _describe_fit(cost: SizeCost) -> str:
    return "" if cost.fit in (None, "none", "pad") else f" ({cost.fit})"


def _render_markdown(records: Sequence[CostRecord]) -> str:
    parts = ["# Efficiency: what encoding and decoding cost"]
    for machine, own in group_machines(records):
        rows = [list(HEADS), ["---", "---", *["---:"] * (len(HEADS) - 2)]]
        rows += [
            [escape_markdown(cell) for cell in row] for record in own for row in list_rows(record)
        ]
        parts += [f"## {escape_markdown(machine)}"]
        parts += ["\n".join("| " + " | ".join(row) + " |" for row in rows)]
        doubts = [
            f"- {escape_markdown(note)}" for record in own for note in describe_doubts(record)
        ]
        parts += ["\n".join(doubts)] if doubts else []
    parts += ["## Notes", "\n".join(f"- {note}" for note in NOTES)]
    return "\n\n".join(parts) + "\n"


CSV_HEADS = (
    *("machine", "tokenizer", "dtype", "weights", "parameters", "size", "fit", "phase", "gmac"),
    *("latency_s", "latency_low_s", "latency_high_s"),
    *("batch", "images_per_s", "images_per_s_low", "images_per_s_high"),
    *("weights_mib", "peak_mib", "others", "busy", "error"),
)


def _render_csv(records: Sequence[CostRecord]) -> str:
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(CSV_HEADS)

    def write(*cells: object) -> None:
        writer.writerow(["" if cell is None else str(cell) for cell in cells])

    for machine, own in group_machines(records):
        for record in own:
            facts = (machine, record.run, record.dtype, record.weights, record.parameters)
            end = (record.load.others, record.load.busy)
            for cost in record.sizes:
                if cost.encode is None or cost.decode is None:
                    write(*facts, cost.size, cost.fit, *[None] * 10, *end, cost.error)
                    continue
                for name, phase in (("encode", cost.encode), ("decode", cost.decode)):
                    late, fast = phase.latency_s, phase.throughput.images_per_s
                    times = (late.median, late.low, late.high, phase.throughput.batch)
                    rates = (fast.median, fast.low, fast.high, record.weights_mib, phase.peak_mib)
                    own_facts = (cost.size, cost.fit, name, phase.gmac)
                    write(*facts, *own_facts, *times, *rates, *end, None)
    return text.getvalue()


def _render_json(records: Sequence[CostRecord]) -> str:
    machines = [
        {"machine": machine, "costs": [record.model_dump(mode="json") for record in own]}
        for machine, own in group_machines(records)
    ]
    return json.dumps({"machines": machines, "notes": NOTES}, indent=1, ensure_ascii=False) + "\n"
