"""What the command line says of what went wrong."""

from __future__ import annotations

import click


def complain(message: str) -> None:
    """Print one line on standard error."""
    click.echo(f"vtbench: {message}", err=True)
