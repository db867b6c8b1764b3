"""Collects everything that changes a number, before the first image, for `run.json`."""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from vtbench.base.files import sha256_bytes
from vtbench.base.version import __version__
from vtbench.metrics import catalogue
from vtbench.registry.entries import Entry
from vtbench.results.run_key import digest_key
from vtbench.results.schema import (
    Environment,
    Inputs,
    MetricRecord,
    Protocol,
    RunRecord,
    SuiteRecord,
    TokenizerRecord,
)
from vtbench.runs import environment
from vtbench.runs.code_digest import digest_code
from vtbench.runs.meter import Meter
from vtbench.runs.reconstruction import StoredReconstructor
from vtbench.runs.request import Request
from vtbench.tokenizers import load_adapter
from vtbench.weights.entries import (
    WeightFiles,
    check_hashes,
    find_official,
    find_origin,
    hash_beside,
    is_pinned,
)

PASS = "vtbench.runs.runner"
"""The module whose imports are all that measures, the adapter excepted."""


@dataclass(frozen=True)
class Measures:
    """What of the metrics a run's key is made of.

    Args:
        states: Each metric's version and state.
        ocr: The engine that reads, as it states itself; empty where nothing is read.
        networks: The sha256 of the weights of feature networks, by file name.
        extra: What was asked for beside the suite's own metrics.
    """

    states: Mapping[str, MetricRecord]
    ocr: Mapping[str, str]
    networks: Mapping[str, str]
    extra: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that measure, by name: roots of the code that a number depends on."""
        named = {catalogue.METRICS[key].function.partition(":")[0] for key in self.states}
        return tuple(sorted(named - {""}))


def describe_measures(request: Request, meter: Meter) -> Measures:
    """Return what of the metrics the key of a request's runs is made of."""
    extra = tuple(sorted(request.metrics))
    return Measures(meter.states, meter.ocr, meter.sets.networks, extra)


def draft_record(
    request: Request,
    entry: Entry,
    measures: Measures,
    found: WeightFiles | None,
    *,
    seed: int,
) -> RunRecord:
    """Return the run's record as far as it is known before the first image.

    Its `key` is the digest of everything that changes a number: a run with another key is not
    current. A model that was given has a key of its own each time: nobody can tell its state.

    Args:
        request: what to run.
        entry: the tokenizer.
        measures: of `describe_measures`, or those of another state of the run.
        found: the entry's weights, None where it needs none.
        seed: of this run.

    Raises:
        WeightsError, RegistryError: as `check_hashes` and `load_adapter`.
    """
    suite, protocol = request.suite, request.suite.protocol
    given = request.given.get(entry.name)
    hashes = check_hashes(entry, found) if found is not None else {}
    roots = [PASS, *measures.modules]
    libraries: dict[str, str] = {}
    if given is None:
        adapter = load_adapter(entry)
        libraries = adapter.libraries(entry.options)
        hashes |= hash_beside(found, adapter.read_beside)
        roots.append(adapter.__module__)
    tokenizer = _describe_tokenizer(request, entry, found, hashes, libraries)
    choices = Protocol(
        dtype=request.dtype or protocol.dtype,
        compiled=request.compiled,
        seed=seed,
        tasks=request.tasks,
        metrics=dict(measures.states),
        ocr=dict(measures.ocr),
        limit=request.limit,
        source="files" if isinstance(given, StoredReconstructor) else "pass",
        crop=request.crop,
        posterior=entry.posterior,
        networks=dict(measures.networks),
        extra=measures.extra,
    )
    here = _describe_environment(request, roots)
    suite_record = SuiteRecord(
        name=suite.name,
        version=protocol.version,
        sha256=suite.sha256,
        manifest_sha256=protocol.manifest_sha256,
        published=suite.published,
    )
    record = RunRecord(
        run=request.run_name(entry, seed),
        key="",
        inputs=Inputs(
            data=suite.fingerprint,
            batch_size=request.batch_size,
            measures=_digest_measures(measures.states),
            given=None if given is None else uuid.uuid4().hex,
        ),
        suite=suite_record,
        tokenizer=tokenizer,
        protocol=choices,
        environment=here,
        n_expected=len(request.samples()),
        n_done=0,
        failures=(),
        started="",
        seconds=0.0,
        rows_sha256="",
    )
    return record.model_copy(update={"key": digest_key(record)})


def list_dependencies(draft: RunRecord) -> dict[str, object]:
    """Return what several processes that measure a run together must have alike: all that its key is
    made of, without the name of an ad-hoc suite, which is of a folder that each has for itself."""
    kept = {"tokenizer", "protocol", "environment", "n_expected"}
    found = draft.model_dump(mode="json", include=kept)
    assert draft.inputs is not None
    return found | {"inputs": draft.inputs.model_dump(exclude={"given"})}


def _digest_measures(keys: Collection[str]) -> str:
    """Return the digest of what the catalogue says of each metric that can change its number. The
    catalogue is not among the code: a new metric is nothing to those that were measured."""
    measures = [
        (key, metric.version, metric.function, metric.weights)
        for key, metric in sorted(catalogue.METRICS.items())
        if key in keys
    ]
    return sha256_bytes(json.dumps(measures).encode())


def _describe_environment(request: Request, roots: Sequence[str]) -> Environment:
    """Return where a run is made. roots: the modules that measure."""
    head, dirty = environment.commit()
    return Environment(
        device=environment.device_name(request.device),
        processor=environment.processor(),
        threads=torch.get_num_threads(),
        platform=environment.platform_name(),
        python=platform.python_version(),
        versions=environment.library_versions(),
        vtbench=__version__,
        code_sha256=digest_code(roots, without=[catalogue.__name__]),
        commit=head,
        dirty=dirty,
    )


def _describe_tokenizer(
    request: Request,
    entry: Entry,
    found: WeightFiles | None,
    hashes: dict[str, str],
    libraries: dict[str, str],
) -> TokenizerRecord:
    registered = entry.name not in request.given
    # Files that were given are the pinned ones where the entry pins each under its name.
    official = found is not None and find_official(entry, found) is not None
    own_weights = entry.name in (request.weights or {}) and not official
    converted = found is not None and find_origin(found) is not None
    return TokenizerRecord(
        name=entry.name,
        title=entry.title,
        family=entry.family,
        kind=entry.kind,
        quantizer=entry.quantizer,
        downsample=entry.downsample,
        codebook_size=entry.codebook_size,
        latent_channels=entry.latent_channels,
        parameters=entry.parameters,
        stochastic=entry.stochastic,
        entry_sha256=entry.sha256,
        weights=hashes,
        pinned=registered and is_pinned(entry, found) and not own_weights and not converted,
        libraries=libraries,
        series=entry.series,
        curve_only=entry.curve_only,
        registered=registered,
    )
