"""Entries: what is refused, and that the message names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench.errors import RegistryError, UnknownName
from vtbench.registry import load_entry, load_registry

GOOD = """\
title: A thing
family: sanity
adapter: vtbench.tokenizers.resample:Resample
options: {factor: 2}
kind: pixels
quantizer: none
licence: Apache-2.0
description: Nothing special.
"""


def _entry(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_entries_load() -> None:
    registry = load_registry()
    assert {"identity", "resize-2x", "resize-4x", "jpeg-q50", "patch-pca-f8c4"} <= set(registry)
    assert all(name == entry.name == entry.path.stem for name, entry in registry.items())


def test_good_entry(tmp_path: Path) -> None:
    entry = load_entry(_entry(tmp_path, GOOD))
    assert entry.name == "mine"
    assert entry.spec.name == "mine"
    assert entry.spec.input_range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "colour: red\n", r"mine\.yaml:9: colour: unknown key"),
        (GOOD.replace("pixels", "pixel"), r"mine\.yaml:5: kind: "),
        (GOOD.replace("quantizer: none\n", ""), r"quantizer: Field required"),
        (GOOD + "title: again\n", r"mine\.yaml:9: key 'title' is given twice"),
        (GOOD + "size: {multiple: 0}\n", r"mine\.yaml:9: size\.multiple: "),
        (GOOD + "size: {fixed: [8, 8]}\n", r"policy: resize"),
        (GOOD + "codebook_size: 8\n", r"codebook_size belongs to kind: discrete"),
        (GOOD + "input_range: [1, 0]\n", r"low < high"),
        (GOOD + "name: other\n", r"mine\.yaml:9: name: unknown key"),
        (GOOD.replace("vtbench.tokenizers.resample:Resample", "os;system"), r"adapter: "),
        (GOOD + "weights: {source: package, file: a, sha256: zz, licence: x}\n", r"sha256"),
        (GOOD + "weights: {source: hub, repo: nope, licence: x}\n", r"weights\.repo"),
        ("a: [1\n", r"mine\.yaml:2: not valid YAML"),
        ("- a\n", r"expected a mapping"),
        ("", r"expected a mapping"),
        ("a: &x [1]\nb: *x\n", r"mine\.yaml:2: YAML aliases are refused"),
        ("a: !!python/object/apply:os.system ['true']\n", r"not valid YAML"),
    ],
)
def test_bad_entries_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        load_entry(_entry(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bad_file_names(tmp_path: Path) -> None:
    for name in ("Mine.yaml", "a_b.yaml", "mine.yml"):
        with pytest.raises(RegistryError, match="file name"):
            load_entry(_entry(tmp_path, GOOD, name))


def test_duplicate_names_both_files(tmp_path: Path) -> None:
    path = _entry(tmp_path, GOOD, "identity.yaml")
    with pytest.raises(RegistryError, match="exists already in") as caught:
        load_registry([tmp_path])
    assert str(path) in str(caught.value)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="larger than 256 KiB"):
        load_entry(_entry(tmp_path, "#" * 300_000))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="not a folder"):
        load_registry([tmp_path / "none"])


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'jpeg-q51'.*did you mean .*jpeg-q50"):
        load_registry()["jpeg-q51"]


def test_digest_sees_what_changes_a_number_and_not_the_prose(tmp_path: Path) -> None:
    entry = load_entry(_entry(tmp_path, GOOD))
    prose = load_entry(_entry(tmp_path, GOOD.replace("A thing", "Another")))
    options = load_entry(_entry(tmp_path, GOOD.replace("factor: 2", "factor: 4")))
    assert entry.sha256 == prose.sha256
    assert entry.sha256 != options.sha256
