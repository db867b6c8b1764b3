"""Metrics that a finished run lacks: found by comparing keys, measured alone.

A run is current but for some metrics where the record that would be drafted without them has the run's
key. They are then measured on its kept reconstructions, or on those of one more pass that measures
nothing else. Either way the digest of each reconstruction must be the one that the run's row states, and
the other columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow.parquet as parquet

from vtbench.base.errors import CellFailed
from vtbench.metrics.catalogue import COSINE_METRICS, METRICS, SET_METRICS, SET_TASK
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run, write_run
from vtbench.results.partial import PartialRows
from vtbench.results.rows import IMAGE_COLUMNS, Row, is_unreadable
from vtbench.results.schema import MetricRecord, RunRecord
from vtbench.runs.kept_reconstructions import KeptReconstructor, ReconstructionSpool, has_all
from vtbench.runs.measuring import BatchMeter, Measured
from vtbench.runs.memory import PeakMemory
from vtbench.runs.meter import Meter, choose_functions
from vtbench.runs.provenance import Measures, describe_measures, draft_record
from vtbench.runs.reconstruction import Reconstruction, Reconstructor
from vtbench.runs.request import Request
from vtbench.runs.set_features import SetRun
from vtbench.suites.batches import Batch, BatchSize, PixelCache, make_batches
from vtbench.suites.copies import sort_for_reading
from vtbench.weights.entries import WeightFiles

FROM_PIXELS = ("pair", "samples", "ocr", "features", "set")
"""What can be measured on pixels alone; anything else needs the tokenizer (records.Takes)."""


@dataclass(frozen=True)
class Addition:
    """What a finished run lacks of a request.

    Args:
        run: the finished one.
        record: its run.json when it has all, but for the numbers of sets.
        keys: by task, the metrics to measure; none where only reconstructions are to be kept.
    """

    run: Run
    record: RunRecord
    keys: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that are measured, each once."""
        return tuple(dict.fromkeys(key for keys in self.keys.values() for key in keys))

    @property
    def from_pixels(self) -> bool:
        """Whether kept reconstructions are enough."""
        return all(METRICS[key].takes in FROM_PIXELS for key in self.names)


def is_current(request: Request, addition: Addition) -> bool:
    """Return whether a run has all that is asked for, and perhaps more."""
    run = addition.run
    if addition.keys or (request.keep and not has_all(run.folder, run.rows)):
        return False
    return addition.record.protocol.metrics == run.record.protocol.metrics


class Differs(Exception):
    """A reconstruction is not the one that the run's row is of."""


def find_addition(
    request: Request,
    entry: Entry,
    meter: Meter,
    found: WeightFiles | None,
    *,
    seed: int,
    run: Run,
) -> Addition | None:
    """Return what a run lacks of a request, None where it is not current in everything else.

    What it has beside what is asked for stays.

    Args:
        request: what is asked for.
        entry: the tokenizer.
        meter: what measures.
        found: the entry's weights.
        seed: of the run.
        run: a finished one of this name.
    """
    then, now = run.record.protocol, describe_measures(request, meter)
    if run.record.inputs is None or any(key not in METRICS for key in then.metrics):
        return None
    measured = {key for key, state in then.metrics.items() if state.state == "measured"}
    shared = [key for key in measured if _is_measured(now.states.get(key))]
    if any(key in now.states and key not in shared for key in measured):
        return None  # its weights are gone, or others: nobody can tell whether it is current
    reads = any(METRICS[key].takes == "ocr" for key in shared)
    networks = {**then.networks, **meter.sets.identify(shared)}
    ocr = now.ocr if reads else then.ocr
    before = Measures(then.metrics, ocr, networks, then.extra)
    old_request = _take_out(request, then.metrics)
    if draft_record(old_request, entry, before, found, seed=seed).key != run.record.key:
        return None
    clash = any(networks.get(name, digest) != digest for name, digest in now.networks.items())
    if clash or (now.ocr and ocr and dict(now.ocr) != dict(ocr)):
        return None
    states = dict(then.metrics)
    states |= {k: state for k, state in now.states.items() if k not in measured}
    extra = tuple(sorted({*then.extra, *now.extra}))
    after = Measures(states, now.ocr or ocr, {**networks, **now.networks}, extra)
    record = draft_record(request, entry, after, found, seed=seed)
    kept = {"n_done", "failures", "started", "seconds", "rows_sha256", "codes", "sets", "batches"}
    kept |= {"compilation"}
    record = record.model_copy(update={name: getattr(run.record, name) for name in kept})
    return Addition(run, record, _list_lacking(request, meter, run, measured))


def _is_measured(state: MetricRecord | None) -> bool:
    return state is not None and state.state == "measured"


def _take_out(request: Request, known: Iterable[str]) -> Request:
    """Return the request of a suite that has none of the metrics that a run does not know: a suite of
    one's own may have gained some."""
    suite, known = request.suite, set(known)
    tasks = dict(suite.protocol.tasks)
    for name in request.tasks:
        metrics = tuple(key for key in tasks[name].metrics if key in known)
        tasks[name] = tasks[name].model_copy(update={"metrics": metrics})
    protocol = suite.protocol.model_copy(update={"tasks": tasks})
    return replace(request, suite=replace(suite, protocol=protocol))


def _list_lacking(
    request: Request, meter: Meter, run: Run, measured: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return by task the metrics whose columns a run lacks. A function that stands behind several fills
    all of their columns at once: what its run has measured by it, it has."""
    then = run.record.protocol
    asked = {key for task in request.suite.protocol.tasks.values() for key in task.metrics}
    extra = {*then.extra, *(key for key in then.metrics if key not in asked)}
    lacking = {}
    for task, keys in meter.keys.items():
        own = {*request.suite.protocol.tasks[task].metrics, *extra}
        had = [key for key in measured if key in own]
        wanted = [key for key in keys if _is_measured(meter.states.get(key))]
        functions = {metric.function for metric in choose_functions(had)}
        new = [
            metric.key
            for metric in choose_functions(dict.fromkeys([*had, *wanted]))
            if metric.function not in functions and metric.key in wanted
        ]
        new += [
            key
            for key in wanted
            if key not in had and (METRICS[key].takes == "quantized" or key in COSINE_METRICS)
        ]
        if task == SET_TASK:
            new += [key for key in wanted if key not in had and key in SET_METRICS]
        lacking[task] = tuple(dict.fromkeys(new))
    return {task: keys for task, keys in lacking.items() if keys}


class _Watched:
    """A reconstructor that remembers what it raised: then no metric is at fault."""

    def __init__(self, inner: Reconstructor) -> None:
        self.inner = inner
        self.error: Exception | None = None

    def warm_up(self, batch: Batch) -> None:
        self.inner.warm_up(batch)

    def reconstruct(self, batch: Batch, *, quantized: bool) -> Reconstruction:
        try:
            return self.inner.reconstruct(batch, quantized=quantized)
        except Exception as error:
            self.error = error
            raise


def add_metrics(
    request: Request,
    meter: Meter,
    cache: PixelCache,
    addition: Addition,
    *,
    open_live: Callable[[], Reconstructor],
    report: Callable[[int], None],
) -> tuple[RunRecord, str]:
    """Measure what a run lacks, write it, and return its new record and how it was done.

    Args:
        request: what is asked for.
        meter: what measures.
        cache: of the originals.
        addition: what the run lacks.
        open_live: gives the tokenizer, where its reconstructions are needed once more.
        report: hears how many more images are done.

    Raises:
        Differs: the tokenizer does not give the run's reconstructions again.
        CellFailed: a metric fails on an image; the run stays as it was.
    """
    folder, rows = addition.run.folder, addition.run.rows
    kept = has_all(folder, rows)
    if not addition.keys and (kept or not request.keep):
        record = write_run(
            folder, addition.record, _plain_rows(addition.run), codes=addition.run.codes
        )
        report(len(rows))
        return record, "run.json says of more metrics why they are not measured"
    if kept and addition.from_pixels:
        digests = {row["id"]: row["reconstruction_sha256"] for row in rows if row["error"] is None}
        try:
            work = _Pass(request, meter, cache, addition, keep=False)
            record = work.run(KeptReconstructor(folder, digests), report)
            return record, _say(addition, "on kept reconstructions")
        except Differs as error:
            why = f" (what was kept is of no use: {error})"
    else:
        why = ""
    work = _Pass(request, meter, cache, addition, keep=request.keep or kept)
    record = work.run(open_live(), report)
    return record, _say(addition, f"in one more pass{why}")


def _say(addition: Addition, how: str) -> str:
    names = ", ".join(addition.names)
    return f"only {names}: {how}" if names else f"reconstructions kept: {how}"


def _plain_rows(run: Run) -> list[Row]:
    """Return a run's rows with the columns that its file has, and no other."""
    names = parquet.read_schema(run.folder / "images.parquet").names
    return [{name: row[name] for name in names} for row in run.rows]


class _Pass:
    """One pass over the originals and a run's reconstructions that measures what the run lacks.

    A killed one goes on from its own partial file."""

    def __init__(
        self,
        request: Request,
        meter: Meter,
        cache: PixelCache,
        addition: Addition,
        *,
        keep: bool,
    ) -> None:
        self.request, self.cache, self.addition = request, cache, addition
        self.meter = meter.narrow(addition.keys)
        self.old = {row["id"]: row for row in _plain_rows(addition.run)}
        hidden = request.out / f".{addition.record.run}"
        self.partial = PartialRows(
            hidden.with_name(f"{hidden.name}.adding.jsonl"),
            f"{addition.record.key} {' '.join(addition.names)}",
            ids=self.old.keys(),
        )
        self.sets = SetRun(self.meter.sets, hidden.with_name(f"{hidden.name}.adding.features"))
        place = hidden.with_name(f"{hidden.name}.reconstructions")
        self.kept = ReconstructionSpool(place) if keep else None
        if self.kept is not None and not self.kept.resume(self.partial.rows):
            self.partial.restart()
        if not self.sets.resume(self.partial.rows):
            self.partial.restart()

    def run(self, reconstructor: Reconstructor, report: Callable[[int], None]) -> RunRecord:
        """Measure, write and return the record. Raises Differs and CellFailed."""
        watched = _Watched(reconstructor)
        sizes = self.addition.run.record.batches  # the batches that made the reconstructions
        batch_size = BatchSize(sizes.size if sizes is not None else self.request.images_per_batch)
        memory = PeakMemory(self.request.device)
        measuring = BatchMeter(watched, self.meter, memory, batch_size)
        done = self.partial.done
        count = len(done)
        report(count)
        samples = sort_for_reading(s for s in self.request.samples() if s.id not in done)
        batches = make_batches(
            samples,
            self.cache,
            batch_size=batch_size,
            workers=self.request.decoders,
        )
        try:
            for batch in batches:
                self._append(batch, measuring.measure(batch), watched)
                watched.error = None
                report(batch.size)
                count += batch.size
            return self._finish()
        except (Differs, CellFailed) as error:
            self._discard()
            if isinstance(error, Differs):
                report(-count)
            raise

    def _append(self, batch: Batch, measured: Measured, watched: _Watched) -> None:
        """Check a batch's reconstructions, and write its rows with the columns that they gain."""
        for part, own in measured.parts:
            self._append(part, own, watched)
        if measured.parts:
            return
        rows = []
        for row in measured.rows:
            old = self.old[row["id"]]
            if is_unreadable(row) and is_unreadable(old):
                return  # alone in its batch: its row stays as it is
            self._check(row, old, watched)
            columns = row.keys() - IMAGE_COLUMNS.keys() - {"codes"}
            rows.append(old | {column: row[column] for column in columns})
        if measured.features:
            self.sets.append(batch.samples[0].task, batch.samples, measured.features, rows)
        if self.kept is not None:
            self.kept.append(rows, measured.pictures)
        self.partial.append(rows)

    def _check(self, row: Row, old: Row, watched: _Watched) -> None:
        """Raise Differs where a row is of other pictures than the old one, CellFailed for a metric."""
        if row["sha256"] != old["sha256"]:
            raise Differs(f"{row['id']}: the original is another picture")
        digest = row.get("reconstruction_sha256")
        if digest is not None and digest != old["reconstruction_sha256"]:
            raise Differs(f"{row['id']}: its reconstruction is another one now")
        if row["error"] is not None and watched.error is not None:
            raise Differs(f"{row['id']}: {row['error']}")
        if row["error"] is not None:
            names = ", ".join(self.addition.names)
            raise CellFailed(
                f"{row['id']}: {row['error']}; the run stays as it was, without {names}"
            )

    def _finish(self) -> RunRecord:
        order = {sample.id: index for index, sample in enumerate(self.request.samples())}
        unreadable = [row for row in self.old.values() if is_unreadable(row)]
        rows = sorted([*self.partial.rows, *unreadable], key=lambda row: order[row["id"]])
        run, record = self.addition.run, self.addition.record
        sets = {**record.sets, **self.sets.finish(rows)}
        if self.kept is not None:
            self.kept.finish(run.folder)
        record = record.model_copy(update={"sets": sets})
        record = write_run(run.folder, record, rows, codes=run.codes)
        self._discard()
        return record

    def _discard(self) -> None:
        self.partial.discard()
        self.sets.discard()
        if self.kept is not None:
            self.kept.discard()
