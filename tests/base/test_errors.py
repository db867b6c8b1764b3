"""What an error says where Python prints it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import vtbench
from vtbench.base.errors import ResultsError, VtbenchError


def test_an_error_shows_what_is_hidden_and_each_of_its_messages() -> None:
    assert str(ResultsError("a\u202eb", "\x1b[31mc\nd")) == r"a\u202eb; \x1b[31mc\nd"


def test_a_strangers_name_turns_no_text_in_a_traceback(tmp_path: Path) -> None:
    for folder in ("originals", "reconstructions"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / folder / "a.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "reconstructions" / "b\u202egnp.png")
    with pytest.raises(VtbenchError) as caught:
        vtbench.score(tmp_path / "originals", tmp_path / "reconstructions", device="cpu")
    assert str(caught.value).isprintable() and r"b\u202egnp" in str(caught.value)
