"""Write the manifest of the suite text-scans: two photographs of text, transcribed by hand.

Both are of scikit-image: `page.png`, whose lines are bent (a box holds the ink of its line and as little
as possible of the next), and `text.png`, handwriting at a steep slant (a box is the quadrilateral that a
piece of a formula fills, so that `reader.crop_line` turns it upright).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vtbench.images import load_rgb8, pixel_sha256

DATA = Path(__file__).resolve().parent.parent
MANIFEST = DATA / "manifests" / "text-scans.jsonl"
PAGE, NOTE = "embedded/photos/page.png", "text-scans/text.png"

Line = tuple[str, int, tuple[tuple[float, float], ...]]
"""What stands there, the height of its capitals (of handwriting: its letters) in pixels, its corners."""

PAGE_LINES: tuple[Line, ...] = (
    ("Region-based segmentation", 16, ((5, 11), (294, 11), (294, 35), (5, 35))),
    (
        "Let us first determine markers of the coins and the",
        9,
        ((4, 48), (379, 48), (379, 65), (4, 65)),
    ),
    (
        "background. These markers are pixels that we can label",
        9,
        ((4, 66), (379, 66), (379, 84), (4, 84)),
    ),
    (
        "unambiguously as either object or background. Here,",
        9,
        ((4, 84), (379, 84), (379, 102), (4, 102)),
    ),
    (
        "the markers are found at the two extreme parts of the",
        9,
        ((4, 101), (379, 101), (379, 119), (4, 119)),
    ),
    ("histogram of grey values:", 9, ((4, 117), (173, 117), (173, 136), (4, 136))),
    (">>> markers = np.zeros_like(coins)", 8, ((17, 167), (242, 177), (242, 191), (17, 180))),
)
NOTE_LINES: tuple[Line, ...] = (
    ("(s) =", 35, ((68, 47.1), (142.9, 83.4), (65.1, 110), (-1.4, 76.6))),
    ("s) =", 25, ((210, -1.7), (298.6, 26.3), (242.9, 43.4), (167.1, 9.1))),
)
"""Of the formulas only these pieces can be transcribed without guessing; the first bracket of the second
is cut off by the picture's edge."""


def make_row(name: str, subset: str, file: str, lines: tuple[Line, ...]) -> dict[str, Any]:
    """Return a picture's row of the manifest."""
    pixels = load_rgb8(DATA / file)
    return {
        "id": name,
        "task": "text",
        "subset": subset,
        "file": file,
        "crop": None,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": pixel_sha256(pixels),
        "meta": {
            "script": "latin",
            "condition": subset,
            "glyph_px": min(glyph for _, glyph, _ in lines),
            "lines": [
                {"text": text, "kind": name_kind(text), "glyph_px": glyph,
                 "box": [list(map(float, corner)) for corner in box]}
                for text, glyph, box in lines
            ],
        },
    }  # fmt: skip


def name_kind(text: str) -> str:
    """Return what kind of line this is."""
    return "code" if text.startswith(">") else "formula" if text.endswith("=") else "sentence"


if __name__ == "__main__":
    rows = (
        make_row("scan-page", "scan", PAGE, PAGE_LINES),
        make_row("scan-text", "handwriting", NOTE, NOTE_LINES),
    )
    MANIFEST.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
