"""The pictures of the site in README: `python docs/make_screenshots.py`.

Renders the site of the published results into a temporary folder, opens it in the system's Chromium and
writes docs/site-table.png and docs/site-plots.png, in 64 colours. Needs playwright and Chromium.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from vtbench.base.locations import published_dir
from vtbench.commands.site_pages import write_pages
from vtbench.leaderboard.aggregate import read_board

WIDTH = 1180
PICTURES = {
    "site-table.png": ("index.html#ci=1&sort=reconstruction.psnr_db%3Adesc", 560),
    "site-plots.png": ("embedded.plots.html", 850),
}
"""File, and address and height of each picture."""


def main() -> None:
    """Render the site, and write the pictures beside this script."""
    folder = published_dir("embedded")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        write_pages(Path(place), ["embedded"], [(read_board(folder), folder, None)])
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (address, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": height})
            page.set_default_timeout(300_000)
            page.goto(f"file://{place}/{address}")
            page.wait_for_selector("#table tbody tr, body[data-drawn]", state="attached")
            page.evaluate(
                "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
            )
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            out = Path(__file__).parent / name
            picture.quantize(64, dither=Image.Dither.NONE).save(out, optimize=True)
            print(f"{out.name}: {out.stat().st_size / 1024:.0f} kB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
