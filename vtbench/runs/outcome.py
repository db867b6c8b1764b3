"""How a run ended, and who hears of its progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from vtbench.base.errors import VtbenchError
from vtbench.results.schema import Failure, RunRecord


@dataclass(frozen=True)
class Outcome:
    """How one tokenizer's run ended.

    Args:
        run: its name.
        status: how.
        reason: why it failed, or why an old run was not reused.
        record: run.json, where it was written.
        unreadable: originals that cannot be read, which have left the set for every tokenizer.
        error: what kept it from being begun or ended it, where that is known.
    """

    run: str
    status: Literal["measured", "reused", "failed"]
    reason: str | None = None
    record: RunRecord | None = None
    unreadable: tuple[Failure, ...] = ()
    error: VtbenchError | None = None

    @property
    def refused(self) -> bool:
        """Whether it was never begun, since its entry or its weights cannot be."""
        return self.error is not None and self.error.exit_code == 2


class Listener(Protocol):
    """Receives the progress of a run."""

    def started(self, run: str, index: int, total: int, images: int) -> None:
        """Called when a run begins: which of how many, and its number of images."""

    def advanced(self, images: int) -> None:
        """Called when more images are done, with their number."""

    def finished(self, outcome: Outcome) -> None:
        """Called when a run has ended."""
