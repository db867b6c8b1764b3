"""The workflows and forms of .github: valid YAML, without secrets, and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from vtbench.base.locations import package_dir
from vtbench.cli import COMMANDS, cli

GITHUB = package_dir().parent / ".github"

if not GITHUB.is_dir():
    pytest.skip(".github/ is in the repository alone", allow_module_level=True)

WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(p for p in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config")


def read(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_strangers_pull_request_gets_no_secrets(path: Path) -> None:
    workflow = read(path)
    triggers = workflow[True]  # YAML 1.1 reads "on" as true
    assert set(triggers) <= {"pull_request", "push"}
    assert workflow["permissions"] == {"contents": "read"}
    text = path.read_text(encoding="utf-8")
    assert "secrets." not in text and "pull_request_target:" not in text
    for step in steps_of(path):
        # What a stranger may name (a branch, a title) must never become a part of a script.
        assert "${{" not in step.get("run", "")
        if str(step.get("uses", "")).startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def list_commands(text: str) -> list[list[str]]:
    """Return the arguments of each `vtbench` of a script, its variables standing for names."""
    found = re.findall(r"^\s*vtbench ([^|>\n]*)", text, re.MULTILINE)
    found = [re.sub(r"\$\(dirname [^)]*\)|\$\(basename [^)]*\)", "x", line) for line in found]
    return [shlex.split(re.sub(r"\s\d?$", "", line.replace("2>&1", ""))) for line in found]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_commands_of_a_workflow_exist(path: Path) -> None:
    commands = [
        command for step in steps_of(path) for command in list_commands(step.get("run", ""))
    ]
    assert commands or path.name != "submission.yml"
    for arguments in commands:
        assert arguments[0] in COMMANDS
        command = cli.get_command(click.Context(cli), arguments[0])
        assert command is not None
        command.make_context(arguments[0], arguments[1:]).close()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_command_that_fails_before_a_pipe_fails_its_step(path: Path) -> None:
    if any(" | tee " in step.get("run", "") for step in steps_of(path)):
        assert read(path)["defaults"]["run"]["shell"] == "bash"  # GitHub gives it -eo pipefail


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_asks_for_something_and_names_commands_that_exist(path: Path) -> None:
    form = read(path)
    assert form["name"] and form["description"] and form["body"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    for field in fields:
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or all(field["attributes"]["options"])
    assert set(re.findall(r"`vtbench ([a-z-]+)", path.read_text(encoding="utf-8"))) <= set(COMMANDS)


def test_the_three_forms_and_the_template_are_there() -> None:
    assert {path.stem for path in FORMS} == {"new-tokenizer", "results", "wrong-number"}
    template = (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`vtbench ([a-z-]+)", template)) <= set(COMMANDS)
