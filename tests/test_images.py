"""The pixel conventions: what every kind of file becomes, rounding, padding."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vtbench import images
from vtbench.base.errors import ImageError
from vtbench.base.records import SizePolicy

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_gray_is_replicated(tmp_path: Path) -> None:
    loaded = images.load_rgb8(_save(tmp_path / "a.png", Image.fromarray(RGB[:, :, 0])))
    assert loaded.shape == (20, 30, 3)
    assert (loaded == RGB[:, :, :1]).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate 90° clockwise to see it upright
    path = _save(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    assert (images.load_rgb8(path) == np.rot90(RGB, k=-1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert (images.load_rgb8(path) == expected).all()


def test_damaged_exif_does_not_cost_the_pixels(tmp_path: Path) -> None:
    # A rational −1/0 and a text where numbers belong: rewriting these tags raises struct.error.
    for exif in (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x05\x92\x0a\0\x01\0\0\0\x1a\0\0\0\0\0\0\0"
        b"\xff\xff\xff\xff\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abcd\0\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ):
        plain = Image.fromarray(RGB)
        path = _save(tmp_path / "a.jpg", plain, exif=exif, quality=95)
        expected = images.load_rgb8(_save(tmp_path / "b.jpg", plain, quality=95))
        assert (images.load_rgb8(path) == expected).all()


def test_postscript_is_no_image_and_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = tmp_path / "called"
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(gs.parent), prepend=":")
    path = tmp_path / "holiday.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(file) run\n%%EOF\n"
    )
    with pytest.raises(ImageError, match=r"not an image of a format that is read \(AVIF, BMP"):
        images.load_rgb8(path)
    assert not called.exists()


@pytest.mark.parametrize("format", ["PCX", "TGA", "ICO", "DDS", "SGI", "PDF", "EPS"])
def test_a_format_that_no_ending_names_is_no_image(tmp_path: Path, format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format)
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match="not an image of a format that is read"):
        images.load_rgb8(path)


@pytest.mark.parametrize("format", sorted(set(images.SUFFIXES.values())))
def test_a_damaged_file_is_an_image_error_whatever_its_decoder_raises(format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format)
    whole, random = buffer.getvalue(), np.random.default_rng(5)
    failed = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 6):
            damaged[place] = random.integers(0, 256)
        try:
            images.load_rgb8(io.BytesIO(damaged[: random.integers(8, len(whole) + 1)]))
        except ImageError:
            failed += 1
    assert failed > 0


@pytest.mark.parametrize("error", [struct.error, KeyError, ZeroDivisionError, MemoryError])
def test_what_a_decoder_raises_is_this_images_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[Exception]
) -> None:
    def fail(self: object) -> None:
        raise error("of the decoder")

    path = _save(tmp_path / "a.png", Image.fromarray(RGB))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match=rf"a.png: cannot be decoded \({error.__name__}: "):
        images.load_rgb8(path)


def test_alpha_is_composited_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.zeros((20, 30), np.uint8)])
    rgba[:10, :, 3] = 255
    loaded = images.load_rgb8(_save(tmp_path / "a.png", Image.fromarray(rgba)))
    assert (loaded[:10] == RGB[:10]).all()
    assert (loaded[10:] == 255).all()


def test_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(16)
    loaded = images.load_rgb8(_save(tmp_path / "a.png", image))
    assert (loaded == np.asarray(image.convert("RGB"))).all()


def test_16_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    loaded = images.load_rgb8(_save(tmp_path / "a.png", Image.fromarray(wide)))
    # round half up of v·255/65535; Pillow's own convert("RGB") would clip all but the first to 255
    assert loaded[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    red, green, blue = images.load_rgb8(path)[4, 4]
    assert red > 240
    assert green < 15
    assert blue < 15


def test_one_pixel_image(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.fromarray(RGB[:1, :1]))
    assert images.load_rgb8(path).shape == (1, 1, 3)


def test_open_file_is_read(tmp_path: Path) -> None:
    assert (images.load_rgb8(io.BytesIO(images.encode_png(RGB))) == RGB).all()


def test_animated_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    path = _save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated; save the frame"):
        images.load_rgb8(path)


def test_truncated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(images.encode_png(RGB)[:-300])
    with pytest.raises(ImageError, match="cannot be decoded"):
        images.load_rgb8(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        images.load_rgb8(path)


@pytest.mark.slow
def test_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    # 40000 × 40000 one-bit pixels compress to 200 kB and decode to 4.8 GB of RGB.
    path = _save(tmp_path / "a.png", Image.new("1", (40000, 40000)))
    with pytest.raises(ImageError, match="more than 24,500,000 pixels"):
        images.load_rgb8(path)


def test_float_samples_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tiff", Image.fromarray(RGB[:, :, 0].astype(np.float32)))
    with pytest.raises(ImageError, match="float samples"):
        images.load_rgb8(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        images.load_rgb8(tmp_path / "a.png")


def test_crop_must_lie_inside() -> None:
    assert images.crop_rgb8(RGB, (5, 3, 10, 4)).shape == (4, 10, 3)
    with pytest.raises(ImageError, match="leaves the 30×20 image"):
        images.crop_rgb8(RGB, (25, 0, 10, 4))


def test_pixel_hash_sees_shape_and_content() -> None:
    tall = RGB.reshape(30, 20, 3)
    changed = RGB.copy()
    changed[0, 0, 0] ^= 1
    assert len({images.pixel_sha256(a) for a in (RGB, tall, changed)}) == 3
    assert images.pixel_sha256(RGB[:, ::-1]) == images.pixel_sha256(RGB[:, ::-1].copy())


def test_round_trip_is_exact_for_all_levels() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert (images.to_rgb8(images.to_uint8(images.to_float([levels])))[0] == levels).all()


def test_rounding_is_half_up_and_clamped() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4999 / 255, 0.5 / 255, 1.49 / 255, 2.5 / 255, 1.0, 7.0])
    rounded = images.to_uint8(values.reshape(1, 1, 1, -1)).flatten().tolist()
    assert rounded == [0, 0, 0, 1, 1, 3, 255, 255]
    # The mutant: truncation loses a level wherever the float is not exact.
    truncated = (values.clamp(0, 1) * 255).to(torch.uint8).tolist()
    assert truncated != rounded


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 5), (8, 8), (33, 17), (16, 40)])
def test_padding_is_numpy_reflect_and_undone(size: tuple[int, int]) -> None:
    batch = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    fitted, how = images.fit(batch, SizePolicy(multiple=16))
    assert fitted.shape[-2] % 16 == 0
    assert fitted.shape[-1] % 16 == 0
    pad = [(0, f - s) for f, s in zip(fitted.shape[-2:], size, strict=True)]
    mode = [("edge" if s == 1 else "reflect") for s in size]
    expected = np.pad(batch.numpy(), [(0, 0), (0, 0), pad[0], (0, 0)], mode=mode[0])
    expected = np.pad(expected, [(0, 0), (0, 0), (0, 0), pad[1]], mode=mode[1])
    assert (fitted.numpy() == expected).all()
    assert (images.unfit(fitted, how) == batch).all()
    assert how.policy == ("none" if fitted.shape == batch.shape else "pad")


def test_fixed_size_networks_resize_and_come_back() -> None:
    batch = torch.rand(1, 3, 100, 60)
    fitted, how = images.fit(batch, SizePolicy(fixed=(64, 64), policy="resize"))
    assert fitted.shape[-2:] == (64, 64)
    assert how.policy == "resize"
    assert images.unfit(fitted, how).shape == batch.shape


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((64, 48), (1, 1)),
        ((65, 48), (2, 1)),
        ((128, 96), (2, 2)),
        ((130, 97), (3, 3)),
        ((1, 7), (1, 1)),
    ],
)
def test_tiles_cover_the_padded_image_and_come_back(
    size: tuple[int, int], tiles: tuple[int, int]
) -> None:
    batch = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    fitted, how = images.fit(batch, SizePolicy(fixed=(64, 48), policy="tile"))
    assert how.tiles == tiles and fitted.shape[-2:] == (64 * tiles[0], 48 * tiles[1])
    padded, _ = images.fit(batch, SizePolicy(multiple=192))  # which reflects the same way
    assert torch.equal(fitted, padded[..., : fitted.shape[-2], : fitted.shape[-1]])
    cut = images.cut_tiles(fitted, how)
    assert [tuple(tile.shape) for tile in cut] == [(2, 3, 64, 48)] * (tiles[0] * tiles[1])
    assert torch.equal(cut[-1], fitted[..., -64:, -48:])
    if tiles[1] > 1:
        assert torch.equal(cut[1], fitted[..., :64, 48:96]), "row by row"
    assert torch.equal(images.unfit(images.join_tiles(cut, how), how), batch)
    assert how.policy == ("none" if size == (64, 48) else "tile")
    if size != (64, 48):
        assert not torch.equal(images.resize(images.resize(batch, (64, 48)), size), batch)


def test_resize_is_pillows_bicubic() -> None:
    # Pillow's float mode has no rounding between the two passes, as ours; float32 is the tolerance.
    picture = np.random.default_rng(3).random((61, 90), dtype=np.float32)
    for size in ((31, 45), (122, 180), (61, 7)):
        ours = images.resize(torch.from_numpy(picture)[None, None], size)[0, 0].numpy()
        pillow = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC)
        assert np.abs(ours - np.asarray(pillow)).max() < 1e-5


def test_error_map_is_the_largest_channel_times_gain() -> None:
    other = RGB.copy()
    other[0, 0] = np.clip(RGB[0, 0].astype(int) + np.array([3, 0, 0]), 0, 255)
    gap = int(np.abs(other[0, 0].astype(int) - RGB[0, 0].astype(int)).max())
    shown = images.error_map(RGB, other, gain=4)
    assert shown[0, 0] == 4 * gap
    assert shown.sum() == 4 * gap
