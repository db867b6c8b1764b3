"""Result files: written whole, read back, and refused when edited, torn or of another schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtbench.errors import OutputError, ResultsError
from vtbench.files import write_atomic
from vtbench.results import (
    ROW_COLUMNS,
    Environment,
    Failure,
    MetricRecord,
    PartialRows,
    Protocol,
    Row,
    RunRecord,
    SuiteRecord,
    TokenizerRecord,
    encode_rows,
    read_run,
    read_runs,
    write_run,
)


def record(name: str = "thing", n: int = 2, failures: tuple[Failure, ...] = ()) -> RunRecord:
    return RunRecord(
        schema_version=1,
        run=name,
        key="k",
        suite=SuiteRecord(name="mini", version=1, sha256="s", manifest_sha256="m", published=True),
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
        ({"schema_version": 2}, "schema version 2, this is 1: update vtbench"),
        ({"schema_version": 0}, "schema version 0, this is 1: measure it again"),
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


def test_partial_rows_survive_a_kill_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append(rows())
    with path.open("a") as file:
        file.write('{"id": "c", "psn')  # killed in the middle of a write
    partial = PartialRows(path, "key")
    assert [row["id"] for row in partial.rows] == ["a", "b"]
    partial.append([{"id": "c"}])
    assert [row["id"] for row in PartialRows(path, "key").rows] == ["a", "b", "c"]


def test_partial_rows_of_another_key_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append(rows())
    assert PartialRows(path, "other").rows == []


def test_failed_images_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PartialRows(path, "key").append([rows()[0], {"id": "b", "error": "broke"}])
    assert [row["id"] for row in PartialRows(path, "key").rows] == ["a"]


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
