"""One image through several tokenizers: what each gives, and what one that cannot says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import page, photo

from vtbench.base.errors import ContractError, VtbenchError
from vtbench.evaluation.side_by_side import ERROR_GAIN, SideBySide, reconstruct_image
from vtbench.images import to_float, to_rgb8, to_uint8
from vtbench.metrics import functional
from vtbench.registry.entries import Registry, load_registry
from vtbench.tokenizers import build_tokenizer


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def as_batch(picture: np.ndarray) -> torch.Tensor:
    return to_uint8(to_float([picture]))


@pytest.mark.slow
def test_numbers_are_those_of_the_metrics_and_the_code(registry: Registry) -> None:
    picture = photo(0, 96, 128)
    comparison = SideBySide(registry, device="cpu").compare(picture, ["jpeg-q50", "patch-vq-f8"])
    assert [one.state for one in comparison.reconstructed] == ["measured", "measured"]
    for one in comparison.reconstructed:
        code, image = reconstruct_image(build_tokenizer(registry[one.name], device="cpu"), picture)
        assert one.image is not None and one.error is not None
        assert np.array_equal(one.image, to_rgb8(image)[0])
        assert one.tokens == code.tokens[0] and one.bpp == code.bits[0] / (96 * 128)
        scores = {score.key: score for score in one.scores}
        pair = (as_batch(picture), image)
        assert scores["reconstruction.psnr_db"].value == float(functional.psnr_db(*pair)[0])
        assert scores["reconstruction.ssim"].value == float(functional.ssim(*pair)[0])
        difference = np.abs(picture.astype(int) - one.image.astype(int)).max(axis=2)
        assert np.array_equal(one.error, np.minimum(difference * ERROR_GAIN, 255))
        assert one.reading is None


def test_missing_weights_failures_and_unknown_names_stand_in_their_places(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of a stranger")

    comparer = SideBySide(registry, device="cpu")
    monkeypatch.setattr("vtbench.tokenizers.codecs.PillowCodec._decode", fail)
    heard = []
    names = ["sd-vae-ft-mse", "jpeg-q50", "jpeg-q50", "no-such"]
    comparison = comparer.compare(
        photo(0, 32, 32), names, report=lambda n, name: heard.append(name)
    )
    missing, failed, unknown = comparison.reconstructed
    assert heard == ["sd-vae-ft-mse", "jpeg-q50", "no-such"]
    assert missing.state == "missing" and "vtbench fetch sd-vae-ft-mse" in str(missing.reason)
    assert failed.state == "failed" and "of a stranger" in str(failed.reason)
    assert unknown.state == "failed" and "no tokenizer named 'no-such'" in str(unknown.reason)
    assert all(one.image is None and not one.scores for one in comparison.reconstructed)


def test_a_reconstruction_of_another_size_or_with_nan_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = build_tokenizer(registry["identity"], device="cpu")
    picture = photo(0, 32, 32)
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, code: torch.zeros(1, 3, 32, 31))
    with pytest.raises(ContractError, match="size: "):
        reconstruct_image(tokenizer, picture)
    nan = torch.full((1, 3, 32, 32), float("nan"))
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, code: nan)
    with pytest.raises(ContractError, match="NaN"):
        reconstruct_image(tokenizer, picture)


@pytest.mark.slow
def test_a_reading_is_compared_with_that_of_the_original(registry: Registry) -> None:
    picture, lines = page()
    comparer = SideBySide(registry, device="cpu")
    comparison = comparer.compare(picture, ["identity", "resize-4x"], script="latin")
    assert comparison.reading is not None and comparison.reading.cer is None
    assert lines[0]["text"].split()[0] in " ".join(comparison.reading.lines)
    same, coarse = (one.reading for one in comparison.reconstructed)
    assert same is not None and same.lines == comparison.reading.lines and same.cer == 0.0
    assert coarse is not None and coarse.cer is not None and coarse.cer > 0.0


@pytest.mark.slow
def test_nothing_is_compared_where_the_original_has_no_text(registry: Registry) -> None:
    comparer = SideBySide(registry, device="cpu")
    gray = np.full((64, 64, 3), 128, dtype=np.uint8)
    original, (other,) = comparer.read(gray, [gray], script="latin")
    assert original.lines == other.lines == () and other.cer is None


@pytest.mark.slow
def test_a_script_that_the_engine_does_not_read_is_said_once(registry: Registry) -> None:
    comparer = SideBySide(registry, device="cpu")
    with pytest.raises(VtbenchError, match="rapidocr does not read korean; it reads chinese"):
        comparer.read(photo(0, 32, 32), [], script="korean")
    comparison = comparer.compare(photo(0, 32, 32), ["identity"], script="korean")
    assert comparison.reconstructed[0].state == "measured"
    assert comparison.unread is not None and "korean" in comparison.unread


def test_an_image_above_the_limit_is_refused_by_the_python_door(registry: Registry) -> None:
    import vtbench

    picture = photo(0, 32, 48)
    with pytest.raises(VtbenchError, match="is more than 1,000 pixels"):
        vtbench.score([picture], [picture], max_pixels=1000)
