"""The panel's pictures: the originals are the suite's, and a run's pictures have the error that its
rows say. Error maps, which older runs have, are those of the pictures."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vtbench.base.errors import ImageError, ResultsError, SuiteError
from vtbench.commands.audit.case import Case
from vtbench.commands.audit.pixel_hashes import HASH
from vtbench.images import ORIGINAL, RGB8, error_map, load_rgb8, pixel_sha256
from vtbench.results.folder import Run
from vtbench.results.known_files import (
    list_error_maps,
    list_run_files,
    list_suite_files,
    read_known_files,
)
from vtbench.results.rows import Row
from vtbench.results.schema import SuiteFolder
from vtbench.suites.batches import load_pixels
from vtbench.suites.panel_crop import crop_panel
from vtbench.suites.suites import Suite

MAX_PANEL_PIXELS = 16 * 2**20

CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
"""What a picture of the panel has. Text, profiles and what follows the end are nobody's picture."""

NOTE = re.compile(re.escape(ORIGINAL.encode()) + rb"\0[0-9a-f]{64}")
"""The one text that a picture may have: the hash of the original's part that it shows, by which a page
knows it (`images.encode_png`)."""

MAX_NOTE = 256

REMADE_LEVELS = 8 * 255
"""Squared error by which a picture may pass its row's: after a kill it was once remade in another
batch, which moved a few samples by a level."""


VISIBLE_MSE, FLAT_LEVELS = 1.0, 8.0
"""Mean squared error of a whole image, and standard deviation of a part of it, above which no
reconstruction leaves the part nearly as it was. Flat parts may come back exactly."""

LEAST_SHARE = 0.01
"""Of the mean squared error of its image that such a part has at least."""


def decode_panel_png(name: str, content: bytes) -> RGB8:
    """Return a picture of the panel. Raises ResultsError for one that holds anything else."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ResultsError(f"{name}: not a PNG")
    at = 8
    kind = b""
    while kind != b"IEND":
        head = content[at : at + 8]
        if len(head) < 8:
            raise ResultsError(f"{name}: is cut off")
        length, kind = struct.unpack(">I4s", head)
        note = content[at + 8 : at + 8 + min(length, MAX_NOTE)]
        if kind not in CHUNKS and not (kind == b"tEXt" and NOTE.fullmatch(note)):
            raise ResultsError(f"{name}: holds more than a picture ({ascii(kind)[2:-1]})")
        at += 12 + length
    if at != len(content):
        raise ResultsError(f"{name}: has {len(content) - at} bytes after its end")
    try:
        return load_rgb8(io.BytesIO(content), formats=("PNG",), max_pixels=MAX_PANEL_PIXELS)
    except ImageError as error:
        raise ResultsError(f"{name}: {str(error).partition(': ')[2]}") from None


def load_originals(
    folder: Path, suite_folder: SuiteFolder, suite: Suite | None
) -> Iterator[tuple[str, RGB8 | None]]:
    """Yield (complaint, nothing) or ("", picture) for each picture of the panel, in order."""
    files = read_known_files(folder, list_suite_files(suite_folder))
    samples = {sample.id: sample for sample in suite.samples} if suite is not None else {}
    crops = {pick.id: pick for pick in suite.protocol.panel} if suite is not None else {}
    for item in suite_folder.panel:
        name = f"originals/{item.n}.png"
        if name not in files:
            yield f"{name} is missing", None
            continue
        try:
            picture = decode_panel_png(name, files[name])
        except ResultsError as error:
            yield str(error), None
            continue
        if picture.shape[:2] != (item.height, item.width):
            yield f"{name}: is not {item.width}×{item.height}, as suite.json says", None
            continue
        sample = samples.get(item.id)
        if (
            sample is not None
            and item.id in crops
            and sample.path.is_file()
            and sample.place is None
        ):
            try:
                own = crop_panel(crops[item.id], load_pixels(sample))
            except (ImageError, SuiteError) as error:
                yield f"{name}: {error}", None
                continue
            if not np.array_equal(own, picture):
                yield f"{name}: is not the original's part", None
                continue
        yield "", picture


def list_other_panels(folder: SuiteFolder, runs: Sequence[Run]) -> frozenset[str]:
    """Return the runs whose pictures need not be those that suite.json lists.

    suite.json is of the last request. In a folder of one's own the others may have had another limit,
    another crop or other tasks; of a crop it says nothing, so of several none is known to be its own.
    """
    crops = {run.record.protocol.crop for run in runs}
    protocols = {run.record.run: run.record.protocol for run in runs}
    return frozenset(
        name
        for name, own in protocols.items()
        if len(crops) > 1 or own.limit != folder.limit or set(own.tasks) != folder.images.keys()
    )


def audit_panel(case: Case, originals: Mapping[int, RGB8]) -> Iterator[str]:
    """Yield what is wrong with a run's pictures. A point of a codec's curve may have none."""
    known = list_run_files(case.record, case.folder) | list_error_maps(case.folder)
    files = read_known_files(case.run.folder, known)
    rows = {row["id"]: row for row in case.run.rows}
    for item in case.folder.panel:
        row, original = rows.get(item.id), originals.get(item.n)
        name, map_name = f"panel/{item.n}.png", f"panel/{item.n}.error.png"
        if row is None or row["error"] is not None:
            if name in files or map_name in files:
                yield f"{name}: of an image without numbers"
            continue
        if name not in files:
            if not case.record.tokenizer.curve_only:
                yield f"{name} is missing"
            continue
        try:
            picture = decode_panel_png(name, files[name])
            errors = decode_panel_png(map_name, files[map_name]) if map_name in files else None
        except ResultsError as error:
            yield str(error)
            continue
        if picture.shape[:2] != (item.height, item.width):
            yield f"{name}: is not {item.width}×{item.height}, as suite.json says"
        elif original is not None:
            if errors is not None and not _is_map(errors, original, picture):
                yield f"{map_name}: is not the picture's error"
            yield from _compare(name, original, picture, row)


def _is_map(errors: RGB8, original: RGB8, picture: RGB8) -> bool:
    expected = error_map(original, picture)
    return np.array_equal(errors, np.repeat(expected[:, :, None], 3, axis=2))


def _compare(name: str, original: RGB8, picture: RGB8, row: Row) -> Iterator[str]:
    mse, width, height = row["mse"], row["width"], row["height"]
    if mse is None:
        return
    squares = float(((original.astype(np.int64) - picture) ** 2).sum())
    if squares > mse * width * height * 3 + REMADE_LEVELS:
        yield f"{name}: has more error than its whole image is said to have"
    least = LEAST_SHARE * mse * original.size
    if squares < least and mse > VISIBLE_MSE and original.std() > FLAT_LEVELS:
        yield f"{name}: shows the original, and its image is said to have error"
    whole = picture.shape[:2] == (height, width)
    if whole and row[HASH] is not None and pixel_sha256(picture) != row[HASH]:
        yield f"{name}: is not the reconstruction whose hash its row has"
