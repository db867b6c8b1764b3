"""The board's side-by-side pictures: originals once a suite, reconstructions a run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vtbench.base.errors import ImageError, OutputError
from vtbench.base.files import write_atomic
from vtbench.base.records import Sample
from vtbench.images import RGB8, encode_png, pixel_sha256, read_png_original
from vtbench.results.rows import Row
from vtbench.results.schema import PanelItem
from vtbench.suites.batches import PixelCache
from vtbench.suites.panel_crop import crop_panel
from vtbench.suites.suite_file import PanelPick


class PanelSpool:
    """A run's pictures, in a hidden folder until the run is complete.

    A picture is written before the row of its image, so a killed run goes on from both, and its
    pictures are those of the batches that made the rows.

    Args:
        folder: the hidden one.
        panel: the suite's choice.
    """

    def __init__(self, folder: Path, panel: Sequence[PanelPick]) -> None:
        self.folder = folder
        self.places = {pick.id: n for n, pick in enumerate(panel)}
        self.panel = tuple(panel)

    def resume(self, rows: Sequence[Row], samples: Mapping[str, Sample], cache: PixelCache) -> bool:
        """Return whether the pictures of all rows that were kept are here, and are of the parts that
        the suite shows now."""
        return all(
            self._holds(n, samples[row["id"]], cache)
            for row in rows
            if (n := self.places.get(row["id"])) is not None
        )

    def _holds(self, n: int, sample: Sample, cache: PixelCache) -> bool:
        try:
            original = crop_panel(self.panel[n], cache.load(sample))
        except ImageError:
            return False
        of = pixel_sha256(original)
        path = self.folder / f"{n}.png"
        return path.is_file() and read_png_original(path) == of

    def append(self, image: str, original: RGB8, picture: RGB8) -> None:
        """Write the picture of an image, if it is one of the panel. It survives a kill from here on.

        It holds the hash of the original's part that it shows, by which the page knows it: its place
        is another where pictures came or went."""
        if (n := self.places.get(image)) is None:
            return
        part, shown = (crop_panel(self.panel[n], whole) for whole in (original, picture))
        content = encode_png(shown, original=pixel_sha256(part))
        write_atomic(self.folder / f"{n}.png", content, durable=True)

    def finish(self, folder: Path, done: Collection[str]) -> None:
        """Copy the pictures of a complete run into its folder. Those of an earlier run are removed when
        the new ones stand: a full disk leaves what was there.

        Args:
            folder: the run's.
            done: its images that have numbers.
        """
        target = folder / "panel"
        written = {f"{self.places[image]}.png" for image in done if image in self.places}
        for name in sorted(written):
            part = target / f".{name}.copying_"
            try:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, part)
                part.replace(target / name)
            except OSError as error:
                raise OutputError(f"cannot write {target / name}: {error.strerror}") from error
        _remove_others(target, written)

    def discard(self) -> None:
        """Remove the hidden folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_others(folder: Path, written: Collection[str]) -> None:
    """Remove the numbered pictures of a folder that were not written, and nothing else. Until 2026-11
    there were error maps among them (`<n>.error.png`)."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            if path.name not in written and re.fullmatch(r"[0-9]+(\.error)?\.png", path.name):
                path.unlink(missing_ok=True)


def write_originals(
    folder: Path, panel: Sequence[PanelPick], samples: Mapping[str, Sample], cache: PixelCache
) -> tuple[PanelItem, ...]:
    """Write originals/<n>.png of the panel's samples and return what they are."""
    items = []
    for n, pick in enumerate(panel):
        if pick.id not in samples:
            continue
        try:
            picture = crop_panel(pick, cache.load(samples[pick.id]))
        except ImageError:
            continue  # every run reports it as that image's failure
        content = encode_png(picture, original=pixel_sha256(picture))
        write_atomic(folder / "originals" / f"{n}.png", content)
        height, width = picture.shape[:2]
        task = samples[pick.id].task
        items.append(PanelItem(n=n, id=pick.id, task=task, width=width, height=height))
    _remove_others(folder / "originals", {f"{item.n}.png" for item in items})
    return tuple(items)
