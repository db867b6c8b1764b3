"""What stands below a board: the protocol, the machine, what is missing and why, what each column
means. Plain sentences; a `command` is between backticks. No paths, host names or clock times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vtbench.base.locations import without_paths
from vtbench.base.statistics import LEVEL, MANY_UNITS, MIN_UNITS, RESAMPLES, RESAMPLES_OF_MANY
from vtbench.leaderboard.aggregate import INCOMPLETE, suite_label
from vtbench.leaderboard.board import Board, Cell, Column, Line
from vtbench.leaderboard.columns import CHART_METRICS, TEXT_METRICS
from vtbench.leaderboard.pools import PSNR_CAP_DB
from vtbench.results.schema import RunRecord

_ValueOf = Callable[[RunRecord], str]

MAX_NAMED = 8
"""A list of images or runs longer than this is cut and counted."""


@dataclass(frozen=True)
class Note:
    """A heading and its sentences."""

    heading: str
    lines: tuple[str, ...]


def write_footnotes(board: Board, columns: Sequence[Column]) -> tuple[Note, ...]:
    """Return the notes of a board whose overview shows `columns`; empty ones are left out."""
    notes = (
        Note("Suite", tuple(_suite(board))),
        Note("How to read", tuple(_reading(board, columns))),
        Note("Intervals", tuple(_intervals(board))),
        Note("Protocol", tuple(_protocol(board.lines))),
        Note("Machine", tuple(describe_machine(board.lines))),
        Note("Missing and failed", tuple(describe_missing(board, columns))),
        Note("Not run", tuple(_skipped(board))),
        Note("Columns", tuple(_definitions(board))),
    )
    return tuple(note for note in notes if note.lines)


def usual_n(column: Column, lines: Iterable[Line]) -> int:
    """Return how many images (or patches) most of the column's numbers come from; 0 for none."""
    counts: dict[int, int] = {}
    for line in lines:
        cell = line.cells.get(column.key)
        if cell is not None and cell.state == "measured":
            counts[cell.n] = counts.get(cell.n, 0) + 1
    return max(counts, key=lambda n: (counts[n], n), default=0)


def describe_n(columns: Iterable[Column], lines: Sequence[Line]) -> str:
    """Return how many images (or patches) stand behind the columns, group by group."""
    groups: dict[str, dict[str, list[str]]] = {}
    wholes: dict[str, int] = {}
    for column in columns:
        n = usual_n(column, lines)
        if n and column.task is not None:
            counted = str(n)
            if column.metric.key in CHART_METRICS:
                counted += " patches"
            else:
                wholes[column.group] = max(n, wholes.get(column.group, 0))
            groups.setdefault(column.group, {}).setdefault(counted, []).append(column.label)
    parts = []
    for group, by_n in groups.items():
        whole = str(wholes.get(group, ""))
        others = [f"{', '.join(labels)}: {n}" for n, labels in by_n.items() if n != whole]
        parts.append(f"{group} {whole}" + (f" ({'; '.join(others)})" if others else ""))
    return f"Images behind a number: {', '.join(parts)}." if parts else ""


def describe_machine(lines: Sequence[Line]) -> Iterable[str]:
    """Return what the runs ran on and with; where they differ, which ran on what."""
    records = [record for line in lines for record in line.records]
    yield from _fact("Device", records, lambda r: r.environment.device)
    yield from _fact("Processor", records, lambda r: r.environment.processor)
    yield from _fact("Threads", records, lambda r: str(r.environment.threads))
    yield from _fact("Platform", records, lambda r: r.environment.platform)
    yield from _fact("Python", records, lambda r: r.environment.python)
    yield from _libraries(records)
    yield from _fact("vtbench", records, lambda r: r.environment.vtbench)
    yield from _fact("Commit", records, describe_commit)
    yield from _fact("Measuring code", records, lambda r: r.environment.code_sha256[:12])


def describe_commit(record: RunRecord) -> str:
    """Return the commit of vtbench that a run was made with, "+dirty" where it had changes."""
    here = record.environment
    if here.commit is None:
        return "none (installed package)"
    return here.commit[:12] + ("+dirty" if here.dirty else "")


def _suite(board: Board) -> Iterable[str]:
    suite = board.suite
    yield f"{suite_label(suite)}: {suite.title}."
    if suite.images:
        counts = ", ".join(f"{n} {task}" for task, n in suite.images.items())
        yield f"{sum(suite.images.values())} images: {counts}."
    if suite.cost_subset is not None:
        runs = [line.run for line in board.complete if line.run]
        sizes = runs[0].list_sizes("subset", suite.cost_subset) if runs else {}
        size = "{}×{}".format(*next(iter(sizes))) if len(sizes) == 1 else "several sizes"
        yield (
            f"Tokens, bits, encode and decode are of the {sum(sizes.values())} {suite.cost_subset} "
            f"images ({size})."
        )
    run = next((line.run for line in board.complete if line.run), None)
    pixels = [] if run is None else run.table["sha256"].drop_null().to_pylist()
    if copies := len(pixels) - len(set(pixels)):
        yield (
            f"{copies} of these images are copies of others, pixel for pixel: for intervals and tests "
            "an image and its copies are one draw."
        )
    if not suite.pinned:
        yield (
            "Unpinned: no manifest pins the pixels of these images. Numbers of two machines are of the "
            "same images where the rows' sha256 are the same. Such results are not published."
        )
    elif not suite.published:
        yield "An ad-hoc suite: its numbers are comparable within this folder alone."


def _reading(board: Board, columns: Sequence[Column]) -> Iterable[str]:
    yield (
        "↑ more is better, ↓ less is better. Bold: no tokenizer or codec of this table does as "
        "well at this rate (bpp of the same task) or less. Sanity rows take no part."
    )
    yield (
        "missing: something was not on the machine. failed (k of n): k of n images gave no number. "
        "n/a: the question does not apply. –: the run is incomplete and has no numbers."
    )
    if n := describe_n(columns, board.complete):
        yield n + " Where a number has another n, it says so."
    for line in board.originals:
        error = ", ".join(
            f"{column.label} {line.cells[column.key].value:.{column.metric.decimals}f}"
            for column in board.columns
            if column.whole
            and column.metric.key in TEXT_METRICS
            and line.cells[column.key].value is not None
        )
        yield f"{line.name}: {error}. The engine errs so much without any tokenizer."
    warnings: dict[str, list[str]] = {}
    for column in board.columns:
        for warning in {line.cells[column.key].warning for line in board.complete} - {None}:
            labels = warnings.setdefault(str(warning), [])
            labels += [column.label] if column.label not in labels else []
    for warning, labels in sorted(warnings.items()):
        yield f"{', '.join(labels)}: {warning}."
    if any(
        cell.standard_error is not None for line in board.complete for cell in line.cells.values()
    ):
        yield "±: standard error of a number of the whole set."
    if any(line.other_seeds for line in board.complete):
        yield "± beside a run of several seeds: the standard deviation between them."
    capped = [f"{line.name} {line.capped}" for line in board.complete if line.capped]
    if capped:
        yield (
            f"Images reproduced so exactly that their PSNR is the cap of {PSNR_CAP_DB:g} dB, "
            f"counted in the mean: {', '.join(capped)}."
        )


def _intervals(board: Board) -> Iterable[str]:
    rates = [column for column in board.columns if column.whole and column.metric.key == "bpp"]
    cells = {
        column.group: cell
        for line in board.complete
        for column in rates
        if (cell := line.cells[column.key]).low is not None
    }
    if not cells:
        return
    draws = _draws(cells.values())
    yield (
        f"The range beside or below a number is its {LEVEL:.0%} interval: how far it would move had "
        "other images of the same kinds been taken. Bootstrap, BCa (Efron & Tibshirani 1993, 14.3) "
        f"with Student's quantile; {draws} draws within subsets, n − 1 of a subset's n (Rao & Wu "
        f"1988); seed {board.suite.sha256[:16]}, of the suite. The same draws serve every run."
    )
    yield f"Drawn: {'; '.join(_drawn(group, cell) for group, cell in cells.items())}."
    yield (
        "In simulations 93 to 95 of 100 such intervals hold the true value; about 91 where a few "
        "images make most of it."
    )
    yield (
        f"No interval: fewer than {MIN_UNITS} pictures; pictures that all agree; CER and WER without "
        "any error; contrast transfer and MTF50, whose charts are a fixed set and no sample; encode, "
        "decode and memory, which vary with the machine and not with the images."
    )
    if any(column.metric.key == "mtf50_fit_cpp" for column in board.columns):
        yield (
            "MTF50 (fit) and MTF10 (fit): percentile interval of a bootstrap over the gratings of each "
            "frequency, not over images."
        )
    yield (
        "Runs whose intervals overlap may still differ beyond doubt, since they had the same images: "
        "`vtbench compare A B` tells."
    )
    if any(line.ranks for line in board.lines):
        yield (
            "Ranks: the places among tokenizers and codecs, whatever their rate, between which "
            f"{LEVEL:.0%} of the draws put a run. Equal runs share theirs."
        )


def _draws(cells: Iterable[Cell]) -> str:
    pictures = [len(cell.shares.images.names) for cell in cells if cell.shares is not None]
    draws = [str(RESAMPLES)] if min(pictures) <= MANY_UNITS else []
    if max(pictures) > MANY_UNITS:
        draws.append(f"{RESAMPLES_OF_MANY} (over {MANY_UNITS} pictures)")
    return " or ".join(draws)


def _drawn(group: str, cell: Cell) -> str:
    assert cell.shares is not None
    images, pictures = len(cell.shares.images.ids), len(cell.shares.images.names)
    if images == pictures:
        return f"{group} {images} images"
    return f"{group} {pictures} pictures, each with all of its parts among the {images} images"


def _protocol(lines: Sequence[Line]) -> Iterable[str]:
    records = [record for line in lines for record in line.records]
    yield from _fact("dtype", records, lambda r: r.protocol.dtype)
    yield from _fact("Seed", records, lambda r: str(r.protocol.seed))
    yield from _fact("OCR engine", records, _engine)
    yield from _fact("Metric versions", records, _metric_versions)
    for label, names in (
        ("Random, seed fixed", [r.run for r in records if r.tokenizer.stochastic]),
        (
            "Mean ± standard deviation over seeds",
            [
                f"{line.name} ({', '.join(str(r.protocol.seed) for r in line.records)})"
                for line in lines
                if line.other_seeds
            ],
        ),
        ("Weights not pinned by sha256", [r.run for r in records if not r.tokenizer.pinned]),
        (
            "Resized to the network's size and back",
            [line.name for line in lines if line.run and line.run.has("fit", "resize")],
        ),
        (
            "Cut into tiles of the network's size, each by itself",
            [line.name for line in lines if line.run and line.run.has("fit", "tile")],
        ),
    ):
        if names:
            yield f"{label}: {', '.join(names)}."


def _engine(record: RunRecord) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(record.protocol.ocr.items())) or "none"


def _metric_versions(record: RunRecord) -> str:
    """Return the versions; the many that are 1 are not spelled out."""
    metrics = record.protocol.metrics
    later = [f"{key} {metric.version}" for key, metric in metrics.items() if metric.version != 1]
    return ", ".join([*sorted(later), "the others 1"] if later else ["all 1"])


def _libraries(records: Sequence[RunRecord]) -> Iterable[str]:
    versions: dict[str, dict[str, str]] = {}
    for record in records:
        for name, version in (record.environment.versions | record.tokenizer.libraries).items():
            versions.setdefault(name, {})[record.run] = version
    same = {n: next(iter(v.values())) for n, v in versions.items() if len(set(v.values())) == 1}
    if same:
        yield f"Libraries: {', '.join(f'{name} {same[name]}' for name in sorted(same))}."
    for name in sorted(set(versions) - set(same)):
        yield _tell(name, versions[name])


def _fact(label: str, records: Sequence[RunRecord], value_of: _ValueOf) -> Iterable[str]:
    values = {record.run: value_of(record) for record in records}
    if values:
        yield _tell(label, values)


def _tell(label: str, values: Mapping[str, str]) -> str:
    """Return "label: value." or, where runs differ, each value with its runs."""
    runs: dict[str, list[str]] = {}
    for run, value in sorted(values.items()):
        runs.setdefault(value, []).append(run)
    if len(runs) == 1:
        return f"{label}: {next(iter(runs))}."
    order = sorted(runs, key=lambda value: (-len(runs[value]), value))
    groups = [f"{value} ({', '.join(runs[value])})" for value in order]
    if len(runs[order[0]]) > len(runs[order[1]]) and len(runs[order[0]]) > 3:
        groups[0] = f"{order[0]} ({len(runs[order[0]])} runs)"
    return f"{label} differs: {'; '.join(groups)}."


def describe_missing(board: Board, columns: Sequence[Column]) -> Iterable[str]:
    """Return what is incomplete, missing or failed, and why; columns: those that are shown."""
    shown = {column.key for column in columns}
    if board.left_out:
        told = [f"{failure.id} ({without_paths(failure.error)})" for failure in board.left_out]
        more = f" and {len(told) - MAX_NAMED} more" if len(told) > MAX_NAMED else ""
        yield (
            f"Originals that cannot be read are left out for all rows alike, and such results are not "
            f"published: {'; '.join(told[:MAX_NAMED])}{more}."
        )
    for complaint in board.damaged:
        yield f"A run is left out: {without_paths(complaint)}."
    for line in board.lines:
        if line.problem is not None:
            yield f"{line.name} is incomplete: {line.problem}.{_first_failures(line)}"
    reasons: dict[tuple[str, str, str], list[str]] = {}
    labels: dict[str, list[Column]] = {}
    for column in board.columns:
        if column.whole:
            labels.setdefault(column.metric.key, []).append(column)
    for key, of_metric in labels.items():
        for line in board.complete:
            for cell in {line.cells[c.key] for c in of_metric}:
                # A refused set metric is not applicable, and says why.
                refused = cell.state == "not-applicable" and cell.reason is not None
                if cell.state in ("missing", "failed") or refused:
                    if cell.reason == INCOMPLETE:
                        continue
                    reason = without_paths(cell.reason or "no reason was recorded")
                    reasons.setdefault((key, cell.state, reason), []).append(line.name)
    for (key, state, reason), names in reasons.items():
        runs = sorted(set(names))
        whole = len(runs) == len(board.complete)
        who = "all runs" if whole else ", ".join(runs)
        dropped = whole and not any(c.key in shown for c in labels[key])
        fetch = ""
        if state == "missing" and "vtbench fetch" not in reason:
            fetch = f" (`vtbench fetch --suite {board.suite.name}` brings what is missing)"
        yield (
            f"{labels[key][-1].label} {state} in {who}{', so it has no column' if dropped else ''}: "
            f"{reason.rstrip('.')}{fetch}."
        )


def _first_failures(line: Line) -> str:
    failures = line.record.failures
    named = [f"{f.id}: {without_paths(f.error)}" for f in failures[:MAX_NAMED]]
    if len(failures) > MAX_NAMED:
        named.append(f"and {len(failures) - MAX_NAMED} more")
    return f" {'; '.join(named)}." if named else ""


def _skipped(board: Board) -> Iterable[str]:
    """Return the skipped entries, one sentence for each reason that differs in more than the name."""
    groups: dict[str, list[str]] = {}
    for skipped in board.suite.skipped:
        name = re.compile(rf"(?<![\w.-]){re.escape(skipped.name)}(?![\w-]|\.\w)")
        reason = name.sub("NAME", without_paths(skipped.reason)).rstrip(".")
        groups.setdefault(reason, []).append(skipped.name)
    for reason, names in sorted(groups.items()):
        sentence = reason if len(names) > 1 else reason.replace("NAME", names[0])
        yield f"{', '.join(sorted(names))}: {sentence}."


def _definitions(board: Board) -> Iterable[str]:
    metrics = {column.metric.key: column.metric for column in board.columns}
    for metric in metrics.values():
        unit = f" ({metric.unit})" if metric.unit else ""
        yield f"{metric.label}{unit}, `{metric.key}`: {metric.definition} Pooled: {metric.pooled}."
