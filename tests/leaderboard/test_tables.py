"""The files of a board: exact text, states, escapes, bytes that depend on the rows alone."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from vtbench.base.errors import ResultsError
from vtbench.base.locations import published_dir
from vtbench.leaderboard import tables
from vtbench.leaderboard.aggregate import aggregate, read_board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.latex import render_latex
from vtbench.leaderboard.markdown import render_markdown
from vtbench.leaderboard.tables import CHECKED, check_board, render_folder, write_board
from vtbench.leaderboard.terminal import terminal_table
from vtbench.leaderboard.words import find_front
from vtbench.metrics.rate import count_tokens
from vtbench.results.folder import Run, read_runs
from vtbench.results.schema import Skipped

NASTY = "<script>alert(1)</script> a|b_c & 50% `x` $y$"
DOTS = "LPIPS (vgg) needs vgg.pth in /home/someone/.cache: run `vtbench fetch lpips-vgg`"


@pytest.fixture(autouse=True)
def no_shipped_results(monkeypatch, tmp_path):
    """A checkout may ship results of a suite named tiny one day; these tests do not read them."""
    monkeypatch.setattr(tables, "published_dir", lambda suite: tmp_path / "shipped" / suite)


def _failed(rows):
    keep = ("id", "task", "subset", "width", "height", "sha256")
    own = list(rows)
    own[5] = dict.fromkeys(own[5]) | {key: own[5][key] for key in keep} | {"error": "Boom: no"}
    return own


def _section(text, title):
    start = text.index(f"## {title}\n")
    end = text.find("\n## ", start + 1)
    return text[start : end if end > 0 else None].rstrip("\n")


@pytest.fixture
def folder(write_suite, write_run, rows):
    """Return two tokenizers, a codec, a sanity row, a failed and a limited run."""
    folder = write_suite(
        skipped=(
            Skipped(name="x", reason="not here: run `vtbench fetch x`"),
            Skipped(name="y", reason="not here: run `vtbench fetch y`"),
            Skipped(name="z", reason="gated"),
        )
    )
    write_run(folder, "vq", missing={"lpips_alex": "gone", "lpips_vgg": DOTS})
    write_run(folder, "kl", rows(bits=500, psnr=-1), missing={"lpips_vgg": DOTS})
    codec = {"tokenizer__kind": "codec", "tokenizer__family": "codec"}
    write_run(folder, "jpeg", rows(bits=200, psnr=2), missing={"lpips_vgg": DOTS}, **codec)
    sanity = {"tokenizer__kind": "pixels", "tokenizer__family": "sanity"}
    write_run(folder, "same", rows(bits=-500, psnr=66), missing={"lpips_vgg": DOTS}, **sanity)
    write_run(folder, "broken", _failed(rows(psnr=50)), missing={"lpips_vgg": DOTS})
    write_run(folder, "short", rows(psnr=50), protocol__limit=7)
    return folder


@pytest.mark.slow
def test_overview_in_markdown_is_exactly_this(folder):
    text = render_markdown(read_board(folder), None)
    table = [line for line in _section(text, "Overview").splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in table[0].strip("|").split("|")]
    keep = [
        columns.index(name)
        for name in ("tokenizer", "kind", "Tokens/image ↓", "recon. bpp ↓", "recon. PSNR ↑ (dB)")
    ]
    keep += [columns.index("recon. LPIPS (Alex) ↓"), columns.index("text CER ↓")]
    keep += [columns.index("Encode ↑ (image/s)")]
    cut = ["|".join(line.strip("|").split("|")[i] for i in keep) for line in table]
    assert "\n".join(cut) == "\n".join(
        [
            " tokenizer | kind | Tokens/image ↓ | recon. bpp ↓ | recon. PSNR ↑ (dB) "
            "| recon. LPIPS (Alex) ↓ | text CER ↓ | Encode ↑ (image/s) ",
            " --- | --- | ---: | ---: | ---: | ---: | ---: | ---: ",
            " **Tokenizers** |  |  |  |  |  |  |  ",
            " vq | discrete | 16 | 0.1000 | **32.00** | missing | **0.1500** | 4.00 ",
            " kl | discrete | 16 | 0.1375 | 31.00 | 0.2500 | 0.1500 | 4.00 ",
            " **Codecs** |  |  |  |  |  |  |  ",
            " jpeg | codec | 16 | 0.1150 | **34.00** | **0.2500** | 0.1500 | 4.00 ",
            " **Sanity rows** |  |  |  |  |  |  |  ",
            " same | pixels | 16 | 0.0625 | 98.00 | 0.2500 | 0.1500 | 4.00 ",
            " **Incomplete runs** |  |  |  |  |  |  |  ",
            " broken (incomplete: 1 of 7 images failed) | discrete | – | – | – | – "
            "| failed (1 of 2) | – ",
            " short (incomplete: --limit 7) | discrete | – | – | – | – | – | – ",
        ]
    )


@pytest.mark.slow
def test_the_codebook_table_is_of_discrete_tokenizers_alone(folder, write_run, rows):
    codes = (count_tokens(np.repeat([0, 1, 1, 3], 28), 4),)  # 7 images of 16 tokens
    own = [row | {"entropy_bits": 24.0} for row in rows()]  # 1.5 bits a token
    write_run(folder, "vq", own, codes=codes)
    text = render_markdown(read_board(folder), None)
    lines = [line for line in _section(text, "Codebook").splitlines() if line.startswith("| vq")]
    assert lines[0].startswith(
        "| vq | 112 | 1 | 4 | 2.00 | 1.500 | 0.7500 | 2.8 | 0.1000 | 0.0018 |"
    )
    assert "| jpeg " not in _section(text, "Codebook")
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(render_csv(read_board(folder), None)))
        if row["run"] == "vq"
    ]
    assert (row["rate.codebook_usage"], row["rate.codebook_usage.n"]) == ("0.75", "112")
    assert float(row["text.entropy_bpp"]) == 48 / 20000


@pytest.mark.slow
def test_originals_end_the_text_tables(folder):
    text = render_markdown(read_board(folder), None)
    assert _section(text, "Text by script").splitlines()[-1] == (
        "| *originals (OCR alone)* |  | 0.0067 | 0.9688 | 0.0200 | 0.0500 | 0.9688 |"
    )
    assert "originals (OCR alone): CER 0.0100, WER 0.0500, T-NED 0.9688." in text


@pytest.mark.slow
def test_footnotes_name_what_is_missing_failed_skipped_and_capped(folder):
    text = render_markdown(read_board(folder), None)
    assert _section(text, "Missing and failed").splitlines()[2:] == [
        "- broken is incomplete: 1 of 7 images failed. d-1: Boom: no.",
        "- short is incomplete: --limit 7.",
        "- LPIPS (Alex) missing in vq: gone (`vtbench fetch --suite tiny` brings what is missing).",
        "- LPIPS (VGG) missing in all runs, so it has no column: LPIPS (vgg) needs vgg.pth in "
        "…/.cache: run `vtbench fetch lpips-vgg`.",
    ]
    assert _section(text, "Not run").splitlines()[2:] == [
        "- z: gated.",
        "- x, y: not here: run `vtbench fetch NAME`.",
    ]
    assert "recon. LPIPS (VGG)" not in text
    assert "the cap of 100 dB, counted in the mean: same 1." in text
    assert (
        "Images behind a number: reconstruction 3 (MS-SSIM: 2), detail 2 (MTF50: 3 patches)" in text
    )


def test_where_runs_differ_the_footnotes_say_which(write_suite, write_run):
    folder = write_suite()
    write_run(folder, "a", environment__versions={"torch": "2.0"})
    write_run(
        folder,
        "b",
        environment__versions={"torch": "2.1"},
        environment__device="GPU",
        environment__dirty=True,
        protocol__dtype="bf16",
    )
    text = render_markdown(read_board(folder), None)
    assert "- dtype differs: bf16 (b); fp32 (a)." in text
    assert "- torch differs: 2.0 (a); 2.1 (b)." in text
    assert "- Device differs: GPU (b); cpu (a)." in text
    assert "- Commit differs: aaaaaaaaaaaa (a); aaaaaaaaaaaa+dirty (b)." in text
    assert "- Threads: 2." in text


@pytest.mark.slow
def test_csv_holds_the_unrounded_numbers(folder):
    rows = {
        row["run"]: row for row in csv.DictReader(io.StringIO(render_csv(read_board(folder), None)))
    }
    vq = rows["vq"]
    assert vq["reconstruction.psnr_db"] == "32"
    assert vq["reconstruction.psnr_db.n"] == "3"
    assert vq["detail.contrast_transfer"] == "0.6666666667"
    assert (vq["detail.mtf50_cpp"], vq["detail.mtf50_cpp.bound"]) == ("0.375", "=")
    assert (vq["reconstruction.lpips_vgg"], vq["reconstruction.lpips_vgg.state"]) == ("", "missing")
    assert (vq["text.script.chinese.wer"], vq["text.script.chinese.wer.state"]) == (
        "",
        "not-applicable",
    )
    assert (vq["suite"], vq["suite_version"], vq["dtype"]) == ("tiny", "1", "fp32")
    assert (vq["device"], vq["commit"]) == ("cpu", "a" * 12)
    broken = rows["broken"]
    assert broken["problem"] == "1 of 7 images failed"
    assert (broken["text.cer"], broken["text.cer.state"]) == ("", "failed")
    keys = [column.key for column in read_board(folder).columns]
    assert all(broken[key] == "" and rows["short"][key] == "" for key in keys)
    assert rows["originals (OCR alone)"]["text.cer"] == "0.01"


@pytest.mark.slow
def test_front_is_what_nobody_beats_at_this_rate_or_less(folder):
    board = read_board(folder)
    columns = {column.key: column for column in board.columns}
    assert find_front(board.lines, columns["reconstruction.psnr_db"]) == {"vq", "jpeg"}
    assert find_front(board.lines, columns["reconstruction.bpp"]) == frozenset()
    assert find_front(board.lines, columns["detail.contrast_transfer"]) == frozenset()
    assert find_front(board.lines, columns["cost.encode_images_per_s"]) == frozenset()


@pytest.mark.slow
def test_what_strangers_wrote_is_shown_and_not_run(write_suite, write_run, rows):
    folder = write_suite(title=NASTY, skipped=(Skipped(name="s", reason=NASTY),))
    own = _failed(rows())
    own[5]["error"] = NASTY
    write_run(folder, "a", own, tokenizer__title=NASTY, tokenizer__family="a&b_c%<i>|")
    write_run(folder, "cmd", tokenizer__title="=1+1", missing={"cer": NASTY})
    files = {key: value.decode() for key, value in render_folder(folder).items()}
    markdown = files["leaderboard.md"]
    assert "<" not in markdown
    for line in markdown.splitlines():
        if line.startswith("| a |") and "%" in line:
            assert r"a&amp;b\_c%&lt;i&gt;\|" in line
            assert line.replace(r"\|", "").count("|") in (
                header.count("|")
                for header in markdown.splitlines()
                if header.startswith("| tokenizer")
            )
    latex = files["leaderboard.tex"]
    assert r"a\&b\_c\%\textless{}i\textgreater{}\textbar{}" in latex
    rows_of = list(csv.DictReader(io.StringIO(files["leaderboard.csv"])))
    assert "a&b_c%<i>|" in {row["family"] for row in rows_of}
    assert next(r for r in rows_of if "cmd" in r["run"])["title"] == "'=1+1"


@pytest.mark.slow
def test_bytes_depend_on_the_rows_alone(folder, monkeypatch):
    first = render_folder(folder)
    assert first == render_folder(folder)
    assert {*CHECKED, "leaderboard-rate-psnr.svg"} <= set(first)
    board = read_board(folder)
    backwards = [
        Run(run.record, run.table.take(np.arange(len(run.table))[::-1]), run.folder)
        for run in reversed(read_runs(folder))
    ]
    again = aggregate(board.suite, backwards)
    for render in (render_markdown, render_csv, render_latex):
        assert render(again, None) == render(board, None)


@pytest.mark.slow
def test_published_results_are_differences_and_no_second_table(write_suite, write_run, rows):
    folder, published = write_suite("local"), write_suite("published")
    write_run(folder, "mine")
    write_run(folder, "both", rows(psnr=3))
    write_run(published, "both", rows(psnr=2.75), environment__device="H100")
    write_run(published, "theirs", rows(psnr=5))
    alone, text = render_folder(folder), render_folder(folder, published=published)
    markdown = text["leaderboard.md"].decode()
    overview = _section(markdown, "Overview")
    assert (
        "theirs" not in markdown and markdown.count("Δ: difference to the published results") == 1
    )
    assert "1 of these runs are published" in markdown and "Device: H100." in markdown
    lines = {line.split(" | ")[0]: line for line in overview.splitlines()}
    assert "(Δ +0.25)" in lines["| both"] and "Δ" not in lines["| mine"]
    # What prints alike has no Δ, and a number is never changed by what is published.
    assert lines["| both"].count("Δ") == lines["| both"].count("(Δ +0.25)")
    assert lines["| both"].replace(" (Δ +0.25)", "") in alone["leaderboard.md"].decode()
    table = {r["run"]: r for r in csv.DictReader(io.StringIO(text["leaderboard.csv"].decode()))}
    assert "theirs" not in table and {r["source"] for r in table.values()} == {"local"}
    assert float(table["both"]["reconstruction.psnr_db.delta"]) == pytest.approx(0.25)
    assert float(table["both"]["reconstruction.bpp.delta"]) == 0
    assert table["mine"]["reconstruction.psnr_db.delta"] == ""
    assert b".delta" not in alone["leaderboard.csv"]
    latex = text["leaderboard.tex"].decode()
    assert r"{\scriptsize $\Delta$\,+0.25}" in latex and "theirs" not in latex
    assert "% Δ: difference to the published results" in latex


@pytest.mark.slow
def test_published_results_of_other_runs_leave_the_tables_alone(write_suite, write_run, rows):
    folder, published = write_suite("local"), write_suite("published")
    write_run(folder, "mine")
    write_run(published, "theirs", rows(psnr=5))
    alone, text = render_folder(folder), render_folder(folder, published=published)
    for name in CHECKED:
        assert text[name] == alone[name]


def test_published_results_of_another_digest_say_so(write_suite, write_run):
    folder, published = write_suite("local"), write_suite("published", sha256="7" * 64)
    write_run(folder, "mine")
    write_run(published, "theirs", suite__sha256="7" * 64)
    text = render_markdown(read_board(folder), read_board(published))
    assert (
        "Published results are of another version (tiny@1 (777777777777)) and not compared" in text
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_an_edited_table_is_found(folder, name):
    write_board(folder, render_folder(folder))
    check_board(read_board(folder), folder)
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"32", b"33", 1))
    with pytest.raises(ResultsError, match=rf"{name}.*vtbench leaderboard"):
        check_board(read_board(folder), folder)


@pytest.mark.slow
def test_a_table_older_than_its_rows_is_found(folder, write_run, rows):
    write_board(folder, render_folder(folder))
    write_run(folder, "vq", rows(psnr=1))
    with pytest.raises(ResultsError, match=r"leaderboard.md"):
        check_board(read_board(folder), folder)


@pytest.mark.slow
def test_a_board_beside_published_results_is_checked_with_them(write_suite, write_run, rows):
    folder, shipped = write_suite("local"), write_suite("shipped/tiny")
    write_run(folder, "mine")
    write_run(shipped, "mine", rows(psnr=1))
    write_board(folder, render_folder(folder, published=shipped))
    check_board(read_board(folder), folder)
    write_board(folder, render_folder(folder))
    check_board(read_board(folder), folder)
    mixed = render_folder(folder, published=shipped)["leaderboard.csv"]
    write_board(folder, {"leaderboard.csv": mixed})
    with pytest.raises(ResultsError, match=r"leaderboard.csv"):
        check_board(read_board(folder), folder)


def test_an_empty_folder_and_one_of_incomplete_runs_render(write_suite, write_run, rows):
    folder = write_suite()
    assert "Overview" in render_folder(folder)["leaderboard.md"].decode()
    write_run(folder, "broken", _failed(rows()))
    files = render_folder(folder)
    assert "failed (1 of 2)" in files["leaderboard.md"].decode()
    assert not [name for name in files if name.endswith(".svg")]


@pytest.mark.slow
@pytest.mark.parametrize("width", [48, 60, 80, 200])
def test_a_narrow_terminal_loses_columns_and_never_names_or_digits(folder, write_run, width):
    write_run(folder, "a-tokenizer-of-a-long-name-f16")
    board = read_board(folder)
    console = Console(width=width, file=io.StringIO())
    console.print(terminal_table(board, width=width))
    text = console.file.getvalue()
    assert "…" not in text.partition("Images behind")[0]
    assert max(map(len, text.splitlines())) <= width
    for line in board.lines:
        assert f"│ {line.name} " in text
    assert ("Not shown at this width" in text) == (width < 200)
    assert "0.1375" in text  # kl's bpp, the most wanted column


@pytest.mark.slow
def test_the_main_job_at_80_columns_shows_every_name_and_number_whole():
    board = read_board(published_dir("embedded"))
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_table(board, width=80))
    lines = console.file.getvalue().splitlines()
    shown = [line for line in lines if line.startswith("│")]
    assert max(map(len, lines)) <= 80 and "…" not in "".join(shown)
    for line in board.lines:
        (row,) = [x for x in shown if x.split("│")[1].strip() == line.name]
        assert row.count("│") >= 4, row  # a name and two numbers at least
        bpp = line.cells["reconstruction.bpp"].value
        assert f" {bpp:.4f} " in row
    assert "HaarPSI" not in console.file.getvalue()
    console.print(terminal_table(board, width=80, asked=("haarpsi",)))
    assert "HaarPSI" in console.file.getvalue()


@pytest.mark.slow
def test_the_terminal_says_what_is_missing(folder):
    console = Console(width=200, file=io.StringIO())
    console.print(terminal_table(read_board(folder), width=200))
    assert "LPIPS (VGG) missing in all runs, so it has no column" in console.file.getvalue()


@pytest.mark.slow
def test_terminal_table_has_a_row_a_run(folder):
    table, _ = terminal_table(read_board(folder), width=200).renderables
    assert table.row_count == 4 + 6


@pytest.mark.slow
def test_no_torch_and_nothing_heavy_at_import(tmp_path):
    code = (
        "import sys, vtbench.leaderboard.tables, vtbench.leaderboard.site.pages, "
        "vtbench.leaderboard.plots\n"
        "heavy = {'torch', 'matplotlib', 'pyarrow', 'jinja2', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
def test_rendering_needs_no_torch(folder):
    code = (
        "import sys, pathlib\n"
        "sys.modules['torch'] = None\n"
        "from vtbench.leaderboard.tables import render_folder\n"
        f"assert render_folder(pathlib.Path({str(folder)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
