"""The site: what its files are and say, without a browser (test_site_browser has one)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from builders import write_results_suite

from vtbench.base.errors import OutputError, VtbenchError
from vtbench.commands.site_pages import write_pages
from vtbench.images import encode_png
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.site.data import collect_data
from vtbench.leaderboard.site.facts import write_command
from vtbench.leaderboard.site.folder import write_site
from vtbench.leaderboard.site.libraries import classic_script
from vtbench.leaderboard.site.pages import SiteSuite, render_site
from vtbench.registry.entries import load_entry, load_registry
from vtbench.results.folder import read_run
from vtbench.results.schema import PanelItem

NASTY = "</script><script>alert(1)</script> a|b & \"x' `y`"
ITEM = PanelItem(n=0, id="a-1", task="reconstruction", width=8, height=8)


class Page(HTMLParser):
    """Collects the tags, the addresses and the text of a page."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def render(*folders, entries=None, **options):
    """Return the files of a site of some folders of results."""
    suites = [SiteSuite(read_board(folder), folder, **options) for folder in folders]
    names = [suite.board.suite.name for suite in suites]
    return dict(render_site(names, suites, entries or {}))


def read_data(files, name="tiny"):
    """Return the data of a suite's pages."""
    text = files[f"data/{name}.data.js"].decode()
    return json.loads(text.removeprefix("window.VTBENCH=").removesuffix(";\n"))


def draw(folder, *places):
    picture = encode_png(np.zeros((8, 8, 3), np.uint8))
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(picture)


@pytest.fixture
def folder(write_suite, write_run, rows):
    """Return two tokenizers, a codec and a sanity row, with a panel."""
    folder = write_suite(panel=(ITEM,))
    write_run(folder, "a")
    write_run(folder, "b@bf16+tile", rows(bits=500, psnr=1), tokenizer__name="b")
    codec = {"tokenizer__kind": "codec", "tokenizer__family": "codec"}
    write_run(folder, "jpeg", rows(bits=200, psnr=-2), **codec)
    write_run(folder, "same", rows(bits=-500, psnr=66), tokenizer__family="sanity")
    draw(folder, "originals/0.png", "a/panel/0.png", "a/panel/0.error.png")
    return folder


def test_every_address_is_a_file_of_the_site(folder):
    files = render(folder)
    for name, content in files.items():
        if name.endswith(".html"):
            base = name.rpartition("/")[0]
            for address in Page(content).addresses:
                place = address.partition("#")[0]
                if place and not place.startswith("data:"):
                    parts = f"{base}/{place}".strip("/")
                    parts = (
                        re.sub(r"[^/]+/\.\./", "", parts).replace("%40", "@").replace("%2B", "+")
                    )
                    assert parts in files, (name, address)
    assert {"index.html", "tokenizer/a.html", "tokenizer/b@bf16+tile.html"} <= set(files)
    # Error maps are the browser's.
    assert [name for name in files if name.endswith(".png")] == [
        "pictures/tiny/originals/0.png",
        "pictures/tiny/a/0.png",
    ]


def test_what_strangers_wrote_is_shown_and_not_run(write_suite, write_run):
    folder = write_suite(title=NASTY, description=NASTY)
    write_run(folder, "a", tokenizer__title=NASTY, tokenizer__family=NASTY)
    files = render(folder)
    for name in ("index.html", "tiny.plots.html", "tiny.viewer.html", "tokenizer/a.html"):
        page = Page(files[name])
        scripts = sum(address.endswith(".js") for address in page.addresses)
        assert page.tags.count("script") == scripts, name
        assert NASTY in "".join(page.text), name
    assert read_data(files)["rows"][0]["facts"]["family"] == NASTY


@pytest.mark.slow
def test_the_rows_of_the_page_say_what_the_board_says(folder):
    board = read_board(folder)
    data = read_data(render(folder))
    assert [row["name"] for row in data["rows"][:4]] == [line.name for line in board.lines]
    for row, line in zip(data["rows"], board.lines, strict=False):
        for column in data["columns"]:
            cell = line.cells[column["key"]]
            told = row["cells"][column["key"]]
            assert told.get("v") == (None if cell.value is None else pytest.approx(cell.value))
            assert told.get("s", "measured") == cell.state
    assert data["fronts"]["reconstruction.psnr_db"] == ["a", "b@bf16+tile"]
    assert len(data["presets"]["main"]) <= 8


def test_the_parquet_file_has_the_numbers_with_their_types(folder):
    table = parquet.read_table(
        pa.BufferReader(render(folder)["data/tiny.parquet"]), use_threads=False
    )
    rows = {row["run"]: row for row in table.to_pylist()}
    assert rows["a"]["reconstruction.psnr_db"] == 32.0 and rows["a"]["title"] == "Title of a"
    assert rows["a"]["reconstruction.psnr_db.n"] == 3
    assert table.schema.field("text.cer").type == pa.float64()


def test_published_numbers_are_a_difference_and_no_row(write_suite, write_run, rows):
    folder, published = write_suite("mine"), write_suite("theirs")
    write_run(folder, "a", rows(psnr=0.5))
    write_run(published, "a")
    write_run(published, "only-there")
    beside = read_board(published)
    files = render(folder, published=beside)
    (row, *_) = read_data(files)["rows"]
    assert row["cells"]["reconstruction.psnr_db"]["d"] == "+0.50"
    assert row["cells"]["text.cer"]["d"] == ""  # prints alike
    assert b"only-there" not in files["data/tiny.data.js"]
    assert "Δ: difference to the published results" in files["index.html"].decode()
    assert "+0.50" in files["tokenizer/a.html"].decode()
    other = write_suite("other", sha256="7" * 64)
    files = render(folder, published=read_board(other))
    assert "of another version" in files["index.html"].decode()
    assert not read_data(files)["published"]


def test_images_that_may_not_be_shown_are_in_no_file(folder, write_suite):
    suite = json.loads((folder / "suite.json").read_text())
    (folder / "suite.json").write_text(json.dumps(suite | {"show_images": False}))
    files = render(folder)
    assert not [name for name in files if name.startswith("pictures/")]
    assert "does not let them be shown" in files["tiny.viewer.html"].decode()
    assert "<img" not in files["tokenizer/a.html"].decode()


@pytest.mark.parametrize("name", ["imagenet-val-256", "imagenet-val-512", "ffhq-1k-256"])
def test_suites_whose_licence_forbids_it_show_no_images(name):
    from vtbench.suites.suites import load_suite

    assert load_suite(name).protocol.show_images is False
    assert load_suite("embedded").protocol.show_images is True


def test_the_command_of_a_run_has_its_deviations(folder):
    board = read_board(folder)
    by_name = {line.name: line.record for line in board.lines}
    assert write_command(by_name["a"], board.suite) == "vtbench run --suite tiny --tokenizer a"
    told = write_command(by_name["b@bf16+tile"], board.suite)
    assert told == ("vtbench run --suite tiny --tokenizer b --dtype bf16 --size-policy tile")
    own = by_name["a"].model_copy(
        update={"run": "a@steps-10+guidance-2.5+adm-512+posterior-sample+easyocr+seed1"}
    )
    assert str(write_command(own, board.suite)).endswith(
        "--decoder-steps 10 --guidance 2.5 --crop adm-512 --posterior sample --ocr easyocr"
    )
    files = own.model_copy(update={"protocol": own.protocol.model_copy(update={"source": "files"})})
    assert write_command(files, board.suite) is None


def test_several_suites_share_a_site_and_a_tokenizers_page(write_suite, write_run, tmp_path):
    one, two = write_suite("one"), write_results_suite(tmp_path / "two", name="other")
    write_run(one, "a")
    write_run(two, "a", suite__name="other")
    files = render(one, two)
    assert {"index.html", "other.table.html", "other.plots.html"} <= set(files)
    page = files["tokenizer/a.html"].decode()
    assert 'id="suite-tiny"' in page and 'id="suite-other"' in page
    with pytest.raises(VtbenchError, match="two folders of results of the suite tiny"):
        render(one, one)


REPORTED = {
    "protocol": {
        "source": "A paper", "url": "https://example.org/p", "standing": "verified", "data": "set",
        "n": 3, "size": None, "crop": "adm",
    },
    "values": {"psnr_db": 31.5},
}  # fmt: skip


def test_reported_numbers_stand_beside_and_outside_the_ranking(write_suite, write_run, tmp_path):
    from vtbench.commands.reproduce import measure_line
    from vtbench.commands.site_pages import compare_all, list_reported

    entry = (load_registry()["identity"].path).read_text(encoding="utf-8")
    path = tmp_path / "a.yaml"
    path.write_text(f"{entry}\nreported: {json.dumps([REPORTED])}\n")
    folder = write_suite()
    write_run(folder, "a")
    board, entries = read_board(folder), {"a": load_entry(path)}
    assert list(list_reported(board, entries, "another-set")) == []
    (row,) = list_reported(board, entries, "set")
    assert row.values == {"reconstruction.psnr_db": 31.5}
    data = collect_data(board, published=None, reported=[row], entries=entries, pages={})
    told = data["rows"][-1]
    assert (told["source"], told["competes"]) == ("reported", False)
    assert "a" in data["fronts"]["reconstruction.psnr_db"]
    (one,) = compare_all(entries["a"], measure_line(board.lines[0], "tiny", {}))
    assert (one.reported, one.measured, one.difference) == ("31.5", "32.00", "+0.50")
    assert "data: set | tiny" in one.protocol


def test_a_site_replaces_its_own_files_and_no_others(tmp_path):
    site = tmp_path / "site"
    write_site(site, [("index.html", b"1"), ("old/page.html", b"2")])
    assert write_site(site, [("index.html", b"3")]) == 2
    assert (site / "index.html").read_bytes() == b"3"
    assert not (site / "old" / "page.html").exists()
    (site / "site.json").write_text("{}")
    with pytest.raises(OutputError, match="no site of vtbench"):
        write_site(site, [])
    with pytest.raises(OutputError, match="leaves"):
        write_site(tmp_path / "new", [("../x", b"")])


def test_a_module_becomes_a_classic_script_or_is_refused():
    text = classic_script("var a=1;export{a as default,a as other};/* licence */")
    assert text.startswith("(()=>{") and "window.VtbenchTables=a;" in text
    assert "export" not in text and "licence" in text
    for wrong in ("var a=1;", "export{a as other};", "export{a as default};export{b};"):
        with pytest.raises(VtbenchError, match="itables"):
            classic_script(wrong)


@pytest.mark.slow
def test_no_page_names_an_address_outside_of_it(folder):
    files = render(folder)
    for name in files:
        if name.endswith((".html", ".css")) or name in ("assets/common.js", "assets/table.js"):
            addresses = re.findall(rb"https?://[^\s\"'<>)]+", files[name])
            assert not addresses, (name, addresses)


@pytest.mark.slow
def test_a_run_can_be_read_from_where_the_site_was_made(folder, tmp_path):
    page = write_pages(tmp_path / "site", ["tiny"], [(read_board(folder), folder, None)])
    assert page.is_file() and read_run(folder / "a").record.run == "a"
