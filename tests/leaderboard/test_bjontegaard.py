"""BD-rate against scipy's PCHIP and the package `bjontegaard`, and what it says of the codecs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from vtbench.base.errors import ResultsError, UnknownName
from vtbench.base.locations import published_dir
from vtbench.cli import main
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.bjontegaard import find_bd_rate, find_rate_at
from vtbench.leaderboard.choice import find_lines
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.latex import render_latex
from vtbench.leaderboard.markdown import render_markdown
from vtbench.leaderboard.rate_difference import compare_with_codec
from vtbench.leaderboard.words import find_front

PUBLISHED = published_dir("embedded")


def _curves(seed, *, monotone=True):
    """Return rates and qualities of two curves that mostly overlap, of 2 to 6 points."""
    random = np.random.default_rng(seed)
    curves = []
    for points in random.integers(2, 7, 2):
        rates = np.cumsum(random.uniform(0.05, 1, points))
        quality = 25 + np.cumsum(random.uniform(0.1, 3, points))
        curves += [rates if monotone else random.permutation(rates), quality]
    return curves


@pytest.mark.parametrize("monotone", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_bd_rate_is_the_integral_of_scipys_pchip(seed, monotone):
    r, q, s, p = _curves(seed, monotone=monotone)
    low, high = max(q.min(), p.min()), min(q.max(), p.max())
    ours = find_bd_rate(r, q, s, p)
    if low >= high:
        assert np.isnan(ours)
        return
    own, other = (PchipInterpolator(x, np.log10(y)) for x, y in ((q, r), (p, s)))
    mean = (own.integrate(low, high) - other.integrate(low, high)) / (high - low)
    # Both are exact for cubics; what is left is rounding.
    assert ours == pytest.approx((10**mean - 1) * 100, rel=1e-9, abs=1e-9)
    # The mutant: straight lines between the points.
    grid = np.linspace(low, high, 20001)
    lines = np.interp(grid, q, np.log10(r)) - np.interp(grid, p, np.log10(s))
    if len(q) > 3 and len(p) > 3:
        assert abs(ours - (10 ** lines.mean() - 1) * 100) > 1e-3


@pytest.mark.parametrize("seed", range(20))
def test_bd_rate_is_that_of_the_package(seed):
    package = pytest.importorskip("bjontegaard", reason="the package bjontegaard is not installed")
    r, q, s, p = _curves(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of curves that overlap little
        theirs = package.bd_rate(
            s, p, r, q, method="pchip", require_matching_points=False, min_overlap=0
        )
    assert find_bd_rate(r, q, s, p) == pytest.approx(theirs, rel=1e-6, abs=1e-6, nan_ok=True)


def test_many_curves_at_once_are_each_by_itself():
    curves = [np.stack(parts) for parts in zip(*[_four(seed) for seed in range(5)], strict=True)]
    together = find_bd_rate(*curves)
    assert together.tolist() == [float(find_bd_rate(*_four(seed))) for seed in range(5)]


def _four(seed):
    random = np.random.default_rng(seed)
    parts = [np.cumsum(random.uniform(0.1, 1, 4)) for _ in range(4)]
    return [parts[0], 25 + parts[1], parts[2], 25 + parts[3]]


def test_a_point_on_the_curve_needs_the_same_rate_and_one_outside_has_no_answer():
    rates, quality = np.array([0.1, 0.2, 0.5, 0.9]), np.array([25.0, 28.0, 31.0, 33.0])
    for rate, value in zip(rates, quality, strict=True):
        assert find_rate_at(rate, value, rates, quality) == pytest.approx(0, abs=1e-9)
    middle = np.array(29.5)
    at = 10 ** PchipInterpolator(quality, np.log10(rates))(middle)
    found = find_rate_at(np.array(2 * at), middle, rates, quality)
    assert found == pytest.approx(100, rel=1e-12)
    assert np.isnan(find_rate_at(rates[0], np.array(24.9), rates, quality))


def test_a_curve_against_itself_differs_by_nothing_and_half_the_rate_by_half():
    r, q, _, _ = _curves(3)
    assert find_bd_rate(r, q, r, q) == pytest.approx(0, abs=1e-12)
    assert find_bd_rate(r / 2, q, r, q) == pytest.approx(-50, rel=1e-12)


@pytest.mark.slow
def test_webp_needs_less_rate_than_jpeg():
    _, differences = compare_with_codec(
        PUBLISHED, ["webp-q50", "webp-q80"], "JPEG", ["reconstruction.psnr_db"]
    )
    names = [one.name for one in differences]
    assert names == ["webp-q50", "webp-q80", None]
    for one in differences:
        low, high = one.interval
        assert low < one.percent < high < 0


@pytest.mark.slow
def test_what_cannot_be_asked(capsys):
    with pytest.raises(UnknownName, match="jpeg"):
        compare_with_codec(PUBLISHED, ["ref-kl-f8"], "jpg")
    with pytest.raises(UnknownName, match="ref-kl-f8"):
        compare_with_codec(PUBLISHED, ["ref-kl-f7"], "jpeg")
    with pytest.raises(ResultsError, match="1 points"):
        compare_with_codec(PUBLISHED, ["ref-kl-f8"], "jpeg-lm's codec")
    where = ["--results", str(PUBLISHED)]
    assert main(["compare", "ref-kl-f8", "--bd", "jpeg", "--metric", "psnr_db", *where]) == 0
    assert "recon. PSNR ↑ (dB)  ref-kl-f8" in capsys.readouterr().out


@pytest.mark.slow
def test_a_curve_has_all_points_of_its_series_whatever_their_titles_say(
    write_suite, write_run, rows
):
    folder = write_suite()
    write_run(folder, "a", rows(bits=100, psnr=3))
    for step in range(4):
        write_run(
            folder,
            f"c{step}",
            rows(bits=60 * step, psnr=2 * step),
            tokenizer__title=f"A title, {step} of four, with commas",
            tokenizer__kind="codec",
            tokenizer__series="JPEG 2000",
            tokenizer__curve_only=step > 1,
        )
    board = read_board(folder)
    blocks = {line.name: line.block for line in board.lines}
    assert blocks == {"a": "tokenizers", **dict.fromkeys(("c0", "c1"), "codecs")} | dict.fromkeys(
        ("c2", "c3"), "curves"
    )
    assert {line.series for line in board.lines if line.joined} == {"JPEG 2000"}
    # They are drawn, and neither ranked nor best of anything.
    assert not any(line.competes or line.ranks for line in board.lines if line.block == "curves")
    front = {name for column in board.columns for name in find_front(board.lines, column)}
    assert front <= {"a", "c0", "c1"}
    assert [line.name for line in find_lines(board, ())] == ["a", "c0", "c1"]
    assert len(find_lines(board, (), curves=True)) == 5
    for name in ("jpeg2000", "JPEG 2000", "Jpeg-2000"):
        _, differences = compare_with_codec(folder, ["a"], name, ["reconstruction.psnr_db"])
        assert [one.name for one in differences] == ["a"]
    with pytest.raises(ResultsError, match="2 points"):
        for name in ("c0", "c1"):
            (folder / name / "run.json").unlink()
        compare_with_codec(folder, ["a"], "jpeg2000")


def test_tables_show_further_points_once_and_pages_all_of_them(write_suite, write_run, rows):
    folder = write_suite()
    write_run(folder, "a")
    write_run(folder, "c1", rows(bits=9), tokenizer__kind="codec", tokenizer__series="S")
    more = {"tokenizer__kind": "codec", "tokenizer__series": "S", "tokenizer__curve_only": True}
    write_run(folder, "c2", rows(bits=30, psnr=4), **more)
    board = read_board(folder)
    text = render_markdown(board, None)
    assert text.count("| c2 |") == 1 < text.count("| c1 |")
    assert "c2" not in render_latex(board, None)
    assert "local,c2," in render_csv(board, None)
