"""What a command says beside its results: less (-q), more (-v), without colour."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from vtbench.cli import COMMANDS, cli, main

COLOUR = re.compile(r"\x1b\[(\d+;)*3[0-7]m")
"""What turns a colour on, on a terminal; italics and bold are none."""


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Leave the package's log as it was."""
    log = logging.getLogger("vtbench")
    before = log.level, list(log.handlers), log.propagate
    yield
    log.setLevel(before[0])
    log.handlers[:], log.propagate = before[1:]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_takes_the_common_options_and_fits_eighty_columns(verb: str) -> None:
    context = click.Context(cli, info_name="vtbench", terminal_width=80)
    command = cli.get_command(context, verb)
    assert command is not None
    names = {name for parameter in command.params for name in parameter.opts}
    assert {"-q", "--quiet", "-v", "--verbose", "--debug"} <= names
    own = click.Context(command, parent=context, info_name=verb, terminal_width=80)
    assert [line for line in command.get_help(own).splitlines() if len(line) > 80] == []


@pytest.mark.slow
def test_quiet_says_nothing_beside_the_result(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--suite", "mini", "--data", str(data), "--task", "detail", "-t", "identity"]
    assert main([*run, "--out", str(tmp_path / "a")]) == 0
    assert "[1/1] identity: 1 images" in capfd.readouterr().out
    assert main([*run, "--out", str(tmp_path / "b"), "-q"]) == 0
    said = capfd.readouterr()
    assert "[1/1]" not in said.out and "leaderboard.md" in said.out and said.err == ""


@pytest.mark.slow
def test_verbose_says_why_something_is_measured_again(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--suite", "mini", "--data", str(data), "--task", "detail", "-t", "identity"]
    run += ["--out", str(tmp_path / "out")]
    assert main(run) == 0
    record = tmp_path / "out" / "identity" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"key": "0" * 64}))
    capfd.readouterr()
    assert main([*run, "-v"]) == 0
    assert "vtbench: identity: measured again: the protocol" in capfd.readouterr().err


@pytest.mark.parametrize("no_colour", [False, True])
def test_no_color_is_honoured(
    no_colour: bool,
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console

    from vtbench.leaderboard.aggregate import read_board
    from vtbench.leaderboard.terminal import terminal_table

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    folder = write_suite()
    write_run(folder, "a")
    console = Console(width=200, force_terminal=True)
    console.print(terminal_table(read_board(folder), width=200))
    console.print("[red]a colour, so that the test can fail[/red]")
    assert (COLOUR.search(capsys.readouterr().out) is None) == no_colour


@pytest.mark.parametrize("verb", ["list", "doctor", "compare"])
def test_text_of_questions_has_no_colour_at_all(
    verb: str,
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    folder = write_suite()
    for name in ("a", "b"):
        write_run(folder, name)
    arguments = {
        "list": ["suites"],
        "doctor": ["--suite", "embedded"],
        "compare": ["a", "b", "--results", str(folder)],
    }
    assert main([verb, *arguments[verb]]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_produced(shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    if shell == "bash":  # its class asks the installed bash for its version
        kind._check_version = staticmethod(lambda: None)  # type: ignore[attr-defined]
    completion = kind(cli, {}, "vtbench", "_VTBENCH_COMPLETE")
    assert "_VTBENCH_COMPLETE" in completion.source()
    verbs = {item.value for item in completion.get_completions([], "re")}
    assert verbs == {"reconstruct", "reproduce"}
    options = {item.value for item in completion.get_completions(["reproduce"], "--")}
    assert {"--json", "--results", "--registry"} <= options
