"""The main job: `python run_bench.py ...` is `vtbench run ...`."""

import sys

from vtbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
