"""The command line: what users type, what they read, and the exit status. Bad input is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import photo
from PIL import Image
from safetensors.torch import load_file, save_file

from vtbench.base.files import sha256_file
from vtbench.base.locations import data_dir, package_dir
from vtbench.cli import main
from vtbench.images import encode_png
from vtbench.results.folder import read_run, read_suite_folder
from vtbench.suites.image_folder import name_folder_suite
from vtbench.tokenizers.resample import Resample

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
ENTRY = """\
title: Mine
family: kl-vae
adapter: vtbench.tokenizers.diffusers_vae:DiffusersVae
options: {class_name: AutoencoderKL}
kind: continuous
quantizer: kl
downsample: 8
latent_channels: 4
input_range: [-1, 1]
size: {multiple: 8, policy: pad}
licence: MIT
weights: {source: local, path: nowhere, licence: MIT}
description: Mine.
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder with an empty hub cache."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def run_mini(data: Path, *more: str) -> int:
    return main(["run", "--suite", "mini", "--data", str(data), *more])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Return the one line that a refused command says."""
    assert main(arguments) == code
    said = capsys.readouterr().err.strip()
    assert "\n" not in said, said
    assert said.startswith("vtbench: ")
    return said


def picture(path: Path, seed: int = 0, height: int = 40, width: int = 56) -> Path:
    path.write_bytes(encode_png(photo(seed, height, width)))
    return path


@pytest.mark.slow
def test_a_run_writes_rows_and_a_board_and_is_reused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("-t", "identity", "-t", "jpeg-q25")
    assert run_mini(data, *asked) == 0
    folder = Path("results/local/mini")
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.json"):
        assert (folder / name).stat().st_size > 500
    assert (folder / "jpeg-q25" / "panel" / "0.png").exists()
    assert "jpeg-q25" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run_mini(data, *asked) == 0
    assert capsys.readouterr().out.count("reused: complete and current") == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    assert main(["validate", str(folder), str(folder / "identity")]) == 0
    assert "rows, compared with mini@" in capsys.readouterr().out
    shutil.copytree(folder / "identity", "identity")
    assert main(["validate", "identity"]) == 0
    assert "no suite.json beside it to compare them with" in capsys.readouterr().out
    assert main(["leaderboard", "--results", str(folder)]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_site_opens_from_its_folder_and_is_the_page_of_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_mini(data, "-t", "identity") == 0
    folder, site = Path("results/local/mini"), tmp_path / "site"
    assert str(folder / "leaderboard-site" / "index.html") in capsys.readouterr().out
    written = ["leaderboard", "--results", str(folder), "--data", str(data), "--site"]
    assert main([*written, str(site)]) == 0
    assert capsys.readouterr().out.strip() == str(site / "index.html")
    for path in site.rglob("*"):
        if path.is_file():
            own = folder / "leaderboard-site" / path.relative_to(site)
            assert own.read_bytes() == path.read_bytes(), path
    picture = site / "pictures" / "mini" / "identity" / "0.png"
    assert picture.read_bytes() == (folder / "identity" / "panel" / "0.png").read_bytes()
    # A folder of something else is left alone, and tables and pages are two things.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    assert refused(capsys, *written, str(tmp_path / "other")).endswith("name an empty folder")
    assert main([*written, str(site), "--out", str(site)]) == 2


@pytest.mark.slow
def test_a_run_of_some_does_not_forget_what_was_skipped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_mini(data, "--family", "kl-vae", "-t", "identity") == 0
    folder = Path("results/local/mini")
    skipped = [entry.name for entry in read_suite_folder(folder).skipped]
    assert "sd-vae-ft-mse" in skipped
    assert run_mini(data, "-t", "jpeg-q50") == 0
    assert [entry.name for entry in read_suite_folder(folder).skipped] == skipped
    assert "sd-vae-ft-mse" in (folder / "leaderboard.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_partial_runs_go_to_scratch_and_their_board_says_so(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_mini(data, "-t", "identity", "--limit", "1") == 0
    assert not Path("results/local").exists()
    assert (Path("results/scratch/mini/identity") / "run.json").exists()
    assert "partial run, never published" in capsys.readouterr().out
    assert run_mini(data, "-t", "identity", "--task", "detail") == 0
    suite = read_suite_folder(Path("results/scratch/mini"))
    assert suite.partial == "partial: --task detail"
    scratch = "results/scratch/mini"
    assert "only a whole suite is published" in refused(capsys, "publish", "--results", scratch)


@pytest.mark.slow
def test_ones_own_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "My Pictures"
    folder.mkdir()
    picture(folder / "a.png")
    picture(folder / "b.png", 1, 33, 47)
    assert main(["run", "--images", str(folder), "-t", "jpeg-q50"]) == 0
    out = Path("results/local") / name_folder_suite(folder)
    assert not read_suite_folder(out).published
    assert {row["id"] for row in read_run(out / "jpeg-q50").rows} == {"a.png", "b.png"}
    assert "ad-hoc" in (out / "leaderboard.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert "ad-hoc suite and is never published" in refused(
        capsys, "publish", "--results", str(out), "--to", str(tmp_path / "published")
    )
    assert not (tmp_path / "published").exists()


@pytest.mark.slow
def test_reconstruct_writes_pictures_error_maps_and_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = picture(tmp_path / "a.png"), tmp_path / "out"
    assert main(["reconstruct", str(path), "-t", "identity,jpeg-q10", "--out", str(out)]) == 0
    names = {"a.identity.png", "a.identity.error.png", "a.jpeg-q10.png", "a.jpeg-q10.error.png"}
    assert {file.name for file in out.iterdir()} == names | {"sheet.png", "sheet.json"}
    assert np.array_equal(Image.open(out / "a.identity.png"), Image.open(path))
    assert not np.asarray(Image.open(out / "a.identity.error.png")).any()
    assert np.asarray(Image.open(out / "a.jpeg-q10.error.png")).any()
    assert "24.000 bpp · 100.00 dB" in capsys.readouterr().out
    (tmp_path / "torn.png").write_bytes(path.read_bytes()[:80])
    both = [str(path), str(tmp_path / "torn.png")]
    said = refused(capsys, "reconstruct", *both, "-t", "identity", "--out", str(out), code=1)
    assert "torn.png" in said


@pytest.mark.slow
def test_an_unknown_name_gets_the_nearest(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert "jpeg-q50" in refused(capsys, "run", "-t", "jpg-q50")
    assert "embedded" in refused(capsys, "run", "--suite", "embeded")
    assert "text" in refused(capsys, "run", "--task", "txt", "-t", "identity")
    assert "sanity" in refused(capsys, "run", "--family", "sanitary")
    assert "suites" in refused(capsys, "list", "suite")
    assert "psnr_db" in refused(capsys, "show", "psnr")
    assert "sdxl-vae" in refused(capsys, "fetch", "sdxl-vea")
    assert not Path("results").exists()


@pytest.mark.slow
def test_missing_weights_name_the_command_that_brings_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refused(capsys, "run", "-t", "identity", "-t", "sd-vae-ft-mse")
    assert "`vtbench fetch sd-vae-ft-mse`" in said
    assert not Path("results").exists()
    assert main(["list"]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if "ft-mse" in line]
    assert "missing: vtbench fetch sd-vae-ft-mse" in listed[0]
    assert "could not be fetched" in refused(capsys, "fetch", "sd-vae-ft-mse", code=1)


@pytest.mark.slow
def test_other_weights_than_the_pinned_are_another_row(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = data_dir() / "weights" / "patch-pca-f8c4.safetensors"
    tensors = load_file(shipped)
    own = tmp_path / "w.safetensors"
    save_file({name: value * 0.5 for name, value in tensors.items()}, own)
    digest = sha256_file(own)[:8]
    for path, name in ((shipped, "patch-pca-f8c4"), (own, f"patch-pca-f8c4@weights-{digest}")):
        arguments = ("-t", "patch-pca-f8c4", "--weights", f"patch-pca-f8c4={path}")
        assert run_mini(data, *arguments, "--task", "detail", "--out", str(tmp_path / "o")) == 0
        record = read_run(tmp_path / "o" / name).record
        assert record.run == name
        assert record.tokenizer.weights == {path.name: sha256_file(path)}
    own.write_bytes(b"other")
    assert run_mini(data, "-t", "patch-pca-f8c4", "--weights", f"patch-pca-f8c4={own}") == 2
    assert "w.safetensors is damaged or not complete" in capsys.readouterr().err
    # A torn file that nobody pinned is refused by its reader.
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "mine.yaml").write_text(ENTRY)
    (registry / "nowhere").mkdir()
    (registry / "nowhere" / "config.json").write_text("{")
    assert run_mini(data, "-t", "mine", "--registry", str(registry)) == 2
    error = capsys.readouterr().err.strip()
    assert "mine" in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("title: [", "mine.yaml:2"),
        (ENTRY + "colour: blue\n", "mine.yaml:14: colour"),
        (ENTRY.replace("downsample: 8", "downsample: eight"), "mine.yaml:7: downsample"),
        (ENTRY + "title: Twice\n", "mine.yaml:14"),
        (ENTRY.replace("title: Mine\n", ""), "title"),
        ("!!python/object/apply:os.system ['true']\n", "mine.yaml:1"),
    ],
)
def test_a_bad_entry_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    assert expected in refused(capsys, "list", "--registry", str(tmp_path))
    assert expected in refused(capsys, "validate", str(tmp_path / "mine.yaml"))


def test_a_duplicate_entry_names_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "identity.yaml").write_text(ENTRY)
    said = refused(capsys, "list", "--registry", str(tmp_path))
    assert said.count("identity.yaml") == 2


@pytest.mark.slow
def test_folders_that_cannot_be_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("here first")
    out = str(blocked / "out")
    arguments = ("run", "--suite", "mini", "--data", str(data), "-t", "identity", "--out", out)
    assert "cannot write" in refused(capsys, *arguments)
    path = str(picture(tmp_path / "a.png"))
    assert "cannot write" in refused(capsys, "reconstruct", path, "-t", "identity", "--out", out)
    assert blocked.read_text() == "here first"


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_there(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_mini(data, "-t", "identity") == 0
    capsys.readouterr()
    folder = Path("results/local/mini")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written = os.fdopen

    def full(handle: int, mode: str) -> object:
        file = written(handle, mode)
        if mode.startswith("r"):
            return file

        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, content: bytes) -> None:
                file.write(content[: len(content) // 2])
                raise OSError(28, "No space left on device")

        return Full()

    monkeypatch.setattr("vtbench.base.files.os.fdopen", full)
    arguments = ("run", "--suite", "mini", "--data", str(data), "-t", "identity", "--fresh")
    assert "No space left on device" in refused(capsys, *arguments)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if ".tmp" in path.name or path.name.startswith(".suite")]


@pytest.mark.slow
def test_pictures_that_cannot_be_used_fail_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    whole = picture(folder / "good.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not a picture")
    frames = [Image.fromarray(photo(i, 20, 20)) for i in range(3)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    assert main(["run", "--images", str(folder), "-t", "identity"]) == 1
    said = capsys.readouterr().err
    assert said.count("left out: ") == 3
    assert "Traceback" not in said
    board = Path("results/local", name_folder_suite(folder), "leaderboard.md").read_text(
        encoding="utf-8"
    )
    assert "identity | sanity" in board
    assert "Originals that cannot be read are left out for all rows alike" in board
    assert "film.gif" in board
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused(capsys, "run", "--images", str(tmp_path / "empty"))
    assert "does not exist" in refused(capsys, "validate", str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["--device=tpu", "--batch-size=0", "--weights=identity"])
def test_options_that_cannot_be(data: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    option, _, value = name.partition("=")
    arguments = ("run", "--suite", "mini", "--data", str(data), "-t", "identity", option, value)
    assert option.lstrip("-").split("-")[0] in refused(capsys, *arguments)


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run", "--colour"], ["nothing"], ["run", "--limit", "0"], ["fetch"]):
        assert main(arguments) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0


@pytest.mark.slow
def test_results_that_were_edited_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_mini(data, "-t", "identity") == 0
    capsys.readouterr()
    folder = Path("results/local/mini")
    page = folder / "leaderboard.md"
    whole = page.read_text(encoding="utf-8")
    page.write_text(whole.replace("100.00", "100.01"), encoding="utf-8")
    assert "leaderboard.md" in refused(capsys, "validate", str(folder))
    page.write_text(whole, encoding="utf-8")
    record = folder / "identity" / "run.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"n_done": 5}))
    assert "run.json" in refused(capsys, "leaderboard", "--results", str(folder), code=1)
    record.write_text(json.dumps(content | {"schema_version": 99}))
    assert "schema" in refused(capsys, "validate", str(folder))
    assert "suite.json" in refused(capsys, "leaderboard", "--results", "nowhere")


@pytest.mark.slow
def test_check_passes_and_names_a_broken_clause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check", "identity", "jpeg-q50"]) == 0
    assert "jpeg-q50: ok" in capsys.readouterr().out
    entry = package_dir().parent / "registry" / "patch-vq-f16.yaml"
    text = entry.read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("downsample: 16", "downsample: 8"))
    assert main(["check", "wrong", "identity", "--registry", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "wrong: " in said.err
    assert "identity: ok" in said.out
    decode = Resample._decode
    monkeypatch.setattr(Resample, "_decode", lambda self, code: decode(self, code)[..., 1:])
    assert "resize-2x: broken clause size" in refused(capsys, "check", "resize-2x", code=1)


INTERRUPTED = """
import os, signal, sys
from vtbench.runs import runner
from vtbench.base.locations import package_dir
from vtbench.cli import main

measure = runner.run_tokenizer

def interrupt(request, entry, *others, **named):
    if entry.name == "jpeg-q50":
        # A shell's background job inherits an ignored interrupt; a terminal's has Python's own.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
    return measure(request, entry, *others, **named)

runner.run_tokenizer = interrupt
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_interrupting_keeps_finished_tokenizers(data: Path, tmp_path: Path) -> None:
    """A process of its own, because the signal goes to the whole of it."""
    command = [sys.executable, "-c", INTERRUPTED, "run", "--suite", "mini", "--data", str(data)]
    done = subprocess.run(
        [*command, "-t", "identity", "-t", "jpeg-q50"],
        cwd=tmp_path / "here",
        env=os.environ | {"PYTHONPATH": str(package_dir().parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "vtbench: interrupted; finished tokenizers are kept, run the same command to go on"
    )
    folder = tmp_path / "here" / "results" / "local" / "mini"
    assert read_run(folder / "identity").record.complete
    assert not (folder / "jpeg-q50" / "run.json").exists()


@pytest.mark.slow
def test_published_results_of_another_schema_cost_no_board(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = tmp_path / "published"
    published.mkdir()
    (published / "suite.json").write_text(json.dumps({"schema_version": 1}))
    monkeypatch.setattr("vtbench.base.locations.published_dir", lambda suite: published)
    assert run_mini(data, "-t", "identity") == 0
    said = capsys.readouterr().err
    assert "published results are not shown beside" in said and "schema version 1" in said
    board = Path("results/local/mini/leaderboard.md").read_text(encoding="utf-8")
    assert "| identity |" in board and "Published results" not in board
