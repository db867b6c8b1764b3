"""The rows of the embedded suite's manifest, and the file that holds them.

A row describes one image of `data/embedded/` (or one crop of it) and what is known of it. The
three scripts beside this file make rows; each replaces its own rows in
`data/manifests/embedded.jsonl` and leaves the others as they are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
DATA = HERE.parent
MANIFEST = DATA / "manifests" / "embedded.jsonl"
TASKS = ("reconstruction", "detail", "text")

Row = dict[str, Any]
Pixels = NDArray[np.uint8]


def load_pixels(path: Path, crop: list[int] | None = None) -> Pixels:
    """Decode an image to RGB uint8 HxWx3; `crop` is [left, top, width, height] in pixels.

    EXIF orientation is applied and gray is replicated to three channels, as vtbench does.
    """
    with Image.open(path) as file:
        if file.mode not in ("L", "RGB"):
            raise ValueError(f"{path.name}: mode {file.mode}; the suite holds only L and RGB")
        pixels = np.array(ImageOps.exif_transpose(file).convert("RGB"))
    if crop is not None:
        left, top, width, height = crop
        pixels = pixels[top : top + height, left : left + width]
        if pixels.shape[:2] != (height, width):
            raise ValueError(f"{path.name}: crop {crop} leaves the image")
    return pixels


def hash_pixels(pixels: Pixels) -> str:
    """Return the sha256 hex digest of "{W}x{H}x3:uint8:" and the RGB bytes, row by row."""
    height, width, _ = pixels.shape
    header = f"{width}x{height}x3:uint8:".encode()
    return hashlib.sha256(header + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def save_png(pixels: Pixels, path: Path) -> None:
    """Write HxWx3 uint8 as an optimized PNG, with one channel where the three are equal."""
    gray = bool((pixels == pixels[..., :1]).all())
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if gray else pixels))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def make_row(
    identifier: str,
    *,
    task: str,
    subset: str,
    path: Path,
    meta: dict[str, Any],
    crop: list[int] | None = None,
) -> Row:
    """Return the manifest row of the image at `path`, which lies below `data/`."""
    pixels = load_pixels(path, crop)
    return {
        "id": identifier,
        "task": task,
        "subset": subset,
        "file": path.relative_to(DATA).as_posix(),
        "crop": crop,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": hash_pixels(pixels),
        "meta": meta,
    }


def read_rows() -> list[Row]:
    """Return the rows of the manifest, in its order; none where there is no manifest yet."""
    if not MANIFEST.exists():
        return []
    return [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()]


def replace_rows(folder: str, rows: list[Row]) -> None:
    """Put `rows` in the place of all rows whose file lies in `data/embedded/<folder>/`."""
    kept = [row for row in read_rows() if not row["file"].startswith(f"embedded/{folder}/")]
    merged = sorted(kept + rows, key=lambda row: (TASKS.index(row["task"]), row["id"]))
    names = [row["id"] for row in merged]
    if len(set(names)) != len(names):
        raise ValueError("two rows share an id")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in merged]
    MANIFEST.parent.mkdir(parents=True, exist_ok=True)
    MANIFEST.write_text("".join(lines), encoding="utf-8", newline="\n")
