"""README at the width at which a code host shows it, in Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vtbench.base.locations import package_dir

ROOT = package_dir().parent
playwright_api = pytest.importorskip("playwright.sync_api")
markdown_it = pytest.importorskip("markdown_it")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)"),
]

STYLE = """
body { font: 16px/1.5 sans-serif; margin: 0; width: 860px }
img { max-width: 100% } pre { padding: 16px; font-size: 13.6px; line-height: 1.45; margin: 0 0 16px }
h1 { font-size: 2em; margin: 0 0 16px } h2 { font-size: 1.5em; margin: 24px 0 16px }
p { margin: 0 0 16px } table { border-collapse: collapse } td, th { padding: 6px 13px }
"""
"""Sizes and margins of GitHub's style sheet for Markdown."""


def test_title_picture_and_quick_start_end_above_1200_px(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    body = markdown_it.MarkdownIt("commonmark").enable("table").render(text)
    page = ROOT.as_uri() + "/README.html"  # no file: the pictures' addresses are relative to it
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 860, "height": 1200})
        html = f"<base href='{page}'><style>{STYLE}</style>{body}"
        (tmp_path / "readme.html").write_text(html, encoding="utf-8")
        tab.goto((tmp_path / "readme.html").as_uri())
        shown = tab.evaluate("[...document.images].map(i => i.naturalWidth > 0)")
        heads = tab.evaluate(
            "[...document.querySelectorAll('h1, h2')].map(h => "
            "[h.textContent, h.getBoundingClientRect().top])"
        )
        widest = tab.evaluate(
            "Math.max(...[...document.querySelectorAll('table')].map(t => t.scrollWidth))"
        )
        browser.close()
    assert all(shown) and len(shown) >= 2
    assert [title for title, _ in heads[:3]] == ["vtbench", "Quick start", "Six kinds of tokenizer"]
    print(f"quick start ends at {heads[2][1]:.0f} px, widest table {widest} px")
    assert heads[2][1] < 1200
    assert widest <= 860
