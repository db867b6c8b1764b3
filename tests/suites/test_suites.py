"""Suites and manifests: the shipped one holds its promises, and a wrong one is refused by line."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import photo, write_suite
from PIL import Image

from vtbench.base.errors import ImageError, SuiteError, UnknownName
from vtbench.commands.show import write_protocol
from vtbench.images import encode_png
from vtbench.suites.batches import load_pixels
from vtbench.suites.image_folder import folder_suite
from vtbench.suites.suites import Suite, load_suite, suite_paths


@pytest.mark.slow
def test_embedded_suite_is_what_it_says() -> None:
    suite = load_suite("embedded")
    subsets = Counter((sample.task, sample.subset) for sample in suite.samples)
    assert subsets["reconstruction", "crop256"] >= 24
    assert subsets["reconstruction", "whole"] >= 8
    counts = suite.images_per_task()
    assert counts["detail"] >= 16
    assert counts["text"] >= 24
    for sample in suite.samples:
        pixels = load_pixels(sample)  # raises where the pixels are not the pinned ones
        assert pixels.shape == (sample.height, sample.width, 3)


def test_parts_of_one_picture_are_known() -> None:
    suite = load_suite("embedded")
    shared = suite.shared_files()
    assert shared["photo-chelsea-whole"] == shared["photo-chelsea-r0c0"] == "photo-chelsea-r0c0"
    assert "photo-page-whole" not in shared  # alone in its file
    # The mutant: parts are told by their names; a page set on a photograph is no part of it.
    assert "text-photo-chelsea-10" not in shared
    archive = [replace(s, path=Path("all.tar")) for s in suite.samples]
    assert Suite("x", suite.protocol, tuple(archive), published=False).shared_files() == {}


def test_embedded_text_has_what_was_asked_for() -> None:
    pages = [sample for sample in load_suite("embedded").samples if sample.task == "text"]
    latin = {page.meta["glyph_px"] for page in pages if page.meta["script"] == "latin"}
    assert {8, 40} <= latin
    assert {page.meta["script"] for page in pages} == {"latin", "chinese"}
    for page in pages:
        for line in page.meta["lines"]:
            xs, ys = zip(*line["box"], strict=True)
            assert line["text"].strip()
            assert min(xs) >= 0
            assert max(xs) <= page.width
            assert min(ys) >= 0
            assert max(ys) <= page.height


DATA_SETS = {
    "imagenet-val-256": (50_000, "adm-256"),
    "imagenet-val-512": (50_000, "adm-512"),
    "coco-val2017-256": (5_000, "adm-256"),
    "div2k-valid": (100, "none"),
    "kodak": (24, "none"),
    "clic2020-test": (428, "none"),
    "ffhq-1k-256": (1_000, "adm-256"),
    "mjhq-30k-512": (30_000, "adm-512"),
    "vtbench-task1-imagenet": (50_000, "none"),
    "vtbench-task1-high-resolution": (100, "none"),
    "vtbench-task1-varying-resolution": (100, "none"),
    "vtbench-task2-detail-preservation": (100, "none"),
    "vtbench-task3-movie-posters": (100, "none"),
    "vtbench-task3-arxiv-abstracts": (100, "none"),
    "vtbench-task3-multilingual": (400, "none"),
    "tokbench-256": (None, "pad-lanczos-256"),
    "tokbench-512": (None, "pad-lanczos-512"),
    "tokbench-1024": (None, "pad-lanczos-1024"),
    "tokbench-faces-256": (None, "pad-lanczos-256"),
    "tokbench-faces-512": (None, "pad-lanczos-512"),
    "tokbench-faces-1024": (None, "pad-lanczos-1024"),
    "omnidoc-tokenbench": (3_042, "none"),
}


def test_shipped_protocols_say_what_the_field_left_open() -> None:
    own = {"detail", "embedded", "embedded@3", "sizes", "text-multilingual", "text-scans"}
    assert set(suite_paths()) == {*own, *DATA_SETS}
    for name, (n, crop) in DATA_SETS.items():
        suite = load_suite(name)
        protocol, source = suite.protocol, suite.protocol.source
        assert source is not None
        assert protocol.preprocess is not None
        assert (source.n, protocol.preprocess.record().name) == (n, crop)
        assert (suite.pinned, suite.published) == (False, False)
        assert (protocol.dtype, protocol.tf32, protocol.posterior) == ("fp32", False, "mode")
        assert protocol.seeds == (0, 1, 2)
        assert protocol.reference == "originals"
        told = write_protocol(suite)
        count = "all of TokBench's" if n is None else f"{n:,}"
        for part in (f"{name}@1", count, "fp32, TF32 off", "mode", "0, 1, 2", "psnr_db v1"):
            assert part in told
        assert "never training images" in told


@pytest.mark.parametrize(
    ("suite", "names", "n"),
    [
        ("imagenet-val-256", [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 50_001)], 50_000),
        ("imagenet-val-256", ["ILSVRC2012_val_00000001_n01751748.JPEG"], 1),
        ("imagenet-val-256", ["n01440764_10026.JPEG", "ILSVRC2012_test_00000001.JPEG"], 0),
        ("coco-val2017-256", ["000000000139.jpg", "000000581781.jpg"], 2),
        ("coco-val2017-256", ["000000000139_mask.jpg", "1000000000139.jpg"], 0),
        ("div2k-valid", [f"{i:04d}.png" for i in range(1, 1001)], 100),
        ("div2k-valid", ["0800.png", "0901.png", "0801x4.png"], 0),
        ("kodak", [f"kodim{i:02d}.png" for i in range(1, 25)], 24),
        ("ffhq-1k-256", [f"{i:05d}.png" for i in range(70_000)], 1_000),
    ],
)
def test_names_of_a_data_set_are_told_from_others(suite: str, names: list[str], n: int) -> None:
    source = load_suite(suite).protocol.source
    assert source is not None
    assert source.names is not None
    found = [match[0] for name in names if (match := re.search(source.names, name))]
    assert len(found) == len(set(found)) == n


def test_unknown_suite() -> None:
    with pytest.raises(UnknownName, match="did you mean embedded"):
        load_suite("embeded")


def test_a_changed_manifest_is_refused(data: Path) -> None:
    path = data / "manifests" / "mini.jsonl"
    path.write_text(path.read_text().replace("photo-0", "photo-x", 1))
    with pytest.raises(SuiteError, match="not this version's images"):
        load_suite("mini", [data])


def test_changed_pixels_are_refused(data: Path) -> None:
    pixels = photo(0, 64, 64).copy()
    pixels[3, 3, 1] ^= 1
    (data / "mini" / "photo-0.png").write_bytes(encode_png(pixels))
    sample = next(s for s in load_suite("mini", [data]).samples if s.id == "photo-0")
    with pytest.raises(SuiteError, match=r"photo-0: the pixels of .* are not the ones"):
        load_pixels(sample)


def test_a_missing_image_is_that_images_failure(data: Path) -> None:
    (data / "mini" / "photo-0.png").unlink()
    sample = next(s for s in load_suite("mini", [data]).samples if s.id == "photo-0")
    with pytest.raises(ImageError, match="no such file"):
        load_pixels(sample)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../../etc/passwd"}, "leaves the data folder"),
        ({"file": "/etc/passwd"}, "leaves the data folder"),
        ({"task": "speed"}, "'speed' is not one of"),
        ({"id": "photo-1"}, "appears twice"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_bad_manifest_rows_name_the_line(
    data: Path, change: dict[str, object], message: str
) -> None:
    rows = (data / "manifests" / "mini.jsonl").read_text().splitlines()
    row = json.loads(rows[2]) | change
    rows[2] = json.dumps(row)
    write_suite(data, "\n".join(rows) + "\n")
    with pytest.raises(SuiteError, match=rf"mini\.jsonl:3: .*{message}"):
        load_suite("mini", [data])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("psnr_db", "psnr", r"mini\.yaml:10: no metric named 'psnr'"),
        ("  detail:", "  speed:", r"mini\.yaml:11: no task named 'speed'"),
        ("id: photo-0", "id: photo-7", "panel: no image 'photo-7'"),
        ("[0, 0, 64, 48]", "[0, 0, 9999, 48]", r"panel: page: crop .* leaves the"),
        ("[0, 0, 64, 48]", "[-1, 0, 64, 48]", r"panel: page: crop .* leaves the"),
        ("dtype: fp32", "dtype: fp8", r"mini\.yaml:6: dtype"),
        ("seed: 0", "seedling: 0", r"unknown key"),
        ("seed: 0", "seed: 0\nseeds: [1, 0]", r"begin with seed"),
        ("seed: 0", "seed: 0\npreprocess: {crop: square, size: 8}", r"no crop named 'square'"),
        ("seed: 0", "seed: 0\npreprocess: {crop: adm}", r"needs a size"),
        ("seed: 0", "seed: 0\ntf32: true", r"tf32"),
        ("manifest: ", "# manifest: ", r"belong together"),
    ],
)
def test_bad_suite_files_name_the_line(data: Path, old: str, new: str, message: str) -> None:
    path = data / "suites" / "mini.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SuiteError, match=message):
        load_suite("mini", [data])


def test_digest_sees_the_protocol_and_not_the_prose(data: Path) -> None:
    path = data / "suites" / "mini.yaml"
    text = path.read_text()
    digest = load_suite("mini", [data]).sha256
    path.write_text(text.replace("A small suite", "Another title"))
    assert load_suite("mini", [data]).sha256 == digest
    path.write_text(text.replace("seed: 0", "seed: 1"))
    assert load_suite("mini", [data]).sha256 != digest


def test_folder_suite_takes_pictures_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "b.PNG")
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "deep" / "a.webp")
    (tmp_path / "notes.txt").write_text("no picture")
    suite = folder_suite(tmp_path)
    assert [sample.id for sample in suite.samples] == ["b.PNG", "deep/a.webp"]
    assert not suite.published
    digest = suite.protocol.manifest_sha256
    Image.fromarray(np.ones((4, 5, 3), np.uint8)).save(tmp_path / "b.PNG")
    assert folder_suite(tmp_path).protocol.manifest_sha256 != digest


def test_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no pictures in it"):
        folder_suite(tmp_path)
    with pytest.raises(SuiteError, match="not a folder"):
        folder_suite(tmp_path / "none")
