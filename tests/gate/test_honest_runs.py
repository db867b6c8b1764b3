"""The audit raises no alarm about honest runs, of whatever suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import kills
from PIL import Image

from vtbench.cli import main
from vtbench.results.folder import read_runs, read_suite_folder

pytestmark = pytest.mark.slow

TOKENIZERS = ("identity", "jpeg-q25", "jpeg-lm", "patch-vq-f16", "patch-pca-f8c4", "ref-vq-f16")


def write_photographs(folder: Path, names: list[str], *, width: int = 96, height: int = 64) -> Path:
    """Write a stand-in for each picture of a data set: smooth noise."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        rough = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        picture = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"{name}.png")
    return folder


def run_kodak(place: Path) -> list[str]:
    """The whole of a small data set, which no manifest pins."""
    pictures = write_photographs(place / "kodak", [f"kodim{n:02d}" for n in range(1, 25)])
    return ["--suite", "kodak", "--source", f"kodak={pictures}"]


def run_div2k(place: Path) -> list[str]:
    pictures = write_photographs(place / "div2k", [f"{n:04d}" for n in range(801, 901)])
    return ["--suite", "div2k-valid", "--source", f"div2k-valid={pictures}", "--limit", "2"]


def run_folder(place: Path) -> list[str]:
    """Pictures of several sizes, two of them the same, and a blank one."""
    pictures = kills.write_pictures(place / "pics", n=6, side=40)
    (pictures / "again.png").write_bytes((pictures / "1.png").read_bytes())
    Image.new("RGB", (32, 32), "white").save(pictures / "blank.png")
    Image.new("RGB", (33, 17), "black").save(pictures / "black.png")
    return ["--images", str(pictures)]


RUNS: dict[str, Callable[[Path], list[str]]] = {
    "embedded": lambda place: ["--suite", "embedded", "--limit", "2"],
    "a part of embedded": lambda place: ["--suite", "embedded", "--task", "detail", "--limit", "1"],
    "another dtype": lambda place: ["--suite", "embedded", "--limit", "1", "--dtype", "bf16"],
    "text-multilingual": lambda place: ["--suite", "text-multilingual@1", "--limit", "2"],
    "kodak": run_kodak,
    "div2k-valid": run_div2k,
    "a folder": run_folder,
}


@pytest.mark.parametrize("kind", RUNS)
def test_an_honest_run_raises_no_alarm(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = [part for name in TOKENIZERS for part in ("-t", name)]
    arguments = RUNS[kind](tmp_path)
    assert main(["run", *arguments, *flags, "--device", "cpu", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["validate", str(out)]) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""
    suite = read_suite_folder(out)
    runs = read_runs(out)
    assert len(runs) == len(TOKENIZERS)
    assert {run.record.suite.name for run in runs} == {suite.name}
    assert all(row["reconstruction_sha256"] for run in runs for row in run.rows)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), ("--crop", "center-32")),
        ((), ("--limit", "2")),
        (("--limit", "2"), ()),
        (("--crop", "center-16"), ("--crop", "center-32")),
    ],
)
def test_two_requests_in_one_folder_raise_no_alarm(
    tmp_path: Path,
    first: tuple[str, ...],
    second: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """suite.json and the panel are of the second; the first run's pictures stay."""
    pictures = write_photographs(tmp_path / "pics", list("abcdefgh"))
    out = tmp_path / "out"
    for name, flags in (("identity", first), ("jpeg-q25", second)):
        request = ["--images", str(pictures), "-t", name, *flags, "--out", str(out)]
        assert main(["run", *request, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["validate", str(out)]) == 0, capsys.readouterr().err


def test_a_folder_has_no_plot_of_an_earlier_board(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for name, flags in (("jpeg-q10", ()), ("jpeg-q25", ("--task", "detail"))):
        request = ["--suite", "embedded", "--limit", "1", "-t", name, *flags, "--out", str(out)]
        assert main(["run", *request, "--device", "cpu"]) == 0
    assert not (out / "leaderboard-rate-cer.svg").exists()
    capsys.readouterr()
    assert main(["validate", str(out)]) == 0, capsys.readouterr().err
