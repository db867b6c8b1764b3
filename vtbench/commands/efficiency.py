"""`vtbench run --task efficiency`: measure what encoding and decoding cost, and write the tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtbench.base import locations
from vtbench.base.errors import VtbenchError
from vtbench.commands.complaints import complain, is_quiet

if TYPE_CHECKING:
    from vtbench.runs.request import Variant

EFFICIENCY = "efficiency"
"""A task of no suite: the cost of square pictures that are drawn, not of anybody's images."""

_APPLICABLE = frozenset(
    {"names", "families", "tasks", "device", "dtype", "out", "fresh", "registries", "weights"}
    | {"posterior", "size_policy", "decoder_steps", "guidance", "tokens"}
    | {"sizes", "processes", "random_weights", "quiet", "verbose"}
)
_OWN = ("sizes", "processes", "random_weights")
MAX_SIDE = 8192


@dataclass(frozen=True)
class CostOptions:
    """What `run` was given for this task alone."""

    sizes: tuple[int, ...]
    processes: int
    random_weights: bool

    def refuse_without_task(self, context: click.Context) -> None:
        """Raise VtbenchError where one of these options was given without --task efficiency."""
        for name, option in _given(context).items():
            if name in _OWN:
                raise VtbenchError(f"{option} belongs to --task {EFFICIENCY}: give that too")


def cost_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the task, as its argument `cost`."""

    @click.option(
        "--sizes",
        default="256,512,1024",
        metavar="N,...",
        help="With --task efficiency: sides of square images, px. Default: 256,512,1024.",
    )
    @click.option(
        "--processes",
        type=click.IntRange(1, 100),
        default=3,
        help="With --task efficiency: fresh processes that measure each tokenizer. Default: 3.",
    )
    @click.option(
        "--random-weights",
        is_flag=True,
        help="With --task efficiency: random weights, where the trained ones are not here.",
    )
    @functools.wraps(command)
    def collect(*, sizes: str, processes: int, random_weights: bool, **others: Any) -> None:
        command(cost=CostOptions(parse_sizes(sizes), processes, random_weights), **others)

    return collect


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the sides of a list with commas. Raises VtbenchError for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdecimal() or not 1 <= int(part) <= MAX_SIDE:
            raise VtbenchError(f"--sizes {part[:20]}: expected sides up to {MAX_SIDE}, with commas")
    if not parts:
        raise VtbenchError("--sizes: expected sides in pixels, with commas")
    return tuple(dict.fromkeys(map(int, parts)))


def _given(context: click.Context) -> dict[str, str]:
    """Return the options that the command line has, as they are written, by their arguments' names."""
    command_line = click.core.ParameterSource.COMMANDLINE
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is command_line
    }


def run_efficiency(
    context: click.Context,
    cost: CostOptions,
    *,
    names: Sequence[str],
    families: Sequence[str],
    variant: Variant,
    device: str,
    dtype: str | None,
    out: Path | None,
    fresh: bool,
    registries: Sequence[Path],
    weights: Sequence[str],
) -> None:
    """Measure, write the tables, print them. Raises click's Exit: 1 where some failed, 2 where nothing
    could be begun; VtbenchError for options that have no meaning here."""
    from vtbench.registry.entries import load_registry
    from vtbench.results.cost_record import read_costs
    from vtbench.runs.cost_measurement import CostRequest, measure_costs
    from vtbench.runs.request import (
        EntrySelection,
        apply_variant,
        choose_architectures,
        choose_entries,
        parse_weights,
    )
    from vtbench.tokenizers import resolve_device

    for name, option in _given(context).items():
        if name not in _APPLICABLE:
            raise VtbenchError(f"{option} has no meaning for --task {EFFICIENCY}")
    if set(context.params["tasks"]) != {EFFICIENCY}:
        raise VtbenchError(f"--task {EFFICIENCY} is measured by itself: give no other --task")
    registry = load_registry(registries)
    own = parse_weights(weights, registry)
    if cost.random_weights and names and not families:
        chosen = EntrySelection(choose_architectures(registry, names), ())
    else:
        chosen = choose_entries(registry, names, families, own)
    folder = out or locations.local_dir(EFFICIENCY)
    if (folder / "suite.json").exists():
        raise VtbenchError(f"--out {folder}: it holds the results of a suite; give another folder")
    request = CostRequest(
        entries=apply_variant(chosen, names, variant, own).entries,
        out=folder,
        device=resolve_device(device),
        dtype=dtype or "fp32",
        sizes=cost.sizes,
        processes=cost.processes,
        weights=own,
        random_weights=cost.random_weights,
        fresh=fresh,
    )
    heard: Callable[[str], None] = (lambda line: None) if is_quiet() else _say
    outcomes = measure_costs(request, heard)
    records, damaged = read_costs(folder)
    _write_tables(folder, records)
    complaints = [f"{o.run}: {o.reason}" for o in outcomes if o.reason is not None]
    complaints += [f"{complaint}: left out of the table" for complaint in damaged]
    for complaint in complaints:
        complain(complaint)
    if outcomes and all(outcome.refused for outcome in outcomes):
        raise click.exceptions.Exit(2)
    if complaints:
        raise click.exceptions.Exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _write_tables(folder: Path, records: Sequence[Any]) -> None:
    from vtbench.base.files import write_atomic
    from vtbench.base.text_table import screen_width
    from vtbench.leaderboard.cost_table import render_costs, render_text

    if not records:
        return
    for name, content in render_costs(records).items():
        write_atomic(folder / name, content)
    click.echo(render_text(records, screen_width()))
    click.echo(f"\n{folder / 'efficiency.md'} (also .csv, .json)")
