"""`vtbench check`: the encode/decode contract of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtbench.base.errors import (
    CellFailed,
    ContractError,
    RegistryError,
    VtbenchError,
    WeightsError,
    describe_foreign,
)
from vtbench.commands.complaints import complain
from vtbench.commands.options import (
    device_option,
    dtype_option,
    registry_option,
    variant_options,
    weights_option,
)
from vtbench.runs.request import Variant

if TYPE_CHECKING:
    from vtbench.images import RGB8
    from vtbench.registry.entries import Entry


@click.command("check")
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@device_option
@dtype_option
@click.option("--random-weights", is_flag=True, help="Check the architecture with random weights.")
@click.option(
    "--once",
    is_flag=True,
    help="With --random-weights: one pass. With --device meta: shapes alone.",
)
@variant_options
@registry_option
@weights_option
def check_command(
    names: tuple[str, ...],
    device: str,
    dtype: str,
    random_weights: bool,
    once: bool,
    variant: Variant,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Check the encode/decode contract of each tokenizer on four images, clause by clause.

    NAME may be "all": every tokenizer whose weights are on this machine. With --random-weights it
    is every tokenizer whose entry has the architecture; the clauses "range" and "levels" need
    trained weights and are left out, and the images are fewer and smaller. --once is for full-size
    networks on a small machine: one square image and one of 301×203 pass once. --posterior,
    --size-policy, --decoder-steps, --guidance and --tokens check another row, as in `run`.
    """
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import (
        EntrySelection,
        apply_variant,
        choose_architectures,
        choose_entries,
        parse_weights,
    )

    if once and not random_weights:
        raise click.UsageError("--once is of --random-weights: a trained network is tried in whole")
    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    wanted = () if names == ("all",) else names
    if random_weights:
        chosen = EntrySelection(choose_architectures(registry, wanted), ())
    else:
        chosen = choose_entries(registry, wanted, (), local)
    chosen = apply_variant(chosen, wanted, variant, local)

    from vtbench.commands.progress import silence_libraries
    from vtbench.evaluation.checking import load_check_pictures

    silence_libraries()
    pictures = load_check_pictures(2 if random_weights else 4)
    trials = [
        _check(
            entry,
            pictures,
            device=device,
            dtype=dtype,
            weights=local.get(entry.name),
            random_weights=random_weights,
            once=once,
        )
        for entry in chosen.entries
    ]
    if any(trial.fault for trial in trials):
        # As `run`: 2 where nothing could be tried.
        raise click.exceptions.Exit(2 if all(trial.refused for trial in trials) else 1)


@dataclass(frozen=True)
class Trial:
    """What came of trying an entry.

    Attributes:
        passed: The clauses of the contract that its tokenizer keeps.
        fault: What is wrong, None where nothing is.
        refused: Whether the tokenizer could not be built, by the fault of its entry or weights.
    """

    passed: tuple[str, ...] = ()
    fault: str | None = None
    refused: bool = False


def _check(
    entry: Entry,
    pictures: Sequence[RGB8],
    *,
    device: str,
    dtype: str,
    weights: Path | None,
    random_weights: bool,
    once: bool,
) -> Trial:
    """Try an entry's tokenizer, and say whether it keeps the contract."""
    from vtbench.tokenizers.contract import TRAINED_ONLY_CLAUSES

    trial = try_entry(
        entry,
        pictures,
        device=device,
        dtype=dtype,
        weights=weights,
        random_weights=random_weights,
        once=once,
    )
    if trial.fault is not None:
        complain(f"{entry.row_name}: {trial.fault}")
        return trial
    note = (
        f"; random weights: {' and '.join(TRAINED_ONLY_CLAUSES)} not tried"
        if random_weights
        else ""
    )
    note = "; random weights, one pass" if once else note
    click.echo(f"{entry.row_name}: ok ({', '.join(trial.passed)}{note})")
    return trial


def try_entry(
    entry: Entry,
    pictures: Sequence[RGB8],
    *,
    device: str = "auto",
    dtype: str = "fp32",
    weights: Path | None = None,
    random_weights: bool = False,
    once: bool = False,
) -> Trial:
    """Build an entry's tokenizer and try it.

    Args:
        entry: the tokenizer.
        pictures: what it is tried on (`evaluation.checking.load_check_pictures`).
        device: of the network.
        dtype: of the network.
        weights: a file or folder in place of the entry's source.
        random_weights: the architecture alone, without its weights.
        once: whether one picture goes through once (`evaluation.checking.try_once`).
    """
    from vtbench.evaluation.checking import try_contract, try_once
    from vtbench.tokenizers import build_tokenizer

    try:
        tokenizer = build_tokenizer(
            entry, device=device, dtype=dtype, weights=weights, random_weights=random_weights
        )
        if once:
            return Trial(try_once(tokenizer, pictures[0]))
        return Trial(try_contract(tokenizer, pictures, trained=not random_weights))
    except ContractError as error:
        return Trial(fault=f"broken clause {error}")
    except (CellFailed, RegistryError, WeightsError) as error:
        return Trial(fault=str(error), refused=error.exit_code == 2)
    except VtbenchError:
        raise
    except Exception as error:  # a stranger's network may raise anything
        return Trial(fault=describe_foreign(error))
