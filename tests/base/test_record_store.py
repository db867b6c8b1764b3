"""Cached records: found again by other processes, and never when they are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vtbench.base.record_store import RecordStore


def test_a_record_is_found_by_the_next_process(tmp_path: Path) -> None:
    first, second = RecordStore(tmp_path / "a"), RecordStore(tmp_path / "a")
    assert first.get("x") is None
    first.put("x", b"one")
    second.put("y", b"")
    assert first.get("x") == b"one" and second.get("y") == b""
    third = RecordStore(tmp_path / "a")
    assert (third.get("x"), third.get("y"), third.get("z")) == (b"one", b"", None)
    assert len(list((tmp_path / "a").iterdir())) == 2  # a file a writer


@pytest.mark.parametrize("place", range(0, 130, 7))
def test_a_changed_byte_loses_its_record_and_gives_no_other_value(
    tmp_path: Path, place: int
) -> None:
    store = RecordStore(tmp_path)
    for key, value in (("a", b"11111"), ("b", b"22222")):
        store.put(key, value)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    assert len(content) == 2 * (60 + 5)
    content[place] ^= 1
    path.write_bytes(content)
    again = RecordStore(tmp_path)
    found = [again.get("a"), again.get("b")]
    assert found in ([None, None], [None, b"22222"], [b"11111", None])
    for key, value in (("a", b"11111"), ("b", b"22222")):
        again.put(key, value)
    last = RecordStore(tmp_path)
    assert [last.get("a"), last.get("b")] == [b"11111", b"22222"]


def test_a_cut_file_keeps_what_stands_before_the_cut(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for number in range(3):
        store.put(str(number), bytes([number]) * 50)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    again = RecordStore(tmp_path)
    assert [again.get(str(n)) for n in range(3)] == [bytes(50), b"\x01" * 50, None]


def test_a_cache_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = RecordStore(tmp_path / "file" / "below")
    store.put("a", b"1")
    assert store.get("a") is None


def test_what_is_removed_meanwhile_is_not_found(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put("a", b"1")
    next(tmp_path.iterdir()).unlink()
    assert store.get("a") is None
    store.put("b", b"2")
    assert store.get("b") == b"2" and store.get("a") is None


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "other")
    store.put("a", b"1")
    (file,) = (tmp_path / "other").iterdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / file.name).symlink_to(file)
    assert RecordStore(tmp_path / "cache").get("a") is None


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.kept")
    (tmp_path / "b.kept").symlink_to("/dev/zero")
    store = RecordStore(tmp_path)
    assert store.get("a") is None
    store.put("a", b"1")
    assert RecordStore(tmp_path).get("a") == b"1"
