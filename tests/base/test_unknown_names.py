"""What a name that does not exist is answered with."""

from __future__ import annotations

import pytest

from vtbench.base.errors import UnknownName


@pytest.mark.parametrize(
    ("kind", "name", "known", "told"),
    [
        ("tokenizer", "JPEG-Q50", ["jpeg-q50", "ref-vq-f8"], "did you mean jpeg-q50?"),
        ("metric", "FID", ["psnr_db", "rfid_of_long_name"], "did you mean rfid_of_long_name?"),
        ("family", "zzz", ["codec"], "`vtbench list` shows all"),
        ("tokenizer, suite or metric", "zzz", ["a"], "`vtbench list suites` and"),
        ("run", "zzz", ["a", "b"], "it is one of a, b"),
    ],
)
def test_a_name_is_looked_for_in_any_case_and_the_advice_is_a_command_that_exists(
    kind: str, name: str, known: list[str], told: str
) -> None:
    assert told in str(UnknownName(kind, name, known))


def test_many_names_of_no_list_are_not_poured_out() -> None:
    names = [f"image-{place}" for place in range(100)]
    assert str(UnknownName("image", "zzz", names)) == "no image named 'zzz'"
