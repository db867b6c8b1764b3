"""Results that were changed and sealed again, through the command line: one line each, exit 2."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from vtbench.base.files import sha256_bytes
from vtbench.cli import main
from vtbench.results.folder import read_run
from vtbench.results.schema import SetRecord


@pytest.fixture
def folder(write_suite: Callable[..., Path], write_run: Callable[..., Path]) -> Path:
    """Return a folder of results with one run."""
    folder = write_suite()
    write_run(folder, "good")
    return folder


def seal(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a run, and write their new digest into its run.json."""
    path = folder / "good" / "images.parquet"
    table = change(parquet.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False))
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    path.write_bytes(content)
    record = json.loads((folder / "good" / "run.json").read_text())
    record["rows_sha256"] = sha256_bytes(content)
    (folder / "good" / "run.json").write_text(json.dumps(record))


def put(column: str, value: Any, place: int = 0) -> Callable[[pa.Table], pa.Table]:
    """Return a change of one value."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[place] = value
        kind = table.schema.field(column).type
        return table.set_column(
            table.schema.get_field_index(column), column, pa.array(values, kind)
        )

    return change


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("width", 0, "0×"),
        ("width", -5, "-5×"),
        ("height", 2**40, "1099511627776 pixels"),
        ("id", None, "a row without an id"),
        ("subset", None, "without subset"),
        ("task", None, "without task"),
        ("subset", "<b>", "subset '<b>' is no name"),
        ("task", "\u202etext", "is no name"),
        ("mse", -1.0, "mse is negative"),
        ("psnr_db", -1.0, "psnr_db is negative"),
        ("psnr_db", float("nan"), "psnr_db of"),
        ("psnr_db", float("inf"), "is not finite"),
        ("bits", -8.0, "bits is negative"),
        ("tokens", -1, "tokens is negative"),
        ("encode_s", -0.1, "encode_s is negative"),
        ("peak_memory_mib", -1.0, "peak_memory_mib is negative"),
        ("char_edits", -1, "char_edits is negative"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "leaderboard"])
def test_a_row_that_cannot_be_is_named(
    folder: Path,
    command: str,
    column: str,
    value: Any,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seal(folder, put(column, value))
    arguments = {
        "validate": ["validate", str(folder)],
        "leaderboard": ["leaderboard", "--results", str(folder)],
    }
    assert main(arguments[command]) in ((2,) if command == "validate" else (1, 2))
    said = capsys.readouterr().err
    assert message in said and all(line.isprintable() for line in said.splitlines())


def test_an_image_twice_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal(folder, lambda table: table.take([0, *range(len(table) - 1)]))
    assert main(["validate", str(folder)]) == 2
    assert "an image appears twice" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["run.json", "images.parquet"])
@pytest.mark.parametrize("kind", ["zero", "fifo", "folder", "large", "link"])
def test_what_is_no_file_of_a_run_is_not_read(
    folder: Path, tmp_path: Path, file: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "good" / file
    content = path.read_bytes()
    path.unlink()
    if kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        with path.open("wb") as sparse:
            sparse.truncate(4 << 30)
    assert main(["validate", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"good/{file}" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["suite.json", "good/run.json"])
@pytest.mark.parametrize(
    "text", ["[" * 5000 + "]" * 5000, '{"a": 1, "a": 2}', '{"a": NaN}', "{", "\xff"]
)
def test_json_that_is_none_is_named(
    folder: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_bytes(text.encode("latin-1"))
    assert main(["validate", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{name}: cannot be read (" in said and said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.01, -1.0])
def test_a_set_metric_that_no_other_run_has_breaks_no_table(
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
    value: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_suite()
    rfid = SetRecord(value=value, n=3, state="measured", version=1).model_dump()
    write_run(folder, "good")
    write_run(folder, "better", sets={"reconstruction.rfid": rfid})
    assert main(["leaderboard", "--results", str(folder)]) == 0
    capsys.readouterr()
    assert main(["validate", str(folder)]) == 2  # made up, as the builders' rows are
    assert all(line.startswith("vtbench: ") for line in capsys.readouterr().err.splitlines())


HIDDEN = "\u202e\u2066\x1b\u200b"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["tokenizer.title", "environment.processor", "environment.device", "environment.commit"]
)
def test_text_of_strangers_reaches_no_table_as_it_is(
    folder: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((folder / "good" / "run.json").read_text())
    part, key = path.split(".")
    record[part][key] = HIDDEN + '=HYPERLINK("http://evil")<script>|x'
    (folder / "good" / "run.json").write_text(json.dumps(record))
    assert main(["leaderboard", "--results", str(folder)]) == 0
    capsys.readouterr()
    for file in sorted(folder.glob("leaderboard.*")):
        text = file.read_text(encoding="utf-8")
        assert not any(mark in text for mark in ("\u202e", "\u2066", "\u200b", "\x1b")), file.name
        if file.suffix == ".html":
            assert "<script>|x" not in text
        if file.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not any(cell.startswith("=H") for cell in cells)
    assert read_run(folder / "good").record.run == "good"


@pytest.mark.parametrize(
    "name", ["<b>", "\u202egood", "good ", "a|b\nc", "Good", "good@<x>", "../x"]
)
def test_a_runs_name_is_a_name(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((folder / "good" / "run.json").read_text())
    (folder / "good" / "run.json").write_text(json.dumps(record | {"run": name}))
    assert main(["validate", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "run.json: run: " in said and said.count("\n") == 1 and said[:-1].isprintable()


@pytest.mark.parametrize("key", ["../x", "reconstruction.psnr_db", "text.rfid", "rfid", "<b>.kid"])
def test_sets_are_of_metrics_that_there_are(
    folder: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((folder / "good" / "run.json").read_text())
    made_up = SetRecord(value=0.1, n=1, state="measured", version=1).model_dump(mode="json")
    (folder / "good" / "run.json").write_text(json.dumps(record | {"sets": {key: made_up}}))
    assert main(["validate", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{key!r} in sets, which there is not" in said


def test_a_metric_that_there_is_not_breaks_no_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a plug-in's that is not installed here, or made up."""
    record = json.loads((folder / "good" / "run.json").read_text())
    record["protocol"]["metrics"]["nope"] = {"version": 1, "state": "measured", "reason": None}
    (folder / "good" / "run.json").write_text(json.dumps(record))
    assert main(["leaderboard", "--results", str(folder)]) == 0
    capsys.readouterr()
    assert main(["validate", str(folder)]) == 2
    assert "run.json has a metric nope, which there is not" in capsys.readouterr().err
