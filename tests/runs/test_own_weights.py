"""Weights given by hand stand under the entry's name only where the entry pins them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.base.locations import data_dir
from vtbench.base.names import check_run_name
from vtbench.registry.entries import load_registry
from vtbench.runs.own_weights import name_own_weights
from vtbench.runs.request import EntrySelection, Variant, apply_variant
from vtbench.weights import entries
from vtbench.weights.entries import CONVERTED, check_hashes, find_weights, is_pinned

ENTRY = load_registry()["patch-pca-f8c4"]
SHIPPED = data_dir() / "weights" / "patch-pca-f8c4.safetensors"


def test_the_pinned_file_wherever_it_lies_is_the_entry(tmp_path: Path) -> None:
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(SHIPPED.read_bytes())
    assert name_own_weights(ENTRY, copy) is ENTRY


@pytest.mark.parametrize("pinned", [True, False])
def test_two_checkpoints_of_ones_own_are_two_rows(tmp_path: Path, pinned: bool) -> None:
    entry = ENTRY
    if not pinned:
        weights = ENTRY.weights.model_copy(update={"sha256": None})
        entry = ENTRY.model_copy(update={"weights": weights})
    rows = set()
    for epoch in range(2):
        path = tmp_path / f"epoch{epoch}.safetensors"
        save_file({"x": torch.full((2,), float(epoch))}, path)
        own = name_own_weights(entry, path)
        assert own.row_name == f"patch-pca-f8c4@weights-{sha256_file(path)[:8]}"
        assert check_run_name(own.row_name) == own.row_name
        assert not is_pinned(own)
        assert check_hashes(own, find_weights(own, path)) == {path.name: sha256_file(path)}
        rows.add(own.row_name)
    assert len(rows) == 2


def test_weights_given_by_hand_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(entries, "_SETTLED_NS", 0)
    monkeypatch.setattr(entries, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    path = tmp_path / "own.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    own = name_own_weights(ENTRY, path)
    for _seed in range(3):
        check_hashes(own, find_weights(own, path))
    assert read == [path]
    save_file({"x": torch.ones(3)}, path)
    assert name_own_weights(ENTRY, path).deviations != own.deviations
    assert read == [path, path]


def test_a_folder_is_named_by_all_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    names = set()
    for content in (b"{}", b"[]"):
        (folder / "config.json").write_bytes(content)
        (folder / "model.safetensors").write_bytes(SHIPPED.read_bytes())
        (folder / ".DS_Store").write_bytes(content)  # touched by a file manager, no weight
        names.add(name_own_weights(ENTRY, folder).row_name)
    assert len(names) == 2


def test_a_file_that_says_what_it_was_converted_from_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "claims.safetensors"
    said = json.dumps({"sha256": ENTRY.weights.sha256})  # three words that anybody can write
    save_file({"x": torch.zeros(1)}, path, metadata={CONVERTED: said})
    assert name_own_weights(ENTRY, path).row_name.startswith("patch-pca-f8c4@weights-")


def test_own_weights_come_before_other_deviations(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    chosen = EntrySelection((ENTRY,), ())
    assert apply_variant(chosen, (), Variant(), {}).entries == (ENTRY,)
    (own,) = apply_variant(chosen, (), Variant(), {ENTRY.name: path}).entries
    assert own.deviations == (f"weights-{sha256_file(path)[:8]}",)
    with pytest.raises(WeightsMismatch):
        check_hashes(ENTRY, find_weights(ENTRY, path))  # without a name of its own it is refused
