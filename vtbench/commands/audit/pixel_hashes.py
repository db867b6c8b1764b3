"""The audit of digests of reconstructions: which must be equal, and which must differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from vtbench.commands.audit.case import Case, tell_first
from vtbench.commands.audit.distinct import SHARE, may_agree
from vtbench.commands.audit.provenance import HEX
from vtbench.results.rows import Row

HASH = "reconstruction_sha256"


def audit_hashes(case: Case) -> Iterator[str]:
    """Yield digests that are none, that contradict the errors beside them, or that two images share."""
    if case.record.upgraded_from is None:
        for row in case.run.rows:
            if row["error"] is None and row[HASH] is None:
                yield f"{row['id']}: has no {HASH}"
                break
    yield from tell_first(_compare(case))
    seen: dict[str, Row] = {}
    for row in case.done:
        if row[HASH] is None:
            continue
        other = seen.setdefault(row[HASH], row)
        # Two originals may become one picture where little is left of them, with another error each.
        numbers = [(one["mse"], one["mae"]) for one in (row, other)]
        if other["sha256"] != row["sha256"] and row["mse"] and numbers[0] == numbers[1]:
            yield f"{row['id']} has the pixels and the numbers of {other['id']}"
            return
        if any(row[side] != other[side] for side in ("width", "height")):
            yield f"{row['id']} has the pixels of {other['id']}, which has another size"
            return
    hashed = [row for row in case.done if row[HASH] is not None and row["mse"]]
    originals = {row["sha256"] for row in hashed}
    if len({row[HASH] for row in hashed}) < SHARE * len(originals):
        yield f"{len(originals)} images have {len({row[HASH] for row in hashed})} reconstructions"


def _compare(case: Case) -> Iterator[tuple[str, str]]:
    for row in case.run.rows:
        digest = row[HASH]
        if row["sha256"] is not None and not HEX.fullmatch(row["sha256"]):
            yield row["id"], f"sha256 is none: {row['sha256'][:20]!r}"
        if digest is None:
            continue
        if not HEX.fullmatch(digest):
            yield row["id"], f"{HASH} is no sha256: {digest[:20]!r}"
        elif row["error"] is not None or row["mse"] is None:
            continue
        elif (digest == row["sha256"]) != (row["mse"] == 0):
            claim = "the original's" if row["mse"] else "not the original's"
            yield row["id"], f"{HASH} is {claim}, and mse is {row['mse']:g}"


def audit_hashes_of_runs(cases: Sequence[Case]) -> Iterator[str]:
    """Yield runs with the same pixels that must differ, or other pixels that must not
    (`same_output_as`), and the same pixels with another error."""
    hashed = [case for case in cases if any(row[HASH] for row in case.done)]
    rows = {
        case.record.run: {row["id"]: row for row in case.done if row[HASH] is not None}
        for case in hashed
    }
    for a, b in combinations(hashed, 2):
        names = f"{a.record.run} and {b.record.run}"
        of_a, of_b = rows[a.record.run], rows[b.record.run]
        pairs = [
            (of_a[image], of_b[image])
            for image in of_a.keys() & of_b.keys()
            if of_a[image]["sha256"] == of_b[image]["sha256"]
        ]
        same = [(one, other) for one, other in pairs if one[HASH] == other[HASH]]
        for one, other in sorted(same, key=lambda pair: str(pair[0]["id"])):
            if (one["mse"], one["mae"]) != (other["mse"], other["mae"]):
                yield f"{names}: {one['id']}: the same pixels, and another error"
                break
        lossy = [pair for pair in pairs if pair[0]["mse"] and pair[1]["mse"]]
        equal = sum(one[HASH] == other[HASH] for one, other in lossy)
        if lossy and equal > SHARE * len(lossy) and not may_agree(a, b):
            yield (
                f"{names} have the same pixels in {equal} of {len(lossy)} images: one is the other's "
                "(`same_output_as` in both entries would say so)"
            )
        if must_agree(a, b) and len(same) < len(pairs):
            image = min(str(one["id"]) for one, other in pairs if one[HASH] != other[HASH])
            yield f"{names}: {image}: other pixels, and an entry says `same_output_as`"


def must_agree(a: Case, b: Case) -> bool:
    """Return whether an entry says that both make the same pixels, and both ran on the same libraries
    by the same protocol."""
    if a.entry is None or b.entry is None or a.entry.deviations or b.entry.deviations:
        return False
    declared = b.entry.name in a.entry.same_output_as or a.entry.name in b.entry.same_output_as
    one, other = a.record, b.record
    return (
        declared
        and one.environment.versions == other.environment.versions
        and one.environment.platform == other.environment.platform
        and one.protocol.dtype == other.protocol.dtype
    )
