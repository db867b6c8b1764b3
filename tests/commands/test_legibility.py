"""`vtbench legibility`, and pages of scripts that an engine cannot read."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from vtbench.base.errors import ResultsError
from vtbench.base.locations import data_dir
from vtbench.base.records import Sample
from vtbench.cli import main
from vtbench.commands.audit.text_scores import find_unreadable_scripts
from vtbench.images import load_rgb8
from vtbench.leaderboard.legibility import collect_readings
from vtbench.metrics.ocr.reader import crop_line
from vtbench.metrics.text_pages import PageMeter
from vtbench.results.folder import Run, read_run
from vtbench.suites.suites import Suite, load_suite


@pytest.fixture(scope="module")
def suite() -> Suite:
    return load_suite("text-multilingual")


def test_the_suite_has_every_script_height_and_kind(suite: Suite) -> None:
    pages = [sample.meta for sample in suite.samples]
    assert len({page["script"] for page in pages}) == 8
    for script in {page["script"] for page in pages}:
        own = [page for page in pages if page["script"] == script]
        conditions = {page["condition"] for page in own} - {"code"}
        assert conditions == {"plain", "low-contrast", "photo", "rotated", "poster", "abstract"}
        lines = [line for page in own if page["condition"] == "plain" for line in page["lines"]]
        assert {line["glyph_px"] for line in lines} == {6, 8, 10, 12, 16, 20, 24, 32, 48}
        kinds = {(line["glyph_px"], line["kind"]) for line in lines}
        for px in (6, 20, 48):
            assert {(px, k) for k in ("words", "sentence", "random", "figures")} <= kinds
    texts = [line["text"] for page in pages for line in page["lines"] if line["kind"] == "random"]
    assert len(set(texts)) == len(texts)


@pytest.mark.slow
def test_a_script_that_the_engine_cannot_read_is_not_applicable(suite: Suite) -> None:
    pages = {sample.id: sample for sample in suite.samples}
    samples = [pages["text-korean-16"], pages["text-latin-16"]]
    meter = PageMeter("rapidocr", device="cpu", scripts=suite.scripts())
    rows = []
    for sample in samples:
        page = torch.from_numpy(load_rgb8(sample.path).transpose(2, 0, 1).copy())[None]
        rows += meter([sample], page, page)
    korean, latin = rows
    assert korean["script"] == "korean" and "char_edits" not in korean and "reading" not in korean
    assert latin["char_edits"] == latin["original_char_edits"] and latin["glyphs_lost"] == 0
    assert latin["glyphs_readable"] <= latin["chars"] and latin["exact_lines"] <= latin["lines"]


def test_a_script_whose_originals_are_read_badly_is_not_published(suite: Suite) -> None:
    def read(sample: Sample, line: str) -> str:
        greek = sample.meta["script"] == "greek" and sample.meta["glyph_px"] >= 20
        return "x" * (len(line) // 10) + line[len(line) // 10 :] if greek else line

    rows = []
    for sample in suite.samples:
        truth = [line["text"] for line in sample.meta["lines"]]
        known = [read(sample, line) for line in truth]
        korean = sample.meta["script"] == "korean"  # cannot be read: not applicable, never an error
        texts = {"original_reading": known, "reading": known}
        rows.append(
            {"id": sample.id, "error": None} | {k: None if korean else v for k, v in texts.items()}
        )
    record = SimpleNamespace(
        suite=SimpleNamespace(sha256=suite.sha256),
        protocol=SimpleNamespace(ocr={"engine": "tesseract"}),
    )
    run = cast(Run, SimpleNamespace(record=record, rows=rows, folder="folder"))
    (reason,) = find_unreadable_scripts(suite, run)
    assert reason.startswith(
        "tesseract reads the originals of greek of 20 px and more with a CER of"
    )
    assert reason.endswith("above 5 %: that script is not published for it")


def test_the_scans_are_what_their_maker_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data_dir() / "text-scans"
    monkeypatch.syspath_prepend(str(folder))
    maker = importlib.import_module("make_manifest")
    rows = (
        maker.make_row("scan-page", "scan", maker.PAGE, maker.PAGE_LINES),
        maker.make_row("scan-text", "handwriting", maker.NOTE, maker.NOTE_LINES),
    )
    written = maker.MANIFEST.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == [json.loads(json.dumps(row)) for row in rows]
    # The pieces of handwriting come upright out of their slanted boxes: wider than high or square.
    for line in rows[1]["meta"]["lines"]:
        cut = crop_line(load_rgb8(maker.DATA / maker.NOTE), line["box"])
        assert cut.shape[1] >= cut.shape[0] and cut.std() > 10
    monkeypatch.delitem(sys.modules, "make_manifest")


@pytest.mark.slow
def test_runs_are_printed_by_script_and_engines_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    arguments = ["--suite", "text-scans", "--out", str(out)]
    assert main(["run", *arguments, "-t", "identity", "-t", "resize-4x"]) == 0
    capsys.readouterr()
    show = ["legibility", "--suite", "text-scans", "--results", str(out)]
    assert main(show) == 0
    told = capsys.readouterr().out
    blocks = told.split("identity · read by rapidocr")
    assert len(blocks) == 2 and "resize-4x · read by rapidocr" in told
    lines = told.splitlines()
    cells = next(line for line in lines if line.startswith("latin   9")).split()
    assert float(cells[7]) == 0.0
    # RapidOCR reads the photographed page with one error of 293 characters, and of the handwriting's
    # nine more than half.
    place = next(place for place, line in enumerate(lines) if line.startswith("CER by condition"))
    assert lines[place].split()[3:] == ["scan", "handwriting"]
    page, note = map(float, lines[place + 1].split()[1:])
    assert page <= 1.0 and page < note < 50
    assert main([*show, "identity"]) == 0
    assert "resize-4x" not in capsys.readouterr().out
    assert main(["legibility", "--results", str(tmp_path)]) == 2
    scans, run = load_suite("text-scans"), read_run(out / "resize-4x")
    readings = collect_readings(scans, run).lines["latin"]
    assert len(readings) == 9 and any(own.reading != own.original for own in readings)
    with pytest.raises(ResultsError, match="another version of suite"):
        collect_readings(load_suite("text-multilingual"), run)


def test_pages_are_what_their_manifest_says(suite: Suite) -> None:
    for sample in suite.samples[::8]:
        pixels = load_rgb8(sample.path)
        assert pixels.shape == (sample.height, sample.width, 3)
        for line in sample.meta["lines"]:
            corners = np.array(line["box"])
            assert (corners >= 0).all() and (corners <= [sample.width, sample.height]).all()
            for word in line.get("words", ()):
                assert np.array(word["box"]).shape == (4, 2)
            if "words" in line:
                assert " ".join(word["text"] for word in line["words"]) == line["text"]
