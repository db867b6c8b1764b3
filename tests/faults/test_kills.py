"""Killed at any moment, a run goes on to the same rows and pictures; and one folder has one writer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults import kills

from vtbench.cli import main
from vtbench.results.folder import read_run
from vtbench.results.writer import hold_run


@pytest.mark.slow
def test_five_kills_leave_the_same_rows_and_pictures(tmp_path: Path) -> None:
    pictures = kills.write_pictures(tmp_path / "pics")
    seconds = kills.measure_undisturbed(pictures, tmp_path / "whole")
    for seed in range(5):
        ranks = 1 + seed % 2
        kills.kill_and_go_on(pictures, tmp_path / "out", seconds=seconds, seed=seed, ranks=ranks)
        assert kills.compare(tmp_path / "whole", tmp_path / "out") == []


@pytest.mark.slow
def test_a_run_that_another_process_writes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = kills.write_pictures(tmp_path / "pics", n=2)
    out = tmp_path / "out"
    arguments = ["run", "--images", str(pictures), "-t", "jpeg-q25", "--out", str(out)]
    with hold_run(out, "jpeg-q25"):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said == (
            f"vtbench: {out / 'jpeg-q25'}: another process is writing it; wait for it, or give "
            "another --out\n"
        )
    assert main(arguments) == 0
    with hold_run(out, "jpeg-q25"):  # complete: it is read, and not written
        assert main(arguments) == 0
        assert main([*arguments, "-t", "jpeg-q50"]) == 0
        assert main([*arguments, "--fresh"]) == 2
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == {
        ".jpeg-q25.lock",
        ".jpeg-q50.lock",
    }


HOLD = """
import sys, time
from pathlib import Path
from vtbench.results.writer import hold_run
with hold_run(Path(sys.argv[1]), "jpeg-q25"):
    Path(sys.argv[2]).touch()
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    pictures = kills.write_pictures(tmp_path / "pics", n=2)
    out, held = tmp_path / "out", tmp_path / "held"
    out.mkdir()
    process = kills.start(out, held, code=HOLD)
    try:
        while not held.exists():
            assert process.poll() is None
            time.sleep(0.01)
        arguments = ["run", "--images", str(pictures), "-t", "jpeg-q25", "--out", str(out)]
        assert main(arguments) == 2
    finally:
        process.kill()
        process.wait()
    assert main(arguments) == 0
    assert len(read_run(out / "jpeg-q25").rows) == 2


def test_a_lock_that_is_a_link_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = kills.write_pictures(tmp_path / "pics", n=1)
    out = tmp_path / "out"
    out.mkdir()
    (out / ".jpeg-q25.lock").symlink_to(tmp_path / "elsewhere")
    assert main(["run", "--images", str(pictures), "-t", "jpeg-q25", "--out", str(out)]) == 2
    assert ".jpeg-q25.lock: a symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()
