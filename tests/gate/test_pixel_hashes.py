"""Digests of the reconstructions' pixels, and the key of a run: what they give away."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vtbench.base.locations import published_dir
from vtbench.commands.audit.case import Case
from vtbench.commands.audit.folder import find_entry
from vtbench.commands.audit.pixel_hashes import audit_hashes, audit_hashes_of_runs
from vtbench.commands.audit.provenance import audit_provenance
from vtbench.registry.entries import Registry, load_registry
from vtbench.results.folder import Run, read_run, read_suite_folder
from vtbench.results.run_key import digest_key, has_own_key
from vtbench.results.schema import Inputs
from vtbench.suites.suites import load_suite


@cache
def registry() -> Registry:
    return load_registry()


@cache
def hashed(name: str) -> Run:
    """Return a published run as this version would have written it: with digests, and a key of its
    inputs. The digests are those of no picture, and equal where the pictures are."""
    run = read_run(published_dir("embedded") / name)
    rows = [
        row
        | {
            "reconstruction_sha256": row["sha256"]
            if row["mse"] == 0
            else hashlib.sha256(f"{row['sha256']} {row['mse']} {row['mae']}".encode()).hexdigest()
        }
        for row in run.rows
    ]
    inputs = Inputs(data=None, batch_size=None, measures="0" * 64, given=None)
    record = run.record.model_copy(update={"upgraded_from": None, "inputs": inputs})
    record = record.model_copy(update={"key": digest_key(record)})
    return replace(run.with_rows(rows), record=record)


def case(run: Run, *, same: Sequence[str] | None = None) -> Case:
    entry, _ = find_entry(run.record, registry())
    if entry is not None and same is not None:
        entry = entry.model_copy(update={"same_output_as": tuple(same)})
    folder = read_suite_folder(published_dir("embedded"))
    return Case(run, folder, load_suite("embedded"), entry, True)


def change(run: Run, n: int, **columns: Any) -> Run:
    """Return the run with the first n inexact rows changed."""
    left, rows = n, []
    for row in run.rows:
        if left and row["mse"]:
            row, left = {**row, **columns}, left - 1
        rows.append(row)
    return run.with_rows(rows)


@pytest.mark.slow
def test_honest_digests_are_believed() -> None:
    cases = [case(hashed(name)) for name in ("identity", "jpeg-lm", "jpeg-q25", "ref-vq-f16")]
    assert [what for one in cases for what in audit_hashes(one)] == []
    assert list(audit_hashes_of_runs(cases)) == []
    older = [case(read_run(published_dir("embedded") / "jpeg-q25"))]
    assert [*audit_hashes(older[0]), *audit_hashes_of_runs(older)] == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reconstruction_sha256": None}, "has no reconstruction_sha256"),
        ({"reconstruction_sha256": "x" * 64}, "is no sha256"),
        ({"reconstruction_sha256": "A" * 64}, "is no sha256"),
        ({"reconstruction_sha256": "<b>"}, "is no sha256"),
        ({"sha256": "zz"}, "sha256 is none: 'zz'"),
        ({"mse": 0.0}, "is not the original's, and mse is 0"),
    ],
)
def test_digests_that_cannot_be_are_found(columns: dict[str, Any], message: str) -> None:
    assert message in "\n".join(audit_hashes(case(change(hashed("jpeg-q25"), 2, **columns))))


def test_the_originals_digest_beside_an_error_is_found() -> None:
    run = hashed("jpeg-q25")
    rows = [row | {"reconstruction_sha256": row["sha256"]} for row in run.rows]
    assert "is the original's, and mse is" in "\n".join(audit_hashes(case(run.with_rows(rows))))


def test_two_images_of_one_digest_are_found() -> None:
    run = change(hashed("jpeg-q25"), 2, reconstruction_sha256="a" * 64, mse=2.0, mae=1.0)
    assert "has the pixels and the numbers of" in "\n".join(audit_hashes(case(run)))


def test_pixels_of_another_tokenizer_are_found() -> None:
    """With floats that were moved a little, so that no number is equal."""
    own, copied = hashed("jpeg-q25"), hashed("ref-vq-f16")
    digests = {row["id"]: row["reconstruction_sha256"] for row in own.rows}
    rows = [row | {"reconstruction_sha256": digests[row["id"]]} for row in copied.rows]
    found = "\n".join(audit_hashes_of_runs([case(own), case(copied.with_rows(rows))]))
    assert "have the same pixels in" in found and "the same pixels, and another error" in found


def test_what_an_entry_declares_is_compared() -> None:
    a, b = hashed("jpeg-lm"), hashed("jpeg-q25")
    assert a.record.environment.versions == b.record.environment.versions
    assert list(audit_hashes_of_runs([case(a), case(b)])) == []
    other = change(b, 1, reconstruction_sha256="b" * 64)
    found = "\n".join(audit_hashes_of_runs([case(a), case(other)]))
    assert "other pixels, and an entry says `same_output_as`" in found
    for own in ((), ("jpeg-q25",)):  # none says it, or one alone
        undeclared = "\n".join(audit_hashes_of_runs([case(a, same=own), case(b, same=())]))
        assert "have the same pixels in" in undeclared


@pytest.mark.slow
def test_a_key_follows_from_what_run_json_says() -> None:
    for path in sorted(published_dir("embedded").glob("*/run.json")):
        record = read_run(path.parent).record
        # Schema version 4 did not say all that its key is made of.
        assert has_own_key(record) is (None if record.upgraded_from == 4 else True)
    record = hashed("jpeg-q25").record
    assert has_own_key(record) is True


@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("environment", {"versions": {"torch": "9"}}),
        ("environment", {"threads": 64}),
        ("environment", {"device": "NVIDIA H200"}),
        ("environment", {"code_sha256": "0" * 64}),
        ("protocol", {"seed": 7}),
        ("protocol", {"limit": 3}),
        ("tokenizer", {"entry_sha256": "0" * 64}),
        ("tokenizer", {"weights": {"a": "0" * 64}}),
        ("suite", {"sha256": "0" * 64}),
        ("inputs", {"batch_size": 1}),
        ("inputs", {"measures": "1" * 64}),
    ],
)
def test_an_edited_record_has_not_its_key(version: int, part: str, changes: dict[str, Any]) -> None:
    own = read_run(published_dir("embedded") / "jpeg-q25") if version == 3 else hashed("jpeg-q25")
    if getattr(own.record, part) is None:
        return  # version 3 has no inputs
    inner = getattr(own.record, part).model_copy(update=changes)
    run = replace(own, record=own.record.model_copy(update={part: inner}))
    assert has_own_key(run.record) is False
    assert "its key is not that of what run.json says" in "\n".join(audit_provenance(case(run)))


def test_a_new_result_is_of_the_newest_schema() -> None:
    old = read_run(published_dir("embedded") / "jpeg-q25")
    late = replace(
        old, record=old.record.model_copy(update={"started": "2027-01-01T00:00:00+00:00"})
    )
    assert "of schema version 3, and newer than" in "\n".join(audit_provenance(case(late)))
    bare = replace(old, record=old.record.model_copy(update={"upgraded_from": None}))
    assert "inputs: missing" in "\n".join(audit_provenance(case(bare)))


def test_a_file_does_not_say_that_it_is_older(tmp_path: Path) -> None:
    shutil.copytree(published_dir("embedded") / "jpeg-q25", tmp_path / "jpeg-q25")
    path = tmp_path / "jpeg-q25" / "run.json"
    text = path.read_text()
    for line, message in (
        ('"upgraded_from": 3,', "upgraded_from: no key of schema version 3"),
        ('"inputs": null,', "inputs: no key of schema version 3"),
    ):
        path.write_text(text.replace("{", "{" + line, 1))
        with pytest.raises(Exception, match=message):
            read_run(path.parent)
