"""The panel's images in a site: which exist, which may be shown, and where they go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vtbench.images import read_png_original
from vtbench.leaderboard.board import Board, Line
from vtbench.results.known_files import MAX_PICTURE_BYTES, read_known_files
from vtbench.results.rows import Row
from vtbench.results.schema import PanelItem

CAPTION = ("bits", "width", "height", "psnr_db")
"""The columns that a caption is made of."""


@dataclass(frozen=True)
class Picture:
    """A picture of the panel.

    Attributes:
        item: Which picture of the suite.
        run: The run that made it, None for the original.
        file: Its place in the site.
        caption: Rate and PSNR of the whole image, "" where the run has neither.
    """

    item: PanelItem
    run: str | None
    file: str
    caption: str = ""

    @property
    def address(self) -> str:
        """Its address from the site's folder."""
        return quote(self.file)


def find_pictures(board: Board, folder: Path) -> dict[Picture, str]:
    """Return the pictures of a folder of results, each with its place there.

    A suite whose images may not be shown has none.
    """
    suite = board.suite
    if not suite.show_images:
        return {}
    found: dict[Picture, str] = {}
    start = f"pictures/{suite.name}"
    places = {line.name: find_places(board, line, folder) for line in board.lines}
    for item in suite.panel:
        source = f"originals/{item.n}.png"
        if not (folder / source).is_file():
            continue
        found[Picture(item, None, f"{start}/originals/{item.n}.png")] = source
        of = read_png_original(folder / source) or item.id
        for line in board.lines:
            # Beside a run that keeps hashes there may be older ones without.
            n = places[line.name].get(of, places[line.name].get(item.id))
            source = f"{line.name}/panel/{n}.png"
            if n is not None and (folder / source).is_file():
                row = line.run.find_row(item.id, CAPTION) if line.run else None
                file = f"{start}/{line.name}/{item.n}.png"
                found[Picture(item, line.name, file, write_caption(line, row))] = source
    return found


def read_pictures(found: dict[Picture, str], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each picture's place in the site and content.

    Raises:
        ResultsError: one is no regular file, too large, or no PNG.
    """
    for picture, source in found.items():
        content = read_known_files(folder, {source: MAX_PICTURE_BYTES})
        yield picture.file, content[source]


def find_places(board: Board, line: Line, folder: Path) -> dict[str, int]:
    """Return the numbers of a run's panel pictures by the hash of the original that they are of.

    Those of results that kept no hash are known by their places, as long as a manifest pins which
    picture has which: by the picture's id here."""
    if line.run is None:
        return {}
    panel = folder / line.name / "panel"
    hashes = {path.stem: read_png_original(path) for path in sorted(panel.glob("*.png"))}
    found = {of: int(stem) for stem, of in hashes.items() if of is not None and stem.isdecimal()}
    if board.suite.pinned and line.record.suite.sha256 == board.suite.sha256:
        for item in board.suite.panel:
            if hashes.get(str(item.n), "") is None:
                found[item.id] = item.n
    return found


def write_caption(line: Line, row: Row | None) -> str:
    """Return rate and PSNR of the row's image; an incomplete run tells none, here as elsewhere."""
    if line.problem is not None:
        return "incomplete run"
    if row is None or row["bits"] is None or row["psnr_db"] is None:
        return ""
    bpp = row["bits"] / (row["width"] * row["height"])
    return f"{bpp:.3f} bpp · {row['psnr_db']:.2f} dB"
