"""A photograph of 24 megapixels is measured; a larger one is refused by name, not decoded."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtbench.cli import main
from vtbench.images import MAX_PIXELS
from vtbench.results.folder import read_run

MEASURE = Path(__file__).with_name("measure_memory.py")
MAX_MIB = 2048


def peak_mib(pictures: Path, name: str, out: Path) -> float:
    """Return the memory of a whole run over a folder, in a process of its own."""
    arguments = ["run", "--images", pictures, "-t", name, "--device", "cpu", "--out", out]
    done = subprocess.run(
        [sys.executable, MEASURE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    status, peak = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    return float(peak)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["identity", "jpeg-q50"])
def test_24_megapixels_are_measured_within_2_gib(tmp_path: Path, name: str) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    for folder, size in (("small", (256, 256)), ("large", (6000, 4000))):
        (tmp_path / folder).mkdir()
        picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        picture.save(tmp_path / folder / "a.jpg", quality=92)
    small, large = (
        peak_mib(tmp_path / folder, name, tmp_path / f"{folder}-out")
        for folder in ("small", "large")
    )
    assert large - small < MAX_MIB, f"{large - small:.0f} MiB above the {small:.0f} of a small one"
    (row,) = read_run(tmp_path / "large-out" / name).rows
    assert row["error"] is None and row["width"] * row["height"] == 24_000_000


def blank_png(width: int, height: int) -> bytes:
    """Return a PNG that says it is so large, and has no pixel of it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "reconstruct", "drift"])
def test_larger_pictures_are_refused_by_name(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, out = tmp_path / "pics", tmp_path / "out"
    pictures.mkdir()
    (pictures / "huge.png").write_bytes(blank_png(7000, 5000))
    calls = {
        "run": ["run", "--images", str(pictures), "--out", str(out)],
        "reconstruct": ["reconstruct", str(pictures / "huge.png"), "--out", str(out)],
        "drift": ["drift", str(pictures / "huge.png")],
    }
    arguments = [*calls[command], "-t", "identity"]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "huge.png" in said
    assert f"7000×5000 is more than {MAX_PIXELS:,} pixels (`--max-pixels` takes more)" in said
    again = ["--fresh"] if command == "run" else []  # the old row still says why it was refused
    assert main([*arguments, *again, "--max-pixels", "36000000"]) == 1
    said = capsys.readouterr().err
    assert "is more than" not in said and "cannot be decoded" in said


@pytest.mark.slow
def test_a_picture_of_more_pixels_is_measured_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, out = tmp_path / "pics", tmp_path / "out"
    pictures.mkdir()
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(pictures / "a.png")
    arguments = ["run", "--images", str(pictures), "-t", "jpeg-q50", "--out", str(out)]
    assert main([*arguments, "--max-pixels", "1999"]) == 1
    assert "50×40 is more than 1,999 pixels" in capsys.readouterr().err
    assert main([*arguments, "--max-pixels", "2000"]) == 0  # what could not be read is tried again
    assert main(["run", "--images", str(pictures), "-t", "x", "--max-pixels", "0"]) == 2
