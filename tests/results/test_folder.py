"""Result files: written whole, read back, and refused when edited, torn or of another schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from vtbench.base.errors import OutputError, ResultsError
from vtbench.base.files import sha256_bytes, write_atomic
from vtbench.metrics.rate import Histogram, add_histograms, code_length, count_tokens
from vtbench.results.codes import encode_codes
from vtbench.results.folder import encode_rows, read_run, read_runs, read_suite_folder, write_run
from vtbench.results.partial import PartialRows
from vtbench.results.rows import ROW_COLUMNS, Row
from vtbench.results.schema import (
    SCHEMA_VERSION,
    Environment,
    Failure,
    MetricRecord,
    Protocol,
    RunRecord,
    SuiteRecord,
    TokenizerRecord,
)


def record(name: str = "thing", n: int = 2, failures: tuple[Failure, ...] = ()) -> RunRecord:
    return RunRecord(
        run=name,
        key="k",
        suite=SuiteRecord(
            name="mini", version=1, sha256="5" * 64, manifest_sha256="m", published=True
        ),
        tokenizer=TokenizerRecord(
            name=name,
            title="Thing",
            family="test",
            kind="codec",
            quantizer="none",
            downsample=None,
            codebook_size=None,
            latent_channels=None,
            parameters=None,
            stochastic=False,
            entry_sha256="e",
            weights={},
            pinned=True,
            libraries={},
        ),
        protocol=Protocol(
            dtype="fp32",
            seed=0,
            tasks=("reconstruction",),
            metrics={"psnr_db": MetricRecord(version=1, state="measured")},
            ocr={},
            limit=None,
        ),
        environment=Environment(
            device="cpu",
            processor="p",
            threads=1,
            platform="l",
            python="3",
            versions={},
            vtbench="0",
            code_sha256="c",
            commit=None,
            dirty=None,
        ),
        n_expected=n,
        n_done=n - len(failures),
        failures=failures,
        started="",
        seconds=1.0,
        rows_sha256="",
    )


def rows() -> list[Row]:
    return [
        {"id": "a", "task": "reconstruction", "psnr_db": 30.123456789012345, "bits": 8.0},
        {"id": "b", "task": "reconstruction", "reading": ["x", "é国"], "contrast_transfer": [0.5]},
    ]


def test_round_trip(tmp_path: Path) -> None:
    written = write_run(tmp_path / "thing", record(), rows())
    run = read_run(tmp_path / "thing")
    assert run.record == written
    assert run.rows[0] == dict.fromkeys(ROW_COLUMNS) | rows()[0]
    assert run.rows[1]["reading"] == ["x", "é国"]
    assert run.record.complete


OLD = Path(__file__).parent / "schema_3"
"""Two runs of embedded@2 as vtbench wrote them at schema version 3, without their pictures."""


def test_results_of_schema_3_are_read(tmp_path: Path) -> None:
    runs = {run.record.run: run for run in read_runs(OLD)}
    assert set(runs) == {"jpeg-q10", "patch-vq-f16"}
    assert {run.record.schema_version for run in runs.values()} == {SCHEMA_VERSION}
    assert {len(run.rows) for run in runs.values()} == {88}
    assert set(runs["jpeg-q10"].rows[0]) == set(ROW_COLUMNS)
    assert read_suite_folder(OLD).name == "embedded"
    # Written again, they are of this version and say the same.
    run = runs["patch-vq-f16"]
    write_run(tmp_path / "patch-vq-f16", run.record, run.rows, codes=run.codes)
    assert read_run(tmp_path / "patch-vq-f16").rows == run.rows


def test_a_metric_that_was_not_measured_is_null(tmp_path: Path) -> None:
    content = encode_rows(rows())
    table = parquet.read_table(pa.BufferReader(content), use_threads=False)
    assert "ssim" not in table.column_names
    assert "psnr_db" in table.column_names
    write_run(tmp_path, record(), rows())
    assert [row["ssim"] for row in read_run(tmp_path).rows] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.append_column("psnr", t["psnr_db"]), "unknown column psnr"),
        (lambda t: t.set_column(0, "id", pa.array([1, 2])), "column id is int64, not string"),
        (lambda t: t.drop_columns(["width"]), "no column width"),
    ],
)
def test_rows_of_other_columns_are_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    written = write_run(tmp_path, record(), rows())
    table = parquet.read_table(pa.BufferReader(encode_rows(rows())), use_threads=False)
    sink = pa.BufferOutputStream()
    parquet.write_table(change(table), sink)
    content = sink.getvalue().to_pybytes()
    (tmp_path / "images.parquet").write_bytes(content)
    text = (tmp_path / "run.json").read_text()
    sealed = text.replace(written.rows_sha256, sha256_bytes(content))
    (tmp_path / "run.json").write_text(sealed)
    with pytest.raises(ResultsError, match=message):
        read_run(tmp_path)


def test_rows_are_byte_identical_when_written_again() -> None:
    assert encode_rows(rows()) == encode_rows(rows())


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(ResultsError, match="unknown column psnr"):
        encode_rows([{"id": "a", "psnr": 1.0}])


def test_edited_rows_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, record(), rows())
    better = rows()
    better[0]["psnr_db"] = 40.0
    (tmp_path / "images.parquet").write_bytes(encode_rows(better))
    with pytest.raises(ResultsError, match="edited"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 6}, "schema version 6, this vtbench reads 3 to 5: update vtbench"),
        ({"schema_version": 2}, "schema version 2, this vtbench reads 3 to 5: measure it again"),
        ({"schema_version": True}, "states no schema_version"),
        ({"upgraded_from": 3}, "upgraded_from: no key of schema version 5"),
        ({"schema_version": 4}, "inputs: no key of schema version 4"),
        ({"schema_version": "4"}, "states no schema_version"),
        ({"n_done": 1}, "run.json says 1 of 2 done"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"n_expected": "many"}, "n_expected"),
    ],
)
def test_edited_records_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_run(tmp_path, record(), rows())
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ResultsError, match=message):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"'])
def test_torn_records_are_refused(tmp_path: Path, content: str) -> None:
    write_run(tmp_path, record(), rows())
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ResultsError, match=r"run\.json"):
        read_run(tmp_path)


def counted() -> tuple[list[Row], tuple[Histogram, ...]]:
    """Return rows of 4 + 12 tokens of two codebooks, and their histograms."""
    words = (np.array([5, 5, 2, 2]), np.arange(12))
    images = [(count_tokens(w, 2**18), count_tokens(w * 0, 4)) for w in words]
    codes = add_histograms(images)
    bits = [code_length(image[0], codes[0]) for image in images]
    return [{**row, "entropy_bits": own} for row, own in zip(rows(), bits, strict=True)], codes


def test_counts_of_codewords_round_trip(tmp_path: Path) -> None:
    own, codes = counted()
    written = write_run(tmp_path, record(), own, codes=codes)
    assert written.codes is not None and written.codes.images == 2
    assert [(b.size, b.unit, b.tokens) for b in written.codes.codebooks] == [
        (2**18, "codewords", 16),
        (4, "codewords", 16),
    ]
    run = read_run(tmp_path)
    for read, expected in zip(run.codes, codes, strict=True):
        assert read.symbols.tolist() == expected.symbols.tolist()
        assert read.counts.tolist() == expected.counts.tolist()
    assert encode_codes(codes) == encode_codes(run.codes)
    # A run without counts removes an earlier one's.
    write_run(tmp_path, record(), rows())
    assert not (tmp_path / "codes.parquet").exists()
    assert read_run(tmp_path).codes == ()


def test_the_counts_of_a_large_codebook_stay_small() -> None:
    words = np.random.default_rng(0).integers(0, 2**18, 2**20)
    assert len(encode_codes([count_tokens(words, 2**18)])) < 2**19


def edit_codes(folder: Path, codes: Sequence[Histogram], *, digest: bool = True) -> None:
    content = encode_codes(codes)
    (folder / "codes.parquet").write_bytes(content)
    if digest:
        data = json.loads((folder / "run.json").read_text())
        data["codes"]["sha256"] = sha256_bytes(content)
        (folder / "run.json").write_text(json.dumps(data))


def test_edited_counts_are_refused(tmp_path: Path) -> None:
    own, codes = counted()
    write_run(tmp_path, record(), own, codes=codes)
    first, second = codes
    more = replace(first, counts=first.counts + 1)
    edit_codes(tmp_path, (more, second), digest=False)
    with pytest.raises(ResultsError, match="edited"):
        read_run(tmp_path)
    wrong = {
        "other totals": more,
        "order": replace(first, symbols=first.symbols[::-1]),
        "beyond": replace(first, symbols=first.symbols + 2**18),
        "negative": replace(first, counts=first.counts * 0),
    }
    for case in wrong.values():
        edit_codes(tmp_path, (case, second))
        with pytest.raises(ResultsError, match="not those of the codebooks"):
            read_run(tmp_path)
    edit_codes(tmp_path, (first, second, second))
    with pytest.raises(ResultsError, match="not those of the codebooks"):
        read_run(tmp_path)
    # Totals as they were, but not the tokens that the rows tell of.
    moved = first.counts.copy()
    moved[[0, 2]] += [1, -1]  # word 2 was seen three times
    even = replace(first, counts=moved)
    edit_codes(tmp_path, (even, second))
    with pytest.raises(ResultsError, match="code lengths"):
        read_run(tmp_path)
    (tmp_path / "codes.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match="edited"):
        read_run(tmp_path)
    (tmp_path / "codes.parquet").unlink()
    with pytest.raises(ResultsError, match=r"codes\.parquet: cannot be read"):
        read_run(tmp_path)


def test_code_lengths_without_counts_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, record(), counted()[0])
    with pytest.raises(ResultsError, match="code lengths"):
        read_run(tmp_path)


def test_an_image_twice_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, record(), [rows()[0], rows()[0]])
    with pytest.raises(ResultsError, match="twice"):
        read_run(tmp_path)


def test_failures_must_be_those_of_the_rows(tmp_path: Path) -> None:
    failed = [rows()[0], {"id": "b", "error": "broke"}]
    write_run(tmp_path, record(failures=(Failure(id="b", error="broke"),)), failed)
    assert not read_run(tmp_path).record.complete
    write_run(tmp_path, record(failures=(Failure(id="a", error="broke"),)), failed)
    with pytest.raises(ResultsError, match=r"differ from run\.json's failures"):
        read_run(tmp_path)


def test_a_folder_must_have_its_runs_name(tmp_path: Path) -> None:
    write_run(tmp_path / "other", record(), rows())
    with pytest.raises(ResultsError, match="run 'thing' in folder 'other'"):
        read_runs(tmp_path)


IMAGE = {"task": "text", "subset": "plain", "width": 8, "height": 8, "error": None}
"""What every row has beside its id."""


def test_partial_rows_survive_a_kill_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append([IMAGE | row for row in rows()])
    with path.open("a") as file:
        file.write('{"id": "c", "psn')  # killed in the middle of a write
    partial = PartialRows(path, "key")
    assert [row["id"] for row in partial.rows] == ["a", "b"]
    partial.append([IMAGE | {"id": "c"}])
    assert [row["id"] for row in PartialRows(path, "key").rows] == ["a", "b", "c"]


def test_partial_rows_of_another_key_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append(rows())
    assert PartialRows(path, "other").rows == []


def test_failed_images_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append([IMAGE | {"id": "a"}, IMAGE | {"id": "b", "error": "broke"}])
    again = PartialRows(path, "key")
    assert [row["id"] for row in again.rows] == ["a"]
    assert again.failed == {"b"}
    again.append([IMAGE | {"id": "b", "error": "broke again"}])
    assert PartialRows(path, "key").failed == {"b"}
    PartialRows(path, "key").append([IMAGE | {"id": "b"}])
    assert [row["id"] for row in PartialRows(path, "key").rows] == ["a", "b"]
    assert PartialRows(path, "key").failed == frozenset()


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_torn_batch_is_measured_again_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "p.jsonl"
    partial = PartialRows(path, "key")
    partial.append([IMAGE | {"id": "a"}])
    partial.append([IMAGE | {"id": "b"}, IMAGE | {"id": "c"}])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["id"] for row in PartialRows(path, "key").rows] == ["a"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*run\.json: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "run.json", b"x")


def test_no_path_of_the_machine_is_written(tmp_path: Path) -> None:
    reason = "lpips-alex needs a.pth in /home/somebody/.cache/torch: run `vtbench fetch lpips-alex`"
    told = MetricRecord(version=1, state="missing", reason=reason)
    assert told.reason == "lpips-alex needs a.pth in …/torch: run `vtbench fetch lpips-alex`"
    failure = Failure(id="a", error="/home/somebody/a.png: not an image")
    assert "somebody" not in failure.error and "a.png" in failure.error
