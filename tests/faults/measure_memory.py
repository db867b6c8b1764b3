"""Run vtbench and print its exit status and the most memory that it had, in MiB.

python tests/faults/measure_memory.py run --images DIR -t NAME --out DIR
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from vtbench.cli import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Not ru_maxrss: a child begins with its parent's.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    print(f"\n{status} {int(peak) / 1024:.0f}")
