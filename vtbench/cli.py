"""The command line. Only `main` exits; what a command does stands in `commands/<verb>.py`.

Exit 0: everything that was asked for exists. 1: some of it failed, each listed with its reason.
2: what was asked for cannot be. Listing, showing, validating and tabling import no torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence

import click

from vtbench.base.errors import VtbenchError
from vtbench.base.library_reports import forbid_reports
from vtbench.base.version import __version__
from vtbench.commands.complaints import add_common_options, complain, open_log
from vtbench.commands.patient_output import patient_output

COMMANDS: Mapping[str, str] = {
    "run": "Measure tokenizers on a suite and write its leaderboard.",
    "plan": "List the independent jobs of a sweep of tokenizers and suites.",
    "launch": "Run the jobs of a sweep on this machine or a Slurm cluster.",
    "score": "Measure reconstructions that were made elsewhere.",
    "reconstruct": "Write reconstructions and error maps of your own images.",
    "demo": "Open a local page that shows an image after several tokenizers.",
    "strips": "Draw parts of images after several tokenizers, one strip each.",
    "drift": "Encode and decode your own images repeatedly, and shifted by a pixel.",
    "list": "List tokenizers, suites, metrics or tasks.",
    "show": "Show everything known about a tokenizer, suite or metric.",
    "check": "Check the encode/decode contract of tokenizers.",
    "doctor": "List what is missing here, which metrics that disables, and how to get it.",
    "cache": "Show or remove cached features, readings, crops and digests.",
    "fetch": "Download weights of tokenizers and metrics.",
    "convert": "Convert an unsafe checkpoint to safetensors.",
    "pin": "Write revision and sha256 of weights into an entry.",
    "compare": "Test whether runs differ on the same images.",
    "legibility": "Print how well known text is read, by script and glyph height.",
    "reproduce": "Print published numbers beside measured ones.",
    "table": "Print a table of chosen runs and columns for a paper.",
    "plot": "Plot one column of the leaderboard against another.",
    "leaderboard": "Write tables, plots or a site of a folder of results.",
    "validate": "Check entries, suites, data and results without running a model.",
    "verify": "Measure a few images of a run again and compare every column.",
    "submit": "Check an entry and its results, and pack them for a pull request.",
    "publish": "Copy complete, pinned runs to the published folder.",
    "manifest": "Write names, sizes and pixel hashes of images.",
    "train-reference": "Train a reference tokenizer by the recipe in its entry.",
}
"""Each command with its line of `vtbench --help`. A command's module is imported when it is called."""


class Commands(click.Group):
    """The commands by name, without importing those that are not called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        verb = cmd_name.replace("-", "_")
        module = importlib.import_module(f"vtbench.commands.{verb}")
        command: click.Command = getattr(module, f"{verb}_command")
        add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="vtbench")
def cli() -> None:
    """How much of an image does a visual tokenizer keep, at what bit rate and at what cost?"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    # Read by OpenMP when torch is first imported. Threads that wait actively for each other slow a
    # small convolution down twentyfold when another process wants the same two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Plug-ins of pydantic are looked for in every installed package, and one would see what is read.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    forbid_reports()
    with patient_output() as failed:
        open_log()
        status = _run(arguments)
    for error in failed:
        complain(f"standard output cannot be written ({error.strerror}); it is not whole")
        status = status or 1
    return status


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit status."""
    try:
        # Outside its standalone mode click returns the status of an Exit instead of raising it.
        status = cli.main(
            args=None if arguments is None else list(arguments), standalone_mode=False
        )
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted; finished tokenizers are kept, run the same command to go on")
        return 1
    except VtbenchError as error:
        complain(*error.args)
        return error.exit_code
