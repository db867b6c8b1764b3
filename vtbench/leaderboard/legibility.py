"""What runs of a suite of known text say line by line, as tables: how each is read, the smallest
legible height, what an engine seems to have mended, and how far engines agree. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from vtbench.base.errors import ResultsError
from vtbench.base.statistics import seed_of
from vtbench.metrics.legibility import (
    CER_LIMIT,
    LineReading,
    Repair,
    Threshold,
    find_threshold,
    group_readings,
    measure_agreement,
    measure_repair,
    score_readings,
)
from vtbench.results.folder import Run
from vtbench.suites.suites import Suite

LARGE_PX = 20
"""From this height on an engine must read the originals with a CER of at most CER_LIMIT; a script that
it reads worse is not published for it."""

PLAIN = "plain"
"""Condition of the pages that heights are compared on: upright black text on white."""

Readings = Mapping[str, Sequence[LineReading]]
"""Of each script the lines that an engine read; none where it cannot read the script."""


@dataclass(frozen=True)
class ReadingTable:
    """A table of readings.

    Attributes:
        title: what it is about.
        explanation: what its cells are.
        rows: the head first; every row of the same length.
    """

    title: str
    explanation: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class RunReadings:
    """A run with its lines. plain: those on plain pages, by script."""

    run: Run
    lines: Readings
    conditions: Mapping[str, str]
    seed: int

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.record.run

    @property
    def engine(self) -> str:
        """The OCR engine that read, "" for none."""
        return str(self.run.record.protocol.ocr.get("engine", ""))

    @property
    def stride(self) -> int | None:
        """Pixels of a token's side; None without a grid of tokens, and for pixels themselves."""
        stride = self.run.record.tokenizer.downsample
        return None if stride == 1 else stride

    def plain(self, script: str) -> list[LineReading]:
        """Return the script's lines on plain pages."""
        return [x for x in self.lines.get(script, ()) if self.conditions[x.page] == PLAIN]


def collect_readings(suite: Suite, run: Run) -> RunReadings:
    """Return the lines of a run by script, with the suite's true text.

    Raises:
        ResultsError: a run of another suite, or one whose readings do not fit its pages.
    """
    if run.record.suite.sha256 != suite.sha256:
        raise ResultsError(f"{run.folder}: measured under another version of suite {suite.name}")
    pages = {one.id: one.meta for one in suite.samples if {"lines", "script"} <= one.meta.keys()}
    scripts: dict[str, list[LineReading]] = {}
    for row in run.rows:
        if row["id"] not in pages or row["error"] is not None:
            continue
        meta = pages[row["id"]]
        own = scripts.setdefault(meta["script"], [])
        if row.get("reading") is None:
            continue
        texts = (meta["lines"], row["original_reading"], row["reading"])
        if len(set(map(len, texts))) != 1:
            raise ResultsError(f"{run.folder}: {row['id']}: not one reading a line")
        for line, original, reading in zip(*texts, strict=True):
            own.append(
                LineReading(
                    page=row["id"],
                    script=meta["script"],
                    kind=str(line.get("kind", meta.get("condition"))),
                    glyph_px=float(line.get("glyph_px", meta["glyph_px"])),
                    truth=line["text"],
                    original=original,
                    reading=reading,
                )
            )
    conditions = {page: str(meta.get("condition")) for page, meta in pages.items()}
    return RunReadings(run, scripts, conditions, seed_of(suite.sha256))


# One run


def describe_run(read: RunReadings) -> Iterator[ReadingTable]:
    """Yield the tables of a run: by script, by glyph height, by condition of the page, repair."""
    known = {script: lines for script, lines in read.lines.items() if lines}
    rows: list[tuple[str, ...]] = [_HEAD]
    for script, lines in read.lines.items():
        if lines:
            rows.append(_describe_script(read, script))
        else:
            rows.append((script, "-", "not applicable", *[""] * (len(_HEAD) - 3)))
    yield ReadingTable("by script", _BY_SCRIPT, tuple(rows))
    if heights := list(_describe_heights(read, list(known))):
        yield ReadingTable("by glyph height", _BY_HEIGHT, tuple(heights))
    columns = tuple(dict.fromkeys(read.conditions.values()))
    pages = [("CER by condition", *columns)]
    for script, lines in known.items():
        groups = group_readings(lines, lambda line: read.conditions[line.page])
        cells = (groups.get(column) for column in columns)
        pages.append((script, *(_percent_of(_rate(own)) if own else "-" for own in cells)))
    if known:
        yield ReadingTable("by condition of the page", "CER in per cent.", tuple(pages))
        repairs = [("script", "lost, sentences", "lost, random", "mended")]
        for script, lines in known.items():
            repairs.append((script, *_describe_repair(measure_repair(lines, seed=read.seed))))
        yield ReadingTable("repair check", _REPAIR, tuple(repairs))


_HEAD = (
    *("script", "lines", "CER", "WER", "T-ACC", "exact", "T-NED", "lost", "unreadable"),
    *(f"original >= {LARGE_PX} px", "smallest px", "in tokens"),
)

_BY_SCRIPT = (
    "Per cent. lost: of the glyphs that the engine reads on the original, those that it does not read "
    "after the tokenizer. unreadable: glyphs that it does not read on the original; they count in CER "
    f"alone. original: its CER on originals of {LARGE_PX} px and more. smallest: glyph height from "
    f"which on the CER is at most {100 * CER_LIMIT:g} % on plain pages, with its 95 % interval, in "
    "pixels and in tokens (height ÷ stride)."
)

_BY_HEIGHT = "CER in per cent on plain pages, by the height of a glyph in pixels and in tokens."

_REPAIR = (
    "Of the glyphs read on the original, the per cent lost in sentences, which a language model could "
    "mend, and in random strings of the same heights, which it could not. mended: 1 - first ÷ second, "
    "per cent with its 95 % interval. Around 0 the engine reads pixels; near 100 it guesses what it "
    "does not see."
)


def _describe_script(read: RunReadings, script: str) -> tuple[str, ...]:
    lines, plain = read.lines[script], read.plain(script)
    whole = score_readings(lines)
    scores = whole.scores
    floor = find_original_cer(read, script)
    told = "-" if floor is None else _percent_of(floor)
    if floor is not None and floor > CER_LIMIT:
        told += " not published"
    threshold = _threshold(plain, read.seed)
    return (
        script,
        str(scores.lines),
        _percent_of(scores.char_edits / scores.chars),
        _percent(scores.word_edits, scores.words),
        _percent(scores.words_read, scores.words),
        _percent(scores.exact_lines, scores.lines),
        f"{100 * scores.ned:.1f}",
        _percent(whole.lost, whole.readable),
        f"{whole.unreadable} of {scores.chars}",
        told,
        _describe_threshold(threshold, 1),
        _in_tokens(threshold, read.stride),
    )


def _describe_heights(read: RunReadings, scripts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    groups = {s: group_readings(read.plain(s), lambda line: line.glyph_px) for s in scripts}
    heights = sorted({px for own in groups.values() for px in own if isinstance(px, float)})
    if not heights:
        return
    yield ("CER by px", *(f"{px:g}" for px in heights))
    if read.stride:
        yield (f"tokens of {read.stride} px", *(f"{px / read.stride:.3g}" for px in heights))
    for script, own in groups.items():
        yield (script, *(_percent_of(_rate(own[px])) if px in own else "-" for px in heights))


def find_original_cer(read: RunReadings, script: str) -> float | None:
    """Return the engine's own CER on a script's originals of LARGE_PX and more, None without any.

    Of plain pages, or of all where the suite has no plain ones.
    """
    large = [x for x in read.plain(script) or read.lines[script] if x.glyph_px >= LARGE_PX]
    if not large:
        return None
    original = score_readings(large).original
    return original.char_edits / original.chars


def find_unpublishable_scripts(read: RunReadings) -> dict[str, float]:
    """Return the scripts that the engine reads too badly on the originals, with its CER there."""
    found = {script: find_original_cer(read, script) for script, own in read.lines.items() if own}
    return {script: cer for script, cer in found.items() if cer is not None and cer > CER_LIMIT}


# Several runs


def compare_runs(read: Sequence[RunReadings]) -> Iterator[ReadingTable]:
    """Yield the tables over runs: smallest legible height in pixels and in tokens, what was mended, how
    far engines agree; those without a number are left out."""
    scripts = list(dict.fromkeys(script for own in read for script in own.lines))

    def threshold(own: RunReadings, script: str) -> Threshold | None:
        return _threshold(own.plain(script), own.seed)

    def mended(own: RunReadings, script: str) -> str:
        return _describe_repair(measure_repair(own.lines[script], seed=own.seed))[-1]

    found = {(own.name, s): threshold(own, s) for own in read for s in scripts}
    limit = f"{100 * CER_LIMIT:g} %"
    for title, explanation, cell in (
        (
            "smallest legible glyph height, px",
            f"From this height on the CER is at most {limit} on plain pages; 95 % interval.",
            lambda own, s: _describe_threshold(found[own.name, s], 1),
        ),
        (
            "smallest legible glyph height, tokens",
            "The same ÷ the tokenizer's stride.",
            lambda own, s: _in_tokens(found[own.name, s], own.stride),
        ),
        ("mended, per cent", _REPAIR, mended),
    ):
        rows = list(_over_runs(read, scripts, cell))
        if any(text != "-" for row in rows for text in row[2:]):
            yield ReadingTable(title, explanation, (("run", "engine", *scripts), *rows))
    yield from _describe_agreement(read, scripts)


def _over_runs(
    read: Sequence[RunReadings],
    scripts: Sequence[str],
    cell: Callable[[RunReadings, str], str],
) -> Iterator[tuple[str, ...]]:
    for own in read:
        cells = (cell(own, script) if own.lines.get(script) else "-" for script in scripts)
        yield (own.name, own.engine, *cells)


def _describe_agreement(
    read: Sequence[RunReadings], scripts: Sequence[str]
) -> Iterator[ReadingTable]:
    """Yield how far each two engines agree that read the same tokenizer's pictures."""
    rows = []
    for one, other in combinations(read, 2):
        names = [own.run.record.tokenizer.name for own in (one, other)]
        if names[0] != names[1] or one.engine == other.engine:
            continue
        cells = [_agree(one, other, script) for script in scripts]
        if any(cell != "-" for cell in cells):
            rows.append((names[0], f"{one.engine} and {other.engine} agree", *cells))
    if rows:
        explanation = (
            "Per cent of the characters that both engines read alike on the same pictures, whether "
            "right or wrong: 1 - Levenshtein distance of the two readings ÷ the longer one's length."
        )
        yield ReadingTable("agreement", explanation, (("tokenizer", "engines", *scripts), *rows))


def _agree(one: RunReadings, other: RunReadings, script: str) -> str:
    own, others = one.lines.get(script, ()), other.lines.get(script, ())
    if not own or [x.truth for x in own] != [x.truth for x in others]:
        return "-"
    readings = {side: [x.reading for x in xs] for side, xs in (("a", own), ("b", others))}
    (rate,) = measure_agreement(readings, has_words=own[0].has_words).values()
    return "-" if rate is None else _percent_of(rate)


# Cells


def _threshold(plain: Sequence[LineReading], seed: int) -> Threshold | None:
    return find_threshold(plain, seed=seed) if len({x.glyph_px for x in plain}) > 1 else None


def _describe_threshold(threshold: Threshold | None, decimals: int) -> str:
    if threshold is None:
        return "-"
    smallest, largest = threshold.heights
    if threshold.px is not None:
        text = f"{threshold.px:.{decimals}f}"
    else:
        text = f"< {smallest:g}" if threshold.beyond == "below" else f"> {largest:g}"
    if threshold.low is None or threshold.high is None:
        return text
    low, high = (
        f"< {smallest:g}"
        if end < smallest
        else f"> {largest:g}"
        if end > largest
        else f"{end:.{decimals}f}"
        for end in (threshold.low, threshold.high)
    )
    return f"{text} [{low}, {high}]"


def _in_tokens(threshold: Threshold | None, stride: int | None) -> str:
    if threshold is None or stride is None:
        return "-"
    return _describe_threshold(threshold.in_tokens(stride), 2)


def _describe_repair(repair: Repair) -> tuple[str, str, str]:
    mendable, at_random = (
        "-" if share is None else _percent_of(share)
        for share in (repair.lost_mendable, repair.lost_random)
    )
    if repair.mended is None or repair.low is None or repair.high is None:
        return mendable, at_random, "too little lost"
    low, high = 100 * repair.low, 100 * repair.high
    return mendable, at_random, f"{100 * repair.mended:.0f} [{low:.0f}, {high:.0f}]"


def _rate(lines: Sequence[LineReading]) -> float:
    scores = score_readings(lines).scores
    return scores.char_edits / scores.chars


def _percent_of(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.1f}" if part is not None and whole else "-"
