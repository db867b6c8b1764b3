"""Tables and curves of what is read: against lines whose numbers are known."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.legibility import (
    PLAIN,
    ReadingTable,
    RunReadings,
    compare_runs,
    describe_run,
    find_unpublishable_scripts,
)
from vtbench.leaderboard.legibility_plot import draw_legibility
from vtbench.leaderboard.site.pages import SiteSuite, render_site
from vtbench.metrics.legibility import LineReading, measure_heights
from vtbench.results.folder import Run

HEIGHTS = (6.0, 10.0, 16.0, 24.0)


def damage(text: str, rate: float, rng: random.Random) -> str:
    return "".join("#" if rng.random() < rate else letter for letter in text)


def readings(
    name: str = "a",
    *,
    engine: str = "one",
    stride: int | None = 8,
    rates: tuple[float, ...] = (0.8, 0.4, 0.0, 0.0),
    mended: float = 1.0,
    original: float = 0.0,
    scripts: tuple[str, ...] = ("latin",),
) -> RunReadings:
    """Return a run's lines: errors by height; of sentences `mended` times those of random strings."""
    rng = random.Random(4)
    lines: dict[str, list[LineReading]] = {"korean": []}
    for script in scripts:
        own = lines.setdefault(script, [])
        for height, rate in zip(HEIGHTS, rates, strict=True):
            for kind, times in (("sentence", mended), ("random", 1.0)):
                for _ in range(8):
                    truth = "".join(rng.choices("abcdefgh", k=30))
                    known = damage(truth, original, rng)
                    read = damage(known, rate * times, rng)
                    own.append(LineReading("p", script, kind, height, truth, known, read))
    run = SimpleNamespace(
        record=SimpleNamespace(
            run=name,
            tokenizer=SimpleNamespace(name=name.partition("@")[0], downsample=stride),
            protocol=SimpleNamespace(ocr={"engine": engine}),
        )
    )
    return RunReadings(cast(Run, run), lines, {"p": PLAIN}, 7)


def find(tables: list[ReadingTable], title: str) -> ReadingTable:
    (found,) = (table for table in tables if table.title == title)
    return found


def test_every_table_is_rectangular_and_says_what_it_is() -> None:
    own = readings()
    for table in (*describe_run(own), *compare_runs([own, readings("b")])):
        assert len({len(row) for row in table.rows}) == 1, table.title
        assert table.explanation.endswith(".")


def test_the_smallest_height_stands_in_pixels_and_in_tokens_with_its_interval() -> None:
    tables = list(compare_runs([readings(), readings("one-dimensional", stride=None)]))
    px = find(tables, "smallest legible glyph height, px").rows
    tokens = find(tables, "smallest legible glyph height, tokens").rows
    assert px[0] == tokens[0] == ("run", "engine", "korean", "latin")
    assert px[1][:3] == ("a", "one", "-")  # a script that the engine cannot read has no number
    inner = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", px[1][3])
    assert inner is not None
    value, low, high = map(float, inner.groups())
    # .4 at 10 px, 0 at 16: .05 is met at 7/8 of the way on a logarithmic scale.
    assert value == pytest.approx(10 * (16 / 10) ** (7 / 8), abs=0.3)
    assert 10 < low <= value <= high <= 16
    own = tokens[1][3].replace("[", "").replace("]", "").replace(",", "").split()
    assert [float(text) for text in own] == pytest.approx([value / 8, low / 8, high / 8], abs=0.011)
    assert tokens[2][3] == "-" and px[2][3] == px[1][3]


def test_heights_stand_in_pixels_and_in_tokens() -> None:
    rows = find(list(describe_run(readings())), "by glyph height").rows
    assert rows[0] == ("CER by px", "6", "10", "16", "24")
    assert rows[1] == ("tokens of 8 px", "0.75", "1.25", "2", "3")
    assert rows[2][0] == "latin" and rows[2][3:] == ("0.0", "0.0")
    without = find(list(describe_run(readings(stride=None))), "by glyph height").rows
    assert without[1][0] == "latin"


def test_the_repair_check_tells_a_guesser_from_a_reader() -> None:
    tables = list(compare_runs([readings(), readings("b", mended=0.1)]))
    rows = find(tables, "mended, per cent").rows
    reader, guesser = (float(row[3].split()[0]) for row in rows[1:])
    assert abs(reader) < 15 and guesser > 80
    # Too little lost is said, and is no number.
    clear = find(list(describe_run(readings(rates=(0, 0, 0, 0)))), "repair check").rows
    assert clear[1] == ("latin", "0.0", "0.0", "too little lost")


@pytest.mark.slow
def test_agreement_is_between_engines_of_one_tokenizer() -> None:
    tables = list(compare_runs([readings(), readings("a@two", engine="two"), readings("b")]))
    rows = find(tables, "agreement").rows
    assert rows[1:] == (("a", "one and two agree", "-", "100.0"),)
    assert not [t for t in compare_runs([readings(), readings("b")]) if t.title == "agreement"]


def test_a_script_that_the_engine_cannot_read_is_not_applicable_and_one_read_badly_is_named() -> (
    None
):
    rows = find(list(describe_run(readings())), "by script").rows
    assert rows[1][:3] == ("korean", "-", "not applicable")
    assert not find_unpublishable_scripts(readings())
    bad = readings(original=0.2)
    assert list(find_unpublishable_scripts(bad)) == ["latin"]
    assert find_unpublishable_scripts(bad)["latin"] == pytest.approx(0.2, abs=0.05)
    (row,) = (row for row in find(list(describe_run(bad)), "by script").rows if row[0] == "latin")
    assert row[9].endswith("not published")


def test_the_rate_at_a_height_lies_in_its_interval() -> None:
    points = measure_heights(readings().lines["latin"], seed=1)
    assert [point.px for point in points] == list(HEIGHTS)
    for point, rate in zip(points, (0.8, 0.4, 0.0, 0.0), strict=True):
        # 480 letters a height: a standard deviation of .022; four of them.
        assert point.cer == pytest.approx(rate, abs=0.09)
        assert point.low is not None and point.high is not None
        assert point.low <= point.cer <= point.high
    assert points[0].high is not None and points[0].low is not None
    assert 0 < points[0].high - points[0].low < 0.2
    few = [LineReading("p", "latin", "random", 6.0, "ab", "ab", "ax")]
    (only,) = measure_heights(few, seed=1)
    assert (only.cer, only.low, only.high) == (0.5, None, None)
    assert measure_heights([], seed=1) == []


@pytest.mark.slow
def test_curves_are_drawn_with_their_names_and_the_same_bytes() -> None:
    own = [readings("a$b<c>"), readings("b", scripts=("latin", "greek"))]
    picture = draw_legibility(own)
    assert picture is not None and picture == draw_legibility(own)
    text = picture.decode()
    assert "a$b&lt;c&gt; (one)" in text and "greek" in text and "korean" not in text
    # A legend of many runs takes no room from the panels, which matplotlib warns of.
    many = [readings(f"run-{n}", scripts=("latin",)) for n in range(40)]
    assert b"run-39" in (draw_legibility(many) or b"")
    one_height = readings()
    lines = {s: [x for x in own if x.glyph_px == 6] for s, own in one_height.lines.items()}
    assert draw_legibility([RunReadings(one_height.run, lines, {"p": PLAIN}, 7)]) is None


@pytest.mark.slow
def test_the_site_has_a_page_of_what_is_read(
    write_suite: Callable[..., Path], write_run: Callable[..., Any]
) -> None:
    folder = write_suite()
    write_run(folder, "a")
    nasty = "</script><script>alert(1)</script>"
    board = read_board(folder)
    assert not [
        name for name, _ in render_site(["tiny"], [SiteSuite(board, folder)], {}) if "legib" in name
    ]
    suite = SiteSuite(board, folder, readings=(readings("a"), readings(nasty)))
    files = dict(render_site(["tiny"], [suite], {}))
    page = files["tiny.legibility.html"].decode()
    for words in ("Smallest legible glyph height, px", "Mended, per cent", "Repair check"):
        assert words in page
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert 'src="data/tiny.legibility.svg"' in page and "data/tiny.legibility.svg" in files
    assert 'href="tiny.legibility.html"' in files["tiny.plots.html"].decode()
