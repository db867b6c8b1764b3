"""`vtbench doctor --self-test`: a machine that computes otherwise is found."""

from __future__ import annotations

import pytest

from vtbench.cli import main
from vtbench.commands.self_test import IMAGES, TOKENIZERS, TOLERANCES, Compared, report


def compare(**changes: float) -> list[Compared]:
    """Return numbers that agree, but for those given by metric, of the first tokenizer."""
    return [
        Compared(name, "a", metric, 30.0, 30.0 + (changes.get(metric, 0) if not i else 0))
        for i, name in enumerate(TOKENIZERS)
        for metric in TOLERANCES
    ]


@pytest.mark.slow
def test_this_machine_measures_what_was_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--self-test"]) == 0
    said = capsys.readouterr().out
    assert said.count("agrees") == len(TOKENIZERS) * len(TOLERANCES)
    assert f" {IMAGES} " in said


@pytest.mark.slow
def test_a_convolution_that_computes_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    right = torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda *args, **more: right(*args, **more) * 1.002
    )
    assert main(["doctor", "--self-test"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("ref-kl-f8" in line and "DIFFERS" in line for line in lines)
    assert all("agrees" in line for line in lines if line.startswith("jpeg-q50"))


@pytest.mark.parametrize(("metric", "shift"), [("psnr_db", -0.06), ("ssim", 0.002)])
def test_a_difference_beyond_the_tolerance_is_said(metric: str, shift: float) -> None:
    said = report(compare(**{metric: shift}))
    assert said.count("DIFFERS") == 1 and "does not measure" in said
    within = report(compare(**{metric: shift / 3}))
    assert "DIFFERS" not in within and "measures what was published" in within


def test_a_tokenizer_that_cannot_run_is_no_agreement() -> None:
    missing = Compared(TOKENIZERS[1], "-", "psnr_db", None, None, "no library")
    said = report([*compare()[:2], missing, *compare()[4:]])
    assert "no library" in said and "does not measure" in said
