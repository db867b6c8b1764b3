"""The audit of what run.json and suite.json state about entry, suite, weights, time and machine."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from vtbench.base.version import __version__
from vtbench.commands.audit.case import Case, tell_first
from vtbench.registry.entries import Entry, Registry
from vtbench.registry.sources import HubWeights, PackageWeights, PageWeights
from vtbench.results.rows import Row
from vtbench.results.run_key import has_own_key
from vtbench.results.schema import RunRecord, SuiteFolder
from vtbench.suites.suites import Suite
from vtbench.weights.entries import is_pinned
from vtbench.weights.metrics import file_names, metric_weights, stated_digests

HEX = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"v?[0-9]{1,6}(\.[0-9]{1,9})*[-+._a-zA-Z0-9]{0,60}")
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
FACTS = (
    *("title", "family", "kind", "quantizer", "downsample", "codebook_size", "latent_channels"),
    *("parameters", "stochastic", "curve_only"),
)
FIRST_YEAR = 2024

LAST_DAY_OF_OLDER = "2026-11-30"
"""A result of an older schema version lacks what the newer one is checked by, and cannot be new."""


def audit_provenance(case: Case) -> Iterator[str]:
    """Yield what run.json says of the tokenizer, the protocol and the machine that cannot be."""
    yield from _clock(case.record)
    yield from _key(case.record)
    yield from tell_first(_times(case))
    if case.entry is not None:
        yield from _entry(case.record, case.entry)
    elif case.published:
        yield f"no entry of the registry is named {case.record.tokenizer.name}"
    if case.suite is not None:
        yield from _protocol(case, case.suite)
    yield from _machine(case.record)
    for key in ("name", "published"):
        if getattr(case.record.suite, key) != getattr(case.folder, key):
            yield f"suite.{key} is not that of suite.json"
    if case.published:
        yield from _measures(case.record)


def _clock(record: RunRecord) -> Iterator[str]:
    try:
        started = datetime.fromisoformat(record.started)
    except ValueError:
        yield f"started {record.started[:40]!r} is no time"
        return
    if started.tzinfo is None:
        yield f"started {record.started}, without a time zone"
    started = started if started.tzinfo else started.replace(tzinfo=UTC)
    if not started.year >= FIRST_YEAR or started > datetime.now(UTC) + timedelta(days=1):
        yield f"started {record.started}, which is no time that it could have been"
    longest = (datetime.now(UTC) + timedelta(days=1) - started).total_seconds()
    if not 0 < record.seconds <= longest:
        yield f"took {record.seconds:g} seconds, since {record.started}"
    if record.environment.threads < 1:
        yield f"{record.environment.threads} threads"


def _machine(record: RunRecord) -> Iterator[str]:
    """Yield what run.json says of code and libraries that cannot be, or is said twice differently."""
    here = record.environment
    if not HEX.fullmatch(here.code_sha256):
        yield "code_sha256 is no sha256"
    if here.commit is not None and (not COMMIT.fullmatch(here.commit) or not int(here.commit, 16)):
        yield f"commit {here.commit[:40]!r} is none"
    if not re.fullmatch(r"3\.[0-9]{1,2}\.[0-9]{1,2}\S{0,20}", here.python):
        yield f"python {here.python[:40]!r} is no version"
    if not VERSION.fullmatch(here.vtbench) or _order(here.vtbench) > _order(__version__):
        yield f"vtbench {here.vtbench[:40]!r} is no version up to {__version__}"
    for name, version in here.versions.items():
        if not VERSION.fullmatch(version):
            yield f"{name[:40]} {version[:40]!r} is no version"
    for said in (record.tokenizer.libraries, record.protocol.ocr):
        for name in here.versions.keys() & said.keys():
            if said[name] != here.versions[name]:
                yield f"{name} is {said[name][:40]!r} and {here.versions[name][:40]!r}"


def _measures(record: RunRecord) -> Iterator[str]:
    """Yield weights of metrics and OCR engines that are not the ones that the catalogue pins, and
    versions of libraries that no reviewer can have heard of."""
    versions = record.environment.versions
    if record.protocol.source == "pass" and "torch" not in versions:
        yield "versions: without torch, which measured"
    for name, version in versions.items():
        if (here := _find_version(name)) and _order(version)[:1] > (_order(here)[0] + NEWER,):
            yield f"{name[:40]} {version[:40]} is no version; {here} is here"
    known = _list_metric_files()
    for name, digest in (*record.protocol.networks.items(), *record.protocol.ocr.items()):
        if digest not in known.get(name, {digest}):
            yield f"{name[:80]} is not what metrics are measured with: its sha256 is {digest[:12]}"


NEWER = 5
"""Major versions of a library by which a run may be ahead of the machine that checks it."""


@functools.cache
def _find_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _order(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, which compare as versions do."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


@functools.cache
def _list_metric_files() -> dict[str, set[str]]:
    """Return the pinned sha256 of weights of metrics, by file name; several files may have one name, of
    which all are pinned."""
    found: dict[str, set[str]] = {}
    unpinned = set()
    for needed in metric_weights().values():
        for name in file_names(needed):
            digest = stated_digests(needed, name)[0]
            own = name.rpartition("/")[2]
            found.setdefault(own, set()).add(digest or "")
            unpinned |= {own} if digest is None else set()
    return {name: digests for name, digests in found.items() if name not in unpinned}


def _key(record: RunRecord) -> Iterator[str]:
    if has_own_key(record) is False:
        yield "its key is not that of what run.json says: it was edited"
    if record.upgraded_from is None:
        if record.inputs is None:
            yield "inputs: missing, without which nobody can compute its key"
    elif record.started[:10] > LAST_DAY_OF_OLDER:
        yield f"of schema version {record.upgraded_from}, and newer than {LAST_DAY_OF_OLDER}"


def _times(case: Case) -> Iterator[tuple[str, str]]:
    if case.record.protocol.source == "files":
        return
    for row in case.done:
        if (row["batch_size"] or 0) < 1:
            yield row["id"], f"batch_size is no number of images: {row['batch_size']}"
        for key in ("encode_s", "decode_s"):
            least = row["width"] * row["height"] * 3 / BYTES_A_SECOND
            if row[key] is None or not least < row[key] < LONGEST_S:
                yield row["id"], f"{key} is no time: {row[key]}"
    yield from _batches(case.done)


BYTES_A_SECOND, LONGEST_S = 1e13, 86400.0
"""No memory gives as many bytes of a picture; no picture takes a day."""


def _batches(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Rows of a batch share its time, so as many have the same as are in it. A picture that failed
    leaves its batch with fewer; none has more."""
    sizes: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = row["encode_s"], row["decode_s"], row["batch_size"]
        sizes.setdefault(key, []).append(row)
    for group in sizes.values():
        if len(group) > (group[0]["batch_size"] or 0):
            yield (
                group[0]["id"],
                f"batch_size is {group[0]['batch_size']}, and {len(group)} share it",
            )
    alone = sum(len(group) for group in sizes.values() if len(group) < group[0]["batch_size"])
    if rows and alone > SHARE_ALONE * len(rows):
        yield rows[0]["id"], f"times are not those of batches: {alone} of {len(rows)} images"


SHARE_ALONE = 0.1
"""Of the images, which may have another time than the rest of their batch: of those some failed."""


def _entry(record: RunRecord, entry: Entry) -> Iterator[str]:
    tokenizer = record.tokenizer
    if tokenizer.entry_sha256 != entry.sha256:
        yield f"entry_sha256 is not that of {entry.path.name}: measured with another entry"
    for fact in FACTS:
        if (told := getattr(tokenizer, fact)) != (own := getattr(entry, fact)):
            yield f"{fact} is {str(told)[:80]!r}; the entry says {str(own)[:80]!r}"
    if tokenizer.series not in (None, entry.series):  # unknown before 2026-12
        yield f"series is {tokenizer.series[:80]!r}; the entry says {entry.series!r}"
    if (entry.weights is None) != (not tokenizer.weights):
        yield "weights: " + ("none; the entry has some" if entry.weights else "the entry has none")
    if tokenizer.pinned and not is_pinned(entry) and not _official_pins(entry):
        yield "pinned, and the entry pins nothing"
    given = set(tokenizer.weights.values())
    if tokenizer.pinned and (pins := _pins(entry)) and given not in (pins, _official_pins(entry)):
        yield "weights are not the ones that the entry pins"
    if record.protocol.posterior != entry.posterior:
        yield f"posterior is {record.protocol.posterior}; the entry's {entry.posterior}"


def _pins(entry: Entry) -> set[str]:
    weights = entry.weights
    if isinstance(weights, HubWeights):
        return set((weights.sha256 or {}).values())
    if isinstance(weights, PageWeights):
        return {sha for sha in (weights.sha256, *weights.beside.values()) if sha is not None}
    if isinstance(weights, PackageWeights):
        return {weights.sha256}
    return {weights.sha256} if weights is not None and weights.sha256 is not None else set()


def _official_pins(entry: Entry) -> set[str]:
    """Return the digests of the authors' own files, which may stand for the hub's."""
    weights = entry.weights
    if not isinstance(weights, HubWeights) or weights.official is None:
        return set()
    return {sha for sha in weights.official.files.values() if sha is not None}


def _protocol(case: Case, suite: Suite) -> Iterator[str]:
    record, own = case.record, suite.protocol
    if (record.suite.version, record.suite.sha256) != (own.version, suite.sha256):
        yield f"of {record.suite.name}@{record.suite.version}, whose protocol is another"
        return
    if record.suite.manifest_sha256 != own.manifest_sha256:
        yield "manifest_sha256 is not the suite's"
    seeds = (own.seeds if record.tokenizer.stochastic else None) or (own.seed,)
    if record.protocol.seed not in seeds:
        yield f"seed {record.protocol.seed} is none of the suite's ({', '.join(map(str, seeds))})"
    if record.protocol.compiled != (record.compilation is not None):
        yield "compiled is not what its comparison with the uncompiled network says"
    said = name_deviations(record, suite)
    if (told := record.run.partition("@")[2]) != said:
        yield f"its name says {told or 'no deviation'!r}, its protocol {said or 'none'!r}"


ENTRY_DEVIATION = re.compile(r"posterior-sample|resize|tile|steps-.*|tokens-.*|guidance-.*")


def name_deviations(record: RunRecord, suite: Suite) -> str:
    """Return what follows the @ of a run's name by its protocol; what changes the entry as it is."""
    protocol, own = record.protocol, suite.protocol
    named = [part for part in record.run.partition("@")[2].split("+") if part]
    said = [part for part in named if ENTRY_DEVIATION.fullmatch(part)]
    if protocol.crop is not None:
        said.append(protocol.crop)
    if protocol.dtype != own.dtype:
        said.append(protocol.dtype)
    if protocol.compiled:
        said.append("compile")
    engine = protocol.ocr.get("engine")
    if engine not in (None, own.ocr):
        said.append(str(engine))
    if protocol.seed != own.seed:
        said.append(f"seed{protocol.seed}")
    return "+".join(said)


def audit_suite_folder(
    folder: SuiteFolder, suite: Suite, registry: Registry, runs: set[str]
) -> Iterator[str]:
    """Yield what suite.json says of the suite that is not so."""
    own = suite.protocol
    expected = {
        "sha256": suite.sha256,
        "title": own.title,
        "description": own.description,
        "published": suite.published,
        "pinned": suite.pinned,
        "show_images": own.show_images,
        "cost_subset": own.cost.subset if own.cost else None,
    }
    if folder.metrics or folder.upgraded_from is None:  # unknown before schema version 4
        tasks = folder.tasks or tuple(own.tasks)
        expected["metrics"] = {t: own.tasks[t].metrics for t in tasks if t in own.tasks}
    if folder.partial is None and (suite.samples or own.source is not None):
        expected["images"] = suite.images_per_task()
    if suite.published and own.source is None:
        expected["cut_from"] = suite.shared_files()
    for key, value in expected.items():
        if getattr(folder, key) != value:
            yield f"{key} is not that of {suite.name}@{own.version}"
    picks = {pick.id: pick for pick in own.panel}
    tasks_of = {sample.id: sample.task for sample in suite.samples}
    numbers = [item.n for item in folder.panel]
    # A part of a suite has some of its panel's pictures.
    in_order = sorted(set(numbers)) if folder.partial else list(range(len(numbers)))
    if numbers != in_order:
        yield "panel: its pictures are not numbered from 0"
    for item in folder.panel:
        if tasks_of.get(item.id, item.task) != item.task:
            yield f"panel: {item.id!r} is of the task {tasks_of[item.id]}, not {item.task[:80]}"
    for item in folder.panel:
        if picks and item.id not in picks:
            yield f"panel: {item.id!r} is no picture of the suite's panel"
    whole = folder.partial is None and (folder.show_images or folder.panel)
    if picks and whole and [item.id for item in folder.panel] != list(picks):
        yield "panel: its pictures are not those of the suite"
    for skipped in folder.skipped:
        if skipped.name.partition("@")[0] not in registry:
            yield f"skipped: {skipped.name} is no entry of the registry"
        if skipped.name in runs:
            yield f"skipped: {skipped.name} has a run"
