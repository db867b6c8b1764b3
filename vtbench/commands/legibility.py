"""`vtbench legibility`: what runs of a suite of known text say line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import click

from vtbench.base import locations
from vtbench.base.errors import ResultsError
from vtbench.base.statistics import seed_of
from vtbench.base.text_table import format_table
from vtbench.commands.options import FOLDER, data_option
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
from vtbench.results.folder import Run, read_run, read_runs
from vtbench.suites.suites import Suite, load_suite

LARGE_PX = 20
"""From this height on an engine must read the originals with a CER of at most CER_LIMIT; a script that
it reads worse is not to be published for it."""

Readings = Mapping[str, Sequence[LineReading]]
"""Of each script the lines that an engine read; none where it cannot read the script."""


@click.command("legibility")
@click.argument("names", nargs=-1, metavar="[RUN ...]")
@click.option("--suite", "suite_name", default="text-multilingual", show_default=True)
@click.option("--results", type=FOLDER, metavar="DIR", help="Default: results/local/SUITE.")
@data_option
def legibility_command(
    names: tuple[str, ...],
    suite_name: str,
    results: Path | None,
    data_folders: tuple[Path, ...],
) -> None:
    """Print how text is read, by script and glyph height, of runs that are there.

    Without names: every run. Printed are error rates, the smallest legible height, what an engine
    seems to have mended, and how far engines agree.
    """
    suite = load_suite(suite_name, data_folders)
    folder = results or locations.local_dir(suite_name)
    runs = [read_run(folder / name) for name in names] if names else read_runs(folder)
    if not runs:
        raise ResultsError(f"{folder}: no runs; measure one by `vtbench run --suite {suite_name}`")
    read = {run.record.run: (run, collect_readings(suite, run)) for run in runs}
    for run, readings in read.values():
        for line in describe_run(suite, run, readings):
            click.echo(line)
    for line in describe_agreement([*read.values()]):
        click.echo(line)


def collect_readings(suite: Suite, run: Run) -> dict[str, list[LineReading]]:
    """Return the lines of a run by script, with the suite's true text.

    Raises ResultsError for a run of another suite, or one whose readings do not fit its pages.
    """
    if run.record.suite.sha256 != suite.sha256:
        raise ResultsError(f"{run.folder}: measured under another version of suite {suite.name}")
    pages = {sample.id: sample.meta for sample in suite.samples if "lines" in sample.meta}
    scripts: dict[str, list[LineReading]] = {}
    for row in run.rows:
        if row["id"] not in pages or row["error"] is not None:
            continue
        meta = pages[row["id"]]
        own = scripts.setdefault(meta["script"], [])
        if row["reading"] is None:
            continue
        texts = (meta["lines"], row["original_reading"], row["reading"])
        if len(set(map(len, texts))) != 1:
            raise ResultsError(f"{run.folder}: {row['id']}: not one reading a line")
        for line, original, reading in zip(*texts, strict=True):
            own.append(
                LineReading(
                    page=row["id"],
                    script=meta["script"],
                    kind=line.get("kind", meta["condition"]),
                    glyph_px=float(line.get("glyph_px", meta["glyph_px"])),
                    truth=line["text"],
                    original=original,
                    reading=reading,
                )
            )
    return scripts


def describe_run(suite: Suite, run: Run, scripts: Readings) -> Iterator[str]:
    """Yield the lines of a run's tables: by script, by glyph height, by condition of the page, and what
    was mended."""
    record, seed = run.record, seed_of(suite.sha256)
    engine = record.protocol.ocr
    version = engine.get(engine.get("engine", ""), "")
    yield f"{record.run} · read by {engine.get('engine', 'nothing')} {version}".rstrip()
    conditions = {page.id: str(page.meta.get("condition")) for page in suite.samples}
    columns = tuple(dict.fromkeys(conditions.values()))
    rows: list[tuple[str, ...]] = [_HEAD]
    heights: list[tuple[str, ...]] = []
    pages: list[tuple[str, ...]] = [("CER by condition", *columns)]
    repairs: list[tuple[str, ...]] = [("script", "lost, sentences", "lost, random", "mended")]
    for script, lines in scripts.items():
        if not lines:
            rows.append((script, "-", "not applicable", *[""] * (len(_HEAD) - 3)))
            continue
        upright = [line for line in lines if conditions[line.page] == "plain"]
        rows.append(_describe_script(script, lines, upright, record.tokenizer.downsample, seed))
        by_height = group_readings(sorted(upright, key=_height), _height)
        if by_height and not heights:
            heights.append(("CER by px", *(f"{px:g}" for px in by_height)))
        if by_height:
            rates = (_rate(own) for own in by_height.values())
            heights.append((script, *(f"{100 * rate:.1f}" for rate in rates)))
        by_condition = group_readings(lines, lambda line: conditions[line.page])
        cells = (by_condition.get(column) for column in columns)
        pages.append((script, *(f"{100 * _rate(own):.1f}" if own else "-" for own in cells)))
        repairs.append((script, *_describe_repair(measure_repair(lines, seed=seed))))
    for table in (rows, heights, pages, repairs):
        if len(table) > 1:
            yield format_table(table)
            yield ""


_HEAD = (
    *("script", "lines", "CER", "WER", "T-ACC", "exact", "T-NED", "lost", "unreadable"),
    *(f"original >= {LARGE_PX} px", "smallest px", "in tokens"),
)


def _describe_script(
    script: str,
    lines: Sequence[LineReading],
    upright: Sequence[LineReading],
    stride: int | None,
    seed: int,
) -> tuple[str, ...]:
    whole = score_readings(lines)
    scores = whole.scores
    large = [line for line in upright or lines if line.glyph_px >= LARGE_PX]
    known = score_readings(large).original if large else None
    floor = "-"
    if known is not None:
        rate = known.char_edits / known.chars
        floor = f"{100 * rate:.1f}" + (" not published" if rate > CER_LIMIT else "")
    threshold = (
        find_threshold(upright, seed=seed) if len({_height(line) for line in upright}) > 1 else None
    )
    tokens = threshold.in_tokens(stride) if threshold and stride else None
    return (
        script,
        str(scores.lines),
        f"{100 * scores.char_edits / scores.chars:.1f}",
        _percent(scores.word_edits, scores.words),
        _percent(scores.words_read, scores.words),
        _percent(scores.exact_lines, scores.lines),
        f"{100 * scores.ned:.1f}",
        _percent(whole.lost, whole.readable),
        f"{whole.unreadable} of {scores.chars}",
        floor,
        _describe_threshold(threshold),
        "-" if tokens is None else f"{tokens:.2f}",
    )


def _describe_threshold(threshold: Threshold | None) -> str:
    if threshold is None:
        return "-"
    smallest, largest = threshold.heights
    if threshold.px is not None:
        text = f"{threshold.px:.1f}"
    else:
        text = f"< {smallest:g}" if threshold.beyond == "below" else f"> {largest:g}"
    if threshold.low is None or threshold.high is None:
        return text
    low, high = (min(max(end, smallest), largest) for end in (threshold.low, threshold.high))
    return f"{text} [{low:.1f}, {high:.1f}]"


def _describe_repair(repair: Repair) -> tuple[str, str, str]:
    mendable, at_random = (
        "-" if share is None else f"{100 * share:.1f}"
        for share in (repair.lost_mendable, repair.lost_random)
    )
    if repair.mended is None or repair.low is None or repair.high is None:
        return mendable, at_random, "too little lost"
    low, high = 100 * repair.low, 100 * repair.high
    return mendable, at_random, f"{100 * repair.mended:.0f} [{low:.0f}, {high:.0f}]"


def describe_agreement(read: Sequence[tuple[Run, Readings]]) -> Iterator[str]:
    """Yield how far each two engines agree that read the same tokenizer's pictures, by script."""
    for (one, first), (other, second) in combinations(read, 2):
        engines = [run.record.protocol.ocr.get("engine", "") for run in (one, other)]
        if one.record.tokenizer.name != other.record.tokenizer.name or len(set(engines)) == 1:
            continue
        rates = []
        for script in first:
            own, others = first[script], second.get(script, ())
            if not own or [x.truth for x in own] != [x.truth for x in others]:
                continue
            (rate,) = measure_agreement(
                {
                    engines[0]: [line.reading for line in own],
                    engines[1]: [line.reading for line in others],
                },
                has_words=own[0].has_words,
            ).values()
            rates.append(f"{script} {'-' if rate is None else f'{100 * rate:.1f}'}")
        if rates:
            name = one.record.tokenizer.name
            yield f"{name} · {' and '.join(engines)} agree: {', '.join(rates)}"


def _height(line: LineReading) -> float:
    return line.glyph_px


def _rate(lines: Sequence[LineReading]) -> float:
    scores = score_readings(lines).scores
    return scores.char_edits / scores.chars


def _percent(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.1f}" if part is not None and whole else "-"
