"""Crops: each named one gives the bytes of the code it is named after, and its near misses do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import photo
from PIL import Image
from torchvision import transforms

from vtbench import images
from vtbench.base.errors import ImageError
from vtbench.base.locations import data_dir
from vtbench.base.records import Preprocess
from vtbench.images import RGB8, load_rgb8, preprocess_rgb8

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "adm_crop.json").read_text())
FILTERS = {
    "bicubic": transforms.InterpolationMode.BICUBIC,
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "lanczos": transforms.InterpolationMode.LANCZOS,
}
SIZES = (
    *((h, w) for h in (63, 64, 65) for w in (64, 65, 97)),
    *((20, 31), (31, 20), (127, 128), (128, 127), (129, 200), (200, 129), (255, 257), (301, 450)),
    *((450, 301), (64, 193), (191, 64), (333, 90)),
)
"""Height and width: below the target, at it, a pixel off, odd, and turned."""


def adm_cases() -> Iterator[tuple[RGB8, int, str]]:
    """Yield the golden's inputs, target sizes and digests."""
    photographs: dict[str, RGB8] = {}
    for file, width, height, size, turned, digest in GOLDEN["cases"]:
        if file not in photographs:
            photographs[file] = load_rgb8(data_dir() / "embedded" / "photos" / file)
        part = photographs[file][:height, :width]
        yield np.ascontiguousarray(np.rot90(part) if turned else part), size, digest


def digest_of(pixels: RGB8) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]


def crop(pixels: RGB8, name: str, size: int) -> RGB8:
    return preprocess_rgb8(pixels, Preprocess(name, size))


@pytest.mark.slow
def test_adm_is_the_official_crop_byte_for_byte() -> None:
    """The golden was made by center_crop_arr itself, at the commit that it names."""
    wrong = [
        (pixels.shape, size)
        for pixels, size, digest in adm_cases()
        if digest_of(crop(pixels, "adm", size)) != digest
    ]
    assert len(GOLDEN["cases"]) > 300
    assert not wrong


def _adm(
    pixels: RGB8,
    size: int,
    *,
    halve: Callable[[int, int], bool] = lambda short, size: short >= 2 * size,
    box: Image.Resampling = Image.Resampling.BOX,
    last: Image.Resampling = Image.Resampling.BICUBIC,
    offset: Callable[[int], int] = lambda spare: spare // 2,
) -> RGB8:
    """The crop once more, written from its description, with a handle on each choice."""
    image = Image.fromarray(pixels)
    while halve(min(image.size), size):
        image = image.resize((image.width // 2, image.height // 2), box)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), last)
    left, top = offset(image.width - size), offset(image.height - size)
    return np.asarray(image)[top : top + size, left : left + size]


@pytest.mark.parametrize(
    ("change", "matter"),
    [
        ({}, False),
        ({"halve": lambda short, size: short > 2 * size}, True),  # one halving too few at 2·size
        ({"halve": lambda short, size: short >= 2 * size - 1}, True),
        ({"halve": lambda short, size: False}, True),
        ({"box": Image.Resampling.BICUBIC}, True),
        ({"last": Image.Resampling.LANCZOS}, True),
        ({"last": Image.Resampling.BILINEAR}, True),
        ({"offset": lambda spare: round(spare / 2)}, True),
        ({"offset": lambda spare: (spare + 1) // 2}, True),
    ],
    ids=[
        "none",
        "halve>",
        "halve-1",
        "no-halving",
        "no-box",
        "lanczos",
        "bilinear",
        "round",
        "ceil",
    ],
)
def test_every_choice_of_adm_shows_in_the_golden(change: dict[str, object], matter: bool) -> None:
    differ = any(
        digest_of(_adm(pixels, size, **change)) != digest  # type: ignore[arg-type]
        for pixels, size, digest in adm_cases()
    )
    assert differ == matter


@pytest.mark.parametrize("name", FILTERS)
def test_resize_crop_is_torchvision_on_pillow_images(name: str) -> None:
    theirs = transforms.Compose([transforms.Resize(64, FILTERS[name]), transforms.CenterCrop(64)])
    for height, width in SIZES:
        pixels = photo(height, height, width)
        expected = np.asarray(theirs(Image.fromarray(pixels)))
        assert (crop(pixels, f"resize-crop-{name}", 64) == expected).all(), (height, width)


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_tensor_resize_crop_is_torchvision_on_tensors(name: str) -> None:
    resize = [transforms.Resize(64, FILTERS[name], antialias=True), transforms.CenterCrop(64)]
    theirs = transforms.Compose([transforms.ToTensor(), *resize])
    aliased = transforms.Compose(
        [transforms.ToTensor(), transforms.Resize(64, FILTERS[name], antialias=False)]
    )
    for height, width in SIZES:
        pixels = photo(height, height, width)
        expected = images.to_uint8(theirs(Image.fromarray(pixels)))
        ours = crop(pixels, f"tensor-resize-crop-{name}", 64)
        assert (ours == expected.permute(1, 2, 0).numpy()).all(), (height, width)
        if min(height, width) > 96:  # without antialiasing a smaller picture is another one
            mutant = transforms.CenterCrop(64)(images.to_uint8(aliased(Image.fromarray(pixels))))
            assert (ours != mutant.permute(1, 2, 0).numpy()).mean() > 0.05


def test_no_two_crops_are_the_same() -> None:
    pixels = photo(2, 301, 450)
    named = [name for name in images.CROPS if name != "none"]
    seen = {digest_of(crop(pixels, name, 64)): name for name in named}
    assert sorted(seen.values()) == sorted(named)
    assert preprocess_rgb8(pixels, Preprocess()) is pixels


def test_offset_is_rounded_to_even_and_not_down() -> None:
    # CenterCrop's round(3 / 2) = 2 and round(1 / 2) = 0: neither floor nor ceiling does both.
    for side, left in ((67, 2), (65, 0)):
        pixels = photo(1, side, side)
        expected = pixels[left : left + 64, left : left + 64]
        assert (crop(pixels, "center", 64) == expected).all()
        theirs = transforms.CenterCrop(64)(Image.fromarray(pixels))
        assert (expected == np.asarray(theirs)).all()


def test_what_cannot_be_cropped_is_refused() -> None:
    with pytest.raises(ImageError, match="63×80 is smaller than the 64×64"):
        crop(photo(1, 80, 63), "center", 64)
    sliver = np.zeros((1, 20_000, 3), np.uint8)
    for name in ("adm", "resize-crop-bicubic", "tensor-resize-crop-bilinear"):
        with pytest.raises(ImageError, match="too narrow"):
            crop(sliver, name, 256)
    with pytest.raises(ValueError, match="no crop 'adm' of size None"):
        preprocess_rgb8(sliver, Preprocess("adm"))


def test_orientation_may_be_left_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = photo(4, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert (load_rgb8(tmp_path / "a.png", upright=False) == pixels).all()
    assert load_rgb8(tmp_path / "a.png").shape == (30, 20, 3)
