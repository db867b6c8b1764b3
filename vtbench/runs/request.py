"""What a command line asks for, resolved against the registry before anything is loaded."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vtbench.base.errors import (
    RegistryError,
    UnknownName,
    VtbenchError,
    WeightsMissing,
)
from vtbench.base.records import Sample
from vtbench.registry.entries import Entry, Registry
from vtbench.results.schema import Skipped
from vtbench.runs.own_weights import name_own_weights
from vtbench.suites.suites import Suite
from vtbench.weights.entries import find_weights

if TYPE_CHECKING:
    from vtbench.runs.reconstruction import Reconstructor


@dataclass(frozen=True)
class EntrySelection:
    """The entries to run, and those that were left out for want of weights."""

    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]


def choose_entries(
    registry: Registry,
    names: Sequence[str],
    families: Sequence[str],
    weights: Mapping[str, Path],
    *,
    curves: bool = False,
) -> EntrySelection:
    """Return the entries of these names and families; with neither, every one that can run here.

    Further points of a curve (`curve_only`) are chosen by name, or all of them with `curves`. A named
    entry without weights raises WeightsMissing, whose message has the command that fetches them; one
    that was not named is skipped with that reason.
    """
    known = {entry.family for entry in registry.values()}
    for family in families:
        if family not in known:
            raise UnknownName("family", family, sorted(known))
    named = [registry[name] for name in dict.fromkeys(names)]
    for entry in named:
        find_weights(entry, weights.get(entry.name))
    if named and not families:
        return EntrySelection(tuple(named), ())
    entries, skipped = list(named), []
    for entry in registry.values():
        if entry in named or (families and entry.family not in families):
            continue
        if entry.curve_only and not curves:
            continue
        try:
            find_weights(entry, weights.get(entry.name))
        except WeightsMissing as error:
            skipped.append(Skipped(name=entry.name, reason=str(error)))
        else:
            entries.append(entry)
    if not entries:
        raise WeightsMissing(skipped[0].reason if skipped else "the registry has no such entry")
    return EntrySelection(tuple(entries), tuple(skipped))


def sample_posterior(entry: Entry) -> Entry:
    """Return the entry with a seeded sample of its posterior as latent, in place of the mode.

    Raises RegistryError for an entry without a posterior, or that is of a sample already."""
    if entry.posterior != "mode":
        why = "has no posterior" if entry.posterior is None else "takes a sample already"
        raise RegistryError(f"{entry.name}: --posterior sample: it {why}")
    changes = {
        "options": {**entry.options, "posterior": "sample"},
        "stochastic": True,
        "deviations": (*entry.deviations, "posterior-sample"),
    }
    return entry.model_copy(update=changes)


def change_size_policy(entry: Entry, policy: str) -> Entry:
    """Return the entry of a fixed-size network with the other of its two policies, or as it is where
    that is its own. Raises RegistryError for a network that takes other sizes."""
    if entry.size.fixed is None:
        raise RegistryError(f"{entry.name}: --size-policy {policy}: it takes images of any size")
    if entry.size.policy == policy:
        return entry
    size = entry.size.model_copy(update={"policy": policy})
    return entry.model_copy(update={"size": size, "deviations": (*entry.deviations, policy)})


def change_decoder(entry: Entry, key: str, value: float) -> Entry:
    """Return the entry whose diffusion decoder has another number of `steps` or another `guidance`
    (of options.config), or as it is where the value is its own. Raises RegistryError for one whose
    decoder has no such number."""
    config = entry.options.get("config") or {}
    if key not in config:
        raise RegistryError(f"{entry.name}: {key} {value}: its options.config has none to change")
    if config[key] == value:
        return entry
    changes = {
        "options": {**entry.options, "config": {**config, key: value}},
        "deviations": (*entry.deviations, f"{key}-{value}"),
    }
    return entry.model_copy(update=changes)


def keep_tokens(entry: Entry, count: int) -> Entry:
    """Return the entry whose code has the first `count` of its ordered tokens, or as it is where that
    is all of them. Raises RegistryError for tokens without an order, or a count that they have not."""
    what, order = f"{entry.name}: tokens {count}", entry.ordered
    if order is None:
        raise RegistryError(f"{what}: its tokens are in no order, so it needs all of them")
    if not 1 <= count <= order.tokens or count % order.group:
        of = f" in multiples of {order.group}" if order.group > 1 else ""
        raise RegistryError(f"{what}: it has {order.tokens}, of which the first can be kept{of}")
    if count == order.tokens:
        return entry
    config = {**(entry.options.get("config") or {}), "kept": count}
    changes = {
        "options": {**entry.options, "config": config},
        "deviations": (*entry.deviations, f"tokens-{count}"),
    }
    return entry.model_copy(update=changes)


def vary_entries(
    chosen: EntrySelection, named: Collection[str], deviation: str, change: Callable[[Entry], Entry]
) -> EntrySelection:
    """Return the selection with each entry changed.

    If an entry does not support the change: raise if it was named or is the only one; otherwise skip it
    and record the reason.
    """
    entries, skipped = [], []
    for entry in chosen.entries:
        try:
            entries.append(change(entry))
        except RegistryError as error:
            if entry.name in named or len(chosen.entries) == 1:
                raise
            skipped.append((entry, error))
    if not entries:
        raise skipped[0][1]
    names = {entry.name for entry in entries}
    others = [
        Skipped(name=f"{entry.name}@{deviation}", reason=str(error).partition(": ")[2])
        for entry, error in skipped
        if entry.name not in names
    ]
    return EntrySelection(tuple(entries), (*chosen.skipped, *others))


@dataclass(frozen=True)
class Variant:
    """Changes of entries that the command line asks for (`--posterior`, `--size-policy`,
    `--decoder-steps`, `--guidance`, `--tokens`). A changed entry is a separate row, with one row for
    each number of `tokens`."""

    posterior: str = "mode"
    size_policy: str | None = None
    decoder_steps: int | None = None
    guidance: float | None = None
    tokens: tuple[int, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is changed."""
        return self != Variant()


def apply_variant(
    chosen: EntrySelection,
    named: Collection[str],
    variant: Variant,
    weights: Mapping[str, Path] | None = None,
) -> EntrySelection:
    """Return the selection with the variant's changes (`vary_entries`) and with the weights of
    `--weights` (`name_own_weights`)."""
    own = weights or {}
    entries = (
        name_own_weights(entry, own[entry.name]) if entry.name in own else entry
        for entry in chosen.entries
    )
    chosen = EntrySelection(tuple(entries), chosen.skipped)
    if variant.posterior == "sample":
        chosen = vary_entries(chosen, named, "posterior-sample", sample_posterior)
    if variant.size_policy is not None:
        change = functools.partial(change_size_policy, policy=variant.size_policy)
        chosen = vary_entries(chosen, named, variant.size_policy, change)
    for key, value in (("steps", variant.decoder_steps), ("guidance", variant.guidance)):
        if value is not None:
            change = functools.partial(change_decoder, key=key, value=value)
            chosen = vary_entries(chosen, named, f"{key}-{value}", change)
    if not variant.tokens:
        return chosen
    rows = [
        vary_entries(chosen, named, f"tokens-{n}", functools.partial(keep_tokens, count=n))
        for n in dict.fromkeys(variant.tokens)
    ]
    skipped = dict.fromkeys(row for some in rows for row in some.skipped)
    return EntrySelection(tuple(entry for some in rows for entry in some.entries), tuple(skipped))


def choose_architectures(registry: Registry, names: Sequence[str]) -> tuple[Entry, ...]:
    """Return the entries of these names; without names, every one whose architecture is in it
    (options.config), which can be built without its weights."""
    if names:
        return tuple(registry[name] for name in dict.fromkeys(names))
    return tuple(entry for entry in registry.values() if "config" in entry.options)


def parse_weights(pairs: Sequence[str], registry: Registry) -> dict[str, Path]:
    """Return `NAME=PATH` options as a mapping; the names must exist."""
    parsed = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not path:
            raise RegistryError(f"--weights {pair}: expected NAME=PATH")
        parsed[registry[name].name] = Path(path)
    return parsed


def parse_counts(text: str) -> tuple[int, ...]:
    """Return the positive numbers of a list with commas."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdecimal() or not 1 <= int(part) <= 65536:
            raise VtbenchError(f"--tokens {part[:20]}: expected numbers of tokens, with commas")
    return tuple(map(int, parts))


AskedBatchSize = int | Literal["auto"] | None
"""Images of 256² in a batch, "auto" for the fastest that fits, None for the suite's number."""


def parse_batch_size(value: str, *, option: str = "--batch-size ") -> AskedBatchSize:
    """Return a positive batch size, "auto", or None for "suite". option: what an error calls it."""
    if value == "auto":
        return "auto"
    if value == "suite":
        return None
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) < 1:
        raise VtbenchError(f"{option}{value[:20]}: expected suite, auto or a positive number")
    return int(value)


DEFAULT_BATCH_SIZE = 8
"""Of a suite that states none."""


@dataclass(frozen=True)
class Request:
    """What to run.

    A request with a limit or without all tasks is partial: its results never stand for the suite.

    Args:
        suite: with its images attached.
        entries: the tokenizers.
        out: the folder of results.
        tasks: those of the suite that are run.
        device: where networks are.
        dtype, ocr, seed: in place of the suite's; another value becomes part of the run's name.
        compiled: whether torch compiles the networks (`runs.compiled_form`), which is part of it too.
        crop: the one that the suite's samples carry in place of its own (`suites.crops`).
        batch_size: images of 256² at a time, "auto" for the fastest that fits (`runs.batch_search`),
            None for the suite's number.
        limit: The most images of each task.
        fresh: measure again what is complete and current.
        weights: in place of the entries' own sources, by name.
        skipped: what was left out for want of weights.
        selective: only some names or families were asked for; what an earlier run skipped stands.
        metrics: keys measured beside the suite's own.
        keep: Whether the reconstructions are kept beside the results.
        given: by entry name, what makes reconstructions in place of the registry's tokenizer: a model
            of one's own, or files. Their results are marked and never published.
    """

    suite: Suite
    entries: tuple[Entry, ...]
    out: Path
    tasks: tuple[str, ...]
    device: str = "auto"
    dtype: str | None = None
    compiled: bool = False
    ocr: str | None = None
    crop: str | None = None
    batch_size: AskedBatchSize = None
    limit: int | None = None
    fresh: bool = False
    weights: Mapping[str, Path] | None = None
    skipped: tuple[Skipped, ...] = ()
    selective: bool = False
    metrics: tuple[str, ...] = ()
    keep: bool = False
    seed: int | None = None
    given: Mapping[str, Reconstructor] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether the result cannot stand for the suite."""
        return self.limit is not None or set(self.tasks) != set(self.suite.protocol.tasks)

    @property
    def images_per_batch(self) -> int:
        """Images of 256² that go through the tokenizer together, the suite's own until a search has
        found another number."""
        if isinstance(self.batch_size, int):
            return self.batch_size
        cost = self.suite.protocol.cost
        return cost.batch_size if cost else DEFAULT_BATCH_SIZE

    @property
    def decoders(self) -> int:
        """Threads that decode pictures ahead: a GPU is faster than one of them."""
        return 1 if self.device == "cpu" else min(8, os.cpu_count() or 1)

    def samples(self) -> tuple[Sample, ...]:
        """Return the samples to measure, in an order that makes batches of equal shape."""
        chosen = []
        for task in self.tasks:
            of_task = [sample for sample in self.suite.samples if sample.task == task]
            of_task.sort(key=lambda s: (s.subset, s.height, s.width, s.id))
            chosen += of_task[: self.limit]
        return tuple(chosen)

    def cells(self) -> tuple[tuple[Entry, int], ...]:
        """Return the runs to make: each entry with the suite's seed, and where its decoder is
        stochastic with each of the suite's seeds."""
        protocol = self.suite.protocol
        own = (protocol.seed,) if self.seed is None else (self.seed,)
        several = None if self.seed is not None else protocol.seeds
        return tuple(
            (entry, seed)
            for entry in self.entries
            for seed in ((several if entry.stochastic else None) or own)
        )

    def run_name(self, entry: Entry, seed: int | None = None) -> str:
        """Return the entry's name, with what deviates from the suite's protocol after an @."""
        protocol = self.suite.protocol
        deviations = list(entry.deviations)
        if self.crop is not None:
            deviations.append(self.crop)
        if self.dtype not in (None, protocol.dtype):
            deviations.append(str(self.dtype))
        if self.compiled:
            deviations.append("compile")
        if self.ocr not in (None, protocol.ocr):
            deviations.append(str(self.ocr))
        if seed not in (None, protocol.seed):
            deviations.append(f"seed{seed}")
        return entry.name + ("@" + "+".join(deviations) if deviations else "")
