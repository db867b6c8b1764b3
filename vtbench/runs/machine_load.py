"""How busy the machine is with what others do: times that are taken then are too long."""

from __future__ import annotations

import os

import psutil

BUSY_SHARE = 0.1
"""Share of the CPUs in others' use above which a measurement says that the machine was busy."""


class OthersShare:
    """What share of this machine's CPU time other processes took since this was made.

    In a container that sees the machine's counters it is the machine's, which is what slows down.
    """

    def __init__(self) -> None:
        self._start = self._read()

    def _read(self) -> tuple[float, float, float]:
        """Return seconds of all CPUs, idle ones among them, and this process's own."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Linux counts guest time in user time too.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        own = psutil.Process().cpu_times()
        return total, idle, own.user + own.system

    def stop(self) -> float:
        """Return the share, 0 to 1; 0 where no time has passed."""
        total, idle, own = (now - then for now, then in zip(self._read(), self._start, strict=True))
        return min(1.0, max(0.0, (total - idle - own) / total)) if total > 0 else 0.0


def read_load_average() -> float | None:
    """Return the load average of one minute, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
