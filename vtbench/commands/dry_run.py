"""What `vtbench run --dry-run` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from vtbench.base.errors import VtbenchError
from vtbench.base.text_table import format_table
from vtbench.commands.complaints import complain
from vtbench.commands.json_text import print_json
from vtbench.registry.entries import Registry
from vtbench.runs.forecast import Forecast, forecast_away, forecast_run, split_away
from vtbench.runs.planning import plan_run
from vtbench.suites.suites import Suite


def foretell(
    suite: Suite,
    registry: Registry,
    names: Sequence[str],
    options: Mapping[str, Any],
    *,
    module: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Print what a run would do. Of tokenizers that are named, those without weights are listed as what
    is to be had first, and those that a run would refuse end with its exit status.

    Args:
        suite: with its images attached.
        registry: where the names are looked up.
        names: of tokenizers.
        options: further ones of `plan_run`.
        module: a model of one's own, which is refused: it is measured each time.
        dry_run: whether that was asked for; --json alone is refused.
        as_json: print JSON.
    """
    if not dry_run:
        raise VtbenchError("--json is of --dry-run; the tables of a run are leaderboard.json")
    if module is not None:
        raise VtbenchError("--dry-run: a model of one's own (--module) is measured each time")
    here, away = split_away(registry, names, options["weights"])
    if away and not here and not options["families"]:
        print_forecast(forecast_away(suite, away), as_json=as_json)
        return
    request = plan_run(suite, registry, names=here, **options)
    forecast = forecast_run(request, away)
    print_forecast(forecast, as_json=as_json)
    refused = [row for row in forecast.rows if row.work == "refuse"]
    complain(*(f"{row.run}: {row.reason}" for row in refused))
    if refused:  # as the run will end
        raise click.exceptions.Exit(2 if len(refused) == len(forecast.rows) else 1)


def print_forecast(forecast: Forecast, *, as_json: bool) -> None:
    """Print what a run would do, as text or JSON."""
    if as_json:
        print_json({**asdict(forecast), "seconds": forecast.seconds})
        return
    images = ", ".join(f"{task} {n:,}" for task, n in forecast.images.items())
    click.echo(f"{forecast.suite}: {images} images; nothing was measured or written\n")
    rows = [("row", "work", "images", "time", "why")] if forecast.rows else []
    for row in forecast.rows:
        why = "; ".join(filter(None, (row.reason, ", ".join(row.metrics), row.basis)))
        rows.append((row.run, row.work, f"{row.images:,}", _write_time(row.seconds), why))
    if rows:
        click.echo(format_table(rows))
    for download in forecast.downloads:
        size = "unknown size" if download.bytes is None else f"{download.bytes / 2**20:.1f} MiB"
        files = ", ".join(download.files)
        effect = f", for {', '.join(download.disables)}" if download.disables else ""
        click.echo(f"\nnot here: {download.name} ({files}; {size}){effect}: `{download.command}`")
    disk = ", ".join(f"{what} {size / 2**20:.1f} MiB" for what, size in forecast.disk.items())
    if not forecast.rows:
        return
    click.echo(f"\ndisk, at most: {disk}\ntime: {_write_time(forecast.seconds)}")


def _write_time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
