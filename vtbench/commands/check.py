"""`vtbench check`."""

from __future__ import annotations

from pathlib import Path

import click

from vtbench.base.errors import WeightsError
from vtbench.commands.complaints import complain
from vtbench.commands.options import (
    EMBEDDED,
    device_option,
    registry_option,
    variant_options,
    weights_option,
)
from vtbench.runs.request import Variant


@click.command("check")
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@device_option
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32")
@click.option("--random-weights", is_flag=True, help="The architecture alone, without its weights.")
@variant_options
@registry_option
@weights_option
def check_command(
    names: tuple[str, ...],
    device: str,
    dtype: str,
    random_weights: bool,
    variant: Variant,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Take four pictures through the encode/decode contract of each tokenizer, clause by clause.

    NAME may be "all": every one whose weights are here, or with --random-weights every one whose
    architecture is in its entry; the clauses "range" and "levels" are not tried then, since they are
    about trained networks; two pictures are enough, and small ones where the network takes any size,
    beside one of 256×384 and one of 301×203. --posterior, --size-policy, --decoder-steps and --guidance
    are those of `run`: they check another row.
    """
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import (
        Chosen,
        choose_architectures,
        choose_entries,
        deviate,
        parse_weights,
    )

    registry = load_registry(registries)
    local = parse_weights(weights, registry)
    wanted = () if names == ("all",) else names
    if random_weights:
        chosen = Chosen(choose_architectures(registry, wanted), ())
    else:
        chosen = choose_entries(registry, wanted, (), local)
    chosen = deviate(chosen, wanted, variant, local)

    from vtbench.base.errors import ContractError, RegistryError
    from vtbench.commands.progress import silence_libraries
    from vtbench.suites.suites import load_pixels, load_suite
    from vtbench.tokenizers import build_tokenizer
    from vtbench.tokenizers.contract import (
        CHECK_PICTURES,
        ODD_SIZE,
        ODD_SIZES,
        OF_TRAINED,
        SIDE,
        SMALL_SIDE,
        check_contract,
    )

    silence_libraries()
    samples = {sample.id: sample for sample in load_suite(EMBEDDED).samples}
    pictures = [load_pixels(samples[name]) for name in CHECK_PICTURES[: 2 if random_weights else 4]]
    sizes = ODD_SIZES if random_weights else (ODD_SIZE,)
    broken = 0
    skipped = OF_TRAINED if random_weights else ()
    for entry in chosen.entries:
        try:
            tokenizer = build_tokenizer(
                entry,
                device=device,
                dtype=dtype,
                weights=local.get(entry.name),
                random_weights=random_weights,
            )
            small = random_weights and entry.size.fixed is None
            side = SMALL_SIDE if small else SIDE
            passed = check_contract(tokenizer, pictures, side=side, sizes=sizes, skip=skipped)
        except ContractError as error:
            complain(f"{entry.row}: broken clause {error}")
            broken += 1
        except (RegistryError, WeightsError) as error:
            complain(f"{entry.row}: {error}")
            broken += 1
        else:
            note = f"; random weights: {' and '.join(skipped)} not tried" if skipped else ""
            click.echo(f"{entry.row}: ok ({', '.join(passed)}{note})")
    if broken:
        raise click.exceptions.Exit(1)
