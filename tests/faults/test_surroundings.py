"""A console, a home, a repository, a partial file, a page or a metric that is not as usual ends no run
and moves no number."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench.base import locations
from vtbench.base.errors import SuiteError
from vtbench.base.locations import without_paths
from vtbench.cli import main
from vtbench.commands.validate import validate_path
from vtbench.images import encode_png, load_rgb8, pixel_sha256, read_png_original
from vtbench.metrics import pixel
from vtbench.results.folder import read_run
from vtbench.results.partial import PartialRows
from vtbench.runs import environment
from vtbench.suites.suite_file import read_manifest_row
from vtbench.tokenizers.base import Tokenizer

ROW = {"task": "reconstruction", "subset": "images", "width": 3, "height": 2, "error": None}


def _pictures(folder: Path, *names: str, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(seed + sum(os.fsencode(name))).integers(0, 256, (40, 48, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "shift_jis"])
def test_any_console_shows_what_it_can(encoding: str) -> None:
    command = [sys.executable, "-m", "vtbench", "list", "metrics"]
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, env=env)
    assert done.returncode == 0
    assert b"psnr_db" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_without_a_home_what_is_kept_lives_as_long_as_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(locations.Path, "home", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert locations.cache_dir() == locations.cache_dir()
    assert locations.cache_dir().is_dir()
    assert main(["doctor"]) in (0, 1)


def test_a_path_is_cut_in_linear_time() -> None:
    for text in ("\\" * 50_000, "/" * 50_000 + "x", "/a" * 25_000 + "'", "~/" * 25_000):
        begun = time.process_time()
        without_paths(text)
        assert time.process_time() - begun < 5  # 34 backslashes took 7 s
    assert without_paths("/home/me/set/a.png: torn") == "…/a.png: torn"
    assert without_paths(r"C:\me\a.png, /b/c/") == "…/a.png, …/c/"
    assert without_paths(without_paths("in /x/y")) == "in …/y"
    assert (
        without_paths("1/2 and ~ and C: and https://a.b/c") == "1/2 and ~ and C: and https://a.b/c"
    )


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"])
def test_the_commit_is_vtbenchs_whatever_git_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own = environment.commit()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv(name, str(tmp_path / ".git"))
    assert environment.commit() == own


def test_a_package_within_somebodys_repository_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    package = tmp_path / "env" / "vtbench"
    (package.parent / ".git").mkdir(parents=True)  # empty: git goes on to the repository around it
    monkeypatch.setattr(environment, "package_dir", lambda: package)
    assert environment.commit() == (None, None)


@pytest.mark.parametrize(
    "tail",
    [
        b'{"id": "\xc3',  # a torn "ö"
        b"\xff\xfe\0\0\n",
        b"[1, 2]\n",
        b"[]\n",
        json.dumps({**ROW, "id": "b"}).encode() + b"\n",  # a row, and no batch
        json.dumps([{**ROW, "id": "b"}] * 2).encode() + b"\n",
        json.dumps([{**ROW, "id": "b", "psnr_db": float("nan")}]).encode() + b"\n",
        json.dumps([{**ROW, "id": "a"}]).encode() + b"\n",  # of a second writer
        json.dumps([{**ROW, "id": "elsewhere"}]).encode() + b"\n",
        json.dumps([{**ROW, "id": "b", "colour": "blue"}]).encode() + b"\n",
        json.dumps([{**ROW, "id": "b"}, {"id": "b"}]).encode() + b"\n",
        b'{"id": ' + b"[" * 100_000 + b"\n",
    ],
)
def test_what_no_run_wrote_into_a_partial_file_is_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "x.jsonl"
    kept = PartialRows(path, "k", ids={"a", "b", "para\u2028graph"})
    kept.append([{**ROW, "id": "a"}, {**ROW, "id": "para\u2028graph"}])
    with path.open("ab") as file:
        file.write(tail + json.dumps([{**ROW, "id": "b"}]).encode() + b"\n")
    again = PartialRows(path, "k", ids={"a", "b", "para\u2028graph"})
    assert [row["id"] for row in again.rows] == ["a", "para\u2028graph"]
    assert PartialRows(path, "k").rows == again.rows
    assert PartialRows(path, "other").rows == []


@pytest.mark.slow
def test_a_picture_on_the_page_is_of_the_original_above_it(tmp_path: Path) -> None:
    pics, out = _pictures(tmp_path / "pics", "3.png", "5.png"), tmp_path / "out"
    run = ["run", "--images", str(pics), "--out", str(out)]
    assert main([*run, "-t", "jpeg-q10"]) == 0
    _pictures(pics, "0.png")
    (pics / "5.png").unlink()
    assert main([*run, "-t", "jpeg-q50"]) == 0  # the panel is 0 and 3 now
    of = {n: read_png_original(out / "originals" / f"{n}.png") for n in (0, 1)}
    assert of[1] == pixel_sha256(load_rgb8(pics / "3.png"))
    assert read_png_original(out / "jpeg-q10" / "panel" / "0.png") == of[1]
    # The page has the picture that was made of 3.png, and not that of 5.png, which is gone.
    (shown,) = (out / "leaderboard-site" / "pictures").glob("*/jpeg-q10")
    assert [path.name for path in shown.iterdir()] == ["1.png"]
    assert (shown / "1.png").read_bytes() == (out / "jpeg-q10" / "panel" / "0.png").read_bytes()
    (pics / "3.png").write_bytes(b"torn")
    assert main([*run, "-t", "jpeg-q50"]) == 1
    assert [path.name for path in (out / "jpeg-q50" / "panel").iterdir()] == ["0.png"]


@pytest.mark.slow
@pytest.mark.parametrize("error", [ValueError("flat"), ZeroDivisionError(), None])
def test_a_metric_that_fails_on_one_image_costs_that_row_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
) -> None:
    pics, out = _pictures(tmp_path / "pics", "a.png", "b.png", "c.png"), tmp_path / "out"
    run = ["run", "--images", str(pics), "--out", str(out)]
    assert main([*run, "-t", "jpeg-q10"]) == 0
    target = pixel_sha256(load_rgb8(pics / "b.png"))
    true = pixel.mae

    def mae(reference: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        values = true(reference, image)
        for index, one in enumerate(reference):
            if pixel_sha256(one.permute(1, 2, 0).numpy()) == target:
                if error is not None:
                    raise error
                values[index] = float("nan")
        return values

    monkeypatch.setattr(pixel, "mae", mae)
    assert main([*run, "-t", "jpeg-q50"]) == 1
    said = capsys.readouterr().err
    assert "jpeg-q50: 1 of 3 images failed; b.png: " in said
    failed = [row["id"] for row in read_run(out / "jpeg-q50").rows if row["error"] is not None]
    assert failed == ["b.png"]
    board = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "jpeg-q50 (incomplete: 1 of 3 images failed)" in board
    assert "\n| jpeg-q10 | codec |" in board


def _row(**changes: object) -> bytes:
    row = {"id": "p", "task": "text", "subset": "s", "file": "a.png", "crop": None, "width": 100}
    row |= {"height": 50, "sha256": "0" * 64}
    box = [[1, 1], [90, 1], [90, 20], [1, 20]]
    meta = {"script": "latin", "glyph_px": 9, "lines": [{"text": "hello", "box": box}]}
    return json.dumps(row | {"meta": meta} | changes).encode()


@pytest.mark.parametrize(
    ("meta", "key"),
    [
        ({}, "script"),
        ({"script": "latin", "glyph_px": 9, "lines": []}, "lines"),
        (
            {"script": "latin", "glyph_px": 0, "lines": [{"text": "x", "box": [[0, 0]] * 4}]},
            "glyph_px",
        ),
        (
            {
                "script": "latin",
                "glyph_px": 9,
                "lines": [{"text": "\u3000", "box": [[0, 0], [9, 0], [9, 9], [0, 9]]}],
            },
            "lines.0.text",
        ),
        (
            {"script": "latin", "glyph_px": 9, "lines": [{"text": "x", "box": [1, 2, 3, 4]}]},
            "lines.0.box",
        ),
        (
            {"script": "latin", "glyph_px": 9, "lines": [{"text": "x", "box": [[5, 5]] * 4}]},
            "no area",
        ),
        (
            {
                "script": "latin",
                "glyph_px": 9,
                "lines": [{"text": "x", "box": [[0, 0], [900, 0], [900, 9], [0, 9]]}],
            },
            "leaves the 100×50",
        ),
    ],
)
def test_ground_truth_of_a_page_is_checked_before_it_is_measured(meta: dict, key: str) -> None:
    assert read_manifest_row(_row(), "m.jsonl:1").id == "p"
    with pytest.raises(SuiteError, match=r"m\.jsonl:7: ") as error:
        read_manifest_row(_row(meta=meta), "m.jsonl:7", of_lines={"text"})
    assert key in str(error.value)


@pytest.mark.parametrize(
    ("patch", "key"),
    [
        ({"box": [0, 0, 20, 20]}, "patches.0.period_px"),
        ({"box": [0, 0, 20], "period_px": 4}, "patches.0.box"),
        ({"box": [90, 0, 20, 20], "period_px": 4}, "leaves the 100×50"),
        ({"box": [0, 0, 20, 20], "period_px": 0}, "patches.0.period_px"),
    ],
)
def test_ground_truth_of_a_chart_is_checked_before_it_is_measured(patch: dict, key: str) -> None:
    def meta(patch: dict) -> dict:
        return {"chart": "grating", "patches": [patch]}

    good = {"box": [0, 0, 20, 20], "period_px": 4.0}
    assert read_manifest_row(_row(task="detail", meta=meta(good)), "m:1").task == "detail"
    with pytest.raises(SuiteError) as error:
        read_manifest_row(_row(task="detail", meta=meta(patch)), "m:1")
    assert key in str(error.value)


def test_a_manifest_of_odd_names_reads_back_or_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (
        "plain.png",
        "\u2028.png",
        "\x85.png",
        " lead.png",
        "new\nline.png",
        "\\n.png",
        "\n.png",
    )
    names += ("long" * 60 + ".png",)
    pics = _pictures(tmp_path / "pics", *names)
    written = tmp_path / "odd.jsonl"
    assert main(["manifest", str(pics), "--out", str(written)]) == 0
    lines = written.read_bytes().splitlines()
    rows = [read_manifest_row(line, "odd.jsonl") for line in lines]
    assert {row.file for row in rows} == set(names)
    assert len({row.id for row in rows}) == len(names)
    assert len(written.read_text(encoding="utf-8").splitlines()) == len(names)
    _pictures(pics, "caf\udce9.png")
    capsys.readouterr()
    assert main(["manifest", str(pics), "--out", str(tmp_path / "none.jsonl")]) == 1
    assert "its name is no UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "none.jsonl").exists()


def test_reconstruct_goes_on_where_one_picture_or_tokenizer_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pics = _pictures(tmp_path / "pics", "good.png", "é" * 90 + ".png")
    Image.new("RGB", (17000, 8)).save(pics / "wide.png")  # WebP takes sides up to 16383
    out = tmp_path / "out"
    arguments = [str(path) for path in sorted(pics.iterdir())]
    assert main(["reconstruct", *arguments, "-t", "webp-q50,jpeg-q50", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vtbench: wide  webp-q50  ") and said.count("\n") == 1
    assert (out / "sheet.png").is_file() and (out / "wide.jpeg-q50.png").is_file()


def test_reconstruct_makes_no_picture_of_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pics = _pictures(tmp_path / "pics", "a.png")

    def decode(self: object, code: object) -> torch.Tensor:
        return torch.full((1, 3, 40, 48), value)

    monkeypatch.setattr(Tokenizer, "decode", decode)
    for value in (float("nan"), float("inf")):
        out = tmp_path / str(value)
        arguments = ["reconstruct", str(pics / "a.png"), "-t", "jpeg-q50", "--out", str(out)]
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert "NaN or infinite" in captured.err
        assert "dB" not in captured.out
        assert not (out / "a.jpeg-q50.png").exists()


def test_a_grating_that_is_not_in_its_picture_is_refused(data: Path) -> None:
    manifest = data / "manifests" / "mini.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    chart = next(row for row in rows if row["id"] == "chart")
    flat = np.full((96, 192, 3), 127, np.uint8)
    (data / chart["file"]).write_bytes(encode_png(flat))
    chart["sha256"] = pixel_sha256(flat)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    manifest.write_text(content)
    suite = data / "suites" / "mini.yaml"
    digest = hashlib.sha256(content.encode()).hexdigest()
    suite.write_text(re.sub("manifest_sha256: .*", f"manifest_sha256: {digest}", suite.read_text()))
    with pytest.raises(SuiteError, match=r"image chart: patch \(0, 0, 96, 96\) is flat"):
        validate_path(suite)
