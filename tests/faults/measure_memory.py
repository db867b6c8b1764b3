"""Run vtbench and print its exit status and the most memory that it had, in MiB.

python tests/faults/measure_memory.py run --images DIR -t NAME --out DIR
"""

from __future__ import annotations

import resource
import sys

from vtbench.cli import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{status} {peak:.0f}")
