"""One piece of work beside the pass: the batch that was reconstructed is read and written while the
next one is reconstructed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Background:
    """A thread that does one piece of work at a time, in the order in which they are given.

    No more than one is under way, so that memory is bounded and a slow disk holds the pass up.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "rows")
        self._work: Future[int] | None = None
        self._again: Callable[[Exception], int] | None = None
        self._report: Callable[[int], None] | None = None

    def __enter__(self) -> Background:
        return self

    def start(
        self,
        work: Callable[[], int],
        *,
        again: Callable[[Exception], int],
        on: type[Exception],
        report: Callable[[int], None],
    ) -> None:
        """Begin a piece of work, when the one before it is done.

        Args:
            work: Returns how many images it was about.
            again: What is done instead, in the caller's thread, where `work` raises `on`; it is given
                the error.
            on: That error.
            report: Called with the number, in the caller's thread.
        """
        self.wait()
        self._again, self._on, self._report = again, on, report
        self._work = self._pool.submit(work)

    def wait(self) -> None:
        """Wait for the work under way. Raises what it raised."""
        work, self._work = self._work, None
        if work is None:
            return
        assert self._again is not None and self._report is not None
        try:
            images = work.result()
        except self._on as error:
            met = error.with_traceback(None)  # which holds what the work had
        else:
            self._report(images)
            return
        del work
        self._report(self._again(met))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
