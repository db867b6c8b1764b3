"""What a log says while a run goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vtbench.commands import progress
from vtbench.commands.progress import Progress


def test_time_left_is_told_from_the_first_image_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", -1.0)
    request = SimpleNamespace(samples=lambda: range(4), cells=lambda: range(1))
    with Progress(request) as shown:  # type: ignore[arg-type]
        shown.started("jpeg-q50", 0, 1, 4)
        shown.advanced(0)
        assert "left" not in capsys.readouterr().out
        shown.advanced(2)
        assert "[1/1] jpeg-q50: 2/4 images" in (told := capsys.readouterr().out)
        assert "min left" in told
