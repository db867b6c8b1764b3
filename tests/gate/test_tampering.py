"""Results that were made up: sealed again, and found by what anybody can compute."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vtbench.base.errors import ResultsError
from vtbench.base.locations import published_dir
from vtbench.commands.audit.fitness import find_unfit
from vtbench.commands.audit.folder import audit_results
from vtbench.commands.audit.plots import audit_plots, audit_svg
from vtbench.commands.audit.publishing import find_unpublishable
from vtbench.images import encode_png
from vtbench.leaderboard.tables import CHECKED
from vtbench.registry.entries import Registry, load_registry
from vtbench.results.folder import Run, read_run, read_suite_folder
from vtbench.results.rows import Row
from vtbench.results.schema import MetricRecord, PanelItem, SetRecord, Skipped, SuiteFolder

NAMES = ("identity", "jpeg-lm", "jpeg-q25", "ref-kl-f8", "ref-vq-f16")
SHA = "0" * 64


@cache
def registry() -> Registry:
    return load_registry()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of five published runs, without plots."""
    source, target = published_dir("embedded"), tmp_path_factory.mktemp("results") / "embedded"
    for name in NAMES:
        shutil.copytree(source / name, target / name)
    shutil.copytree(source / "originals", target / "originals")
    for name in ("suite.json", *CHECKED):
        shutil.copy(source / name, target / name)
    return target


@pytest.fixture(scope="module")
def runs(honest: Path) -> dict[str, Run]:
    return {name: read_run(honest / name) for name in NAMES}


def audit(
    folder: Path,
    runs: Sequence[Run],
    *,
    suite: Callable[[SuiteFolder], SuiteFolder] = lambda suite: suite,
) -> str:
    """Return what is found, a line a complaint; "" for nothing."""
    stated = read_suite_folder(folder)
    names = {run.record.run for run in runs}
    own = stated.model_copy(
        update={"skipped": tuple(s for s in stated.skipped if s.name not in names)}
    )
    try:
        audit_results(folder, suite(own), runs, registry(), published=True)
    except ResultsError as error:
        return "\n".join(map(str, error.args))
    return ""


@pytest.mark.slow
def test_honest_runs_are_believed(honest: Path, runs: dict[str, Run]) -> None:
    assert audit(honest, list(runs.values())) == ""
    assert all(find_unfit(run.record) is None for run in runs.values())


RowChange = Callable[[Row], dict[str, Any]]


def psnr(mse: float) -> float:
    return 10 * math.log10(255**2 / mse)


def scale_error(row: Row) -> dict[str, Any]:
    """10 dB better, with sums that are whole and agree."""
    samples = row["width"] * row["height"] * 3
    squares = round(row["mse"] * samples / 10)
    errors = round((row["mae"] or 1) * samples / 4)
    errors += (errors - squares) % 2
    mse = squares / samples
    mae = {"mae": errors / samples} if row["mae"] is not None else {}
    return {"mse": mse, "psnr_db": psnr(mse), **mae}


of_text: dict[str, RowChange] = {
    "cer-zero": lambda row: {"char_edits": 0, "word_edits": 0 if row["words"] else None},
    "chars-inflated": lambda row: {"chars": row["chars"] * 10},
    "char-edits-negative": lambda row: {"char_edits": -1},
    "original-edits-raised": lambda row: {"original_char_edits": row["chars"]},
    "ned-raised": lambda row: {"ned": 1.0, "reading": ["x"] * row["lines"]},
    "a-line-unread": lambda row: {"reading": row["reading"][:-1]},
    "glyphs-relabelled": lambda row: {"glyph_px": 99.0},
    "script-relabelled": lambda row: {"script": "chinese"},
}

of_detail: dict[str, RowChange] = {
    "contrast-kept": lambda row: {
        "contrast_transfer": row["contrast_transfer"] and [1.0] * len(row["contrast_transfer"])
    },
    "patches-dropped": lambda row: {
        "patch_cpp": row["patch_cpp"] and row["patch_cpp"][:1],
        "contrast_transfer": row["contrast_transfer"] and row["contrast_transfer"][:1],
    },
    "contrast-too-high": lambda row: {
        "contrast_transfer": row["contrast_transfer"] and [20.0] * len(row["contrast_transfer"])
    },
}

of_pictures: dict[str, RowChange] = {
    "psnr-alone": lambda row: {"psnr_db": row["psnr_db"] + 5},
    "psnr-and-mse": lambda row: {"mse": row["mse"] / 10, "psnr_db": psnr(row["mse"] / 10)},
    "psnr-mse-and-mae": scale_error,
    "mae-above-rmse": lambda row: {"mae": 2 * math.sqrt(row["mse"])},
    "mae-tiny": lambda row: {"mae": row["mse"] / 1000},
    "ms-ssim-above-one": lambda row: {"ms_ssim": 1.1},
    "haarpsi-above-one": lambda row: {"haarpsi": 1.01},
    "ssim-below": lambda row: {"ssim": -2.0},
    "mse-negative": lambda row: {"mse": -1.0},
    "metric-null": lambda row: {"ssim": None, "ms_ssim": None},
    "q8-claimed": lambda row: {"psnr_q8_db": 40.0, "q8_bits": 100.0},
    "lpips-of-a-missing-metric": lambda row: {"lpips_alex": 0.01},
    "bits-halved": lambda row: {"bits": row["bits"] / 2},
    "bits-negative": lambda row: {"bits": -1.0},
    "tokens-alone": lambda row: {"tokens": 32},
    "tokens-and-bits": lambda row: {
        "tokens": (row["tokens"] - 1),
        "bits": row["bits"] * (row["tokens"] - 1) / row["tokens"],
    },
    "width-doubled": lambda row: {"width": row["width"] * 2},
    "time-negative": lambda row: {"encode_s": -0.1},
    "time-zero": lambda row: {"decode_s": 0.0},
    "time-of-no-memory": lambda row: {"decode_s": row["decode_s"] * 1e-9},
    "time-of-years": lambda row: {"encode_s": 1e308},
    "batch-of-more": lambda row: {"batch_size": row["batch_size"] * 2},
    "one-reconstruction": lambda row: {"reconstruction_sha256": "ab" * 32},
    "batch-size-zero": lambda row: {"batch_size": 0},
    "sha256-changed": lambda row: {"sha256": SHA},
    "sha256-null": lambda row: {"sha256": None},
    "subset-moved": lambda row: {"subset": "easy"},
    "task-moved": lambda row: {"task": "text"},
    "fit-invented": lambda row: {"fit": "stretched"},
}


def change(run: Run, task: str, how: RowChange, at_most: int = 1000) -> Run:
    rows, left = [], at_most
    for row in run.rows:
        if row["task"] == task and left:
            row, left = {**row, **how(row)}, left - 1
        rows.append(row)
    return run.with_rows(rows)


@pytest.mark.parametrize(
    ("task", "how"),
    [
        *(pytest.param("text", how, id=name) for name, how in of_text.items()),
        *(pytest.param("detail", how, id=name) for name, how in of_detail.items()),
        *(pytest.param("reconstruction", how, id=name) for name, how in of_pictures.items()),
    ],
)
@pytest.mark.parametrize("name", ["ref-vq-f16", "ref-kl-f8"])
def test_rows_that_were_made_up_are_found(
    honest: Path, runs: dict[str, Run], name: str, task: str, how: RowChange
) -> None:
    found = audit(honest, [change(runs[name], task, how)])
    assert f"{name}: " in found


def test_a_codecs_bits_are_its_bytes(honest: Path, runs: dict[str, Run]) -> None:
    halved = change(runs["jpeg-q25"], "reconstruction", lambda row: {"bits": row["bits"] / 2})
    assert "bits are not those of its tokens" in audit(honest, [halved])


def test_entropy_stays_with_its_tokens(honest: Path, runs: dict[str, Run]) -> None:
    """Moved from the photographs to the pages, the sum is the same."""
    run = runs["ref-vq-f16"]
    moved = math.fsum(row["entropy_bits"] for row in run.rows if row["task"] == "reconstruction")
    pages = [row for row in run.rows if row["task"] == "text"]
    none = change(run, "reconstruction", lambda row: {"entropy_bits": 0.0})
    more = change(
        none, "text", lambda row: {"entropy_bits": row["entropy_bits"] + moved / len(pages)}
    )
    assert "entropy_bits 0;" in audit(honest, [more])


def test_codes_are_of_all_tokens(honest: Path, runs: dict[str, Run]) -> None:
    run = runs["ref-vq-f16"]
    fewer = tuple(replace(book, counts=np.minimum(book.counts, 2)) for book in run.codes)
    assert "codes.parquet counts" in audit(honest, [replace(run, codes=fewer)])


def test_numbers_of_another_image_are_found(honest: Path, runs: dict[str, Run]) -> None:
    run = runs["jpeg-q25"]
    photos = [row for row in run.rows if row["task"] == "reconstruction"]
    easiest = max(photos, key=lambda row: row["psnr_db"])
    metrics = ("psnr_db", "mse", "mae", "ssim", "ms_ssim", "haarpsi")
    hardest = min(photos, key=lambda row: row["psnr_db"])["id"]
    rows = tuple(
        {**row, **{key: easiest[key] for key in metrics}} if row["id"] == hardest else row
        for row in run.rows
    )
    found = audit(honest, [run.with_rows(rows)])
    assert {f"has numbers of {name}" in found for name in (easiest["id"], hardest)} == {True, False}
    # Two columns alone, and the others changed by a little.
    changed = {"ssim": easiest["ssim"], "haarpsi": easiest["haarpsi"]}
    rows = tuple({**row, **changed} if row["id"] == hardest else row for row in run.rows)
    assert "to the last digit: ssim, haarpsi" in audit(honest, [run.with_rows(rows)])


def rename(run: Run, name: str) -> Run:
    tokenizer = run.record.tokenizer.model_copy(update={"name": name})
    record = run.record.model_copy(update={"run": name, "tokenizer": tokenizer})
    return replace(run, record=record)


@pytest.mark.slow
def test_one_tokenizers_rows_under_anothers_name_are_found(
    honest: Path, runs: dict[str, Run]
) -> None:
    found = audit(honest, [runs["jpeg-q25"], rename(runs["jpeg-q25"], "jpeg-q50")])
    assert "have the same numbers (mse) in" in found and "entry_sha256 is not that of" in found
    assert "come back exactly" in audit(
        honest,
        [runs["ref-vq-f16"].with_rows(runs["identity"].rows)],
    )
    nearly = change(
        rename(runs["jpeg-q25"], "jpeg-q50"),
        "reconstruction",
        lambda row: {"ssim": row["ssim"] - 1e-9, "haarpsi": row["haarpsi"] - 1e-9},
    )
    assert "have the same numbers (mse) in" in audit(honest, [runs["jpeg-q25"], nearly])
    unknown = audit(honest, [rename(runs["identity"], "marvel")])
    assert "no entry of the registry is named marvel" in unknown


def record(run: Run, part: str, **changes: Any) -> Run:
    if not part:
        return replace(run, record=run.record.model_copy(update=changes))
    inner = getattr(run.record, part).model_copy(update=changes)
    return replace(run, record=run.record.model_copy(update={part: inner}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("tokenizer", {"parameters": 1000}, "parameters is '1000'"),
        ("tokenizer", {"family": "sanity"}, "family is 'sanity'"),
        ("tokenizer", {"title": "Better"}, "title is 'Better'"),
        ("tokenizer", {"codebook_size": 4096}, "codebook_size is '4096'"),
        ("tokenizer", {"entry_sha256": SHA}, "entry_sha256 is not that of"),
        ("tokenizer", {"weights": {"ref-vq-f16.safetensors": SHA}}, "not the ones that the entry"),
        ("tokenizer", {"weights": {}}, "weights: none"),
        ("protocol", {"seed": 7}, "seed 7 is none of the suite's"),
        ("protocol", {"dtype": "bf16"}, "its name says"),
        ("protocol", {"posterior": "sample"}, "posterior is sample"),
        ("protocol", {"tasks": ("reconstruction",)}, "tasks are reconstruction"),
        ("protocol", {"metrics": {}}, "has no record of"),
        ("", {"sets": {"reconstruction.rfid": SetRecord(value=0.01, n=50000, state="measured",
                                                        version=1)}}, "does not ask for"),
        ("", {"started": "2999-01-01T00:00:00+00:00"}, "which is no time"),
        ("", {"started": "soon"}, "is no time"),
        ("", {"seconds": -1.0}, "took -1 seconds"),
        ("", {"started": "2026-11-21"}, "without a time zone"),
        ("environment", {"threads": 0}, "0 threads"),
        ("environment", {"commit": "official"}, "commit 'official' is none"),
        ("environment", {"code_sha256": "x"}, "code_sha256 is no sha256"),
        ("suite", {"manifest_sha256": SHA}, "manifest_sha256 is not the suite's"),
        ("suite", {"name": "detail"}, "suite.name is not that of suite.json"),
        ("suite", {"published": False}, "suite.published is not that of suite.json"),
        ("environment", {"versions": {"torch": "99.0"}}, "torch 99.0 is no version"),
        ("environment", {"versions": {}}, "without torch"),
    ],
)  # fmt: skip
def test_records_that_were_made_up_are_found(
    honest: Path, runs: dict[str, Run], part: str, changes: dict[str, Any], message: str
) -> None:
    assert message in audit(honest, [record(runs["ref-vq-f16"], part, **changes)])


def test_machines_that_were_made_up_are_found(honest: Path, runs: dict[str, Run]) -> None:
    run = runs["ref-vq-f16"]
    here = run.record.environment
    versions = {**here.versions, "torch": "latest", "pillow": "12.0.0"}
    odd = record(
        record(record(run, "", seconds=1e308), "tokenizer", libraries={"pillow": "13.0.0"}),
        "environment",
        **{"commit": "0" * 40, "vtbench": "9.0.0", "python": "9.9.9", "versions": versions},
    )
    model = "PP-OCRv6_det_small.onnx"
    found = audit(honest, [record(odd, "protocol", ocr={**run.record.protocol.ocr, model: SHA})])
    for message in (
        "took 1e+308 seconds",
        "is none",
        "vtbench '9.0.0' is no version up to",
        "python '9.9.9' is no version",
        "torch 'latest' is no version",
        "pillow is '13.0.0' and '12.0.0'",
        f"{model} is not what metrics are measured with",
    ):
        assert message in found


@pytest.mark.slow
def test_publish_asks_what_validate_asks(honest: Path, runs: dict[str, Run]) -> None:
    """Also what only a published run must have: all tasks, and an entry of the registry."""
    run = runs["identity"]
    suite = read_suite_folder(honest)
    suite = suite.model_copy(
        update={"skipped": tuple(s for s in suite.skipped if s.name != run.record.run)}
    )
    for changed, message in (
        (run, ""),
        (record(run, "protocol", tasks=("reconstruction",)), "tasks are reconstruction"),
        (rename(run, "marvel"), "no entry of the registry is named marvel"),
    ):
        found = find_unpublishable(honest, suite, [changed], registry())
        found = [line for line in found if "leaderboard.md" not in line]  # of all runs, not of one
        assert message in "\n".join(found) and bool(found) == bool(message), found
        assert not message or message in audit(honest, [changed])


def test_metrics_have_a_version_that_there_is(honest: Path, runs: dict[str, Run]) -> None:
    run = runs["ref-kl-f8"]
    metrics = dict(run.record.protocol.metrics)
    metrics["psnr_db"] = MetricRecord(version=9, state="measured")
    assert "version 9 of psnr_db" in audit(honest, [record(run, "protocol", metrics=metrics)])
    metrics["psnr_db"] = MetricRecord(version=1, state="missing")
    found = audit(honest, [record(run, "protocol", metrics=metrics)])
    assert "missing without a reason" in found and "psnr_db is missing, and has a number" in found


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("tokenizer", {"pinned": False}, "not pinned"),
        ("environment", {"dirty": True}, "uncommitted"),
        ("environment", {"commit": None}, "no commit"),
        ("protocol", {"crop": "adm-256"}, "crop"),
        ("protocol", {"limit": 3}, "limit 3"),
    ],
)
def test_what_is_unfit_to_be_published_is_refused(
    runs: dict[str, Run], part: str, changes: dict[str, Any], message: str
) -> None:
    assert message in str(find_unfit(record(runs["ref-vq-f16"], part, **changes).record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": SHA}, "sha256 is not that of embedded@2"),
        ({"title": "Better"}, "title is not"),
        ({"description": "Better"}, "description is not"),
        ({"cost_subset": "whole"}, "cost_subset is not"),
        ({"pinned": False}, "pinned is not"),
        ({"published": False}, "published is not"),
        ({"images": {"reconstruction": 1}}, "images is not"),
        ({"cut_from": {}}, "cut_from is not"),
        ({"metrics": {"reconstruction": ("psnr_db",)}}, "metrics is not"),
        ({"version": 9}, "embedded@9 is not this vtbench's"),
        ({"panel": ()}, "its pictures are not those of the suite"),
        ({"skipped": (Skipped(name="rival", reason="bad"),)}, "rival is no entry"),
        ({"skipped": (Skipped(name="jpeg-q25", reason="bad"),)}, "jpeg-q25 has a run"),
    ],
)
def test_a_suite_that_was_made_up_is_found(
    honest: Path, runs: dict[str, Run], changes: dict[str, Any], message: str
) -> None:
    found = audit(honest, [runs["jpeg-q25"]], suite=lambda suite: suite.model_copy(update=changes))
    assert message in found


def test_panel_sizes_are_those_of_the_pictures(honest: Path, runs: dict[str, Run]) -> None:
    def enlarge(suite: SuiteFolder) -> SuiteFolder:
        first, *others = suite.panel
        larger = PanelItem(**{**first.model_dump(), "width": 999})
        return suite.model_copy(update={"panel": (larger, *others)})

    assert "is not 999×160" in audit(honest, [runs["jpeg-q25"]], suite=enlarge)


BLACK = encode_png(np.zeros((160, 192, 3), np.uint8))


def write_nearly(original: Path, path: Path) -> None:
    pixels = np.asarray(Image.open(original).convert("RGB")).copy()
    pixels[::4, ::4] ^= 1
    path.write_bytes(encode_png(pixels))


def write_bomb(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((5000, 5000, 3), np.uint8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.copy(run.parent / "originals/0.png", run / "panel/0.png"),
         "shows the original, and its image is said to have error"),
        (lambda run: write_nearly(run.parent / "originals/0.png", run / "panel/0.png"),
         "shows the original, and its image is said to have error"),
        (lambda run: (run / "panel/0.error.png").write_bytes(BLACK), "is not the picture's error"),
        (lambda run: (run / "panel/1.png").unlink(), "panel/1.png is missing"),
        (lambda run: shutil.rmtree(run / "panel"), "panel/0.png is missing"),
        (lambda run: write_bomb(run / "panel/0.png"), "more than"),
        (lambda run: (run / "panel/0.png").write_bytes((run / "panel/0.png").read_bytes() + b"GIF"),
         "3 bytes after its end"),
        (lambda run: (run / "panel/9.png").write_bytes(BLACK), "panel/9.png: no file of a result"),
        (lambda run: (run / "lib.so").write_bytes(b"\x7fELF"), "lib.so: no file of a result"),
        (lambda run: (run / ".hidden").write_bytes(b""), ".hidden: no file of a result"),
        (lambda run: (run / "passwd").symlink_to("/etc/passwd"), "passwd: a symbolic link"),
        (lambda run: (run.parent / "originals/0.png").write_bytes(BLACK), "not the original's part"),
        (lambda run: (run.parent / "leaderboard.md").unlink(), "leaderboard.md is missing"),
    ],
)  # fmt: skip
def test_files_that_were_changed_are_found(
    honest: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    folder = tmp_path / "embedded"
    shutil.copytree(honest, folder)
    spoil(folder / "jpeg-q25")
    assert message in audit(folder, [read_run(folder / name) for name in NAMES])


def test_a_picture_of_more_error_than_its_image_is_found(
    honest: Path, runs: dict[str, Run]
) -> None:
    better = change(runs["jpeg-q25"], "reconstruction", scale_error)
    assert "more error than its whole image" in audit(honest, [better])


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        '<g onload="alert(1)"/>',
        "<foreignObject/>",
        '<a xlink:href="https://evil.example"><text>x</text></a>',
        '<use xlink:href="https://evil.example/x.svg#a"/>',
        '<image href="https://evil.example/x.png"/>',
        "<style>@import url(https://evil.example)</style>",
        '<rect style="fill: url(https://evil.example)"/>',
        '<iframe xmlns="http://www.w3.org/1999/xhtml"/>',
        '<set attributeName="href" to="javascript:alert(1)"/>',
    ],
)
def test_plots_do_nothing(inner: str) -> None:
    assert list(audit_svg("x.svg", SVG.format(inner).encode()))


def test_plots_have_no_entities() -> None:
    text = '<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format("<text>&a;</text>")
    assert "document type" in next(audit_svg("x.svg", text.encode()))


def test_plots_are_the_boards(tmp_path: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in published_dir("embedded").glob("*.svg")}
    assert len(shipped) == 3
    for name, content in shipped.items():
        assert not list(audit_svg(name, content))
        (tmp_path / name).write_bytes(content)
    assert not list(audit_plots(tmp_path, [shipped]))
    assert not list(audit_plots(tmp_path, [{}, shipped]))  # of rows alone, or beside published ones
    half = dict([*shipped.items()][:2])
    assert list(audit_plots(tmp_path, [half, {}]))
    name = "leaderboard-rate-psnr.svg"
    (tmp_path / name).write_bytes(shipped[name].replace(b">ref-kl-f8<", b">best<"))
    moved = shipped["leaderboard-rate-cer.svg"].replace(b'" y="1', b'" y="2', 3)
    (tmp_path / "leaderboard-rate-cer.svg").write_bytes(moved)
    (tmp_path / "leaderboard-own.svg").write_bytes(shipped[name])
    found = "\n".join(audit_plots(tmp_path, [shipped]))
    assert f"{name}: its labels" in found
    assert "leaderboard-rate-cer.svg: its points" in found
    assert "leaderboard-own.svg: is no plot of this board" in found


@pytest.mark.parametrize("column", ["chars", "char_edits", "reading", "lines"])
def test_a_count_without_its_errors_is_found(
    honest: Path, runs: dict[str, Run], column: str
) -> None:
    run = change(runs["jpeg-q25"], "text", lambda row: {column: None}, at_most=1)
    assert "jpeg-q25: " in audit(honest, [run])
