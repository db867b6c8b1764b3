"""A terminal's disk that is full, a reader that goes and a locale without letters end no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vtbench.images import encode_png

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")

VTBENCH = [sys.executable, "-m", "vtbench"]
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), **changes}


def start(arguments: list[str], stdout: int, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*VTBENCH, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(**changes),
    )


def end_in(how: str, arguments: list[str]) -> tuple[int, str]:
    """Return the exit status and standard error of a command whose standard output ends in a way."""
    if how == "full":
        with Path("/dev/full").open("wb") as full:
            process = start(arguments, full.fileno())
            _, said = process.communicate(timeout=300)
    elif how == "gone":
        read, write = os.pipe()
        os.close(read)
        process = start(arguments, write)
        os.close(write)
        _, said = process.communicate(timeout=300)
    else:
        process = start(arguments, subprocess.PIPE, **POSIX)
        _, said = process.communicate(timeout=300)
    return process.returncode, said.decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("full", 1), ("gone", 0), ("posix", 0)])
def test_a_list_that_cannot_be_printed_ends_by_itself(how: str, status: int) -> None:
    code, said = end_in(how, ["list", "metrics"])
    assert code == status and "Traceback" not in said
    full = "vtbench: standard output cannot be written (No space left on device); it is not whole\n"
    assert said == (full if how == "full" else "")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("full", 1), ("gone", 0), ("posix", 0)])
def test_a_run_that_cannot_be_printed_is_measured_and_written(
    tmp_path: Path, how: str, status: int
) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(encode_png(np.full((16, 16, 3), 9, np.uint8)))
    run = ["run", "--images", str(tmp_path / "pics"), "-t", "identity", "-t", "jpeg-q50"]
    code, said = end_in(how, [*run, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert code == status, said
    assert "Traceback" not in said
    assert ("cannot be written (No space left on device)" in said) == (how == "full")
    for file in ("identity/run.json", "jpeg-q50/run.json", "leaderboard.md"):
        assert (tmp_path / "out" / file).is_file()


@pytest.mark.slow
def test_a_home_that_cannot_be_written_says_nothing_of_other_programs() -> None:
    code = (
        "import sys; from vtbench.cli import main; status = main(['list', 'suites']);"
        "import matplotlib.font_manager; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(HOME="/proc/1", XDG_CONFIG_HOME="", XDG_CACHE_HOME="", MPLCONFIGDIR=""),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
