"""The board's side-by-side pictures: originals once a suite, reconstructions and error maps a run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vtbench.base.errors import ImageError
from vtbench.base.files import write_atomic
from vtbench.base.records import Sample
from vtbench.images import RGB8, encode_png, error_map, pixel_sha256
from vtbench.results.schema import PanelItem
from vtbench.suites.batches import PixelCache
from vtbench.suites.panel_crop import crop_panel
from vtbench.suites.suite_file import PanelPick


def write_panel(
    folder: Path, panel: Sequence[PanelPick], pictures: Mapping[str, tuple[RGB8, RGB8]]
) -> None:
    """Write a run's panel/<n>.png and <n>.error.png from (original, reconstruction) by sample.

    Each holds the hash of the original's part that it shows, by which the page knows it: its place is
    another where pictures came or went. Those of an earlier run are removed when the new ones stand:
    a full disk leaves what was there."""
    written: set[str] = set()
    for n, pick in enumerate(panel):
        if pick.id in pictures:
            original, picture = (crop_panel(pick, image) for image in pictures[pick.id])
            of = pixel_sha256(original)
            write_atomic(folder / "panel" / f"{n}.png", encode_png(picture, original=of))
            error = encode_png(error_map(original, picture), original=of)
            write_atomic(folder / "panel" / f"{n}.error.png", error)
            written |= {f"{n}.png", f"{n}.error.png"}
    _remove_others(folder / "panel", written)


def _remove_others(folder: Path, written: Collection[str]) -> None:
    """Remove the numbered pictures of a folder that were not written, and nothing else."""
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
