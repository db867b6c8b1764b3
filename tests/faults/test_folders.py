"""Whatever lies in a folder of pictures: `run --images` ends, says what it did not take, and counts
add up."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vtbench.cli import main
from vtbench.images import SUFFIXES
from vtbench.results.folder import read_run
from vtbench.suites.found_files import find_files
from vtbench.suites.image_folder import name_folder_suite

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 9, 3), dtype=np.uint8)


def _encode(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format)
    return buffer.getvalue()


CONTENTS = {format: _encode(format) for format in sorted({*SUFFIXES.values(), "TGA", "PCX"})}
CONTENTS |= {"empty": b"", "text": b"%!PS-Adobe-3.0\n(x) run\n", "torn": CONTENTS["PNG"][:60]}

COUNTED = re.compile(
    r"(?:left out: |; )(\d+) (?:other endings|hidden|results of|links to|folders that)"
)

NAMES = st.one_of(
    st.sampled_from(
        ["a", "b", "é", "e\u0301", " lead", "new\nline", "\u2028", "\x85", "\udcff", "x" * 200]
    ),
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
    ).filter(lambda name: name.strip(".") and len(os.fsencode(name)) < 200),
)
ENDINGS = st.sampled_from([*SUFFIXES, ".PNG", ".txt", "", ".png.bak"])
FILES = st.tuples(NAMES, ENDINGS, st.sampled_from(sorted(CONTENTS)))
KINDS = st.sampled_from(["file", "file", "file", "link", "dangling", "loop", "folder", "pipe"])
LAYOUT = st.lists(
    st.tuples(st.sampled_from(["", "d", "d/e", "x.png", ".hidden"]), FILES, KINDS), max_size=6
)


def _build(root: Path, layout: list[tuple[str, tuple[str, str, str], str]]) -> int:
    """Write a layout; return how many things are there that are no folders below the root."""
    root.mkdir()
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "far.png").write_bytes(CONTENTS["PNG"])
    count = 0
    for folder, (stem, ending, content), kind in layout:
        path = root / folder / (stem + ending)
        if path.exists() or path.is_symlink():
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.write_bytes(CONTENTS[content])
            elif kind == "link":
                path.symlink_to(outside / "far.png")
            elif kind == "dangling":
                path.symlink_to(outside / "nowhere.png")
            elif kind == "loop":
                path.symlink_to(root)
            elif kind == "folder":
                path.mkdir()
                continue
            else:
                os.mkfifo(path)
        except OSError:  # a name that this file system does not take
            continue
        count += 1
    return count


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layout=LAYOUT)
def test_a_run_of_any_folder_ends_and_accounts_for_everything(layout) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        n = _build(place / "pics", layout)
        said, out = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
            status = main(
                [
                    "run",
                    "--images",
                    str(place / "pics"),
                    "-t",
                    "identity",
                    "--out",
                    str(place / "o"),
                ]
            )
        complaints = said.getvalue().splitlines()
        assert all(line.startswith("vtbench: ") and line.isprintable() for line in complaints)
        left_out = [line for line in complaints if line.startswith("vtbench: left out: ")]
        counted = COUNTED.findall(left_out[0]) if left_out else []
        if status == 2:
            assert len(complaints) == 1
            assert "no pictures in it" in complaints[0]
            return
        record = read_run(place / "o" / "identity").record
        assert record.n_done + len(record.failures) + sum(map(int, counted)) == n
        assert status == (1 if record.failures else 0)
        unreadable = [line for line in complaints if ": left out: " in line]
        assert len(unreadable) - len(left_out) == len(record.failures)
    finally:
        shutil.rmtree(place)


def _picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _run(*arguments: str) -> int:
    return main(["run", "-t", "identity", *arguments])


@pytest.mark.slow
def test_linked_folders_are_read_once_and_loops_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pics = tmp_path / "pics"
    _picture(pics / "own" / "a.png")
    _picture(tmp_path / "far" / "b.png", 1)
    (pics / "class").symlink_to(tmp_path / "far")
    (pics / "again").symlink_to(pics / "own")
    (tmp_path / "far" / "up").symlink_to(tmp_path)
    found = find_files(pics)
    assert [path.relative_to(pics).as_posix() for path in found.files] == [
        "class/b.png",
        "own/a.png",
    ]
    assert sorted(path.name for path, _ in found.left_out) == ["again", "up"]
    assert _run("--images", str(pics), "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().err
    assert "left out: 2 links to folders that are listed already (again, up)" in said


@pytest.mark.slow
def test_results_among_pictures_are_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pics = tmp_path / "pics"
    _picture(pics / "a.png")
    monkeypatch.chdir(pics)
    assert main(["reconstruct", "a.png", "-t", "jpeg-q10", "--out", "looked at"]) == 0
    for out in ([], ["--out", "deep/own"], ["--limit", "1"]):
        for _ in range(2):
            assert _run("--images", ".", *out) == 0
        assert "reused" in capsys.readouterr().out
    record = read_run(Path("results/local") / name_folder_suite(pics) / "identity").record
    assert record.n_expected == 1
    for folder in (".", "..", "results"):
        capsys.readouterr()
        assert _run("--images", ".", "--out", folder) == (0 if folder == "results" else 2)
    assert _run("--images", "results/local") == 2
    assert "in a folder of vtbench's results" in capsys.readouterr().err
    assert main(["reconstruct", "a.png", "-t", "jpeg-q10", "--out", "."]) == 2
    assert main(["reconstruct", "a.png", "-t", "jpeg-q10", "--out", ".."]) == 2


@pytest.mark.slow
def test_two_folders_of_one_name_keep_their_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / name for name in ("x/val", "y/val", "画像", "фото")]
    for seed, folder in enumerate(folders):
        _picture(folder / "a.png", seed)
        assert _run("--images", str(folder)) == 0
    names = {name_folder_suite(folder) for folder in folders}
    assert len(names) == 4
    assert {path.name for path in Path("results/local").iterdir()} == names
    assert _run("--images", "x/val", "--out", "mine") == 0
    capsys.readouterr()
    assert _run("--images", "y/val", "--out", "mine") == 2
    assert "mine holds results of images-val-" in capsys.readouterr().err


@pytest.mark.slow
def test_a_suite_json_of_somebody_else_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _picture(tmp_path / "pics" / "a.png")
    theirs = tmp_path / "out" / "suite.json"
    theirs.parent.mkdir()
    for content in ("[1, 2]", '{"tests": 3}', "not JSON"):
        theirs.write_text(content)
        assert _run("--images", str(tmp_path / "pics"), "--out", str(theirs.parent)) == 2
        assert theirs.read_text() == content
        assert "none of vtbench's" in capsys.readouterr().err


@pytest.mark.slow
def test_hidden_files_are_skipped_everywhere_alike(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "suites").mkdir(parents=True)
    (data / "suites" / "._mine.yaml").write_bytes(b"\0\5\x16\7")
    assert main(["list", "suites", "--data", str(data)]) == 0
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "._mine.yaml").write_bytes(b"\0\5\x16\7")
    assert main(["list", "--registry", str(registry)]) == 0
    _picture(tmp_path / "pics" / "a.png")
    _picture(tmp_path / "pics" / ".cache" / "b.png")
    (tmp_path / "pics" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert len(find_files(tmp_path / "pics").files) == 1
