"""Kill runs and let them go on; start validate and run again and again. Print figures; exit 1 if one
of them is not as it should be.

    python tests/faults/try_long.py [--kills N] [--runs N] [--work DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults import exits, kills


def try_kills(work: Path, n: int) -> bool:
    """Kill a run n times, each time another one, and compare what it becomes. Every other one is of
    two ranks, of which any process is killed."""
    pictures = kills.write_pictures(work / "pics")
    seconds = kills.measure_undisturbed(pictures, work / "whole")
    killed = bad = 0
    for seed in range(n):
        ranks = 1 + seed % 2
        killed += kills.kill_and_go_on(
            pictures, work / "out", seconds=seconds, seed=seed, ranks=ranks
        )
        if found := kills.compare(work / "whole", work / "out"):
            bad += 1
            print(f"kill {seed}: {'; '.join(found)}")
    print(f"kills: {n} tried, {killed} before the end, {n - bad} with equal rows and pictures")
    return bad == 0


def try_exits(work: Path, n: int) -> bool:
    """Start each command n times, and count how they end."""
    good = True
    for name, (arguments, expected) in exits.prepare(work).items():
        statuses = Counter(exits.run(arguments) for _ in range(n))
        told = ", ".join(f"{count} with {status}" for status, count in sorted(statuses.items()))
        print(f"{name}: {n} processes, {told}; expected {expected}")
        good &= set(statuses) == {expected}
    return good


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = given.work or Path(place)
        good = [try_kills(work, given.kills), try_exits(work, given.runs)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
