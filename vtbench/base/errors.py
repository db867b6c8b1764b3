"""The exception tree. Everything a user can cause derives from `VtbenchError`.

    VtbenchError                    exit 2: what was asked for cannot be
      RegistryError                 an entry is malformed, duplicate, or names no adapter
      UnknownName                   no such tokenizer, suite, metric or task
      NotReleased                   the tokenizer is known, and cannot be run as it was published
      WeightsError
        WeightsMissing              the files are not here; the message has the command to fetch them
        WeightsMismatch             the files are here but are not what the entry declares
      SuiteError                    a suite or manifest is malformed, or an image is not the pinned one
        DataMissing                 the data set is not on this machine; says where to get it
      TooFewImages                  a set of images is too small for a distance between sets
      ResultsError                  a result file is malformed, edited, partial or of another schema
      OutputError                   the output folder cannot be written
      CellFailed                    exit 1: a requested measurement failed
        ImageError                  one image cannot be used (truncated, too large, animated, ...)
        ContractError               a tokenizer broke the encode/decode contract; names the clause

A message says what was given, why it is refused, and what to do. `cli.main` is the only place that
prints one and exits; any other exception that reaches it is a bug and shows its traceback.
"""

from __future__ import annotations

import logging
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "CellFailed",
    "ContractError",
    "DataMissing",
    "ImageError",
    "NotReleased",
    "OutputError",
    "RegistryError",
    "ResultsError",
    "SuiteError",
    "TooFewImages",
    "UnknownName",
    "VtbenchError",
    "WeightsError",
    "WeightsMismatch",
    "WeightsMissing",
    "describe_foreign",
]


def describe_foreign(error: BaseException) -> str:
    """Return one line for an exception of somebody else's code: what it is, and where it came from.

    The place is the innermost frame outside vtbench and the installed libraries, as FILE:LINE; without
    one, of vtbench's own code, it is left out. The whole traceback goes to the log (`--debug`).
    """
    logging.getLogger("vtbench").debug("%s", type(error).__name__, exc_info=error)
    try:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    except Exception:  # its own __str__
        text = ""
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        library = {"site-packages", "dist-packages"} & set(file.parts)
        if not library and _VTBENCH not in file.parents and _STDLIB not in file.parents:
            return f"{said} ({Path(frame.filename).name}:{frame.lineno})"
    return said


_VTBENCH = Path(__file__).resolve().parent.parent
_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()


class VtbenchError(Exception):
    """Anything that is reported in a line a problem; `exit_code` is the process's exit status.

    Arguments: a message for each problem. Most have one; a file's schema may be broken in several.
    """

    exit_code = 2

    def __str__(self) -> str:
        from vtbench.base.text import show_text  # which takes a while to import

        return "; ".join(show_text(str(message)) for message in self.args)


class RegistryError(VtbenchError):
    """A registry entry is malformed, duplicate, or names an adapter that may not be loaded."""


class UnknownName(VtbenchError):
    """No such tokenizer, suite, metric or task; the message lists the nearest names."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        import difflib

        folded = {own.casefold(): own for own in known}
        alike = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.4)
        near = [folded[own] for own in alike]
        near = near or [own for own in known if name and name.casefold() in own.casefold()][:3]
        if near:
            hint = f": did you mean {', '.join(near)}?"
        elif kind in _LISTS:
            hint = f": {_LISTS[kind]}"
        else:
            hint = f": it is one of {', '.join(known)}" if 0 < len(known) <= _FEW_NAMES else ""
        super().__init__(f"no {kind} named {name!r}{hint}")


_LISTS: Mapping[str, str] = {
    "tokenizer": "`vtbench list` shows all",
    "family": "`vtbench list` shows all",
    "suite": "`vtbench list suites` shows all",
    "metric": "`vtbench list metrics` shows all",
    "task": "`vtbench list tasks` shows all",
    "tokenizer, suite or metric": "`vtbench list`, `vtbench list suites` and `vtbench list metrics` "
    "show all",
}
_FEW_NAMES = 12


class NotReleased(VtbenchError):
    """The tokenizer is known, and what was published of it cannot be run; the message says why."""


class WeightsError(VtbenchError):
    """A weights file cannot be used."""


class WeightsMissing(WeightsError):
    """The weights are not on this machine."""


class WeightsMismatch(WeightsError):
    """The weights are on this machine and are not what the entry declares."""


class SuiteError(VtbenchError):
    """A suite or manifest is malformed, or an image is not the one that the manifest pins."""


class DataMissing(SuiteError):
    """The data set of a suite is not on this machine."""


class TooFewImages(VtbenchError):
    """A distance between sets of features was asked of fewer images than it can be told from."""


class ResultsError(VtbenchError):
    """A result file is malformed, edited, partial, or of another schema version."""


class OutputError(VtbenchError):
    """The output folder cannot be written."""


class CellFailed(VtbenchError):
    """A requested measurement failed; the others go on."""

    exit_code = 1


class ImageError(CellFailed):
    """One image cannot be used."""


class MetricError(CellFailed):
    """A metric could not be measured on an image; the message says why."""


class ContractError(CellFailed):
    """A tokenizer broke a clause of the encode/decode contract."""

    def __init__(self, clause: str, detail: str) -> None:
        super().__init__(f"{clause}: {detail}")
        self.clause = clause
