"""Conditions of publication: complete runs on the suite's pixels, pinned, made by committed code."""

from __future__ import annotations

from vtbench.results.schema import RunRecord


def find_unfit(record: RunRecord) -> str | None:
    """Return why a run may not be published, or None."""
    if not record.tokenizer.registered:
        return "it is of a model that is no registry entry"
    if record.protocol.source != "pass":
        return "its reconstructions were read from files"
    if not record.complete:
        return f"{record.n_done} of {record.n_expected} images, limit {record.protocol.limit}"
    if record.suite.manifest_sha256 is None:
        return "no manifest pins its images"
    if record.protocol.crop is not None:
        return f"its crop {record.protocol.crop} is not the suite's, so its pixels are not pinned"
    if not record.tokenizer.pinned:
        return "its weights are not pinned by revision and sha256"
    if record.environment.commit is None:
        return "it was not made from a checkout, so its code has no commit"
    if record.environment.dirty:
        return "it was made with uncommitted changes; commit, then run again"
    return None
