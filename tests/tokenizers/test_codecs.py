"""The codecs against Pillow called by hand, and the rate that they claim against their bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from PIL import __version__ as pillow_version
from skimage import data

from vtbench import images as pixels
from vtbench.base.errors import ImageError, RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.codecs import PillowCodec

SPEC = Spec("codec-under-test", "codec", "codec", "none")
SETTINGS = [
    {"format": "jpeg", "quality": 50},
    {
        "format": "jpeg",
        "quality": 50,
        "subsampling": "4:4:4",
        "optimize": True,
        "progressive": True,
    },
    {"format": "webp", "quality": 50},
    {"format": "jpeg2000", "rate": 24},
    {"format": "avif", "quality": 60},
]


def photograph() -> torch.Tensor:
    return pixels.to_float([data.chelsea()])


def psnr_db(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(
        -10 * (pixels.to_uint8(a) / 255 - pixels.to_uint8(b) / 255).square().mean().log10()
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s["format"])
@pytest.mark.parametrize("size", [(256, 256), (333, 517), (1, 1), (17, 2)])
def test_round_trip_keeps_size_and_counts_every_byte(settings, size):
    image = pixels.resize(photograph(), size).clamp(0, 1)
    codec = PillowCodec(SPEC, **settings)
    code = codec.encode(torch.cat([image, image.flip(1)]))
    decoded = codec.decode(code)
    assert decoded.shape == (2, 3, *size) and decoded.dtype == torch.float32
    assert code.tokens == tuple(len(data) for data in code.payload)
    assert code.bits == tuple(8.0 * len(data) for data in code.payload)
    assert decoded.min() >= 0 and decoded.max() <= 1
    if min(size) > 100:
        assert psnr_db(image, decoded[:1]) > 30
        assert psnr_db(image.flip(1), decoded[1:]) > 30  # channels come back in their order


def test_an_image_does_not_depend_on_its_batch():
    images = torch.cat([photograph(), photograph().flip(3)])[..., :128, :160]
    for settings in SETTINGS:
        codec = PillowCodec(SPEC, **settings)
        assert codec.encode(images).payload[1] == codec.encode(images[1:]).payload[0]


JPEG2000 = {"quality_mode": "rates", "irreversible": True, "mct": 1, "comment": " "}
AVIF = {"codec": "aom", "speed": 6, "range": "full", "autotiling": False, "max_threads": 1}
WEBP = {"quality": 50, "method": 4, "lossless": False}


@pytest.mark.parametrize(
    "options, by_hand",
    [
        ({"format": "jpeg", "quality": 75}, {"quality": 75, "subsampling": "4:2:0"}),
        (
            {"format": "jpeg", "quality": 75, "subsampling": "4:4:4", "optimize": True},
            {"quality": 75, "subsampling": "4:4:4", "optimize": True},
        ),
        (
            {"format": "jpeg", "quality": 75, "progressive": True},
            {"quality": 75, "subsampling": "4:2:0", "progressive": True},
        ),
        ({"format": "webp", "quality": 50}, WEBP),
        ({"format": "jpeg2000", "rate": 24}, {"quality_layers": [24], **JPEG2000}),
        ({"format": "avif", "quality": 60}, {"quality": 60, "subsampling": "4:2:0", **AVIF}),
    ],
)
def test_bytes_and_pixels_are_those_of_pillow_by_hand(options, by_hand):
    picture = data.chelsea()
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, options["format"], **by_hand)
    codec = PillowCodec(SPEC, **options)
    code = codec.encode(pixels.to_float([picture]))
    assert code.payload[0] == buffer.getvalue()
    with Image.open(buffer) as image:
        expected = np.asarray(image)
    assert np.array_equal(pixels.to_rgb8(pixels.to_uint8(codec.decode(code)))[0], expected)


def test_jpeg_lm_leaves_out_the_tables_and_nothing_else():
    """As xhan77/jpeg-lm's preprocess.py: streamtype 2, a restart marker after each block."""
    picture = data.chelsea()[:256, :256]
    settings = {"quality": 25, "subsampling": "4:2:0", "restart_marker_blocks": 1}
    buffer, whole = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", streamtype=2, **settings)
    Image.fromarray(picture).save(whole, "jpeg", **settings)
    codec = PillowCodec(SPEC, format="jpeg", quality=25, restart=1, abbreviated=True)
    code = codec.encode(pixels.to_float([picture]))
    assert code.payload[0] == buffer.getvalue()
    # 256 blocks of 16×16 pixels: a marker between each two, numbered from 0 to 7 and over again.
    assert sum(code.payload[0].count(bytes([0xFF, 0xD0 + n])) for n in range(8)) == 255
    tables = len(whole.getvalue()) - len(buffer.getvalue())
    assert tables == len(codec.tables) == 570
    with Image.open(whole) as image:
        expected = np.asarray(image)
    assert np.array_equal(pixels.to_rgb8(pixels.to_uint8(codec.decode(code)))[0], expected)
    codec.tables = PillowCodec(SPEC, format="jpeg", quality=26, abbreviated=True).tables
    assert not np.array_equal(pixels.to_rgb8(pixels.to_uint8(codec.decode(code)))[0], expected)


def test_default_subsampling_is_420():
    image = photograph()
    default, small, full = (
        PillowCodec(SPEC, format="jpeg", quality=75, **more).encode(image).payload[0]
        for more in ({}, {"subsampling": "4:2:0"}, {"subsampling": "4:4:4"})
    )
    assert default == small and len(small) < len(full)


@pytest.mark.parametrize(
    "format, key, values",
    [
        ("jpeg", "quality", [10, 25, 50, 75, 90]),
        ("webp", "quality", [20, 50, 80]),
        ("jpeg2000", "rate", [96, 24, 6]),
        ("avif", "quality", [30, 60, 90]),
    ],
)
def test_more_bytes_buy_more_psnr(format, key, values):
    image = photograph()
    rows = []
    for value in values:
        codec = PillowCodec(SPEC, format=format, **{key: value})
        code = codec.encode(image)
        rows.append((code.bits[0], psnr_db(image, codec.decode(code))))
    assert rows == sorted(rows) and rows[0][1] + 3 < rows[-1][1]


def test_jpeg2000_rate_is_the_compression_ratio():
    code = PillowCodec(SPEC, format="jpeg2000", rate=24).encode(photograph())
    bits_per_pixel = code.bits[0] / (300 * 451)
    assert 0.95 < bits_per_pixel <= 1.0  # the encoder stops at the last pass that fits


def test_lossy_and_free_of_metadata():
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for settings in SETTINGS:
        code = PillowCodec(SPEC, **settings).encode(noise)
        with Image.open(io.BytesIO(code.payload[0])) as image:
            assert "exif" not in image.info and "icc_profile" not in image.info
        assert b"OpenJPEG" not in code.payload[0]
        assert code.bits[0] < 24 * 64 * 64


@pytest.mark.parametrize("format, side", [("webp", 16384), ("jpeg", 65501), ("avif", 32769)])
def test_a_side_over_the_format_limit_is_an_image_error(format, side):
    codec = PillowCodec(SPEC, format=format, quality=50)
    with pytest.raises(ImageError, match=f"{side}×1: {format} takes sides up to {side - 1}"):
        codec.encode(torch.zeros(1, 3, 1, side))


def test_the_longest_webp_passes():
    codec = PillowCodec(SPEC, format="webp", quality=50)
    assert codec.decode(codec.encode(torch.zeros(1, 3, 1, 16383))).shape == (1, 3, 1, 16383)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"format": "gif", "quality": 50}, "format 'gif' is none of"),
        ({"format": "jpeg"}, "takes quality 1…100"),
        ({"format": "jpeg", "quality": 0}, "takes quality 1…100"),
        ({"format": "jpeg", "quality": 101}, "takes quality 1…100"),
        ({"format": "jpeg", "quality": 50.0}, "takes quality 1…100"),
        ({"format": "jpeg", "quality": True}, "takes quality 1…100"),
        ({"format": "jpeg", "quality": 50, "rate": 8}, "not rate"),
        ({"format": "jpeg", "quality": 50, "subsampling": "4:1:1"}, "subsampling '4:1:1' is none"),
        ({"format": "webp", "quality": 50, "subsampling": "4:4:4"}, "option of jpeg and avif only"),
        ({"format": "avif", "quality": 50, "progressive": True}, "options of jpeg only"),
        ({"format": "webp", "quality": 50, "abbreviated": True}, "options of jpeg only"),
        ({"format": "jpeg", "quality": 50, "abbreviated": True, "optimize": True}, "every image"),
        ({"format": "jpeg2000", "quality": 50}, "takes rate"),
        ({"format": "jpeg2000", "rate": 0.5}, "takes rate"),
        ({"format": "jpeg2000", "rate": float("nan")}, "takes rate"),
    ],
)
def test_a_setting_without_sense_is_refused(settings, message):
    with pytest.raises(RegistryError, match=message):
        PillowCodec(SPEC, **settings)


def test_libraries_name_what_makes_the_bytes():
    named = {s["format"]: PillowCodec.libraries(s) for s in SETTINGS}
    assert all(named[format].pop("pillow") == pillow_version for format in named)
    assert len(named["jpeg"]) == 1 and set(named["jpeg"]) <= {"libjpeg-turbo", "libjpeg"}
    assert set(named["webp"]) == {"libwebp"} and set(named["jpeg2000"]) == {"openjpeg"}
    assert {"libavif", "aom"} <= set(named["avif"])
    assert all(version for libraries in named.values() for version in libraries.values())
