"""An installed package adds a tokenizer, a metric and a suite: examples/own_tokenizer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vtbench.base.locations import package_dir
from vtbench.results.folder import read_run

ROOT = package_dir().parent
EXAMPLE = ROOT / "examples" / "own_tokenizer"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLE.is_dir(), reason="examples/ is in the repository alone"),
]


def install(source: Path, target: Path, *, editable: bool = False) -> None:
    """Install a package into a folder of its own, without a network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    where = ["--target", str(target)] + (["--editable"] if editable else [])
    subprocess.run([*command, *where, str(source)], check=True, capture_output=True)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Return a folder for sys.path into which a copy of the example is installed."""
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    install(source, tmp_path / "site")
    return tmp_path / "site"


def vtbench(site: Path, *arguments: str, code: int = 0) -> str:
    """Run the command line in a process that sees the plug-in; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "vtbench", *arguments],
        cwd=site.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_its_tokenizer_metric_and_suite_are_vtbenchs(plugin: Path) -> None:
    assert "own-block-means" in vtbench(plugin, "list")
    assert "own-stripes" in vtbench(plugin, "list", "suites")
    assert "own_max_error" in vtbench(plugin, "list", "metrics")
    assert "own-block-means: ok" in vtbench(plugin, "check", "own-block-means")
    vtbench(plugin, "run", "--suite", "own-stripes", "-t", "own-block-means", "-t", "jpeg-q50")
    out = plugin.parent / "results" / "local" / "own-stripes"
    rows = {row["id"]: row for row in read_rows(plugin, out / "own-block-means")}
    assert rows["ramp"]["own_max_error"] > 0
    assert rows["stripes-16"]["tokens"] == 8 * 12
    assert "Max error" in (out / "leaderboard.md").read_text(encoding="utf-8")


def read_rows(site: Path, folder: Path) -> list[dict[str, object]]:
    """Return a run's rows as a process with the plug-in reads them."""
    program = (
        "import json, sys; from pathlib import Path; from vtbench.results.folder import read_run\n"
        "print(json.dumps(list(read_run(Path(sys.argv[1])).rows)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("file", ["adapter.py", "blocks.py"])
def test_its_changed_code_is_measured_again(plugin: Path, file: str) -> None:
    run = ["run", "--suite", "embedded", "--task", "reconstruction", "--limit", "2"]
    run += ["-t", "own-block-means", "--out", "out"]
    vtbench(plugin, *run)
    before = read_run(plugin.parent / "out" / "own-block-means").rows
    assert "reused" in vtbench(plugin, *run)
    path = plugin / "own_tokenizer" / file
    text = path.read_text(encoding="utf-8")
    changes = {"adapter.py": (".round()", ".floor()"), "blocks.py": ("avg_pool2d", "max_pool2d")}
    assert changes[file][0] in text
    path.write_text(text.replace(*changes[file]), encoding="utf-8")
    said = vtbench(plugin, *run)
    assert "reused" not in said and "measured again" in said
    after = read_run(plugin.parent / "out" / "own-block-means").rows
    vtbench(plugin, *run[:-1], "fresh", "--fresh")
    true = read_run(plugin.parent / "fresh" / "own-block-means").rows
    psnr = [[row["psnr_db"] for row in rows] for rows in (before, after, true)]
    assert psnr[1] == psnr[2] != psnr[0]


def test_one_that_cannot_be_imported_is_said_and_takes_nothing_down(plugin: Path) -> None:
    silent = "import sys\nsys.stdout = sys.stderr = None\nraise RuntimeError('of the stranger')\n"
    for name in ("metrics.py", "folders.py"):
        (plugin / "own_tokenizer" / name).write_text(silent)
    said = vtbench(plugin, "list", "suites")
    assert "plug-in own_tokenizer.folders (vtbench.data) is left out: RuntimeError" in said
    assert "embedded" in said and "Traceback" not in said
    adapter = plugin / "own_tokenizer" / "adapter.py"
    adapter.write_text(adapter.read_text() + "\nimport no_such_package\n")
    entry = EXAMPLE / "own_tokenizer" / "data" / "registry"
    said = vtbench(
        plugin,
        *("run", "--suite", "embedded", "--limit", "1", "--task", "detail", "--registry"),
        *(str(entry), "-t", "own-block-means", "-t", "identity"),
        code=1,
    )
    assert "own-block-means: " in said and "no_such_package" in said and "Traceback" not in said
    assert (plugin.parent / "results" / "scratch" / "embedded" / "identity" / "run.json").is_file()
