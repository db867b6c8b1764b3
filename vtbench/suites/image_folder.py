"""A folder of one's own images as an ad-hoc suite."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vtbench.base.errors import SuiteError
from vtbench.base.files import sha256_file
from vtbench.base.names import MAX_NAME
from vtbench.base.records import Sample
from vtbench.images import SUFFIXES
from vtbench.suites.suite_file import Cost, PanelPick, SuiteFile, TaskProtocol
from vtbench.suites.suites import PANEL_PICTURES, Suite


def folder_suite(folder: Path) -> Suite:
    """Return an ad-hoc suite of a folder's pictures: reconstruction and rate, never published.

    Pictures are the files with an image ending, at any depth, sorted by path. The manifest's digest
    is that of the files' names and bytes, the name "images-" and the folder's, so that two folders
    do not share results. Raises SuiteError for a folder without pictures.
    """
    if not folder.is_dir():
        raise SuiteError(f"--images {folder}: not a folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SuiteError(f"--images {folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    digest = hashlib.sha256()
    samples = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{sha256_file(path)}\n".encode())
        # The size is known only after decoding, which may fail: that is the image's own failure.
        samples.append(Sample(name, "reconstruction", "images", path, width=0, height=0))
    protocol = SuiteFile(
        title=f"{len(files)} images of {folder.name}",
        version=1,
        description="An ad-hoc suite of one's own pictures; its numbers are not comparable.",
        manifest="",
        manifest_sha256=digest.hexdigest(),
        dtype="fp32",
        seed=0,
        ocr="rapidocr",
        tasks={
            "reconstruction": TaskProtocol(
                metrics=(
                    *("psnr_db", "mae", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg"),
                    *("haarpsi", "dists"),
                )
            )
        },
        cost=Cost(subset="images", batch_size=8),
        panel=tuple(PanelPick(id=sample.id) for sample in samples[:PANEL_PICTURES]),
    )
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    name = f"images-{slug}" if slug else "images"
    return Suite(name[:MAX_NAME], protocol, tuple(samples), published=False)
