"""What is computed of originals is computed once, whatever the tokenizer and the process, and never
reused when anything that it follows from has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from builders import page, photo
from torch import Tensor

from vtbench.base.locations import cache_dir
from vtbench.base.records import Sample
from vtbench.images import RGB8, pixel_sha256, to_float, to_uint8
from vtbench.metrics import text_pages
from vtbench.metrics.text_pages import OmniDocMeter, PageMeter
from vtbench.runs import kept_originals
from vtbench.runs.kept_originals import KeptFeatures, keep_readings

SCRIPTS = frozenset({"latin"})


class Toy:
    """An OCR engine that counts what it is asked."""

    unit: Literal["line", "word"] = "line"
    scripts = SCRIPTS

    def __init__(self, version: str = "1", model: str = "0" * 64) -> None:
        self.identity = {"engine": "toy", "toy": version, "model.onnx": model}
        self.asked: list[str] = []

    def read_lines(self, image: RGB8, boxes: Sequence[Any], *, script: str) -> list[str]:
        self.asked.append(pixel_sha256(image))
        return [f"{image.mean():.3f} {self.identity['toy']}"] * len(boxes)

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        self.asked.append(pixel_sha256(image))
        return [f"{image.mean():.3f}"]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[Toy]:
    """Put the toy in the place of every engine; the last one of the list is opened next."""
    engines = [Toy()]
    monkeypatch.setattr(text_pages, "open_reader", lambda *_, **__: engines[-1])
    return engines


def read(
    kind: type[PageMeter | OmniDocMeter], original: RGB8, lines: Any = None
) -> list[dict[str, Any]]:
    """Measure a darker reconstruction as a process would that has just started."""
    meter = kind("toy", device="cpu", scripts=SCRIPTS)
    keep_readings(meter.originals, scripts=SCRIPTS, device="cpu")
    meta = {"script": "latin", "glyph_px": 14, "lines": lines or page()[1]}
    sample = Sample("p", "text", "plain", Path("p.png"), 300, 80, meta=meta)
    batch = to_uint8(to_float([original]))
    return meter([sample], batch, batch // 2)


@pytest.mark.parametrize("kind", [PageMeter, OmniDocMeter])
def test_an_original_is_read_once_for_all_tokenizers_and_processes(
    toy: list[Toy], kind: type[PageMeter | OmniDocMeter]
) -> None:
    original = page()[0]
    first = read(kind, original)
    assert toy[0].asked.count(pixel_sha256(original)) == 1 and len(toy[0].asked) == 2
    toy.append(Toy())
    assert read(kind, original) == first
    assert toy[1].asked == [pixel_sha256(original // 2)]


def test_a_reading_of_another_engine_model_picture_or_box_is_not_reused(toy: list[Toy]) -> None:
    original = page()[0]
    read(PageMeter, original)
    changed = original.copy()
    changed[0, 0, 0] ^= 1
    moved = [dict(line) for line in page()[1]]
    moved[0]["box"] = [[5, 6], [296, 6], [296, 36], [5, 36]]
    for engine, pixels, lines in (
        (Toy(version="2"), original, None),
        (Toy(model="1" * 64), original, None),
        (Toy(), changed, None),
        (Toy(), original, moved),
    ):
        toy.append(engine)
        read(PageMeter, pixels, lines)
        assert pixel_sha256(pixels) in engine.asked, engine.identity


@pytest.mark.parametrize("what", ["digest_code", "processor", "device_name"])
def test_a_reading_of_other_code_or_another_machine_is_not_reused(
    toy: list[Toy], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    original = page()[0]
    read(PageMeter, original)
    where = kept_originals if what == "digest_code" else kept_originals.environment
    monkeypatch.setattr(where, what, lambda *_: "another")
    toy.append(Toy())
    read(PageMeter, original)
    assert pixel_sha256(original) in toy[1].asked


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "folder"])
def test_damaged_readings_are_read_again(toy: list[Toy], damage: str) -> None:
    original = page()[0]
    first = read(PageMeter, original)
    (file,) = (cache_dir() / "readings").rglob("*.kept")
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        changed = {"cut": content[:-3], "flip": content[:-1] + b"?", "empty": b""}[damage]
        file.write_bytes(changed)
    toy.append(Toy())
    assert read(PageMeter, original) == first
    assert pixel_sha256(original) in toy[1].asked


def test_an_engine_without_digests_of_its_models_keeps_nothing(toy: list[Toy]) -> None:
    toy.append(Toy(model="a file"))
    read(PageMeter, page()[0])
    assert not (cache_dir() / "readings").exists()


class Means:
    """A feature network of three means, which counts the pictures that it sees."""

    name, dim, width = "means", 3, 3
    dtype = torch.float32

    def __init__(self, sha256: str = "0" * 64) -> None:
        self.identity = {"means.pth": sha256}
        self.seen = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.to(torch.float32).mean(dim=(2, 3))


def batch_of(*seeds: int) -> Tensor:
    return to_uint8(to_float([photo(seed, 32, 32) for seed in seeds]))


def test_features_of_an_original_are_computed_once() -> None:
    first, second = Means(), Means()
    found = KeptFeatures(first, device="cpu").encode(batch_of(1, 2))
    again = KeptFeatures(second, device="cpu").encode(batch_of(2, 3, 1))
    assert (first.seen, second.seen) == (2, 1)
    assert torch.equal(again[[2, 0]], found)
    assert torch.equal(again, Means()(batch_of(2, 3, 1)))


def test_features_of_other_weights_code_or_pixels_are_not_reused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    KeptFeatures(Means(), device="cpu").encode(batch_of(1))
    other, changed = Means("1" * 64), batch_of(1)
    KeptFeatures(other, device="cpu").encode(batch_of(1))
    changed[0, 0, 0, 0] ^= 1
    third = Means()
    KeptFeatures(third, device="cpu").encode(changed)
    monkeypatch.setattr(kept_originals, "digest_code", lambda *_: "other code")
    fourth = Means()
    KeptFeatures(fourth, device="cpu").encode(batch_of(1))
    assert (other.seen, third.seen, fourth.seen) == (1, 1, 1)


def test_damaged_features_are_computed_again() -> None:
    expected = KeptFeatures(Means(), device="cpu").encode(batch_of(1))
    (file,) = (cache_dir() / "features").rglob("*.kept")
    content = bytearray(file.read_bytes())
    content[-2] ^= 255
    file.write_bytes(content)
    again = Means()
    assert torch.equal(KeptFeatures(again, device="cpu").encode(batch_of(1)), expected)
    assert again.seen == 1 and np.isfinite(expected.numpy()).all()


SECOND_PROCESS = """
import json, sys
from vtbench.images import pixel_sha256
from vtbench.metrics.ocr.rapid import RapidOcrReader
asked = []
whole = RapidOcrReader.read_lines
def watch(self, image, boxes, *, script):
    asked.append(pixel_sha256(image))
    return whole(self, image, boxes, script=script)
RapidOcrReader.read_lines = watch
from vtbench.cli import main
code = main(sys.argv[1:])
print("asked", json.dumps(asked))
sys.exit(code)
"""


@pytest.mark.slow
def test_rapidocr_reads_no_original_for_the_second_tokenizer(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    original = pixel_sha256(page()[0])

    def run(name: str, out: str) -> list[str]:
        arguments = ["run", "--suite", "mini", "--data", str(data), "--task", "text", "-t", name]
        done = subprocess.run(
            [sys.executable, "-c", SECOND_PROCESS, *arguments, "--out", str(tmp_path / out)],
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = [x for x in done.stdout.splitlines() if x.startswith("asked ")]
        found: list[str] = json.loads(line.removeprefix("asked "))
        return found

    assert original in run("jpeg-q10", "out")
    later = run("jpeg-q25", "out")
    assert len(later) == 1 and original not in later
    assert run("identity", "out") == []  # nor a perfect reconstruction
