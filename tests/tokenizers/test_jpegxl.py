"""JPEG XL: rate and error by distance, the bytes that count, and settings that are refused."""

from __future__ import annotations

import pytest
import torch
from builders import photo

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.images import to_float
from vtbench.tokenizers.jpegxl import JpegXl

imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")


def spec() -> Spec:
    return Spec(name="jxl", family="codec", kind="codec", quantizer="none")


def test_a_larger_distance_takes_fewer_bytes_and_has_more_error() -> None:
    images = to_float([photo(1, 96, 120), photo(2, 96, 120)])
    rates, errors = [], []
    for distance in (0.5, 2.0, 8.0):
        codec = JpegXl(spec(), distance=distance)
        code = codec.encode(images)
        assert code.payload is not None
        assert list(code.bits) == [8 * len(data) for data in code.payload]
        rates.append(float(sum(code.bits)))
        errors.append(float(((codec.decode(code) - images) ** 2).mean()))
    assert rates == sorted(rates, reverse=True) and errors == sorted(errors)
    assert errors[0] < 1e-4  # 40 dB


def test_the_bytes_are_a_bare_codestream_that_another_decoder_reads() -> None:
    images = to_float([photo(3, 64, 64)])
    codec = JpegXl(spec(), distance=1)
    code = codec.encode(images)
    assert code.payload is not None
    (data,) = code.payload
    assert data[:2] == b"\xff\x0a"
    assert data == codec.encode(images).payload[0]  # type: ignore[index]
    shown = to_float([imagecodecs.imread(data, codec="jpegxl")])
    assert torch.equal(codec.decode(code), shown)


@pytest.mark.parametrize("distance", [0, -1, 26, True])
def test_a_distance_that_libjxl_has_not_is_refused(distance: float) -> None:
    with pytest.raises(RegistryError, match=r"distance 0\.01…25"):
        JpegXl(spec(), distance=distance)


def test_the_run_says_which_library_made_the_bytes() -> None:
    found = JpegXl.libraries({})
    assert set(found) == {"imagecodecs", "libjxl"}
    assert found["libjxl"][0].isdigit()
