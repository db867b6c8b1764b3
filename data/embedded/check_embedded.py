"""Check the committed images against the manifest, the gratings and the text pages.

Prints one table each: rows whose size or hash differs, how well every grating is conditioned, and,
where RapidOCR is installed, what it reads on the originals. Exits 1 if a row differs.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from manifest_rows import DATA, Pixels, Row, hash_pixels, load_pixels, read_rows


def check_rows(rows: list[Row]) -> int:
    """Return how many rows do not match their file in size or hash; print each."""
    wrong = 0
    for row in rows:
        pixels = load_pixels(DATA / row["file"], row["crop"])
        size = (row["height"], row["width"])
        if pixels.shape[:2] != size or hash_pixels(pixels) != row["sha256"]:
            print(f"{row['id']}: {row['file']} is not what the manifest says")
            wrong += 1
    for (task, subset), count in sorted(Counter((r["task"], r["subset"]) for r in rows).items()):
        print(f"{task:15s} {subset:13s} {count:3d}")
    print(f"{len(rows)} rows, {wrong} wrong")
    return wrong


def check_gratings(rows: list[Row]) -> None:
    """Print each scored box's contrast over its nominal one, by two measures.

    `fit`: amplitude of the least-squares sine at the nominal frequency; `rms`: of the levels.
    `cond`: condition number of the fit's two-column basis (1 is ideal; a column without energy,
    as the sine at period 2, is left out and marked by *).
    """
    for row in rows:
        if row["subset"] != "grating":
            continue
        meta = row["meta"]
        pixels = load_pixels(DATA / row["file"])[..., 0].astype(np.float64) / 127.5 - 1
        angle = math.radians(meta["angle_deg"])
        print(f"\n{row['id']}: contrast {meta['contrast']}, angle {meta['angle_deg']}")
        print("  period    fit/c    rms/c     cond")
        for patch in meta["patches"]:
            left, top, width, height = patch["box"]
            levels = pixels[top : top + height, left : left + width]
            y, x = np.mgrid[0:height, 0:width].astype(np.float64)
            along = x * math.cos(angle) + y * math.sin(angle)
            phase = 2 * math.pi * along.ravel() / patch["period_px"]
            basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)
            energy = (basis**2).mean(axis=0)
            basis = basis[:, energy > 1e-9]
            mark = "*" if basis.shape[1] == 1 else " "
            weights = np.linalg.lstsq(basis, levels.ravel() - levels.mean(), rcond=None)[0]
            fit = np.linalg.norm(weights) / meta["contrast"]
            rms = levels.std() / math.sqrt(energy[0]) / meta["contrast"]
            condition = np.linalg.cond(basis)
            print(f"  {patch['period_px']:6.3f} {fit:8.4f} {rms:8.4f} {condition:8.3f}{mark}")


def rectify(pixels: Pixels, box: list[list[float]]) -> Pixels:
    """Return the quadrilateral `box` (pixel edges) as an upright HxWx3 image at its own scale."""
    import cv2

    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = box
    if y0 == y1 and x1 == x2 and y2 == y3 and x3 == x0:
        return pixels[math.floor(y0) : math.ceil(y2), math.floor(x0) : math.ceil(x2)]
    width = round(math.hypot(x1 - x0, y1 - y0))
    height = round(math.hypot(x3 - x0, y3 - y0))
    # OpenCV puts whole coordinates on pixel centres, half a pixel off pixel edges.
    source = np.array(box, dtype=np.float32) - 0.5
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    upright = cv2.warpPerspective(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return upright.astype(np.uint8)


def count_edits(truth: str, read: str) -> int:
    """Return the Levenshtein distance of two strings in code points."""
    row = list(range(len(read) + 1))
    for i, a in enumerate(truth, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(read, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def check_text(rows: list[Row]) -> None:
    """Print the character error rate of RapidOCR on the originals, by page and by subset."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        print("\nno RapidOCR here: the text pages were not read")
        return
    engine: Any = RapidOCR(params={"Global.log_level": "error", "Rec.rec_batch_num": 1})
    edits: dict[str, int] = defaultdict(int)
    characters: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["task"] != "text":
            continue
        pixels = load_pixels(DATA / row["file"])
        page_edits = 0
        for line in row["meta"]["lines"]:
            crop = np.ascontiguousarray(rectify(pixels, line["box"])[..., ::-1])
            found = engine(crop, use_det=False, use_cls=False, use_rec=True).txts
            read = found[0] if found else ""
            wrong = count_edits(line["text"], read)
            if wrong:
                print(f"    {line['text']!r} read as {read!r}")
            page_edits += wrong
        length = sum(len(line["text"]) for line in row["meta"]["lines"])
        print(f"{row['id']:40s} {page_edits:3d} / {length:3d}  {page_edits / length:7.2%}")
        for key in (row["subset"], "all"):
            edits[key] += page_edits
            characters[key] += length
    for key, count in edits.items():
        print(f"CER {key:13s} {count:3d} / {characters[key]:4d}  {count / characters[key]:7.2%}")


def main() -> None:
    """Run the three checks."""
    rows = read_rows()
    wrong = check_rows(rows)
    check_gratings(rows)
    check_text(rows)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
