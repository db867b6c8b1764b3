"""Progress of a run on the terminal: a bar with images/s and time left, or plain lines in a log."""

from __future__ import annotations

import logging
import os
import time
import warnings
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from vtbench.base.names import printable
from vtbench.commands.complaints import is_quiet

if TYPE_CHECKING:  # the runner brings torch, which manifests and downloads have no need of
    from vtbench.runs.outcome import Outcome
    from vtbench.runs.request import Request

LOG_EVERY_S = 10.0
"""Seconds between two lines where there is no terminal to redraw."""


def silence_libraries() -> None:
    """Keep third-party loggers and start-up notices off the terminal; errors still raise."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("diffusers", "transformers", "huggingface_hub", "RapidOCR", "easyocr"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


class Steps:
    """A bar, or in a log a line every ten seconds, for work that is counted in pictures or steps."""

    def __init__(self, name: str, unit: str = "images") -> None:
        self.name = name
        self.unit = unit
        self.console = Console(highlight=False, soft_wrap=True, stderr=True, quiet=is_quiet())
        self.spoke = time.perf_counter()
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=is_quiet() or not self.console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=None, note="")

    def __enter__(self) -> Steps:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def report(self, done: int, total: int, note: str = "") -> None:
        """Show how many of all are done."""
        self.bar.update(self.task, completed=done, total=total, note=note)
        now = time.perf_counter()
        if not self.console.is_terminal and now - self.spoke > LOG_EVERY_S:
            self.spoke = now
            self.console.print(f"{self.name}: {done}/{total} {self.unit} {note}".rstrip())


class Silence:
    """A `outcome.Listener` that says nothing: of a process that is not the first of several."""

    def started(self, run: str, index: int, total: int, images: int) -> None:
        """Hear that a run begins."""

    def advanced(self, images: int) -> None:
        """Hear how many more images are done."""

    def finished(self, outcome: Outcome) -> None:
        """Hear how a run ended."""


class Progress:
    """A `outcome.Listener` that draws. Used as a context manager around the run."""

    def __init__(self, request: Request) -> None:
        self.console = Console(highlight=False, soft_wrap=True, quiet=is_quiet())
        self.images = len(request.samples())
        self.total = self.images * len(request.cells())
        self.done = 0
        self.begun: float | None = None
        self.spoke = time.perf_counter()
        self.run = ""
        self.before = 0
        self.at = self.spoke
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=is_quiet() or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=self.total, speed="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def started(self, run: str, index: int, total: int, images: int) -> None:
        """Show which tokenizer is next."""
        self.run, self.before, self.at = f"[{index + 1}/{total}] {run}", 0, time.perf_counter()
        if self.begun is None:  # what came before, such as loading libraries, comes once
            self.begun = self.at
        self.bar.update(self.task, description=self.run)

    def advanced(self, images: int) -> None:
        """Count images; in a log, say so every ten seconds."""
        self.done += images
        self.before += images
        now = time.perf_counter()
        begun = self.at if self.begun is None else self.begun
        speed = self.done / max(now - begun, 1e-9)
        pace = f"{speed:.1f} images/s" if speed >= 1 else f"{speed:.2g} images/s"
        self.bar.update(self.task, advance=images, speed=pace)
        if self.done and not self.console.is_terminal and now - self.spoke > LOG_EVERY_S:
            self.spoke = now
            left = (self.total - self.done) / speed
            self.console.print(
                f"{self.run}: {self.before}/{self.images} images, {pace}, "
                f"{left / 60:.1f} min left for all"
            )

    def finished(self, outcome: Outcome) -> None:
        """Say in one line how a tokenizer ended."""
        if self.before < self.images:  # a failed one: its images will not come
            self.bar.update(self.task, advance=self.images - self.before)
            self.done += self.images - self.before
        n = self.images - len(outcome.unreadable)
        if outcome.status == "reused":
            text = "reused: complete and current (--fresh measures again)"
        elif outcome.status == "failed":
            text = f"FAILED: {outcome.reason}"
        else:
            seconds = time.perf_counter() - self.at
            text = f"{n} images in {seconds:.1f} s"
            if outcome.reason:
                text += f" ({outcome.reason})"
        if outcome.unreadable and outcome.status != "failed":
            text += f"; {len(outcome.unreadable)} left out: cannot be read"
        self.console.print(printable(f"{self.run}: {text}"), markup=False)


class DownloadBars:
    """A bar a file while it comes, on a terminal; nothing in a log. `report` is a `downloads.Report`.

    The hub's client draws its own bars; in a log they are off.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        if not console.is_terminal:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self.bars = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> DownloadBars:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def report(self, name: str, done: int, total: int | None) -> None:
        """Draw how much of a file is here."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total)
        self.bars.update(self.tasks[name], completed=done, total=total)
