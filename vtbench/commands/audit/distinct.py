"""Numbers that two images or two tokenizers cannot share to the last digit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from vtbench.commands.audit.case import Case
from vtbench.results.rows import Row

FLOATS = ("mse", "psnr_db", "ssim", "ms_ssim", "mae", "haarpsi", "lpips_alex", "lpips_vgg")

PIXEL_SUMS = ("mse", "psnr_db", "mae")
"""A picture and its mirror image may share these; others are sums in another order then."""

SHARE = 0.5
"""Of the images, on which two runs must not agree. Two tokenizers may agree on a blank page."""


def _numbers(row: Row) -> tuple[float, ...] | None:
    """Return what identifies a reconstruction; None for an exact one, which many may make."""
    if row["error"] is not None or row["mse"] in (None, 0.0):
        return None
    values = tuple(row[key] for key in FLOATS if row.get(key) is not None)
    return values if len(values) >= 3 else None


def audit_images(case: Case) -> Iterator[str]:
    """Yield two images of one run that have the same numbers and other pixels; of a run that is held to
    what may be published, of whose suites no picture is another's mirror image, two such numbers."""
    if case.published and (pair := _find_copied(case.done)) is not None:
        yield f"{pair[0]} has numbers of {pair[1]}, to the last digit: {', '.join(pair[2])}"
        return
    seen: dict[tuple[float, ...], Row] = {}
    for row in case.done:
        if (numbers := _numbers(row)) is None:
            continue
        other = seen.setdefault(numbers, row)
        if other["sha256"] != row["sha256"] and other["id"] != row["id"]:
            yield f"{row['id']} has the numbers of {other['id']}, to the last digit"
            return


def _find_copied(rows: Sequence[Row]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return two images of other pixels that share at least two numbers that are not 0 or 1, one of
    which is no sum over pixels, and which."""
    first: dict[tuple[str, float], Row] = {}
    for row in rows:
        shared: dict[str, list[str]] = {}
        for key, value in _list_numbers(row):
            other = first.setdefault((key, value), row)
            if other["sha256"] != row["sha256"] and key != "psnr_db":
                shared.setdefault(other["id"], []).append(key)
        for name, keys in shared.items():
            if len(keys) > 1 and not set(keys) <= set(PIXEL_SUMS):
                return row["id"], name, tuple(keys)
    return None


def _list_numbers(row: Row) -> list[tuple[str, float]]:
    """Return (column, value) of what hardly any two reconstructions share: at 0 and 1 many meet."""
    if row["error"] is not None or row["mse"] in (None, 0.0):
        return []
    values = ((key, row.get(key)) for key in FLOATS)
    return [(key, value) for key, value in values if value is not None and value not in (0.0, 1.0)]


def audit_exactness(case: Case) -> Iterator[str]:
    """Yield a tokenizer that loses something by its kind and returns every picture exactly."""
    tokenizer = case.record.tokenizer
    if tokenizer.kind in ("discrete", "continuous") and tokenizer.family != "sanity":
        rows = [row for row in case.done if row["mse"] is not None]
        exact = sum(row["mse"] == 0 for row in rows)
        if rows and exact > SHARE * len(rows):
            yield f"{exact} of {len(rows)} pictures come back exactly, through a code that loses"


def audit_runs(cases: Sequence[Case]) -> Iterator[str]:
    """Yield two runs of different tokenizers that have the same numbers in a column, which no
    `same_output_as` in an entry declares; and runs of one OCR engine that read the same originals
    differently."""
    numbers = {
        case.record.run: {
            row["id"]: dict(found) for row in case.done if (found := _list_numbers(row))
        }
        for case in cases
    }
    for a, b in combinations(cases, 2):
        if not may_agree(a, b):
            of_a, of_b = numbers[a.record.run], numbers[b.record.run]
            for key in FLOATS:  # one alone: the others may have been changed by a little
                pairs = [
                    (of_a[name][key], of_b[name][key])
                    for name in of_a.keys() & of_b.keys()
                    if key in of_a[name] and key in of_b[name]
                ]
                equal = sum(one == other for one, other in pairs)
                if pairs and equal > SHARE * len(pairs):
                    yield (
                        f"{a.record.run} and {b.record.run} have the same numbers ({key}) in {equal} "
                        f"of {len(pairs)} images: one is the other's (`same_output_as` in both "
                        "entries would say so)"
                    )
                    break
    yield from _readings(cases)


def may_agree(a: Case, b: Case) -> bool:
    """Return whether two runs may make the same pixels: those of one tokenizer or of the same weights,
    or those of which both entries say so: a submission's own word is not enough."""
    one, other = a.record.tokenizer, b.record.tokenizer
    if one.name == other.name:  # of other seeds, dtypes or policies
        return not (one.stochastic and a.record.protocol.seed != b.record.protocol.seed)
    if one.weights and one.weights == other.weights:
        return True
    declared = [(x.entry.same_output_as if x.entry else ()) for x in (a, b)]
    return other.name in declared[0] and one.name in declared[1]


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
