"""The audit of rows against the suite's manifest: images, sizes, pixels and ground truth."""

from __future__ import annotations

from collections.abc import Iterator

from vtbench.commands.audit.case import Case, tell_first


def audit_images(case: Case) -> Iterator[str]:
    """Yield what the rows say of their images that the manifest does not."""
    suite = case.suite
    if suite is None or not case.samples:
        return
    ids = {row["id"] for row in case.run.rows}
    if unknown := sorted(ids - set(case.samples)):
        yield f"{unknown[0]!r} is no image of {suite.name}"
    whole = case.record.protocol.limit is None and case.folder.partial is None
    if whole and (missing := sorted(set(case.samples) - ids)):
        yield f"{missing[0]} has no row (and {len(missing) - 1} more)"
    yield from tell_first(_compare(case))


def _compare(case: Case) -> Iterator[tuple[str, str]]:
    for row in case.run.rows:
        sample = case.samples.get(row["id"])
        if sample is None:
            continue
        stated: dict[str, object] = {
            "task": sample.task,
            "subset": sample.subset,
            "sha256": sample.sha256,
        }
        if sample.width and sample.height:
            stated |= {"width": sample.width, "height": sample.height}
        for key, value in stated.items():
            if value is not None and row[key] != value:
                yield row["id"], f"{key} is not the manifest's: {row[key]}, not {value}"
        patches = sample.meta.get("patches")
        if row["contrast_transfer"] is not None and patches is not None:
            cpp = [1.0 / patch["period_px"] for patch in patches]
            stated_cpp = row["patch_cpp"] or []
            if len(cpp) != len(stated_cpp) or any(
                abs(a - b) > 1e-9 for a, b in zip(cpp, stated_cpp, strict=True)
            ):
                yield row["id"], "patches are not the manifest's: another number or frequency"
            if len(row["contrast_transfer"]) != len(cpp):
                yield row["id"], "contrast_transfer has not a value a patch"
        if sample.meta.get("lines") is not None and row["lines"] is not None:
            for key in ("script", "glyph_px"):
                if row[key] != sample.meta.get(key):
                    yield row["id"], f"{key} is not the manifest's: {row[key]}"
