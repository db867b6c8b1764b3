"""The site in a real Chromium (Debian's, headless): what its visitors do, by mouse and by keyboard."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import make_rows, photo, write_results_run, write_results_suite

from vtbench.images import encode_png
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.site.data import ReportedRow
from vtbench.leaderboard.site.folder import write_site
from vtbench.leaderboard.site.pages import SiteSuite, render_site
from vtbench.results.schema import PanelItem

playwright_api = pytest.importorskip("playwright.sync_api")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)"),
]

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]  # in a container, as root

PSNR, CER = "reconstruction.psnr_db", "text.cer"
WAIT_MS = 180_000  # two busy cores


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site of three tokenizers, two codecs, a sanity row, an incomplete run, published and
    reported numbers, and two pictures."""
    root = tmp_path_factory.mktemp("site")
    items = tuple(
        PanelItem(n=n, id=f"a-{n + 1}", task="reconstruction", width=96, height=64) for n in (0, 1)
    )
    folder = write_results_suite(root / "tiny", panel=items)
    write_results_run(folder, "vq-small", tokenizer__codebook_size=256)
    kl = {"tokenizer__kind": "continuous", "tokenizer__family": "kl", "tokenizer__downsample": 8}
    kl |= {"tokenizer__codebook_size": None, "tokenizer__latent_channels": 4}
    write_results_run(folder, "kl-good", make_rows(bits=500, psnr=2, edits=-3), **kl)
    write_results_run(folder, "kl-other", make_rows(bits=300, psnr=-1), **kl)
    codec = {
        "tokenizer__kind": "codec",
        "tokenizer__family": "codec",
        "tokenizer__series": "JPEG",
    }
    for n, (bits, psnr) in enumerate(((100, -4), (900, 4))):
        title = {"tokenizer__title": f"JPEG, quality {n}"}
        write_results_run(folder, f"jpeg-{n}", make_rows(bits=bits, psnr=psnr), **codec, **title)
    write_results_run(folder, "same", make_rows(psnr=66), tokenizer__family="sanity")
    write_results_run(folder, "short", make_rows(psnr=50), protocol__limit=7)
    for item in items:
        original = photo(item.n, item.height, item.width)
        for place, pixels in (
            ("originals", original),
            ("vq-small/panel", original // 2),
            ("kl-good/panel", np.clip(original.astype(int) + 9, 0, 255).astype(np.uint8)),
        ):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / f"{item.n}.png").write_bytes(encode_png(pixels))
    published = write_results_suite(root / "published")
    write_results_run(published, "vq-small", make_rows(psnr=0.25))
    reported = ReportedRow("kl-paper", "Of a paper", {"family": "kl"}, {PSNR: 99.0}, "A table")
    suite = SiteSuite(read_board(folder), folder, read_board(published), [reported])
    write_site(root / "site", render_site([suite.board.suite.name], [suite], {}))
    return root / "site"


@pytest.fixture(scope="session")
def browser():
    """Return the one browser of the session."""
    with playwright_api.sync_playwright() as playwright:
        own = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield own
        own.close()


@pytest.fixture
def visit(browser, site):
    """Return a function that opens a page; what the browser says or asks for beside the site fails
    the test."""
    said, contexts = [], []

    def go(address, *, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on("request", lambda request: check(request.url))
        page.goto(f"file://{site}/{address}")
        return page

    def check(address):
        if not address.startswith((f"file://{site}/", "data:", "blob:")):
            said.append(f"request: {address}")

    yield go
    for context in contexts:
        context.close()
    assert not said


def names(page):
    """Return the names of the table's rows as they stand, blocks left out."""
    return page.locator("#table tbody tr:not(.block) > th").evaluate_all(
        "all => all.map(th => th.firstChild.textContent)"
    )


def heads(page):
    return page.locator("#table thead th").evaluate_all("all => all.map(th => th.dataset.label)")


def wait_for(page, names_now):
    page.wait_for_function(
        "want => JSON.stringify([...document.querySelectorAll('#table tbody tr:not(.block) > th')]"
        ".map(th => th.firstChild.textContent)) === want",
        arg=json.dumps(names_now, separators=(",", ":")),
    )


def download(page, what):
    with page.expect_download() as waiting:
        page.click(what)
    return Path(waiting.value.path()).read_text(encoding="utf-8")


MEASURED = ["vq-small", "kl-other", "kl-good"]


def test_search_and_filters_choose_rows_and_stand_in_the_address(visit):
    page = visit("index.html")
    assert names(page)[:5] == [*MEASURED, "jpeg-0", "jpeg-1"]
    assert "reported" not in page.inner_text("#table").lower()
    page.fill("#search", "kl-")
    wait_for(page, ["kl-other", "kl-good"])
    page.fill("#search", "")
    page.click("#filter-panel summary")
    page.select_option("#filters select[data-key=kind]", "continuous")
    wait_for(page, ["kl-other", "kl-good"])
    assert "kind=continuous" in page.url
    page.get_by_label("Bits at least").fill("1e9")
    page.keyboard.press("Enter")
    assert "nothing matches" in page.inner_text("#count")
    page.click("text=Show all")
    assert len(names(page)) > 6 and "kind" not in page.url


def test_measured_and_reported_numbers_are_other_type_and_never_one_ranking(visit):
    page = visit(f"index.html#source=both&sort={PSNR}:desc")
    found = names(page)
    assert found[0] == "kl-good" and found[-1] == "kl-paper"  # 99 dB, and yet last
    style = "th => [getComputedStyle(th).fontStyle, getComputedStyle(th).color]"
    reported, measured = (
        page.locator(f"#table tr.{kind} td").first.evaluate(style)
        for kind in ("reported", "measured")
    )
    assert reported[0] == "italic" and measured[0] == "normal" and reported[1] != measured[1]
    page.select_option("#bold", "best")
    assert page.locator("#table tr.reported .bold").count() == 0


def test_headings_sort_best_first_by_mouse_and_keyboard(visit):
    page = visit("index.html")
    psnr = page.locator("#table thead th", has_text="recon. PSNR")
    psnr.locator("button").click()
    # Inside each block; what has no number is last.
    assert names(page)[:7] == [
        *("kl-good", "vq-small", "kl-other", "jpeg-1", "jpeg-0", "same", "short")
    ]
    assert psnr.get_attribute("aria-sort") == "descending"
    cer = page.locator("#table thead th", has_text="text CER").locator("button")
    cer.focus()
    before = page.evaluate("scrollY")
    page.keyboard.press("Space")
    assert names(page)[0] == "kl-good"  # the least errors
    assert page.evaluate("scrollY") == before and f"{CER}%3Aasc" in page.url
    page.keyboard.press("Enter")
    assert names(page)[0] != "kl-good"
    # The address brings the same view back.
    again = visit(page.url.rpartition("/")[2])
    assert names(again) == names(page)
    assert again.locator("#table thead [aria-sort=descending]").count() == 1


def test_presets_and_the_chooser_change_columns(visit):
    page = visit("index.html")
    assert len(heads(page)) <= 9
    page.select_option("#preset", "cost")
    assert "Parameters (M)" in heads(page) and "preset=cost" in page.url
    page.click("#chooser-panel summary")
    page.locator(f"#chooser input[value='{PSNR}']").check()
    assert any("PSNR" in head for head in heads(page)) and "cols=" in page.url
    again = visit(page.url.rpartition("/")[2])
    assert heads(again) == heads(page)


def test_a_view_can_be_sorted_by_a_column_that_is_not_shown(visit):
    page = visit(f"index.html#cols={CER}&sort={PSNR}:desc&bold=best")
    assert names(page)[:3] == ["kl-good", "vq-small", "kl-other"]
    assert len(heads(page)) == 2
    assert page.locator("#table .bold").count() > 0
    # Only what is shown or sorted by is in the document, whatever the suite has.
    cells = page.locator("#table tbody tr:not(.block)").first.locator("td")
    assert cells.count() == 1


def test_an_address_that_no_page_wrote_shows_the_default(visit):
    page = visit(
        "index.html#preset=constructor&bold=toString&source=valueOf&cols=&sort=name:up&kind=no"
    )
    assert names(page)[:3] == sorted(MEASURED) and len(heads(page)) > 3


def test_the_header_and_the_names_stay_when_the_table_scrolls(visit):
    page = visit("index.html#preset=overview", width=700, height=420)
    page.locator("#scroll").evaluate("box => { box.scrollTop = 90; box.scrollLeft = 200; }")
    inside = page.locator("#scroll").bounding_box()
    head = page.locator("#table thead th").last.bounding_box()
    name = page.locator("#table tbody tr:not(.block) > th").nth(2).bounding_box()
    assert abs(head["y"] - inside["y"]) < 3 and abs(name["x"] - inside["x"]) < 3


def test_what_is_shown_is_what_is_saved(visit):
    page = visit(f"index.html#kind=continuous&cols={PSNR},{CER}&sort={PSNR}:desc")
    rows = list(csv.DictReader(io.StringIO(download(page, "text=CSV >> nth=0"))))
    assert [row["run"] for row in rows] == ["kl-good", "kl-other"]
    assert list(rows[0]) == ["source", "run", "block", PSNR, CER] and rows[0][PSNR] == "34"
    record = json.loads(download(page, "[data-export=json]"))
    assert [row["run"] for row in record["rows"]] == ["kl-good", "kl-other"]
    assert record["rows"][0]["cells"][PSNR]["value"] == 34
    latex = download(page, "[data-export=latex]")
    assert r"\begin{table}" in latex and r"kl-good & \textbf{34.00}" in latex
    assert "vq-small" not in latex and latex.count(r"\\") == 5
    assert page.locator("a[href$='.parquet']").count() == 1


def test_differences_to_published_numbers_stand_in_the_cells(visit):
    page = visit("index.html")
    assert set(page.locator("#table .delta").all_inner_texts()) == {"Δ -0.25"}
    assert "Δ: difference to the published results" in page.inner_text("main")
    page.uncheck("#deltas")
    assert page.locator("#table .delta").count() == 0
    assert "Bold: no tokenizer or codec of this suite does as well" in page.inner_text("#legend")


def test_plots_take_any_two_columns_with_a_front_and_codecs_curves(visit):
    page = visit("tiny.plots.html")
    page.wait_for_selector("body[data-drawn]")
    series = "figure.data.map(t => [t.name, t.mode, t.x.length])"
    drawn = {name: (mode, n) for name, mode, n in page.evaluate(series)}
    assert drawn["JPEG"] == ("lines+markers+text", 2) and "Pareto front" in drawn
    text = "figure.data.flatMap(t => t.text ?? []).filter(Boolean)"
    assert "jpeg-1" in page.evaluate(text) and "kl-other" not in page.evaluate(text)
    page.select_option("#names", "all")
    page.wait_for_function(f"{text}.includes('kl-other')")
    page.select_option("#names", "front")
    assert page.evaluate("figure.layout.xaxis.type") == "log"
    page.select_option("#y", CER)
    page.wait_for_function("figure.layout.yaxis.title.text.includes('CER')")
    page.uncheck("#x-log")
    page.wait_for_function("figure.layout.xaxis.type === 'linear'")
    assert f"y={CER}" in page.url and "xlog=0" in page.url
    assert f"--y {CER} --out" in page.inner_text("#command")
    page.fill("#search", "jpeg")
    page.wait_for_function("figure.data.length === 2")  # the curve and its front
    again = visit(page.url.rpartition("/")[2])
    again.wait_for_selector("body[data-drawn='2']")
    assert again.evaluate("figure.layout.xaxis.type") == "linear"
    svg = download(page, "#save-svg")
    assert svg.lstrip().startswith("<svg") and "JPEG" in svg


def test_plots_of_transfer_have_a_legend_that_filters(visit):
    page = visit("tiny.plots.html#plot=transfer")
    page.wait_for_selector("body[data-drawn]")
    told = page.locator("#figure .legendtext").all_text_contents()
    assert {"vq-small", "kl-good", "jpeg-0"} <= set(told)
    page.locator("#figure .traces", has_text="vq-small").locator(".legendtoggle").click()
    page.wait_for_function("figure.data.some(t => t.visible === 'legendonly')")


def test_the_viewer_slides_zooms_together_and_shows_the_error(visit):
    page = visit("tiny.viewer.html#a=vq-small&b=original")
    assert page.inner_text("h1") == page.inner_text("nav [aria-current=page]")
    assert page.locator("#stage .window").count() == 2
    assert page.locator("#stage img").first.get_attribute("alt") == "a-1 through vq-small"
    page.select_option("#zoom", "8")
    page.locator(".window").first.evaluate("box => box.scrollTo(60, 40)")
    page.wait_for_function("document.querySelectorAll('.window')[1].scrollLeft === 60")
    assert page.locator(".layers").first.bounding_box()["width"] == 96 * 8
    page.check("#error")
    blended = page.locator(".layers.error img").nth(1)
    assert blended.evaluate("x => getComputedStyle(x).mixBlendMode") == "difference"
    page.uncheck("#error")
    page.select_option("#view", "slider")
    page.locator("#slide").focus()
    page.keyboard.press("Home")
    clip = "document.getElementById('over').style.clipPath"
    page.wait_for_function(f"{clip} === 'inset(0px 100% 0px 0px)'")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 99% 0px 0px)" and "at=1" in page.url
    page.select_option("#view", "flicker")
    seen = "all => all.filter(x => x.style.visibility === 'visible').length"
    assert page.locator(".layers").evaluate_all(seen) == 1
    page.click("#pause")
    first = page.inner_text("#stage figcaption")
    page.click("text=Next")
    assert page.inner_text("#stage figcaption") != first
    again = visit(page.url.rpartition("/")[2])
    assert again.input_value("#view") == "flicker" and again.input_value("#zoom") == "8"


def test_a_phone_sees_names_and_numbers(visit):
    page = visit("index.html", width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    row = page.locator("#table tbody tr:not(.block)").first
    edges = row.locator("td").evaluate_all("all => all.map(x => x.getBoundingClientRect().right)")
    assert sum(edge <= 390 for edge in edges) >= 2
    for address in ("tiny.plots.html", "tiny.viewer.html", "tokenizer/kl-good.html"):
        other = visit(address, width=390, height=844)
        assert other.evaluate("document.documentElement.scrollWidth") == 390, address


PAGES = ("index.html", "tiny.plots.html", "tiny.viewer.html", "tokenizer/kl-good.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", PAGES)
def test_no_serious_issue_of_accessibility(visit, address, scheme):
    page = visit(address, color_scheme=scheme)
    if "plots" in address:
        page.wait_for_selector("body[data-drawn]")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    found = axe_api.Axe().run(page, options={"preload": False}).response["violations"]
    bad = [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not bad


def test_the_keyboard_reaches_the_content_and_every_control(visit):
    page = visit("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "search"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "scroll":
            break
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('th') !== null")


def test_the_page_of_a_tokenizer_has_its_command_to_copy(visit):
    page = visit("tokenizer/kl-good.html", permissions=["clipboard-read", "clipboard-write"])
    page.click("[data-copy]")
    page.wait_for_function("document.querySelector('[data-copy]').textContent === 'Copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "vtbench run --suite tiny --tokenizer kl-good"
    assert "34.00" in page.inner_text("main")
    assert page.locator(".pictures img").count() == 2


def test_print_shows_the_whole_table_and_no_controls(visit):
    page = visit("index.html")
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible()
    assert page.locator("#scroll").evaluate("x => getComputedStyle(x).overflow") == "visible"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
