"""`vtbench compare`: right about clear and tied pairs of the published results, and what it refuses."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys

import pytest
from scipy import stats

from vtbench.base.errors import ResultsError, UnknownName, VtbenchError
from vtbench.base.locations import published_dir
from vtbench.cli import main
from vtbench.leaderboard.comparison import compare_runs, describe_comparison
from vtbench.results.folder import read_run

PUBLISHED = published_dir("embedded")
QUALITY = {
    *(f"{t}.{k}" for t in ("reconstruction", "detail") for k in ("psnr_db", "ssim", "ms_ssim")),
    *("text.cer", "text.wer", "text.ned"),
}
RATE = {"reconstruction.bpp", "detail.bpp", "text.bpp"}


def _verdicts(comparison):
    return {own.column.key: own.verdict for own in comparison.differences}


def test_twice_the_bits_of_jpeg_are_better_on_everything_but_rate():
    comparison = compare_runs(PUBLISHED, ["jpeg-q50", "jpeg-q25"])
    assert _verdicts(comparison) == dict.fromkeys(QUALITY, "first") | dict.fromkeys(RATE, "second")
    for own in comparison.differences:
        low, high = own.interval
        assert low <= own.difference <= high
        assert low > 0 or high < 0, own.column.key
    told = "\n".join(describe_comparison(comparison))
    assert "jpeg-q50 is better on recon. PSNR, " in told
    assert "jpeg-q25 needs fewer bits (recon., detail, text)." in told
    assert "No significant difference" not in told


@pytest.mark.slow
def test_the_order_of_the_names_turns_the_signs_alone():
    forth = compare_runs(PUBLISHED, ["jpeg-q50", "jpeg-q25"])
    back = compare_runs(PUBLISHED, ["jpeg-q25", "jpeg-q50"])
    turned = {"first": "second", "second": "first"}
    assert _verdicts(back) == {key: turned[v] for key, v in _verdicts(forth).items()}
    for a, b in zip(forth.differences, back.differences, strict=True):
        assert (a.difference, a.p, a.wins) == (-b.difference, b.p, b.wins[::-1])


def test_a_tied_pair_is_not_told_apart():
    # Two codecs of other families at 0.6 and 0.75 bpp, 0.09 dB apart.
    comparison = compare_runs(PUBLISHED, ["avif-q60", "webp-q80"])
    verdicts = _verdicts(comparison)
    assert {verdicts[key] for key in QUALITY if not key.startswith("text.")} == {"unclear"}
    assert {verdicts[f"text.{key}"] for key in ("cer", "wer", "ned")} == {"equal"}
    assert {verdicts[key] for key in RATE} == {"first"}
    psnr = next(d for d in comparison.differences if d.column.key == "reconstruction.psnr_db")
    low, high = psnr.interval
    assert low < 0 < psnr.difference < high
    told = "\n".join(describe_comparison(comparison))
    assert "They are equal on text CER, text WER, text T-NED." in told
    assert "No significant difference on recon. PSNR, " in told
    # The mutant: the higher mean wins.
    assert psnr.values[0] > psnr.values[1]


def test_correction_and_pairing_both_matter():
    # Alone, avif's MS-SSIM would pass for better; among twelve questions it does not.
    alone = compare_runs(PUBLISHED, ["avif-q60", "webp-q80"], ["reconstruction.ms_ssim"])
    assert _verdicts(alone) == {"reconstruction.ms_ssim": "first"}
    # The mutant: an unpaired test of a difference that every picture shows.
    (own,) = compare_runs(
        PUBLISHED, ["jpeg-q50", "jpeg-q25"], ["reconstruction.psnr_db"]
    ).differences
    assert own.wins == (own.pictures, 0) and own.p < 0.001
    values = [
        [
            row["psnr_db"]
            for row in read_run(PUBLISHED / name).rows
            if row["task"] == "reconstruction"
        ]
        for name in ("jpeg-q50", "jpeg-q25")
    ]
    assert stats.ttest_ind(*values).pvalue > 0.01


def test_every_pair_is_compared_and_corrected_for_all():
    names = ["jpeg-q50", "jpeg-q75", "webp-q50"]
    three = compare_runs(PUBLISHED, names, ["psnr_db", "cer"])
    keys = ["reconstruction.psnr_db", "detail.psnr_db", "text.cer"]
    assert [(d.first, d.second, d.column.key) for d in three.differences] == [
        (*pair, key) for pair in itertools.combinations(names, 2) for key in keys
    ]
    two = compare_runs(PUBLISHED, names[:2], ["psnr_db", "cer"])
    assert all(a.p <= b.p for a, b in zip(two.differences, three.differences, strict=False))


@pytest.fixture
def folder(write_suite, write_run, rows):
    """Return runs a, b (1 dB better) of seven images."""
    folder = write_suite()
    write_run(folder, "a")
    write_run(folder, "b", rows(psnr=1))
    return folder


@pytest.mark.slow
def test_too_few_images_tell_nothing(folder):
    comparison = compare_runs(folder, ["a", "b"], ["psnr_db"])
    assert set(_verdicts(comparison).values()) == {"unclear"}
    assert {own.interval for own in comparison.differences} == {None}
    told = "\n".join(describe_comparison(comparison))
    assert "3 images are too few for a significant difference among 2 tests: name fewer" in told
    published = "\n".join(describe_comparison(compare_runs(PUBLISHED, ["jpeg-q50", "jpeg-q25"])))
    assert "too few for a significant" not in published


def test_images_that_one_run_lacks_are_named(folder, write_run, rows):
    write_run(folder, "short", rows()[:-2])
    with pytest.raises(ResultsError, match="short lacks d-1, d-2: not comparable"):
        compare_runs(folder, ["a", "short"])
    # The mutant: comparing what both have would say nothing of it.
    assert {row["id"] for row in read_run(folder / "short").rows} < {r["id"] for r in rows()}


def test_other_pixels_and_other_suites_are_refused(folder, write_run, rows):
    own = rows()
    own[2]["sha256"] = "1" * 64
    write_run(folder, "other", own)
    with pytest.raises(ResultsError, match="a and other had other pixels as b-1"):
        compare_runs(folder, ["a", "other"])
    write_run(folder, "elsewhere", suite__sha256="6" * 64, suite__version=2)
    with pytest.raises(ResultsError, match=r"tiny@1 \(5+\), elsewhere under tiny@2 \(6+\)"):
        compare_runs(folder, ["a", "elsewhere"])
    write_run(folder, "elsewhere-too", suite__sha256="6" * 64, suite__version=2)
    with pytest.raises(ResultsError, match="not this suite"):
        compare_runs(folder, ["elsewhere", "elsewhere-too"])


def test_incomplete_runs_are_refused(folder, write_run, rows):
    own = rows()
    own[0] |= {"error": "broke"}
    write_run(folder, "broken", own)
    with pytest.raises(ResultsError, match="not compared: 1 of 7 images failed"):
        compare_runs(folder, ["a", "broken"])


def test_other_versions_and_other_engines_are_not_compared(folder, write_run):
    metrics = {"version": 2, "state": "measured", "reason": None}
    write_run(folder, "new", protocol__metrics__ssim=metrics)
    write_run(folder, "reader", protocol__ocr={"engine": "other"})
    told = {u.column.key: u.reason for u in compare_runs(folder, ["a", "new"]).uncompared}
    assert told["reconstruction.ssim"] == "measured by versions 1, 2 of the metric"
    told = {u.column.key: u.reason for u in compare_runs(folder, ["a", "reader"]).uncompared}
    assert told == dict.fromkeys(
        ("text.cer", "text.wer", "text.ned"), "read by different OCR engines"
    )


@pytest.mark.parametrize(
    ("names", "keys", "error", "said"),
    [
        (["a"], [], VtbenchError, "two different runs"),
        (["a", "a"], [], VtbenchError, "two different runs"),
        (["a", "nobody"], [], ResultsError, "has no run named 'nobody'; it has a, b"),
        (["a", "b"], ["psnr"], UnknownName, "did you mean psnr_db"),
        (["a", "b"], ["mtf50_cpp"], ResultsError, "detail.mtf50_cpp cannot be tested"),
        (["a", "b"], ["cost.peak_memory_mib"], ResultsError, "cannot be tested"),
    ],
)
def test_what_cannot_be_asked(folder, names, keys, error, said):
    with pytest.raises(error, match=said):
        compare_runs(folder, names, keys)


@pytest.mark.slow
def test_exit_codes(folder, write_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no local results: the published ones
    assert main(["compare", "jpeg-q50", "jpeg-q25"]) == 0
    out = capsys.readouterr().out
    assert "jpeg-q50 better" in out and "Not compared: recon. LPIPS (Alex)" in out
    where = ["--results", str(folder)]
    shutil.copytree(folder, tmp_path / "results" / "local" / "embedded")
    assert main(["compare", "jpeg-q50", "jpeg-q25"]) == 2  # one's own come first
    assert "has no run named 'jpeg-q50'; it has a, b" in capsys.readouterr().err
    assert main(["compare", "a", "b", *where]) == 0
    write_run(folder, "c", missing={"cer": "no engine"})
    assert main(["compare", "a", "c", *where]) == 0
    assert main(["compare", "a", "c", "--metric", "psnr_db", *where]) == 0
    capsys.readouterr()
    assert main(["compare", "a", "c", "--metric", "cer", *where]) == 1
    assert "Not compared: text CER: missing in c: no engine." in capsys.readouterr().out
    assert main(["compare", "a", "nobody", *where]) == 2
    assert capsys.readouterr().err.startswith("vtbench: ")


@pytest.mark.slow
def test_comparing_imports_nothing_heavy():
    code = (
        "import sys\nfrom vtbench.cli import main\n"
        f"assert main(['compare', 'jpeg-q50', 'jpeg-q25', '--results', {str(PUBLISHED)!r}]) == 0\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
