"""Reading errors, counted again from the readings and the true lines; and scripts that an engine does
not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vtbench.base.errors import ResultsError
from vtbench.commands.audit.case import Case, tell_first
from vtbench.leaderboard.legibility import (
    LARGE_PX,
    collect_readings,
    find_unpublishable_scripts,
)
from vtbench.metrics.legibility import CER_LIMIT
from vtbench.metrics.ocr.reader import SCRIPTS_WITHOUT_SPACES
from vtbench.metrics.text import score_lines
from vtbench.results.folder import Run
from vtbench.suites.suites import Suite

COUNTED = ("char_edits", "word_edits", "ned")
"""What is counted of a reading."""


def audit_text(case: Case) -> Iterator[str]:
    """Yield reading errors that are not those of the row's readings, and of a run that is held to what
    may be published the scripts that its engine cannot read."""
    yield from tell_first(_compare(case))
    if case.published and case.suite is not None:
        yield from find_unreadable_scripts(case.suite, case.run)


def find_unreadable_scripts(suite: Suite, run: Run) -> Iterator[str]:
    """Yield why a run's reading of a script is not published: it would be of the engine's errors and
    not of the tokenizer's."""
    try:
        found = find_unpublishable_scripts(collect_readings(suite, run))
    except ResultsError:  # the readings do not fit the pages: `_compare` says of which
        return
    engine = run.record.protocol.ocr.get("engine", "its engine")
    for script, cer in found.items():
        yield (
            f"{engine} reads the originals of {script} of {LARGE_PX} px and more with a CER of "
            f"{100 * cer:.1f} %, above {100 * CER_LIMIT:g} %: that script is not published for it"
        )


def _compare(case: Case) -> Iterator[tuple[str, str]]:
    for row in case.done:
        sample = case.samples.get(row["id"])
        lines = sample.meta.get("lines") if sample is not None else None
        if row["reading"] is None and any(row[key] is not None for key in COUNTED):
            yield row["id"], "has reading errors and no reading"
        if row["reading"] is None or sample is None or lines is None:
            continue
        truth = [str(line["text"]) for line in lines]
        has_words = sample.meta["script"] not in SCRIPTS_WITHOUT_SPACES
        for prefix in ("", "original_"):
            read: Sequence[str] = row[f"{prefix}reading"] or ()
            if len(read) != len(truth):
                yield row["id"], f"{prefix}reading has not a line for each of the page's"
                continue
            scores = score_lines(truth, read, has_words=has_words)
            stated = {
                f"{prefix}char_edits": scores.char_edits,
                f"{prefix}word_edits": scores.word_edits,
                f"{prefix}ned": scores.ned,
                "chars": scores.chars,
                "words": scores.words,
                "lines": len(truth),
            }
            for key, value in stated.items():
                told = row[key]
                same = told == value or (
                    isinstance(value, float) and told is not None and abs(told - value) < 1e-9
                )
                if not same:
                    yield row["id"], f"{key} is not that of the readings: {told}, not {value}"
        if row["mse"] == 0 and row["reading"] != row["original_reading"]:
            yield row["id"], "the same picture as the original, and another reading"
