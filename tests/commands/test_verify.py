"""`vtbench verify`: rows that were measured here agree, and rows that were made up do not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtbench.cli import main
from vtbench.results.folder import read_run, write_run
from vtbench.results.rows import Row

NAMES = ("jpeg-q25", "patch-vq-f16")


@pytest.fixture(scope="module")
def results(data_of_module: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the data folder, and a folder of two tokenizers' results."""
    out = tmp_path_factory.mktemp("verify") / "out"
    flags = [part for name in NAMES for part in ("-t", name)]
    arguments = ["run", "--suite", "mini", "--data", str(data_of_module), "--device", "cpu"]
    assert main([*arguments, *flags, "--out", str(out)]) == 0
    return data_of_module, out


def verify(results: tuple[Path, Path], *arguments: str) -> int:
    data, out = results
    return main(["verify", str(out), *arguments, "--data", str(data), "--device", "cpu"])


@pytest.mark.slow
def test_honest_rows_are_measured_again(
    results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(results, *NAMES, "--sample", "99", "--seed", "5") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0] == "seed 5"
    for name in NAMES:
        assert f"{name}: 6 of 6 images: chart, page, photo-0" in said.out
    assert said.out.count("pixels and numbers agree") == 2


@pytest.mark.slow
def test_the_seed_draws_the_same_images_again(
    results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = set()
    for seed in ("1", "1", "2"):
        assert verify(results, "jpeg-q25", "--sample", "2", "--seed", seed) == 0
        drawn.add(capsys.readouterr().out.splitlines()[1])
    assert len(drawn) == 2
    assert verify(results, "jpeg-q25", "--sample", "1") == 0
    seed = capsys.readouterr().out.splitlines()[0].removeprefix("seed ")
    assert seed.isdecimal()


CHANGES: dict[str, Callable[[Row], dict[str, Any]]] = {
    "psnr_db": lambda row: {"psnr_db": row["psnr_db"] + 0.01},
    "ssim": lambda row: {"ssim": row["ssim"] and row["ssim"] + 1e-4},
    "bits": lambda row: {"bits": row["bits"] * 0.999},
    "tokens": lambda row: {"tokens": row["tokens"] + 1},
    "entropy_bits": lambda row: {"entropy_bits": row["entropy_bits"] and row["entropy_bits"] * 1.1},
    "reconstruction_sha256": lambda row: {"reconstruction_sha256": "0" * 64},
    "reading": lambda row: {"reading": row["reading"] and ["made up"] * len(row["reading"])},
    "char_edits": lambda row: {"char_edits": row["char_edits"] and row["char_edits"] - 1},
    "contrast_transfer": lambda row: {
        "contrast_transfer": row["contrast_transfer"] and [0.5] * len(row["contrast_transfer"])
    },
    "fit": lambda row: {"fit": "tile"},
    "sha256": lambda row: {"sha256": "1" * 64},
}


QUICK = ("psnr_db", "reconstruction_sha256")


@pytest.mark.slow
@pytest.mark.parametrize(
    "column",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES],
)
def test_rows_that_were_made_up_differ(
    results: tuple[Path, Path], tmp_path: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = results
    name = "patch-vq-f16"
    shutil.copytree(out, tmp_path / "out")
    run = read_run(out / name)
    rows = [{**row, **CHANGES[column](row)} for row in run.rows]
    if column == "entropy_bits":  # their sum is that of codes.parquet
        first, second = (row for row in run.rows[:2])
        both = first["entropy_bits"] + second["entropy_bits"]
        rows = [dict(row) for row in run.rows]
        rows[0]["entropy_bits"], rows[1]["entropy_bits"] = both, 0.0
    write_run(tmp_path / "out" / name, run.record, rows, codes=run.codes)
    assert verify((data, tmp_path / "out"), name, "--sample", "6") == 1
    said = capsys.readouterr().err
    assert f": {column} is " in said and "measured again" in said


@pytest.mark.slow
@pytest.mark.slow
def test_what_cannot_be_repeated_is_refused(
    results: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = results
    for name in ("nothing", "../out", "x\x1b[31m"):
        assert verify(results, name) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "no run named" in said and "\x1b" not in said
    for update, message in (
        ({"suite": {"sha256": "0" * 64}}, "of another version of mini"),
        ({"protocol": {"source": "files"}}, "were read from files"),
        ({"tokenizer": {"name": "marvel"}}, "no entry of the registry"),
        ({"tokenizer": {"name": "flux.1-vae"}, "run": "flux.1-vae"}, "flux.1-vae"),
    ):
        run = read_run(out / "jpeg-q25")
        changes: dict[str, Any] = {}
        for part, own in update.items():
            old = getattr(run.record, part)
            changes[part] = own if isinstance(own, str) else old.model_copy(update=own)
        target = tmp_path / "other" / changes.get("run", "jpeg-q25")
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        shutil.copytree(out, tmp_path / "other")
        write_run(target, run.record.model_copy(update=changes), run.rows)
        assert verify((data, tmp_path / "other"), target.name) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
