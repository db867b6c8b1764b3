"""Every command and code block of README and of the site: parsed by what it is meant for, and run where
it is cheap. What is not run says why in its page; the site lists all of that."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest
import yaml

from vtbench.base.locations import package_dir
from vtbench.cli import COMMANDS, cli, main
from vtbench.commands.complaints import open_log
from vtbench.images import encode_png
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import load_registry
from vtbench.suites.suites import suite_paths

ROOT = package_dir().parent

if not (ROOT / "docs").is_dir():
    pytest.skip("docs/ is in the repository alone", allow_module_level=True)


def load_build_pages() -> ModuleType:
    """Return docs/build_pages.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("build_pages", ROOT / "docs" / "build_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


pages = load_build_pages()
DOCUMENTS = pages.list_documents()
BLOCKS = [block for document in DOCUMENTS for block in pages.find_blocks(document)]


def name_block(block: object) -> str:
    path, line = block.document, block.line  # type: ignore[attr-defined]
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def own_commands(block: object) -> Iterator[list[str]]:
    """Yield the arguments of each `vtbench` of a shell block."""
    for words in block.commands:  # type: ignore[attr-defined]
        if words[0] == "vtbench" or words[:2] == ["srun", "vtbench"]:
            arguments = words[words.index("vtbench") + 1 :]
            yield [word for word in arguments if word not in ("&", "...")]


def of_language(*languages: str) -> list[object]:
    return [block for block in BLOCKS if block.language in languages]


SHELL = of_language("bash", "")


def test_blocks_are_found_and_every_fence_is_one_of_them() -> None:
    for document in DOCUMENTS:
        fences = re.findall(r"^ *```", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(pages.find_blocks(document)), document
    assert {block.language for block in BLOCKS} <= {"bash", "python", "yaml", "text", ""}
    assert len(of_language("bash")) > 20


def chosen_tokenizers(command: click.Command, context: click.Context) -> list[str]:
    """Return the names that a command was given by -t."""
    options = [option.name for option in command.params if "--tokenizer" in option.opts]
    given = [name for option in options for name in context.params.get(option or "") or ()]
    return [name for names in given for name in names.split(",")]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return the names of tokenizers, and those that documents give to the reader's own."""
    registry = load_registry()
    return {*registry, *registry.unreleased, "my-vq", "own-block-means"}


@pytest.fixture
def plain_log() -> Iterator[None]:
    """Leave the level of the log as it was: parsing -q sets it."""
    yield
    open_log()


@pytest.mark.parametrize("block", SHELL, ids=name_block)
def test_the_command_line_parses_every_command(
    block: object, known: set[str], plain_log: None
) -> None:
    for arguments in own_commands(block):
        assert arguments[0] in COMMANDS or arguments[0] == "--help", arguments
        if arguments[0] == "--help":
            continue
        command = cli.get_command(click.Context(cli), arguments[0])
        assert command is not None
        with command.make_context(arguments[0], list(arguments[1:])) as context:
            for name in chosen_tokenizers(command, context):
                assert name in known or name.startswith(("$", "NAME")), name
            suite = context.params.get("suite_name") or context.params.get("suite")
            if suite is not None:
                name = suite.partition("@")[0]
                assert name in ("my-suite", "own-stripes", "NAME", *suite_paths()), suite


@pytest.mark.parametrize("block", of_language("bash"), ids=name_block)
def test_a_block_that_is_run_has_commands_of_vtbench_alone(block: object) -> None:
    for words in block.commands:  # type: ignore[attr-defined]
        if block.reason is None:  # type: ignore[attr-defined]
            assert words[0] == "vtbench", words


@pytest.mark.parametrize("block", of_language("python"), ids=name_block)
def test_python_compiles(block: object) -> None:
    compile(block.text, name_block(block), "exec")  # type: ignore[attr-defined]


@pytest.mark.parametrize("block", of_language("yaml"), ids=name_block)
def test_yaml_is_a_mapping(block: object) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_generated_lists_are_filled(document: Path) -> None:
    filled = pages.fill_page(document.read_text(encoding="utf-8"))
    assert "<!-- generate" not in filled


def test_the_metric_guide_names_metrics_once_and_shows_all() -> None:
    groups = yaml.safe_load((ROOT / "docs" / "metric_guide.yaml").read_text(encoding="utf-8"))
    named = [key for group in groups for key in group["keys"]]
    assert len(named) == len(set(named))
    assert set(named) <= set(METRICS)
    shown = pages.write_metrics()
    assert all(f"| `{key}` |" in shown for key in METRICS)


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    listed = pages.write_not_run()
    reasons = [block for block in BLOCKS if block.reason is not None]
    assert len(reasons) > 5 and len(listed.splitlines()) == len(reasons) + 2
    assert "vtbench fetch lpips-alex fid-inception" in listed


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder as a reader has it: images, their reconstructions, the registry."""
    generator = np.random.default_rng(0)
    for folder in ("photographs", "originals", "reconstructions"):
        for name in "abc":
            small = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            pixels = small.repeat(8, axis=0).repeat(8, axis=1)
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode_png(pixels))
    (tmp_path / "registry").mkdir()
    shutil.copy(ROOT / "registry" / "ref-kl-f8.yaml", tmp_path / "registry")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


RUN = sorted({b.document for b in BLOCKS if b.language in ("bash", "python") and b.reason is None})


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_code_of_a_page_run_in_their_order(document: Path, reader: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in pages.find_blocks(document):
        if block.reason is not None:
            continue
        if block.language == "bash":
            for arguments in own_commands(block):
                assert main(arguments) == 0, arguments
        elif block.language == "python":
            exec(compile(block.text, name_block(block), "exec"), names)


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra docs")
    import subprocess

    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    guide = (tmp_path / "site" / "reading" / "metrics" / "index.html").read_text(encoding="utf-8")
    assert "Does not tell" in guide and "psnr_db" in guide


@pytest.mark.slow
def test_the_table_of_eleven_protocols_is_what_its_program_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = importlib.util.spec_from_file_location(
        "psnr_of_one_vae", ROOT / "benchmarks" / "psnr_of_one_vae.py"
    )
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.main()
    printed = read_table(capsys.readouterr().out)
    page = (ROOT / "docs" / "reading" / "disagreement.md").read_text(encoding="utf-8")
    shown = read_table(page)
    assert len(printed) == 11
    for label, values in printed.items():
        # Another processor's convolutions differ in the last bits: a rounding of two decimals.
        assert shown[label] == pytest.approx(values, abs=0.02), label


def read_table(text: str) -> dict[str, list[float]]:
    """Return the rows of a Markdown table of a label and two numbers."""
    rows = re.findall(r"^\| ([^|]+) \| (-?[\d.]+) \| (-?[\d.]+) \|$", text, re.MULTILINE)
    return {label: [float(a), float(b)] for label, a, b in rows}
