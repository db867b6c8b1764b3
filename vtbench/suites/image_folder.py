"""A folder of your own images as an ad-hoc suite."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from vtbench.base.errors import SuiteError
from vtbench.base.files import find_place
from vtbench.base.names import MAX_NAME, printable
from vtbench.base.records import Sample
from vtbench.images import SUFFIXES
from vtbench.suites.contents import sha256_content, take_stamp
from vtbench.suites.found_files import (
    ENDING,
    describe_left_out,
    find_files,
    holds_results,
)
from vtbench.suites.suite_file import Cost, PanelPick, SuiteFile, TaskProtocol
from vtbench.suites.suites import PANEL_PICTURES, Suite

MAX_ID = 200
"""Longest id, in characters, of a picture that is called by its path."""

METRICS = ("psnr_db", "mae", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "haarpsi", "dists")


def name_folder_suite(folder: Path) -> str:
    """Return "images-", the folder's name, and eight digits of its place: two folders of one name do
    not share results."""
    place = find_place(folder)
    slug = re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-")
    digits = hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return "-".join(["images", *([slug[: MAX_NAME - 16].strip("-")] if slug else []), digits])


def folder_suite(folder: Path, *, without: Iterable[Path] = ()) -> Suite:
    """Return an ad-hoc suite of a folder's pictures: reconstruction and rate, never published.

    Pictures are the files with an image ending, at any depth, sorted by path; the suite's `left_out`
    says what else is there. The manifest's digest is that of the files' names and bytes.

    Args:
        folder: the pictures.
        without: folders of results, which may lie below.

    Raises:
        SuiteError: the folder is none, holds vtbench's results, or has no pictures.
    """
    if not folder.is_dir():
        raise SuiteError(f"--images {folder}: not a folder")
    place = find_place(folder)
    if holds_results(folder) or {find_place(path) for path in without} & {place, *place.parents}:
        raise SuiteError(f"--images {folder}: in a folder of vtbench's results, not of pictures")
    found = find_files(folder, without=without)
    files = [path for path in found.files if path.suffix.lower() in SUFFIXES]
    others = [(path, ENDING) for path in found.files if path.suffix.lower() not in SUFFIXES]
    left_out = describe_left_out([*found.left_out, *others])
    if not files:
        known = ", ".join(sorted(SUFFIXES))
        raise SuiteError(f"--images {folder}: no pictures in it ({known}); {left_out or 'empty'}")
    told = [left_out] if left_out else []
    digest = hashlib.sha256()
    samples: dict[str, Sample] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        stamp = take_stamp(path)  # before the content is read
        content = sha256_content(path) or "unreadable"  # which is the image's own failure
        digest.update(f"{printable(name)}\0{content}\n".encode())
        label = _label(name, samples)
        # The size is known only after decoding, which may fail as well.
        samples[label] = Sample(label, "reconstruction", "images", path, 0, 0, stamp=stamp)
    protocol = SuiteFile(
        title="; ".join([f"{len(files)} images of {printable(find_place(folder).name)}", *told]),
        version=1,
        description="An ad-hoc suite of one's own pictures; its numbers are not comparable.",
        manifest="",
        manifest_sha256=digest.hexdigest(),
        dtype="fp32",
        seed=0,
        ocr="rapidocr",
        tasks={"reconstruction": TaskProtocol(metrics=METRICS)},
        cost=Cost(subset="images", batch_size=8),
        panel=tuple(PanelPick(id=label) for label in list(samples)[:PANEL_PICTURES]),
    )
    name = name_folder_suite(folder)
    return Suite(name, protocol, tuple(samples.values()), published=False, left_out=left_out)


def _label(name: str, taken: dict[str, Sample]) -> str:
    """Return the id of a picture: its path, printable, not too long, not beginning with a space."""
    label = printable(name)
    label = f"\\x20{label[1:]}" if label.startswith(" ") else label
    digits = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    if len(label) > MAX_ID:
        label = f"…{label[-MAX_ID:]}~{digits}"
    return f"{label}~{digits}" if label in taken else label
