"""From a clone to a validated submission by the commands of docs/adding/submission.md, in a virtual
environment of its own, into which they install vtbench and the stranger's package."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from vtbench.base.locations import package_dir

ROOT = package_dir().parent
PAGE = ROOT / "docs" / "adding" / "submission.md"
EXAMPLE = ROOT / "examples" / "own_tokenizer"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository's history"),
    pytest.mark.skipif(os.name != "posix", reason="the commands are of a POSIX shell"),
]

HERE_ALONE = re.compile(r"(__editable__)?_*(vtbench|own_tokenizer|pip)\b|.*\.pth$")
"""What the new environment does not get from this one: it installs these itself."""


def find_wheels() -> list[Path]:
    """Return the folders that third-party packages are installed in."""
    editables = importlib.util.find_spec("editables")
    if editables is None or editables.origin is None:
        pytest.skip("needs editables, of the extra test: hatchling makes editable installs with it")
    places = [sysconfig.get_paths()[key] for key in ("purelib", "platlib")]
    return [*dict.fromkeys(map(Path, [Path(editables.origin).parent.parent, *places]))]


def read_commands(page: Path, first: str) -> list[str]:
    """Return the lines of the one shell block of a page that begins with a command."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(first))
    return block.splitlines()


@dataclass(frozen=True)
class Surroundings:
    """A folder to work in, and the environment variables of somebody who has nothing of ours."""

    folder: Path
    variables: dict[str, str]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    """Make them.

    Third-party wheels are this environment's, by links: torch alone is gigabytes. pip therefore
    needs no index, and takes hatchling from there too. `git clone` of the public address gives this
    repository's HEAD.
    """
    folder = tmp_path_factory.mktemp("stranger")
    wheels = folder / "wheels"
    wheels.mkdir()
    for place in find_wheels():
        for path in place.iterdir():
            if not HERE_ALONE.match(path.name) and not (wheels / path.name).exists():
                (wheels / path.name).symlink_to(path)
    programs = folder / "bin"
    programs.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable))
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
    (programs / "python3").chmod(0o755)
    (folder / "home").mkdir()
    variables = {
        "PATH": os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(wheels),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as its option: 0 is "no isolation"
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/vtbench/vtbench",
    }
    return Surroundings(folder, variables)


def run_lines(surroundings: Surroundings, lines: list[str]) -> str:
    """Run lines in one shell that stops at the first that fails; return what they print."""
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", "\n".join(lines)],
        cwd=surroundings.folder,
        env=surroundings.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_a_clone_goes_to_a_validated_submission_by_the_documented_commands(
    surroundings: Surroundings,
) -> None:
    commands = read_commands(PAGE, "git clone ")
    assert [line.split()[0] for line in commands[:6]] == ["git", "cd", "python3", ".", "pip", "pip"]
    assert [line.split()[1] for line in commands[6:]] == ["check", "run", "submit", "validate"]
    stray = "results/local/own-stripes/own-block-means/evil.py"
    lines = [*commands[:8], f"echo '1 / 0' > {stray}", *commands[8:]]  # no file of a result
    where = "import vtbench, own_tokenizer; print(vtbench.__file__, own_tokenizer.__file__)"
    said = run_lines(surroundings, [*lines, f"python -c '{where}'"]).splitlines()
    clone = surroundings.folder / "vtbench"
    example = clone / "examples" / "own_tokenizer" / "own_tokenizer"
    assert said[-1] == f"{clone / 'vtbench' / '__init__.py'} {example / '__init__.py'}"
    assert "own-block-means: ok" in " ".join(said)
    validated = "\n".join(said)
    assert "submission/registry/own-block-means.yaml: ok" in validated
    assert "submission/results/own-stripes: ok (1 runs of own-stripes@1)" in validated
    packed = {p.relative_to(clone / "submission") for p in (clone / "submission").rglob("*.*")}
    run = Path("results/own-stripes/own-block-means")
    assert {Path("SUMMARY.md"), run / "run.json", run / "panel/0.png"} <= packed
    assert not any("evil" in path.name or "jpeg-q50" in str(path) for path in packed)
    summary = (clone / "submission" / "SUMMARY.md").read_text(encoding="utf-8")
    assert "kept: " in summary and "own-block-means" in summary
    assert str(surroundings.folder) not in summary


@pytest.mark.parametrize(
    "page", [EXAMPLE / "README.md", ROOT / "docs" / "adding" / "tokenizer.md"], ids=lambda p: p.name
)
def test_other_pages_give_the_same_commands(page: Path) -> None:
    others = read_commands(page, "pip install -e examples/own_tokenizer")
    whole = read_commands(PAGE, "git clone ")
    start = whole.index(others[0])
    assert whole[start : start + len(others)] == others
