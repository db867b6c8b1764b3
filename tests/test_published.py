"""The committed results: the tables are what the rows give, and the rows say what they must."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vtbench.base.locations import published_dir
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board
from vtbench.leaderboard.footnotes import usual_n
from vtbench.leaderboard.tables import CHECKED, render_folder
from vtbench.leaderboard.words import format_cell
from vtbench.registry.entries import load_registry
from vtbench.registry.sources import HubWeights
from vtbench.results.folder import read_run
from vtbench.results.rows import ROW_COLUMNS
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import open_suite, plan_run
from vtbench.runs.runner import run_suite
from vtbench.suites.suites import load_suite

FOLDER = published_dir("embedded")
CHECKPOINTS = {"taef2"}
"""Published checkpoints that were measured from files that do not come with vtbench."""

QUALITY = [
    *(f"{task}.{key}" for task in ("reconstruction", "detail") for key in ("psnr_db", "ssim")),
    "reconstruction.ms_ssim",
    "detail.mtf50_cpp",
    "text.cer",
    "text.wer",
    "text.ned",
]

README_COLUMNS = (
    "rate.tokens",
    "reconstruction.bpp",
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "detail.mtf50_cpp",
    "text.cer",
)

README_ROWS = ("ref-titok-64", "ref-vq-f16", "ref-dcae-f32", "ref-kl-f8", "ref-rae-f16", "jpeg-q50")
README_ROWS += ("taef2",)
"""One of each kind that people know, and the published checkpoint; all rows are on the site."""


@pytest.fixture(scope="module")
def board() -> Board:
    """Return the published board."""
    return read_board(FOLDER)


def value(board: Board, name: str, key: str) -> float:
    """Return a number of the board, turned so that more is better."""
    line = next(line for line in board.lines if line.name == name)
    number = line.cells[key].value
    assert number is not None, (name, key)
    better = next(column.metric.better for column in board.columns if column.key == key)
    return number if better == "higher" else -number


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_tables_regenerate_byte_for_byte(name: str) -> None:
    assert render_folder(FOLDER)[name] == (FOLDER / name).read_bytes()


@pytest.mark.slow
def test_runs_are_complete_clean_and_of_this_suite_and_registry(board: Board) -> None:
    suite, registry = load_suite("embedded"), load_registry()
    assert board.suite.sha256 == suite.sha256
    shipped = {
        name
        for name, entry in registry.items()
        if entry.weights is None or entry.weights.source == "package"
    }
    curves = {name for name in shipped if registry[name].curve_only}
    names = {line.name for line in board.lines}
    assert names == shipped | CHECKPOINTS
    assert {line.name for line in board.lines if line.block == "curves"} == curves
    for line in board.lines:
        assert line.problem is None
        assert line.record.environment.dirty is False
        assert line.record.environment.commit
        assert line.record.tokenizer.entry_sha256 == registry[line.name].sha256, line.name
        assert line.run is not None
        assert {row["id"] for row in line.run.rows} == {sample.id for sample in suite.samples}


@pytest.mark.slow
def test_the_published_checkpoint_is_the_authors_file(board: Board) -> None:
    line = next(line for line in board.lines if line.name == "taef2")
    weights = load_registry()["taef2"].weights
    assert isinstance(weights, HubWeights) and weights.official is not None
    assert line.record.tokenizer.pinned
    assert line.record.tokenizer.weights == weights.official.files
    # What the reconstruction of two photographs by the official code gave is in
    # tests/tokenizers/test_published_weights.py; these are of the whole suite.
    assert round(value(board, "taef2", "reconstruction.psnr_db"), 2) == 32.67
    assert round(value(board, "taef2", "reconstruction.ssim"), 4) == 0.9056
    assert round(value(board, "taef2", "text.cer"), 4) == -0.0110


def test_identity_is_the_ceiling_and_the_ocrs_own_error(board: Board) -> None:
    for task in ("reconstruction", "detail"):
        assert value(board, "identity", f"{task}.psnr_db") == 100
        assert value(board, "identity", f"{task}.ssim") == 1
    assert value(board, "identity", "reconstruction.ms_ssim") == 1
    assert value(board, "identity", "reconstruction.bpp") == -24
    (own,) = board.originals
    for key in ("text.cer", "text.wer", "text.ned"):
        assert own.cells[key].value == abs(value(board, "identity", key))


@pytest.mark.parametrize("key", QUALITY)
def test_half_the_resolution_keeps_more_than_a_quarter(board: Board, key: str) -> None:
    assert value(board, "resize-4x", key) < value(board, "resize-2x", key)
    assert value(board, "resize-2x", key) <= value(board, "identity", key)


def test_jpeg_is_monotone_in_quality(board: Board) -> None:
    names = [f"jpeg-q{quality}" for quality in (10, 25, 50, 75, 90)]
    for key in ("reconstruction.psnr_db", "reconstruction.ssim", "detail.psnr_db", "detail.ssim"):
        values = [value(board, name, key) for name in names]
        assert values == sorted(values), key
    # Readings differ by whole characters: within the counting noise of the few edits that are left.
    chars = sum(row["chars"] or 0 for row in board.lines[0].run.rows)  # type: ignore[union-attr]
    edits = [-value(board, name, "text.cer") * chars for name in names]
    for worse, better in itertools.pairwise(edits):
        assert better <= worse + 2 * math.sqrt(max(worse, 1.0))
    assert edits[-1] < edits[0] / 10


def test_the_table_of_readme_is_of_the_published_one(board: Board) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = [[c.strip() for c in row.strip("|").split("|")] for row in readme.splitlines()]
    shown = [row for row in shown if len(row) == len(README_COLUMNS) + 1]
    columns = {column.key: column for column in board.columns}
    expected = []
    for line in (line for line in board.lines if line.name in README_ROWS):
        cells = [
            format_cell(line.cells[k], columns[k], usual_n(columns[k], board.complete))
            for k in README_COLUMNS
        ]
        expected.append([line.name, *cells])
    assert shown[2:] == expected


COST = {"encode_s", "decode_s", "peak_memory_mib", "batch_size"}
OF_ALL_IMAGES = {"entropy_bits"}
"""Of the tokens of the whole run, which a part of it has not."""


TOLERANCES = {"jpeg-q25": 1e-12, "resize-2x": 1e-12, "patch-pca-f8c4": 1e-4}
"""Relative. Another processor adds float64 in another order (2e-15 seen); float32 networks also round
a few pixels to the next level (4e-7 of an MSE seen)."""


class Silent:
    """Hears nothing of a run."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLERANCES)
def test_images_measured_again_have_the_published_rows(name: str, tmp_path: Path) -> None:
    published = read_run(FOLDER / name)
    request = plan_run(
        open_suite("embedded"),
        load_registry(),
        names=[name],
        limit=2,
        device="cpu",
        out=tmp_path / "out",
    )
    (outcome,) = run_suite(request, Silent())
    assert outcome.status == "measured" and outcome.record is not None
    here, there = outcome.record, published.record
    if here.tokenizer.libraries != there.tokenizer.libraries:
        pytest.skip(f"published with {there.tokenizer.libraries}")
    columns = pq.read_schema(FOLDER / name / "images.parquet").names
    rows = read_run(tmp_path / "out" / name).rows
    assert len(rows) == 6
    for row in rows:
        old = published.find_row(row["id"])
        assert old is not None
        for column in set(columns) - COST - OF_ALL_IMAGES:
            if "string" in ROW_COLUMNS[column] or old[column] is None:
                assert row[column] == old[column], column
            else:
                assert row[column] == pytest.approx(old[column], rel=TOLERANCES[name]), column
