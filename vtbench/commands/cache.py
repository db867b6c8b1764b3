"""`vtbench cache`: what is kept on this machine to be computed once, and its removal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from vtbench.base.cache_folder import KINDS, Kept, list_kept, prune
from vtbench.base.errors import VtbenchError
from vtbench.base.locations import cache_dir
from vtbench.base.text_table import format_table
from vtbench.commands.complaints import add_common_options
from vtbench.commands.json_text import print_json
from vtbench.commands.options import json_option

DAY_S = 86_400


@click.group("cache", invoke_without_command=True)
@json_option
@click.pass_context
def cache_command(context: click.Context, as_json: bool) -> None:
    """Show what is cached: features and OCR readings of originals, decoded crops, digests of files.

    Files are named by a digest of everything that they depend on, so they cannot be stale. Removing
    them only costs time. Weights are not part of the cache.
    """
    if context.invoked_subcommand is None:
        _tell(list_kept(), as_json=as_json, removed=False)


@cache_command.command("prune")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove files that were not used for DAYS days.",
)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Repeatable.")
@click.option("--all", "everything", is_flag=True, help="Remove files of any age.")
@json_option
def prune_command(
    older_than: float | None, kinds: tuple[str, ...], everything: bool, as_json: bool
) -> None:
    """Remove what is cached: of every kind, or of some."""
    if (older_than is None) != everything:
        raise VtbenchError("say what to remove: either --older-than DAYS or --all")
    seconds = 0.0 if older_than is None else older_than * DAY_S
    _tell(prune(kinds or tuple(KINDS), older_than_s=seconds), as_json=as_json, removed=True)


add_common_options(prune_command)


def _tell(kept: Sequence[Kept], *, as_json: bool, removed: bool) -> None:
    """Print what is kept, or was removed."""
    if as_json:
        kinds = [
            {
                "kind": own.kind,
                "what": KINDS[own.kind],
                "files": own.files,
                "bytes": own.bytes,
                "newest_use": _write_time(own.used),
            }
            for own in kept
        ]
        print_json({"folder": str(cache_dir()), "removed": removed, "kinds": kinds})
        return
    rows = [("kind", "files", "MiB", "newest use", "what")]
    for own in kept:
        size, used = f"{own.bytes / 2**20:.1f}", _write_time(own.used) or ""
        rows.append((own.kind, str(own.files), size, used, KINDS[own.kind]))
    total = f"{sum(own.bytes for own in kept) / 2**20:.1f}"
    rows.append(("all", str(sum(own.files for own in kept)), total, "", ""))
    click.echo(f"{'removed from ' if removed else ''}{cache_dir()}\n")
    click.echo("\n".join(line.rstrip() for line in format_table(rows).splitlines()))


def _write_time(used: float | None) -> str | None:
    return None if used is None else datetime.fromtimestamp(used).isoformat(" ", "minutes")
