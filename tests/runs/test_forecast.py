"""`vtbench run --dry-run`: what it says is what the run then does, and it writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vtbench.cli import main
from vtbench.results.partial import PartialRows, count_rows


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    common = ["run", "--suite", "mini", "--data", str(data), "--task", "detail"]
    return [*common, "--out", str(out), *more]


def say(capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*given, "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_it_says_what_a_run_does_and_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run = arguments(data, out, "-t", "jpeg-q10,identity")
    first = say(capsys, *run)
    assert first["images"] == {"detail": 1} and not out.exists()
    assert [(r["run"], r["work"], r["images"]) for r in first["rows"]] == [
        ("jpeg-q10", "measure", 1),
        ("identity", "measure", 1),
    ]
    assert first["rows"][0]["seconds"] is None and "unknown" in first["rows"][0]["basis"]
    assert first["seconds"] is None
    assert main(arguments(data, out, "-t", "jpeg-q10", "--keep-reconstructions")) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    jpeg, identity = say(capsys, *run)["rows"]
    assert (jpeg["work"], identity["work"]) == ("reuse", "measure")
    (added,) = say(capsys, *arguments(data, out, "-t", "jpeg-q10", "--metrics", "mae"))["rows"]
    assert (added["work"], added["metrics"]) == ("add", ["mae"])
    (fresh,) = say(capsys, *arguments(data, out, "-t", "jpeg-q10", "--fresh"))["rows"]
    assert fresh["work"] == "measure" and "earlier run here" in fresh["basis"]
    assert fresh["seconds"] > 0
    (other,) = say(capsys, *arguments(data, out, "-t", "jpeg-q10", "--batch-size", "3"))["rows"]
    assert other["work"] == "measure" and other["reason"].startswith("measured again: ")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert main([*run, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "reuse" in text and "time: unknown" in text


@pytest.mark.slow
def test_weights_that_are_not_here_are_named_with_their_files(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    out = tmp_path / "out"
    found = say(capsys, *arguments(data, out, "-t", "sd-vae-ft-mse,identity"))
    assert [row["run"] for row in found["rows"]] == ["identity"]
    (download,) = [d for d in found["downloads"] if d["name"] == "sd-vae-ft-mse"]
    assert "diffusion_pytorch_model.safetensors" in download["files"]
    assert download["bytes"] is None and download["command"] == "vtbench fetch sd-vae-ft-mse"
    alone = say(capsys, *arguments(data, out, "-t", "sd-vae-ft-mse"))
    assert alone["rows"] == [] and [d["name"] for d in alone["downloads"]] == ["sd-vae-ft-mse"]


@pytest.mark.slow
def test_a_network_without_an_earlier_run_is_estimated_from_its_gmac(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = say(capsys, *arguments(data, tmp_path / "out", "-t", "ref-vq-f8"))["rows"]
    assert row["seconds"] > 0 and "GMAC/s, measured now" in row["basis"]


def test_done_images_of_a_killed_run_are_counted_without_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert count_rows(path, "k", ids={"a"}) == 0 and not path.exists()
    row = {"id": "a", "task": "t", "subset": "s", "width": 1, "height": 1, "error": None}
    PartialRows(path, "k").append([row])
    with path.open("ab") as file:
        file.write(b'[{"id": "torn')
    content = path.read_bytes()
    assert count_rows(path, "k", ids={"a"}) == 1
    assert count_rows(path, "other", ids={"a"}) == 0
    assert path.read_bytes() == content


def test_a_model_of_ones_own_has_no_forecast(data: Path, tmp_path: Path) -> None:
    assert main(arguments(data, tmp_path / "out", "--module", "m:f", "--dry-run")) == 2
    assert not (tmp_path / "out").exists()


def test_json_is_of_a_dry_run_alone(data: Path, tmp_path: Path) -> None:
    assert main(arguments(data, tmp_path / "out", "-t", "identity", "--json")) == 2
    assert not (tmp_path / "out").exists()
