"""Whether text and PSNR rank two tokenizers alike: `python benchmarks/text_and_psnr.py FIRST SECOND`.

Prints CER, mean PSNR and bits per pixel of the published pages of text-multilingual after both
tokenizers. Each number has its own 95 % interval, which is the leaderboard's. The difference
first − second has an interval too: the bootstrap over pages within scripts, of paired differences.

The own intervals hold how much the pages differ from each other, which is the same after both
tokenizers. Intervals within pages leave that out: each page's mean over the two tokenizers is taken
from it first, and what is left is widened by √2 for the two tokenizers (Loftus and Masson 1994;
Cousineau 2005; Morey 2008, "Confidence intervals from normalized data", equation 2).
"""

from __future__ import annotations

import math
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
        within: The 95 % intervals of first and of second within pages.
    """

    label: str
    first: float
    second: float
    low: float
    high: float
    own: tuple[tuple[float, float], tuple[float, float]]
    within: tuple[tuple[float, float], tuple[float, float]]


def are_apart(intervals: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    """Return whether two intervals do not overlap."""
    (low, high), (other_low, other_high) = intervals
    return high < other_low or other_high < low


def find_within(
    first: float, second: float, low: float, high: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the two numbers' intervals within pages.

    Without the pages' means, ± half of the difference of each page is left. Its spread is half of the
    difference's, and Morey's factor √(2 ÷ (2 − 1)) makes that 1 ÷ √2.

    Args:
        first: The first number.
        second: The second number.
        low: Low end of the interval of first − second, drawn in pairs.
        high: High end of that interval.
    """
    below, above = (abs(end - (first - second)) / math.sqrt(2) for end in (low, high))
    return (first - below, first + above), (second - above, second + below)


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
        means = float(a.sum() / total), float(b.sum() / total)
        both = np.stack([a, b], axis=1), np.stack([below, below], axis=1)
        lows, highs = find_intervals(draw, *both)
        own = tuple(zip(map(float, lows), map(float, highs), strict=True))
        found.append(Compared(labels[key], *means, *ends, own, find_within(*means, *ends)))
    return found[0], found[1], found[2]


def main() -> None:
    """Print the comparison."""
    names = sys.argv[1:] or ("ref-dito-f8", "patch-pca-f16c16")
    if len(names) != 2:
        sys.exit("expected two runs of results/text-multilingual: FIRST SECOND")
    print("text-multilingual; in brackets 95 % intervals")
    for found in compare_text(*names):
        print(f"\n{found.label}")
        values = found.first, found.second
        for name, value, own, within in zip(names, values, found.own, found.within, strict=True):
            print(
                f"  {name}: {value:.4f} ({own[0]:.4f} to {own[1]:.4f}; "
                f"within pages {within[0]:.4f} to {within[1]:.4f})"
            )
        print(
            f"  first − second, page by page: {found.first - found.second:+.4f} "
            f"({found.low:+.4f} to {found.high:+.4f})"
        )
        for label, ends in (("own intervals", found.own), ("within pages", found.within)):
            print(f"  {label}: {'they do not overlap' if are_apart(ends) else 'they overlap'}")


if __name__ == "__main__":
    main()
