"""The input of an audit: a run with the suite and the registry entry that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from vtbench.base.records import Sample
from vtbench.registry.entries import Entry
from vtbench.results.folder import Run
from vtbench.results.rows import Row
from vtbench.results.schema import RunRecord, SuiteFolder
from vtbench.suites.suites import Suite


@dataclass(frozen=True)
class Case:
    """A run with what is known of it apart from its own files.

    suite: the protocol of its suite, None where it is not here in this version. entry: of the registry,
    with the deviations that the run's name states; None where there is none. published: whether it is
    held to what may be published.
    """

    run: Run
    folder: SuiteFolder
    suite: Suite | None
    entry: Entry | None
    published: bool

    @property
    def record(self) -> RunRecord:
        """The run's run.json."""
        return self.run.record

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """The suite's samples by id; empty where they are not known or the run has its own crop."""
        if self.suite is None or self.record.protocol.crop is not None:
            return {}
        return {sample.id: sample for sample in self.suite.samples}

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """The rows of images that have numbers."""
        return tuple(row for row in self.run.rows if row["error"] is None)


def tell_first(complaints: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield one complaint a kind: of the images that have it the first is named, the others counted.

    Args:
        complaints: (image, what is wrong with it).
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for image, what in complaints:
        found.setdefault(what.partition(":")[0], []).append((image, what))
    for of_kind in found.values():
        image, what = of_kind[0]
        others = f" (and {len(of_kind) - 1} more images)" if len(of_kind) > 1 else ""
        yield f"{image}: {what}{others}"
