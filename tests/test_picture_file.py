"""What a picture file means: its frame, its depth, its transparency; not its text."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from vtbench.base import picture_parts
from vtbench.base.errors import ImageError
from vtbench.images import load_rgb8

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
ROUNDED = ((RAMP.astype(np.int64) * 510 + 65535) // 131070).astype(np.uint8)
"""v·255/65535, rounded half up."""
RGB = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def _write_png16(path: Path, samples: np.ndarray, kind: int, *extra: tuple[bytes, bytes]) -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + b"".join(chunk(*item) for item in extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_16_bit_png_is_rounded_and_not_cut(tmp_path: Path, kind: int, channels: int) -> None:
    samples = np.stack([RAMP, RAMP[::-1], RAMP.T, np.full_like(RAMP, 65535)], axis=2)[
        :, :, :channels
    ]
    loaded = load_rgb8(_write_png16(tmp_path / "a.png", samples, kind))
    assert (loaded[:, :, 0] == ROUNDED).all()
    if channels > 1:
        assert (loaded[:, :, 1] == ROUNDED[::-1]).all()
        assert (loaded[:, :, 2] == ROUNDED.T).all()
    assert (loaded[:, :, 0] != RAMP >> 8).sum() == 16256  # the mutant: the high byte


def test_16_bit_alpha_is_composited_over_white_before_rounding(tmp_path: Path) -> None:
    alpha = RAMP.T
    seen = RAMP.astype(np.int64) * alpha + 65535 * (65535 - alpha.astype(np.int64))
    expected = (seen * 510 + 65535**2) // (2 * 65535**2)
    gray = load_rgb8(_write_png16(tmp_path / "a.png", np.stack([RAMP, alpha], axis=2), 4))
    assert (gray == expected[:, :, None]).all()
    colour = load_rgb8(_write_png16(tmp_path / "b.png", np.dstack([RAMP, RAMP, RAMP, alpha]), 6))
    assert (colour == expected[:, :, None]).all()


def test_a_transparent_colour_of_16_bits_is_compared_with_16_bits(tmp_path: Path) -> None:
    gray = _write_png16(tmp_path / "a.png", RAMP, 0, (b"tRNS", struct.pack(">H", 1000)))
    expected = np.where(RAMP == 1000, 255, ROUNDED)
    assert (load_rgb8(gray) == expected[:, :, None]).all()
    clear = (b"tRNS", struct.pack(">HHH", 1000, 1000, 1001))
    colour = _write_png16(tmp_path / "b.png", np.dstack([RAMP, RAMP, RAMP + 1]), 2, clear)
    loaded = load_rgb8(colour)
    assert (loaded[RAMP == 1000] == 255).all()
    assert (loaded[RAMP == 1001] == 4).all()  # of the same high bytes, and another colour


def test_16_bit_colour_of_a_tiff_is_rounded(tmp_path: Path) -> None:
    for order, raw in (("<", "RGB;16L"), (">", "RGB;16B")):
        entries = {256: 256, 257: 256, 262: 2, 277: 3, 278: 256, 279: 256 * 256 * 6, 259: 1}
        count = len(entries) + 2
        data_at = 8 + 2 + 12 * count + 4
        rows = [(tag, 4, 1, struct.pack(order + "I", value)) for tag, value in entries.items()]
        rows += [(258, 3, 3, struct.pack(order + "I", data_at)), (273, 4, 1, b"")]
        rows[-1] = (273, 4, 1, struct.pack(order + "I", data_at + 6))
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        body = struct.pack(order + "H", count) + b"".join(
            struct.pack(order + "HHI", *row[:3]) + row[3] for row in sorted(rows)
        )
        bits = struct.pack(order + "HHH", 16, 16, 16)
        samples = np.dstack([RAMP] * 3).astype(order + "u2").tobytes()
        path = tmp_path / "a.tif"
        path.write_bytes(head + body + bytes(4) + bits + samples)
        with Image.open(path) as image:
            assert image.tile[0].args[0] == raw
        assert (load_rgb8(path)[:, :, 0] == ROUNDED).all()


def test_levels_in_32_bits_are_levels_and_others_have_no_white(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(RGB[:, :, 0].astype(np.int32)).save(path)
    assert (load_rgb8(path) == RGB[:, :, :1]).all()
    Image.fromarray(RGB[:, :, 0].astype(np.int32) * 3).save(path)
    with pytest.raises(ImageError, match="32-bit samples from 0 to 765 have no defined white"):
        load_rgb8(path)


def test_white_is_zero_where_a_16_bit_tiff_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(RAMP).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHIH", 262, 3, 1, 1))
    content[place + 8] = 0
    path.write_bytes(content)
    assert (load_rgb8(path)[:, :, 0] == 255 - ROUNDED).all()


@pytest.mark.parametrize("views", [1, 3])
def test_of_a_jpeg_with_further_views_the_first_is_the_picture(tmp_path: Path, views: int) -> None:
    first = Image.fromarray(RGB)
    others = [Image.fromarray(RGB[: 16 + view]) for view in range(views)]
    path = tmp_path / "phone.jpg"
    first.save(path, format="MPO", save_all=True, append_images=others, quality=95)
    plain = tmp_path / "plain.jpg"
    first.save(plain, quality=95)
    assert (load_rgb8(path) == load_rgb8(plain)).all()


def test_of_a_tiff_the_first_page_that_is_no_smaller_copy_is_the_picture(tmp_path: Path) -> None:
    def pages(*flags: int) -> Path:
        path = tmp_path / "a.tif"
        images = [Image.fromarray(RGB + n) for n in range(len(flags))]
        tags = []
        for flag in flags:
            own = TiffImagePlugin.ImageFileDirectory_v2()
            own[254] = flag
            tags.append(own)
        for image, own in zip(images, tags, strict=True):
            image.encoderinfo = {"tiffinfo": own}
        images[0].save(path, save_all=True, append_images=images[1:], tiffinfo=tags[0])
        return path

    assert (load_rgb8(pages(0, 1)) == RGB).all()  # a thumbnail behind the picture
    assert (load_rgb8(pages(1, 0)) == RGB + 1).all()  # before it, as cameras write
    assert (load_rgb8(pages(1, 4, 2)) == RGB + 2).all()  # a mask, then one page of several
    assert (load_rgb8(pages(1, 1)) == RGB).all()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_is_refused(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a.png"
    frames = [Image.fromarray(RGB + n) for n in range(3)]
    frames[0].save(path, format=format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"animated( \(3 frames\))?; save"):
        load_rgb8(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_text_of_any_length_is_no_pixel(tmp_path: Path, compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a house, " * 400_000, zip=compressed)
    info.add_itxt("workflow", "[" + "1, " * 700_000 + "0]", zip=compressed)
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, pnginfo=info, icc_profile=bytes(3_000_000))
    assert (load_rgb8(path) == RGB).all()


def test_a_pipe_a_device_and_a_folder_are_no_images(tmp_path: Path) -> None:
    pipe, device, folder = (tmp_path / name for name in ("pipe.png", "zero.png", "folder.png"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (pipe, device, folder):
        with pytest.raises(ImageError, match="not a regular file"):
            load_rgb8(path)
    vast = tmp_path / "vast.png"
    with vast.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ImageError, match="more than 1 GiB"):
        load_rgb8(vast)


def test_a_message_about_an_odd_name_is_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / "new\nline\x1b[31m\udcff.png"
    with pytest.raises(ImageError) as error:
        load_rgb8(path)
    assert str(error.value).isprintable()


def _with_parts(path: Path, kind: str, n: int) -> Path:
    """Write a picture with n parts of a kind that a decoder goes through one by one."""
    image = Image.fromarray(RGB)
    if kind == "strips":
        image.save(path, "TIFF", tiffinfo={278: 1})
        return path
    image.save(
        path,
        "PNG" if kind == "chunks" else "JPEG",
        **{"progressive": True} if kind == "scans" else {},
    )
    content = path.read_bytes()
    if kind == "chunks":
        empty = struct.pack(">I", 0) + b"prIv" + struct.pack(">I", zlib.crc32(b"prIv"))
        content = content[:33] + empty * n + content[33:]
    elif kind != "scans":
        part = {"segments": b"\xff\xfe\0\2", "fill": b"\xff"}[kind]
        content = content[:2] + part * n + content[2:]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["chunks", "segments", "fill", "scans", "strips"])
def test_a_file_of_too_many_parts_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = _with_parts(tmp_path / "a", kind, 80)
    whole = load_rgb8(path)
    assert whole.shape == RGB.shape
    with path.open("rb") as file:
        assert (load_rgb8(file) == whole).all()
    for limit in ("MAX_SCANS", "MAX_PARTS"):
        monkeypatch.setattr(picture_parts, limit, 5 if limit == "MAX_SCANS" else 20)
    word = "strips" if kind == "strips" else "segments" if kind == "fill" else kind
    with pytest.raises(ImageError, match=rf"more than \d+ {word}"):
        load_rgb8(path)


def test_what_follows_a_picture_or_lies_in_it_is_no_part_of_it(tmp_path: Path) -> None:
    """A phone appends a film, and puts a preview into a segment: bytes that look like scans."""
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, comment=b"\xff\xda" * 150)
    path.write_bytes(path.read_bytes() + b"\xff\xda\0\2" * picture_parts.MAX_PARTS)
    assert load_rgb8(path).shape == RGB.shape
