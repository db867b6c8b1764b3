"""The audit of metrics: which a run must have, in which version, and where a number may be absent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from vtbench.commands.audit.case import Case, tell_first
from vtbench.metrics.catalogue import METRICS, SET_METRICS, SET_TASK
from vtbench.results.rows import IMAGE_COLUMNS

MIN_SIDE: Mapping[str, int] = {
    "ssim": 11,
    "ms_ssim": 161,
    "lpips_alex": 31,
    "lpips_vgg": 16,
    "haarpsi": 16,
    "dists": 17,
}
"""Pixels of the shorter side below which a metric does not apply, as its definition says."""

ALWAYS = ("psnr_db", "mae", *MIN_SIDE)
"""Metrics that apply to every picture of their tasks that is large enough."""


def audit_states(case: Case) -> Iterator[str]:
    """Yield metrics that the suite does not ask for, that are absent without a reason, or that are
    measured and have no numbers."""
    suite, protocol = case.suite, case.record.protocol
    yield from _versions(case)
    if suite is None:
        return
    if case.published and set(protocol.tasks) != set(suite.protocol.tasks):
        yield f"tasks are {', '.join(protocol.tasks)}; the suite's {', '.join(suite.protocol.tasks)}"
    asked = {
        key
        for task, choice in suite.protocol.tasks.items()
        if task in protocol.tasks
        for key in choice.metrics
    }
    images = {key for key in asked if key not in SET_METRICS}
    if missing := sorted(images - set(protocol.metrics)):
        yield f"run.json has no record of {missing[0]}, which the suite asks for"
    if odd := sorted(set(protocol.metrics) - asked):
        yield f"run.json has a record of {odd[0]}, which the suite does not ask for"
    sets = {f"{SET_TASK}.{key}" for key in asked if key in SET_METRICS}
    if odd := sorted(set(case.record.sets) - sets):
        yield f"run.json has {odd[0]}, which the suite does not ask for"
    yield from _sets(case)
    yield from tell_first(_absent(case))


def _versions(case: Case) -> Iterator[str]:
    for key, record in case.record.protocol.metrics.items():
        if key not in METRICS:
            yield f"run.json has a metric {key}, which there is not"
        elif record.state == "measured" and not 1 <= record.version <= METRICS[key].version:
            yield f"version {record.version} of {key}; this vtbench has {METRICS[key].version}"
        elif record.state in ("missing", "failed") and not record.reason:
            yield f"{key} is {record.state} without a reason"
    for key in case.record.sets:
        task, _, metric = key.partition(".")
        if task != SET_TASK or metric.partition("@")[0] not in SET_METRICS:
            yield f"run.json has {key[:80]!r} in sets, which there is not"


def _sets(case: Case) -> Iterator[str]:
    n = sum(row["task"] == SET_TASK for row in case.run.rows)
    for key, record in case.record.sets.items():
        if record.state != "measured":
            if record.value is not None:
                yield f"{key} is {record.state} and has a value"
            continue
        if record.value is None or record.n != n:
            yield f"{key} is of {record.n} images, the run has {n}"
        elif record.value < 0 and not key.endswith(".kid"):
            yield f"{key} is negative: {record.value:g}"
        elif (record.standard_error or 0) < 0:
            yield f"{key} has a negative error"


def _absent(case: Case) -> Iterator[tuple[str, str]]:
    """Of a task's metrics all are there, but where a picture is too small; no other has a number."""
    assert case.suite is not None
    tasks, records = case.suite.protocol.tasks, case.record.protocol.metrics
    beside = set(IMAGE_COLUMNS)
    filled = {task: beside.union(_fill(choice.metrics)) for task, choice in tasks.items()}
    for row in case.done:
        choice = tasks.get(row["task"])
        if choice is None:
            yield row["id"], f"its task is none of the suite's: {row['task']}"
            continue
        for key in choice.metrics:
            record, value = records.get(key), row.get(key)
            if record is None or key not in row:
                continue
            if record.state in ("missing", "failed") and value is not None:
                yield row["id"], f"{key} is {record.state}, and has a number"
            side = min(row["width"], row["height"])
            applies = key in ALWAYS and side >= MIN_SIDE.get(key, 1)
            if record.state == "measured" and applies and value is None:
                yield row["id"], f"{key} has no number, and applies"
            if key in MIN_SIDE and side < MIN_SIDE[key] and value is not None:
                yield (
                    row["id"],
                    f"{key} has a number, and does not apply to a side of {side} pixels",
                )
        for column in row.keys() - filled[row["task"]]:
            if row[column] is not None:
                yield row["id"], f"{column} has a number, which nobody asked for"


def _fill(keys: Collection[str]) -> Iterator[str]:
    """Yield the row columns that the metrics fill. One function may stand behind several metrics, and
    gives the columns of all of them at once: a page is read once."""
    functions = {METRICS[key].function for key in keys} - {""}
    for key, metric in METRICS.items():
        if key in keys or metric.function in functions:
            yield from metric.row_columns
