"""Tables on a screen: names whole, the least wanted columns left out, the rest wrapped."""

from __future__ import annotations

import pytest

from vtbench.base.text_table import fit_table, format_table

ROWS = (
    ("name", "state", "used by", "what it is"),
    ("a-tokenizer-of-a-long-name", "here", "nobody", "one " * 30 + "end"),
    ("b", "missing", "somebody", "two"),
)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_is_no_wider_than_the_screen_and_loses_no_word(width: int) -> None:
    lines = fit_table(ROWS, width, optional=("used by",)).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "a-tokenizer-of-a-long-name" in text and text.count("one") == 30 and "end" in text
    dropped = "(not shown at this width: used by)" in text
    assert dropped != ("somebody" in text)
    assert dropped == (width == 60 or width == 80)


def test_a_table_without_a_screen_or_on_a_wide_one_is_the_plain_one() -> None:
    assert fit_table(ROWS, None, optional=("used by",)) == format_table(ROWS)
    assert fit_table(ROWS, 400, optional=("used by",)) == format_table(ROWS)


def test_a_screen_too_narrow_for_the_names_keeps_them_whole() -> None:
    text = fit_table(ROWS, 20, optional=("used by", "state"))
    assert "a-tokenizer-of-a-long-name" in text
