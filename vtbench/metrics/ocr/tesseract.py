"""Tesseract, the system's program, with the language data of Debian."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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

CPU_SECONDS = 120
"""Processor time of one call of the program, which reads the lines of one page (they take 2 s); where
the system can limit it, which Linux can."""

WALL_SECONDS = 1200.0
"""Of one call: one that takes no processor time, or shares a processor with many."""

BETWEEN = "\f"
"""What the program writes between two images."""

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
        """Return one reading a box, "" where nothing was recognised.

        A crop of a single colour is not given to the program, which reads a letter out of it.
        """
        crops = [crop_line(image, box) for box in boxes]
        places = [
            place for place, crop in enumerate(crops) if crop.size and (crop != crop[:1, :1]).any()
        ]
        readings = [""] * len(crops)
        count = max(1, min(os.cpu_count() or 1, len(places) // 4))
        shares = [places[start::count] for start in range(count)]

        def read_share(share: Sequence[int]) -> list[str]:
            return self._read([crops[place] for place in share], script, LINE)

        for share, read in zip(shares, self._pool.map(read_share, shares), strict=True):
            for place, reading in zip(share, read, strict=True):
                readings[place] = " ".join(reading.split())
        return readings

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines that the program finds, in its reading order."""
        (reading,) = self._read([image], script, PAGE)
        return [line.strip() for line in reading.splitlines() if line.strip()]

    def _read(self, images: Sequence[RGB8], script: str, mode: str) -> list[str]:
        """Return what the program reads on each image."""
        from PIL import Image

        if not images:
            return []
        with tempfile.TemporaryDirectory(prefix="vtbench-tesseract-") as folder:
            scratch = Path(folder)
            names = [f"{number:05d}.png" for number in range(len(images))]
            for name, image in zip(names, images, strict=True):
                Image.fromarray(image).save(scratch / name, compress_level=1)
            (scratch / "list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
            told = self._run(
                [
                    *("list.txt", "stdout", "--tessdata-dir", str(self._data)),
                    *("-l", LANGUAGES[script], "--psm", mode, "--oem", "1"),
                    *("-c", f"page_separator={BETWEEN}"),
                ],
                scratch=scratch,
            )
        read = told.split(BETWEEN)
        if len(read) != len(images):
            raise MetricError(f"tesseract read {len(read)} of {len(images)} images")
        return read

    def _run(self, arguments: Sequence[str], *, scratch: Path | None) -> str:
        """Return what the program writes. Raises MetricError where it fails or takes too long."""
        with subprocess.Popen(
            [self._program, *arguments],
            cwd=scratch,
            env={**os.environ, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            _limit_time(process.pid)
            try:
                out, err = process.communicate(timeout=WALL_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise MetricError(f"tesseract took more than {WALL_SECONDS:g} s") from None
            except BaseException:  # Ctrl-C
                process.kill()
                raise
        if process.returncode == -getattr(signal, "SIGXCPU", 0):
            raise MetricError(f"tesseract took more than {CPU_SECONDS} s of processor time")
        if process.returncode:
            lines = err.decode(errors="replace").strip().splitlines() or ["no reason"]
            raise MetricError(f"tesseract ended with {process.returncode}: {lines[-1][:200]}")
        return out.decode(errors="replace")


def _limit_time(pid: int) -> None:
    """Limit a process's processor time, on Linux."""
    if sys.platform == "linux":
        import resource

        with suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
