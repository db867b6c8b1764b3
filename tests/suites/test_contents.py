"""A data set is known by its contents, and read again only where it may have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vtbench.suites import contents
from vtbench.suites.contents import fingerprint


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the names of the files that are read, as they are."""
    monkeypatch.setattr(contents, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(contents, "SETTLED_NS", 0)  # a test's files are new
    names: list[str] = []
    true = contents._sha256_any

    def count(path: Path) -> str:
        names.append(path.name)
        return true(path)

    monkeypatch.setattr(contents, "_sha256_any", count)
    return names


def _write(root: Path, **files: bytes) -> list[Path]:
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
        os.utime(root / name, ns=(10**18, 10**18))
    return sorted(root.iterdir())


def test_files_that_did_not_change_are_read_once(tmp_path: Path, read: list[str]) -> None:
    files = _write(tmp_path / "set", a=b"one", b=b"two")
    first = fingerprint(files, tmp_path / "set")
    assert fingerprint(files, tmp_path / "set") == first
    assert read == ["a", "b"]


def test_another_content_of_the_same_name_size_and_time_is_another_set(
    tmp_path: Path, read: list[str]
) -> None:
    root = tmp_path / "set"
    files = _write(root, a=b"one", b=b"two")
    first = fingerprint(files, root)
    before = files[0].stat()
    _write(root, a=b"ONE")  # in place: also the inode is the same
    after = files[0].stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    assert fingerprint(files, root) != first
    assert read == ["a", "b", "a"]


def test_a_copy_elsewhere_is_the_same_set_and_a_renamed_file_is_not(
    tmp_path: Path, read: list[str]
) -> None:
    files = _write(tmp_path / "set", a=b"one")
    copied = _write(tmp_path / "copy", a=b"one")
    renamed = _write(tmp_path / "other", b=b"one")
    first = fingerprint(files, tmp_path / "set")
    assert fingerprint(copied, tmp_path / "copy") == first
    assert fingerprint(renamed, tmp_path / "other") != first


def test_a_file_that_changed_just_now_is_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_NS", 2 * 10**9)
    files = _write(tmp_path / "set", a=b"one")
    for _ in range(2):
        fingerprint(files, tmp_path / "set")
    assert read == ["a", "a"]


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"a": 3}', b'{"a": [1]}', b"\xff"])
def test_a_damaged_cache_costs_time_alone(tmp_path: Path, read: list[str], kept: bytes) -> None:
    files = _write(tmp_path / "set", a=b"one")
    first = fingerprint(files, tmp_path / "set")
    (path,) = (tmp_path / "cache" / "contents").iterdir()
    path.write_bytes(kept)
    assert fingerprint(files, tmp_path / "set") == first
    assert read == ["a", "a"]


def test_what_cannot_be_read_fails_where_it_is_used(tmp_path: Path, read: list[str]) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "a").symlink_to(root / "nowhere")
    assert fingerprint([root / "a"], root) == fingerprint([root / "a"], root)
