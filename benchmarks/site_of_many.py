"""The time and memory of a large site: `python benchmarks/site_of_many.py [RUNS] [SUITES] [IMAGES]`.

Writes runs of random rows (default 161 of 3 suites of 5 000 images) with panel pictures of 32 pixels
into a temporary folder, renders their site in a process of its own, and prints its seconds and its peak
of resident memory. Then it opens pages in the system's Chromium, if it is there, and prints how long it
takes until they stand (median of 5, on quiet cores), and the processor time of each page's main thread,
which is the same on a busy machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from board_of_many import COUNTS, METRICS, read_template, write_columns

from vtbench.images import encode_png
from vtbench.results.folder import write_suite_folder
from vtbench.results.rows import ROW_COLUMNS
from vtbench.results.schema import PanelItem, SuiteFolder

PANEL, SIDE = 6, 32
"""Pictures of a panel, and their side in pixels."""


def write_suite(folder: Path, name: str, runs: int, images: int) -> None:
    """Write a suite's folder with its runs and their pictures."""
    random = np.random.default_rng(int(name[-1]))
    ids = [f"ILSVRC2012_val_{i:08}" for i in range(images)]
    items = [
        PanelItem(n=n, id=ids[n], task="reconstruction", width=SIDE, height=SIDE)
        for n in range(min(PANEL, images))
    ]
    suite = SuiteFolder(
        name=name,
        version=1,
        title=f"Many, {name}",
        description="",
        sha256=name[-1] * 64,
        published=True,
        images={"reconstruction": images},
        metrics={"reconstruction": tuple(key for key in METRICS if key != "mse")},
        cost_subset="val",
        panel=tuple(items),
        skipped=(),
    )
    write_suite_folder(folder, suite)
    template = read_template()
    write_pictures(folder / "originals", items, random)
    for number in range(runs):
        run = f"run-{number:03}"
        columns: dict[str, object] = dict.fromkeys(ROW_COLUMNS)
        columns |= {"task": ["reconstruction"] * images, "subset": ["val"] * images, "id": ids}
        columns |= {"sha256": [f"{i:064x}" for i in range(images)], "fit": ["none"] * images}
        columns |= {key: np.full(images, 256) for key in ("width", "height")}
        columns |= {key: random.gamma(2.0, 1.0 + number / 30, images) for key in METRICS}
        columns |= {key: random.integers(1, 999, images) for key in COUNTS}
        write_columns(folder / run, template, columns, name=run, images=images, suite=suite)
        write_pictures(folder / run / "panel", items, random)


def write_pictures(folder: Path, items: list[PanelItem], random: np.random.Generator) -> None:
    """Write random pictures of a panel."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in items:
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        (folder / f"{item.n}.png").write_bytes(encode_png(pixels))


RENDER = """
import atexit, resource, sys, time
from pathlib import Path
from vtbench.commands.site_pages import write_pages
from vtbench.leaderboard.aggregate import read_board
wall, cpu = time.perf_counter(), time.process_time()
folders = [Path(name) for name in sys.argv[2:]]
boards = ((read_board(folder), folder, None) for folder in folders)
write_pages(Path(sys.argv[1]), [folder.name for folder in folders], boards)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
atexit._run_exitfuncs()  # ends the process that reads Parquet, which is counted when it has ended
own, readers = (
    resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
)
cpu += readers.ru_utime + readers.ru_stime
print(f"rendered in {wall:.1f} s, {cpu:.1f} s of CPU; peak {own.ru_maxrss / 1024:.0f} MiB, "
      f"of the process that reads Parquet {readers.ru_maxrss / 1024:.0f} MiB")
"""


PAGES = {
    "table": ("index.html", "#table tbody tr:not(.block)"),
    "overview": ("index.html#preset=overview", "#table tbody tr:not(.block)"),
    "plots": ("many-1.plots.html", "body[data-drawn]"),
    "viewer": ("many-1.viewer.html", "#stage img"),
}
"""Of each page its address and what is there when it stands."""


def open_in_chromium(site: Path) -> None:
    """Print the seconds from asking for a page until it stands and is painted, and the processor
    time of its main thread, each the median of five; nothing without playwright or Chromium."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("not opened: no playwright or no Chromium here")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for name, (address, selector) in PAGES.items():
            seconds, busy = [], []
            for _ in range(5):
                own = browser.new_page()
                own.set_default_timeout(300_000)
                protocol = own.context.new_cdp_session(own)
                protocol.send("Performance.enable", {"timeDomain": "threadTicks"})
                start = time.perf_counter()
                own.goto(f"file://{site}/{address}")
                own.wait_for_selector(selector, state="attached")
                own.evaluate(
                    "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
                )
                seconds.append(time.perf_counter() - start)
                told = protocol.send("Performance.getMetrics")["metrics"]
                busy.append(next(m["value"] for m in told if m["name"] == "TaskDuration"))
                own.close()
            print(
                f"{name}: shown in Chromium after {statistics.median(seconds):.2f} s, main thread "
                f"{statistics.median(busy):.2f} s of CPU (medians of 5)"
            )
        browser.close()


def main() -> None:
    """Write the results, render their site, open it."""
    runs, suites, images = ([int(x) for x in sys.argv[1:]] + [161, 3, 5000][len(sys.argv) - 1 :])[
        :3
    ]
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / f"many-{number}" for number in range(1, suites + 1)]
        for folder in folders:
            write_suite(folder, folder.name, runs, images)
        site = Path(place) / "site"
        subprocess.run([sys.executable, "-c", RENDER, str(site), *map(str, folders)], check=True)
        files = [path for path in site.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        data = len(json.loads((site / "site.json").read_text())["files"])
        print(f"{runs} runs × {suites} suites × {images} images: {data} files, {size:.0f} MiB")
        open_in_chromium(site)


if __name__ == "__main__":
    main()
