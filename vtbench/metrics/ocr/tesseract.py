"""Tesseract, the system's program, with the language data of Debian."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from vtbench.base.errors import MetricError, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr.reader import Box, crop_line
from vtbench.weights.metrics import check_metric_weights, find_metric_weights

LANGUAGES = {
    "latin": "Latin",
    "cyrillic": "Cyrillic",
    "greek": "Greek",
    "chinese": "chi_sim",
    "japanese": "jpn",
    "korean": "kor",
    "hindi": "hin",
    "arabic": "Arabic",
}
"""The trained data that reads each script. Where Debian has data of a language and of its script, the
one that reads the originals of text-multilingual better."""

TIMEOUT_S = 120
"""Longest time of one call of the program, which reads the lines of one page (they take 2 s)."""

LINE, PAGE = "13", "3"
"""Segmentation modes: a raw line, which no layout analysis can lose, and the automatic one of a page."""


class TesseractReader:
    """Tesseract 5 (LSTM alone) as a program, one call a page for all of its lines.

    The program knows no state between the images of a call, so a reading does not depend on its
    neighbours. One thread a call; calls run side by side where there are processors.

    Args:
        scripts: what is to be read; the data of all scripts is checked in any case.

    Raises:
        WeightsMissing: the program or a data file is not on this machine.
        WeightsMismatch: a data file is not the catalogue's.
    """

    unit: Literal["line", "word"] = "line"
    scripts = frozenset(LANGUAGES)

    def __init__(self, *, scripts: Collection[str]) -> None:
        found = find_metric_weights("tesseract")
        sums = check_metric_weights("tesseract", found)
        program = shutil.which("tesseract")
        if program is None:
            raise WeightsMissing("tesseract is not installed: `apt-get install tesseract-ocr`")
        self._program = program
        self._data = found.path
        told = self._run(["--version"], scratch=None)
        match = re.match(r"tesseract (\S+)", told)
        if match is None:
            raise WeightsMissing(f"{program} does not say which version of Tesseract it is")
        used = {f"{LANGUAGES[s]}.traineddata" for s in scripts if s in LANGUAGES}
        self.identity = {
            "engine": "tesseract",
            "tesseract": match[1],
            **{name: sha256 for name, sha256 in sums.items() if name in used},
        }
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="tesseract")

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        crops = [crop_line(image, box) for box in boxes]
        places = [place for place, crop in enumerate(crops) if crop.size]
        readings = [""] * len(crops)
        count = max(1, min(os.cpu_count() or 1, len(places) // 4))
        shares = [places[start::count] for start in range(count)]

        def read_share(share: Sequence[int]) -> list[list[str]]:
            return self._read([crops[place] for place in share], script, LINE)

        for share, lines in zip(shares, self._pool.map(read_share, shares), strict=True):
            for place, words in zip(share, lines, strict=True):
                readings[place] = " ".join(words)
        return readings

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines that the program finds, in its reading order."""
        return [line for line in self._read([image], script, PAGE, whole_lines=True)[0] if line]

    def _read(
        self, images: Sequence[RGB8], script: str, mode: str, *, whole_lines: bool = False
    ) -> list[list[str]]:
        """Return of each image its words, or its lines."""
        from PIL import Image

        if not images:
            return []
        with tempfile.TemporaryDirectory(prefix="vtbench-tesseract-") as folder:
            scratch = Path(folder)
            names = [f"{number:05d}.png" for number in range(len(images))]
            for name, image in zip(names, images, strict=True):
                Image.fromarray(image).save(scratch / name, compress_level=1)
            (scratch / "list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
            table = self._run(
                [
                    *("list.txt", "stdout", "--tessdata-dir", str(self._data)),
                    *("-l", LANGUAGES[script], "--psm", mode, "--oem", "1", "tsv"),
                ],
                scratch=scratch,
            )
        return _sort_words(table, len(images), whole_lines=whole_lines)

    def _run(self, arguments: Sequence[str], *, scratch: Path | None) -> str:
        """Return what the program writes. Raises MetricError where it fails or takes too long."""
        try:
            done = subprocess.run(
                [self._program, *arguments],
                cwd=scratch,
                env={**os.environ, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"},
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MetricError(f"tesseract took more than {TIMEOUT_S} s and was ended") from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
            raise MetricError(f"tesseract ended with {done.returncode}: {lines[-1][:200]}")
        return done.stdout.decode(errors="replace")


def _sort_words(table: str, images: int, *, whole_lines: bool) -> list[list[str]]:
    """Return of each image the words of Tesseract's table, or its lines with words between spaces.

    Raises MetricError for a table that has not every image.
    """
    lines: list[dict[tuple[str, ...], list[str]]] = [{} for _ in range(images)]
    seen = set()
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        seen.add(page := int(row["page_num"]) - 1)
        if row["level"] == "5" and page < images:
            place = (row["block_num"], row["par_num"], row["line_num"])
            lines[page].setdefault(place, []).append(row["text"] or "")
    if seen != set(range(images)):
        raise MetricError(f"tesseract read {len(seen)} of {images} images")
    if whole_lines:
        return [[" ".join(words).strip() for words in own.values()] for own in lines]
    return [[word for words in own.values() for word in words if word.strip()] for own in lines]
