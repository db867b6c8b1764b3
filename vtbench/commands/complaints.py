"""Messages of the command line on standard error, and the options -q, -v and --debug."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from vtbench.base.text import show_text

_LOG = logging.getLogger("vtbench")
_QUIET = "vtbench.quiet"


def complain(*messages: str) -> None:
    """Print a line a message on standard error."""
    for message in messages:
        click.echo(f"vtbench: {show_text(str(message))}", err=True)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Standard error."""
        return sys.stderr


class _Line(logging.Formatter):
    """A message of one line: names of files in it may hold anything."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"vtbench: {show_text(record.message)}"


def open_log() -> None:
    """Send warnings of the package to standard error, a line each; more with -v and --debug."""
    for handler in list(_LOG.handlers):
        _LOG.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(_Line())
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.WARNING)
    _LOG.propagate = False
    # It tells of a home that cannot be written, and of fonts that it reads for the first time.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def is_quiet() -> bool:
    """Return whether progress is not shown (-q)."""
    context = click.get_current_context(silent=True)
    return bool(context is not None and context.meta.get(_QUIET))


def add_common_options(command: click.Command) -> None:
    """Give a command -q, -v and --debug, once."""
    if any(parameter.name == "debug" for parameter in command.params):
        return

    def set_level(context: click.Context, parameter: click.Parameter, given: Any) -> None:
        if given and parameter.name == "quiet":
            context.meta[_QUIET] = True
            _LOG.setLevel(logging.ERROR)
        elif given:
            _LOG.setLevel(logging.DEBUG if parameter.name == "debug" else logging.INFO)

    for names, text in (
        (["-q", "--quiet"], "Show no progress and no warnings."),
        (
            ["-v", "--verbose"],
            "Print more: why a result is measured again, which files are left out.",
        ),
        (["--debug"], "Show the full traceback of an error in third-party code."),
    ):
        option = click.Option(
            names, is_flag=True, expose_value=False, callback=set_level, help=text
        )
        command.params.append(option)
