"""What a run has written so far, in hidden files beside its folder, so that a kill loses no batch.

Of a batch the features come first, then the panel's pictures, then the line of rows: a line is there
only where all that belongs to it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from vtbench.images import to_rgb8
from vtbench.results.partial import PartialRows
from vtbench.runs.batch_search import KeptBatches
from vtbench.runs.kept_reconstructions import ReconstructionSpool
from vtbench.runs.measuring import Measured
from vtbench.runs.meter import Meter
from vtbench.runs.panel import PanelSpool
from vtbench.runs.request import Request
from vtbench.runs.set_features import SetRun
from vtbench.suites.batches import Batch, PixelCache


@dataclass(frozen=True)
class Spools:
    """Rows, features and panel pictures of an unfinished run, its batch sizes, and its reconstructions
    where they are kept."""

    partial: PartialRows
    sets: SetRun
    panel: PanelSpool
    batches: KeptBatches
    kept: ReconstructionSpool | None = None

    def append(self, batch: Batch, measured: Measured) -> int:
        """Write a measured batch and return how many images that are. It survives a kill from here
        on. Raises OutputError."""
        if measured.parts:
            return sum(self.append(part, own) for part, own in measured.parts)
        if measured.features:
            task = batch.samples[0].task
            self.sets.append(task, batch.samples, measured.features, measured.rows)
        for index, (row, picture) in enumerate(zip(measured.rows, measured.pictures, strict=True)):
            if picture is None or row["error"] is not None or row["id"] not in self.panel.places:
                continue
            assert batch.pixels is not None
            (original,) = to_rgb8(batch.pixels[index : index + 1])
            self.panel.append(row["id"], original, picture)
        if self.kept is not None:
            self.kept.append(measured.rows, measured.pictures)
        self.partial.append(measured.rows)
        return len(measured.rows)

    def discard(self) -> None:
        """Remove the files: the run is written."""
        self.partial.discard()
        self.sets.discard()
        self.panel.discard()
        self.batches.discard()
        if self.kept is not None:
            self.kept.discard()


def resume_spools(request: Request, run: str, key: str, meter: Meter, cache: PixelCache) -> Spools:
    """Return what a killed run of this key left; empty where there is none.

    Args:
        request: what is run.
        run: its name.
        key: its key; what a run of another one left is dropped.
        meter: what measures.
        cache: of the originals.
    """
    path = request.out / f".{run}.partial.jsonl"
    batches = KeptBatches(request.out / f".{run}.batches.json", key)
    if request.fresh:
        path.unlink(missing_ok=True)
        batches.discard()
    batches.resume()
    samples = {sample.id: sample for sample in request.samples()}
    partial = PartialRows(path, key, ids=samples.keys())
    panel = PanelSpool(request.out / f".{run}.panel", request.suite.protocol.panel)
    if not panel.resume(partial.rows, samples, cache):
        partial.restart()
    sets = SetRun(meter.sets, request.out / f".{run}.features")
    if not sets.resume(partial.rows):
        partial.restart()
    if not request.keep:
        return Spools(partial, sets, panel, batches)
    kept = ReconstructionSpool(request.out / f".{run}.reconstructions")
    if not kept.resume(partial.rows):
        partial.restart()
        sets.resume([])
    return Spools(partial, sets, panel, batches, kept)
