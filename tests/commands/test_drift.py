"""`vtbench drift`: what is said of tokenizers whose answer is known, and of tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import texture
from torch import Tensor

from vtbench.base.records import SizePolicy, Spec
from vtbench.cli import main
from vtbench.commands.drift import measure_passes
from vtbench.images import encode_png
from vtbench.tokenizers.base import Code, Tokenizer


class TileTones(Tokenizer):
    """Keeps the picture but for the tone of each 64 px tile, which it rounds to a level of 16."""

    def _encode(self, images: Tensor) -> Code:
        tone = images.mean(dim=(1, 2, 3), keepdim=True)
        return Code.continuous(images + (tone * 16).round() / 16 - tone)

    def _decode(self, code: Code) -> Tensor:
        assert code.latents is not None
        return code.latents


@pytest.mark.slow
def test_the_command_tells_identity_from_codecs_and_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coffee.png"
    path.write_bytes(encode_png(texture("coffee")[100:196, 200:296]))
    assert main(["drift", str(path), "-t", "identity,jpeg-q10,patch-vq-f8", "--device", "cpu"]) == 0
    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[:4] == ["tokenizer", "image", "rounds", "PSNR"]
    assert len(lines) == 12 and [line[0] for line in lines[::4]] == [
        *("identity", "jpeg-q10", "patch-vq-f8")
    ]
    identity, codec, discrete = (lines[place : place + 4] for place in (0, 4, 8))
    assert identity[0][2:] == ["1", "100.00", "0.000", "n/a", "100.00"]
    assert [line[1] for line in identity[1:]] == ["100.00"] * 3
    assert float(codec[0][3]) < 40 and float(codec[0][6]) < 40
    assert discrete[0][5] == "0.00%" and [line[0] for line in discrete[1:]] == ["2", "5", "10"]
    assert main(["drift", str(tmp_path / "none.png"), "-t", "identity"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_tiles_of_other_tones_have_seams_and_wholes_have_none() -> None:
    size = SizePolicy(multiple=1, fixed=(64, 64), policy="tile")
    spec = Spec("tones", "toy", "continuous", "none", downsample=1, size=size)
    picture = texture("coffee")[:192, :256]
    passes = measure_passes(TileTones(spec), picture)
    whole = measure_passes(
        TileTones(Spec("tones", "toy", "continuous", "none", downsample=1)), picture
    )
    assert passes.seams is not None and whole.seams is None
    # Rounding to 16 of 256 levels moves two neighbours apart by 5 on the mean, 16 at most.
    assert 2 < passes.seams.step < 16 and 2 < passes.seams.tone < 16
    assert {drift.tokens_changed for drift in passes.drifts} == {None}
    assert passes.shift_db is not None and whole.shift_db is not None
    assert passes.shift_db < whole.shift_db
    tiny = measure_passes(TileTones(spec), picture[:32, :32])
    assert tiny.shift_db is None


def test_drift_is_measured_on_eight_bits_between_rounds() -> None:
    class Third(TileTones):
        """Adds a third of a level: nothing, once it is rounded."""

        def _encode(self, images: Tensor) -> Code:
            return Code.continuous(images + 1 / (3 * 255))

    picture = np.full((64, 64, 3), 100, dtype=np.uint8)
    spec = Spec("third", "toy", "continuous", "none", downsample=1)
    passes = measure_passes(Third(spec), picture)
    assert [drift.psnr_db for drift in passes.drifts] == [100.0] * 4
