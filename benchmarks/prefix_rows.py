"""Rows by the length of the prefix that is kept: `python benchmarks/prefix_rows.py`.

Three tokenizers whose first tokens can be decoded alone: the architecture of One-D-Piece (TiTok),
D-AR and FlexTok, all small and with the weights that `tests/parity` derives from their official
names. It runs `vtbench run --tokens` and `vtbench table` on pictures of the suite `embedded`. That
a longer prefix has more tokens, more bits and another picture is what the rows show; how good
derived weights are says nothing of the published tokenizers.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

from vtbench.base.locations import package_dir
from vtbench.cli import main as run_command

sys.path.insert(0, str(package_dir().parent / "tests"))

from parity.small import write_registry

ROWS = {
    "titok-s128": (1, (1, 2, 4, 8)),
    "d-ar": (8, (8, 16, 32, 64)),
    "flextok": (1, (1, 4, 16, 64)),
}
"""Of each golden: how many tokens make a group, and the lengths of prefixes."""

COLUMNS = "rate.tokens,bpp,psnr_db,ssim"


def print_rows(golden: str, group: int, lengths: tuple[int, ...]) -> int:
    """Run one tokenizer with each length and print its table. Return the exit code."""
    name = f"small-{golden}"
    with tempfile.TemporaryDirectory() as folder:
        registry = write_registry(Path(folder), golden, name=name, group=group)
        out = str(Path(folder) / "out")
        command = ["run", "--suite", "embedded", *registry, "--out", out, "-t", name]
        command += ["--task", "reconstruction", "--limit", "4"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = run_command([*command, "--tokens", ",".join(map(str, lengths))])
        if code:
            return code
        rows = ",".join([*(f"{name}@tokens-{n}" for n in lengths[:-1]), name])
        return run_command(["table", "--results", out, "--rows", rows, "--columns", COLUMNS])


def main() -> int:
    """Return the exit code: the first one that is not 0."""
    codes = [print_rows(golden, *how) for golden, how in ROWS.items()]
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
