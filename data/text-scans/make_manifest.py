"""Write the manifest of the suite text-scans: a photographed page, transcribed by hand.

The picture is `../embedded/photos/page.png` of scikit-image. Its lines are bent: a box holds the ink of
its line and as little as possible of the next.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vtbench.images import load_rgb8, pixel_sha256

DATA = Path(__file__).resolve().parent.parent
MANIFEST = DATA / "manifests" / "text-scans.jsonl"
PAGE = "embedded/photos/page.png"
LINES: tuple[tuple[str, int, tuple[tuple[float, float], ...]], ...] = (
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
"""What stands on each line, the height of its capitals in pixels, and its four corners."""


def make_row() -> dict[str, Any]:
    """Return the page's row of the manifest."""
    pixels = load_rgb8(DATA / PAGE)
    return {
        "id": "scan-page",
        "task": "text",
        "subset": "scan",
        "file": PAGE,
        "crop": None,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": pixel_sha256(pixels),
        "meta": {
            "script": "latin",
            "condition": "scan",
            "glyph_px": min(glyph for _, glyph, _ in LINES),
            "lines": [
                {"text": text, "kind": "code" if text.startswith(">") else "sentence",
                 "glyph_px": glyph, "box": [list(map(float, corner)) for corner in box]}
                for text, glyph, box in LINES
            ],
        },
    }  # fmt: skip


if __name__ == "__main__":
    MANIFEST.write_text(json.dumps(make_row(), ensure_ascii=False) + "\n", encoding="utf-8")
