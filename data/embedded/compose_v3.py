"""Write the manifest of embedded@3 out of the rows of embedded@2, detail@2 and text-multilingual@1.

Photographs and textures stay. The gratings are those of `detail`: every frequency of the curve once, by
turns along x and y, and along x what repeats with a grid of 16 px or 8 px with its neighbours. The pages
are those of text-multilingual that RapidOCR can read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANIFESTS = Path(__file__).resolve().parent.parent / "manifests"
TARGET = MANIFESTS / "embedded@3.jsonl"
TASKS = ("reconstruction", "detail", "text")
SCRIPTS = ("latin", "chinese", "japanese")
PAGES = ("08", "12", "16", "24", "faint-16", "photo-20", "turned-16", "abstract")
STRIDE = 16

Row = dict[str, Any]


def read_rows(suite: str) -> list[Row]:
    """Return the rows of a suite's manifest."""
    lines = (MANIFESTS / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def choose_charts(rows: list[Row]) -> Iterator[Row]:
    """Yield the charts of `detail` that the suite takes."""
    frequencies = sorted({frequency_of(row) for row in rows if row["subset"] == "curve"})
    near = [k / STRIDE + step / 96 for k in range(1, STRIDE // 2) for step in (-1, 0, 1)]
    for row in rows:
        if row["subset"] == "curve":
            turn = frequencies.index(frequency_of(row)) % 2
            if axis_of(row) == turn:
                yield row
        elif row["subset"] == "grid":
            wanted = any(abs(frequency_of(row) - own) < 1e-9 for own in near)
            if wanted and axis_of(row) == 0:
                yield row
        elif row["subset"] in ("elements", "chart"):
            yield row


def frequency_of(row: Row) -> float:
    """Return the frequency of a chart along its axis, cycles per pixel, to nine decimals."""
    return round(sum(row["meta"]["patches"][0]["wave"]), 9)


def axis_of(row: Row) -> int:
    """Return 0 for gratings along x, 1 along y."""
    return int(not row["meta"]["patches"][0]["wave"][0])


def compose_rows() -> list[Row]:
    """Return the rows of the suite, by task and id."""
    embedded = read_rows("embedded")
    rows = [row for row in embedded if row["task"] == "reconstruction"]
    rows += [row for row in embedded if row["subset"] == "texture"]
    rows += choose_charts([row for row in read_rows("detail") if row["task"] == "detail"])
    wanted = {f"text-{script}-{page}" for script in SCRIPTS for page in PAGES}
    rows += [row for row in read_rows("text-multilingual") if row["id"] in wanted]
    return sorted(rows, key=lambda row: (TASKS.index(row["task"]), row["id"]))


if __name__ == "__main__":
    lines = (json.dumps(row, ensure_ascii=False) for row in compose_rows())
    TARGET.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
