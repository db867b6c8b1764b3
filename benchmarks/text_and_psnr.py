"""Whether text and PSNR rank two tokenizers alike: `python benchmarks/text_and_psnr.py FIRST SECOND`.

Prints CER, mean PSNR and bits per pixel of the published pages of text-multilingual after both
tokenizers. Each number has its own 95 % interval, which is the leaderboard's. The difference
first − second has an interval too: the bootstrap over pages within scripts, of paired differences.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from vtbench.base.locations import published_dir
from vtbench.base.statistics import LEVEL, Bootstrap, find_intervals, seed_of
from vtbench.results.folder import read_run


@dataclass(frozen=True)
class Compared:
    """A number of the same pages after two tokenizers.

    Attributes:
        label: What the number is.
        first: After the first tokenizer.
        second: After the second tokenizer.
        low: Low end of the 95 % interval of first − second, drawn in pairs.
        high: High end of that interval.
        own: The 95 % intervals of first and of second, each alone.
    """

    label: str
    first: float
    second: float
    low: float
    high: float
    own: tuple[tuple[float, float], tuple[float, float]]

    @property
    def apart(self) -> bool:
        """Whether the two numbers' own intervals do not overlap."""
        (low, high), (other_low, other_high) = self.own
        return high < other_low or other_high < low


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
        both = np.stack([a, b], axis=1), np.stack([below, below], axis=1)
        lows, highs = find_intervals(draw, *both)
        own = tuple(zip(map(float, lows), map(float, highs), strict=True))
        found.append(Compared(labels[key], a.sum() / total, b.sum() / total, *ends, own))
    return found[0], found[1], found[2]


def main() -> None:
    """Print the comparison."""
    names = sys.argv[1:] or ("ref-dito-f8", "patch-pca-f16c16")
    if len(names) != 2:
        sys.exit("expected two runs of results/text-multilingual: FIRST SECOND")
    print("text-multilingual; in brackets 95 % intervals")
    for found in compare_text(*names):
        print(f"\n{found.label}")
        for name, value, (low, high) in zip(
            names, (found.first, found.second), found.own, strict=True
        ):
            print(f"  {name}: {value:.4f} ({low:.4f} to {high:.4f})")
        print(
            f"  first − second, page by page: {found.first - found.second:+.4f} "
            f"({found.low:+.4f} to {found.high:+.4f})"
        )
        print(f"  own intervals {'do not overlap' if found.apart else 'overlap'}")


if __name__ == "__main__":
    main()
