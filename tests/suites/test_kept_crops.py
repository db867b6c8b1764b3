"""Crops of data sets are decoded once, by content, and never reused when anything has changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import photo
from PIL import Image

from vtbench.base.errors import ImageError, SuiteError
from vtbench.base.locations import cache_dir
from vtbench.base.records import Preprocess, Sample
from vtbench.images import RGB8, pixel_sha256
from vtbench.suites import batches, kept_crops
from vtbench.suites.batches import PixelCache, load_pixels
from vtbench.suites.kept_crops import LIMIT_VARIABLE, KeptCrops, make_room, read_limit

CODE = {"code": "1"}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of samples as they are decoded."""
    seen: list[str] = []

    def watch(sample: Sample, *source: object) -> RGB8:
        seen.append(sample.id)
        return load_pixels(sample, *source)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_crops, "load_pixels", watch)
    return seen


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    Image.fromarray(photo(1, 90, 120)).save(tmp_path / "a.jpg", quality=90)
    how = Preprocess("adm", 32)
    return Sample("a", "reconstruction", "set", tmp_path / "a.jpg", 0, 0, preprocess=how)


def load(sample: Sample, **changes: object) -> RGB8:
    """Load a sample as a process would that has just started."""
    return PixelCache(source=KeptCrops(CODE | changes)).load(sample)


def test_a_crop_is_decoded_once(sample: Sample, decoded: list[str]) -> None:
    first, second = load(sample), load(sample)
    assert decoded == ["a"]
    assert np.array_equal(first, load_pixels(sample)) and np.array_equal(second, first)


def test_other_content_crop_limit_or_code_is_decoded_again(
    sample: Sample, decoded: list[str]
) -> None:
    load(sample)
    load(sample, code="2")
    load(replace(sample, preprocess=Preprocess("adm", 24)))
    load(replace(sample, preprocess=Preprocess("center", 32)))
    load(replace(sample, preprocess=Preprocess("adm", 32, upright=False)))
    load(replace(sample, crop=(0, 0, 60, 60)))
    assert len(decoded) == 6
    with pytest.raises(ImageError, match="more than 100 pixels"):
        load(replace(sample, max_pixels=100))
    facts = sample.path.stat()
    content = bytearray(sample.path.read_bytes())
    content[-40] ^= 1  # of the same size, and with its old times
    sample.path.write_bytes(content)
    os.utime(sample.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    decoded.clear()
    assert np.array_equal(load(sample), load_pixels(sample)) and decoded == ["a"]


@pytest.mark.parametrize("damage", ["cut", "flip", "size", "empty", "pipe", "device"])
def test_a_damaged_crop_is_decoded_again(sample: Sample, decoded: list[str], damage: str) -> None:
    first = load(sample)
    (file,) = (cache_dir() / "crops").rglob("*.crop")
    content = file.read_bytes()
    swapped = content[:4] + b"\x40\0\0\0\x10\0\0\0" + content[12:]  # 64×16 for 32×32
    changed = {"cut": content[:-1], "flip": content[:-1] + b"?", "size": swapped, "empty": b""}
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    elif damage == "device":
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(changed[damage])
    assert np.array_equal(load(sample), first)
    assert decoded == ["a", "a"]


def test_pins_hold_for_kept_crops_too(sample: Sample) -> None:
    pinned = replace(sample, sha256=pixel_sha256(load(sample)))
    load(pinned)
    with pytest.raises(SuiteError, match="not the ones that the manifest pins"):
        load(replace(sample, sha256="0" * 64))


def test_what_is_decoded_as_it_is_is_not_kept(sample: Sample, decoded: list[str]) -> None:
    load(replace(sample, preprocess=Preprocess()))
    assert decoded == [] and not (cache_dir() / "crops").exists()


def test_a_picture_that_cannot_be_read_fails_as_without_a_cache(
    sample: Sample, tmp_path: Path
) -> None:
    sample.path.write_bytes(b"no picture")
    gone = replace(sample, path=tmp_path / "gone.jpg")
    for bad in (sample, gone):
        with pytest.raises(ImageError) as plain:
            load_pixels(bad)
        with pytest.raises(ImageError) as cached:
            load(bad)
        assert str(cached.value) == str(plain.value)


def test_the_oldest_used_go_first_when_the_limit_is_reached(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cache_dir() / "crops"
    for number in range(5):
        path = root / "x" / f"{number}.crop"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (1000.0 + (number + 2) % 5,) * 2)  # 3 is the oldest, then 4, 0, 1, 2
    assert make_room(root, 3000) == 3000
    assert {path.name for path in (root / "x").iterdir()} == {"0.crop", "1.crop", "2.crop"}
    crops = KeptCrops(CODE, limit=5000)
    pixels = crops.load(sample)  # 3116 bytes more are too many
    assert sum(path.stat().st_size for path in root.rglob("*.crop")) <= 4500
    assert np.array_equal(KeptCrops(CODE, limit=5000).load(sample), pixels)


def test_the_limit_is_a_number_of_gib(monkeypatch: pytest.MonkeyPatch, sample: Sample) -> None:
    assert read_limit() == 20 * 2**30
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    load(sample)
    assert not (cache_dir() / "crops").exists()
    for wrong in ("-1", "many", "nan"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(SuiteError, match="expected a number of GiB"):
            read_limit()


def test_a_run_decodes_a_data_set_once_for_all_processes(
    sample: Sample, decoded: list[str]
) -> None:
    from vtbench.runs.kept_originals import open_crops

    for _ in range(2):
        cache = PixelCache(source=open_crops([sample]))
        (batch,) = batches.make_batches([sample], cache, batch_size=4)
        assert batch.error is None
    assert decoded == ["a"]
    assert open_crops([replace(sample, preprocess=Preprocess())]) is None
