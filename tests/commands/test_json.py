"""--json: what a command says, for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from vtbench.base.locations import registry_dir
from vtbench.cli import cli, main
from vtbench.commands.options import JSON_HELP


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> object:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_lists_are_a_mapping_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "list", "--all")
    assert {"jpeg-q50", "spae"} <= {row.get("name") or row["unreleased"] for row in rows}
    assert "psnr_db" in {row["key"] for row in said(capsys, "list", "metrics")}
    assert "embedded" in {row["name"] for row in said(capsys, "list", "suites")}


@pytest.mark.parametrize("name", ["jpeg-q50", "embedded", "psnr_db", "rfid", "spae"])
def test_facts_are_a_mapping(capsys: pytest.CaptureFixture[str], name: str) -> None:
    facts = said(capsys, "show", name)
    assert facts.get("key", facts.get("name", "")).startswith(name)


def test_differences_have_their_columns_and_numbers(
    capsys: pytest.CaptureFixture[str],
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
) -> None:
    folder = write_suite()
    for name in ("a", "b"):
        write_run(folder, name)
    differences = said(capsys, "compare", "a", "b", "--results", str(folder))
    psnr = next(d for d in differences if d["column"] == "reconstruction.psnr_db")
    assert psnr["difference"] == 0 and (psnr["first"], psnr["second"]) == ("a", "b")


def test_validation_says_what_is_wrong_with_each_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("title: x\ncolour: red\n")
    good, wrong = said(capsys, "validate", str(registry_dir() / "jpeg-q50.yaml"), str(bad), code=2)
    assert good["ok"] and not wrong["ok"]
    assert any("colour" in problem for problem in wrong["problems"])


def test_doctor_says_what_is_here_as_a_mapping(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    facts = said(capsys, "doctor", "--suite", "embedded")
    (suite,) = facts["suites"]
    assert suite["off"]["lpips_alex"] == ["lpips-alex"]
    (lpips,) = [w for w in facts["metric_weights"] if w["name"] == "lpips-alex"]
    assert lpips["state"] == "missing" and "lpips-alex" in lpips["command"]
    assert {"torch", "lpips"} <= {package["name"] for package in facts["packages"]}
    assert all(room["free_bytes"] > 0 for room in facts["disk"])


def test_published_numbers_stand_beside_the_choices_of_their_protocol(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = said(capsys, "reproduce", "sd-vae-ft-mse")
    assert facts["name"] == "sd-vae-ft-mse"
    for published in facts["published"]:
        assert {"source", "data", "n"} <= published["protocol"].keys()
        assert published["reported"] and published["measured"] == []


def test_every_command_that_answers_a_question_has_json_and_says_it_in_the_same_words() -> None:
    for verb in ("list", "show", "doctor", "compare", "reproduce", "validate", "cache"):
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        (option,) = [option for option in command.params if "--json" in option.opts]
        assert isinstance(option, click.Option)
        assert (option.help, option.is_flag) == (JSON_HELP, True)
