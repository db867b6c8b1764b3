"""Numbers that two images or two tokenizers cannot share to the last digit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from vtbench.commands.audit.case import Case
from vtbench.results.rows import Row

FLOATS = ("mse", "psnr_db", "ssim", "ms_ssim", "mae", "haarpsi", "lpips_alex", "lpips_vgg")

SHARE = 0.5
"""Of the images, on which two runs must not agree. Two tokenizers may agree on a blank page."""


def _numbers(row: Row) -> tuple[float, ...] | None:
    """Return what identifies a reconstruction; None for an exact one, which many may make."""
    if row["error"] is not None or row["mse"] in (None, 0.0):
        return None
    values = tuple(row[key] for key in FLOATS if row.get(key) is not None)
    return values if len(values) >= 3 else None


def audit_images(case: Case) -> Iterator[str]:
    """Yield two images of one run that have the same numbers and other pixels."""
    seen: dict[tuple[float, ...], Row] = {}
    for row in case.done:
        if (numbers := _numbers(row)) is None:
            continue
        other = seen.setdefault(numbers, row)
        if other["sha256"] != row["sha256"] and other["id"] != row["id"]:
            yield f"{row['id']} has the numbers of {other['id']}, to the last digit"
            return


def audit_exactness(case: Case) -> Iterator[str]:
    """Yield a tokenizer that loses something by its kind and returns every picture exactly."""
    tokenizer = case.record.tokenizer
    if tokenizer.kind in ("discrete", "continuous") and tokenizer.family != "sanity":
        rows = [row for row in case.done if row["mse"] is not None]
        exact = sum(row["mse"] == 0 for row in rows)
        if rows and exact > SHARE * len(rows):
            yield f"{exact} of {len(rows)} pictures come back exactly, through a code that loses"


def audit_runs(cases: Sequence[Case]) -> Iterator[str]:
    """Yield two runs of different tokenizers that have the same numbers, which no `same_output_as` in
    an entry declares; and runs of one OCR engine that read the same originals differently."""
    numbers = {
        case.record.run: {row["id"]: found for row in case.done if (found := _numbers(row))}
        for case in cases
    }
    for a, b in combinations(cases, 2):
        if not may_agree(a, b):
            of_a, of_b = numbers[a.record.run], numbers[b.record.run]
            shared = of_a.keys() & of_b.keys()
            equal = sum(of_a[name] == of_b[name] for name in shared)
            if shared and equal > SHARE * len(shared):
                yield (
                    f"{a.record.run} and {b.record.run} have the same numbers in {equal} of "
                    f"{len(shared)} images: one is the other's (`same_output_as` in its entry would "
                    "say so)"
                )
    yield from _readings(cases)


def may_agree(a: Case, b: Case) -> bool:
    """Return whether two runs may make the same pixels: those of one tokenizer or of the same weights,
    or those of which an entry says so."""
    one, other = a.record.tokenizer, b.record.tokenizer
    if one.name == other.name:  # of other seeds, dtypes or policies
        return not (one.stochastic and a.record.protocol.seed != b.record.protocol.seed)
    if one.weights and one.weights == other.weights:
        return True
    declared = [(x.entry.same_output_as if x.entry else ()) for x in (a, b)]
    return other.name in declared[0] or one.name in declared[1]


def _readings(cases: Sequence[Case]) -> Iterator[str]:
    first: dict[tuple[str, ...], tuple[str, list[str]]] = {}
    for case in cases:
        engine = tuple(f"{k}={v}" for k, v in sorted(case.record.protocol.ocr.items()))
        for row in case.done:
            if row["original_reading"] is None:
                continue
            key = (*engine, row["id"], str(row["sha256"]))
            run, reading = first.setdefault(key, (case.record.run, row["original_reading"]))
            if reading != row["original_reading"]:
                yield f"{case.record.run}: {row['id']}: reads the original otherwise than {run} does"
                break
