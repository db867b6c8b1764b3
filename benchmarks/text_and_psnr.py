"""Whether text and PSNR rank two tokenizers alike: `python benchmarks/text_and_psnr.py FIRST SECOND`.

Prints CER and mean PSNR of the published pages of text-multilingual after both, and first − second with
its 95 % interval: the bootstrap of the leaderboard, over pages within scripts, of paired differences.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from vtbench.base.locations import published_dir
from vtbench.base.statistics import LEVEL, Bootstrap, seed_of
from vtbench.results.folder import read_run


@dataclass(frozen=True)
class Compared:
    """A number after two tokenizers. low, high: 95 % interval of first − second."""

    label: str
    first: float
    second: float
    low: float
    high: float


def compare_text(first: str, second: str) -> tuple[Compared, Compared, Compared]:
    """Return CER, mean PSNR in dB and bits per pixel of the same pages after two published runs."""
    folder = published_dir("text-multilingual")
    runs = [read_run(folder / name) for name in (first, second)]
    rows = [{row["id"]: row for row in run.rows} for run in runs]
    pages = sorted(rows[0])
    strata = [rows[0][page]["subset"] for page in pages]
    draw = Bootstrap(strata, seed=seed_of(runs[0].record.suite.sha256))

    def column(own: dict[str, dict[str, float]], key: str) -> np.ndarray:
        return np.array([own[page][key] for page in pages], dtype=np.float64)

    found = []
    pixels = column(rows[0], "width") * column(rows[0], "height")
    weights = {"char_edits": column(rows[0], "chars"), "psnr_db": np.ones(len(pages))}
    weights["bits"] = pixels
    labels = {"char_edits": "CER", "psnr_db": "PSNR (dB)", "bits": "bpp"}
    for key, below in weights.items():
        a, b = (column(own, key) for own in rows)
        drawn = np.sort(draw.ratios((a - b)[:, None], below[:, None])[:, 0])
        tail = round((1 - LEVEL) / 2 * len(drawn))
        ends = float(drawn[tail]), float(drawn[-tail - 1])
        total = below.sum()
        found.append(Compared(labels[key], a.sum() / total, b.sum() / total, *ends))
    return found[0], found[1], found[2]


def main() -> None:
    """Print the comparison."""
    first, second = sys.argv[1:] or ("ref-dito-f8", "patch-pca-f16c16")
    print(f"text-multilingual, {first} and {second}: first − second, 95 % interval")
    for own in compare_text(first, second):
        print(
            f"{own.label}: {own.first:.4f} and {own.second:.4f}, {own.first - own.second:+.4f} "
            f"({own.low:+.4f} to {own.high:+.4f})"
        )


if __name__ == "__main__":
    main()
