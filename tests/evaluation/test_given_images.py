"""Images that a caller holds: what is none is refused, and nothing is written outside its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtbench.base.errors import ImageError
from vtbench.evaluation.given_images import as_rgb8, write_images
from vtbench.images import load_rgb8


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../x", ".x", "", "a\0b", "a\nb", "\ud800", "n" * 300]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    picture = np.zeros((20, 20, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match="is no name of an image"):
        write_images({name: picture}, tmp_path / "given")
    assert not list(tmp_path.rglob("*.png"))


def test_images_that_are_none_are_refused(tmp_path: Path) -> None:
    picture = np.zeros((20, 20, 3), dtype=np.uint8)
    for images, why in (
        ({1: picture, "1": picture}, "two images have one name"),
        ({"a": np.stack([picture, picture])}, "2 images of one name"),
        (5, "not int"),
        ([np.full((20, 20, 3), None)], "not object"),
        ([Image.new("F", (20, 20))], "no defined white"),
        ([Image.fromarray(np.full((20, 20), 70000, dtype=np.int32))], "no defined white"),
    ):
        with pytest.raises(ImageError, match=why):
            write_images(images, tmp_path / "given")
    torn = tmp_path / "torn.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(torn)
    torn.write_bytes(torn.read_bytes()[:400])
    with Image.open(torn) as opened, pytest.raises(ImageError, match="cannot be decoded"):
        as_rgb8(opened)


def test_a_picture_that_is_held_is_that_of_its_file(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 164, dtype=np.uint16)[:399].reshape(19, 21)
    path = tmp_path / "x.png"
    for held in (
        Image.fromarray(levels),
        Image.fromarray((np.random.default_rng(0).random((19, 21, 4)) * 255).astype(np.uint8)),
        Image.new("P", (19, 21), 3),
    ):
        held.save(path)
        assert np.array_equal(as_rgb8(held)[0], load_rgb8(path))
