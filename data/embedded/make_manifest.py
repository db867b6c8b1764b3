"""Make every embedded image again and the whole of `data/manifests/embedded.jsonl`.

The same as running make_photos.py, make_charts.py and make_text.py one after the other. On a
machine with other fonts or another FreeType the text pages come out different: see README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_charts
import make_photos
import make_text
from manifest_rows import MANIFEST


def main() -> None:
    """Read the command line and make everything anew."""
    parser = argparse.ArgumentParser(description="Make the embedded suite's images and manifest.")
    parser.add_argument(
        "--fonts", nargs="+", type=Path, default=make_text.FONT_FOLDERS, metavar="DIR"
    )
    arguments = parser.parse_args()
    # A row left from a page that is no longer made must not stay.
    MANIFEST.unlink(missing_ok=True)
    make_photos.main()
    make_charts.main()
    make_text.make_pages(arguments.fonts)


if __name__ == "__main__":
    main()
