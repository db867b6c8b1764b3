"""Files of strangers are read within limits: each is refused with a line, and no reading hangs."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from gate.fuzz.mutate import mutate_bytes

from vtbench.base.errors import ImageError, RegistryError, ResultsError, WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.base.locations import published_dir
from vtbench.base.schema import load_json, load_yaml
from vtbench.base.text import check_line, show_text, strip_hidden
from vtbench.cli import main
from vtbench.images import load_rgb8
from vtbench.results.parquet_file import read_parquet
from vtbench.results.rows import NEEDED_COLUMNS, ROW_COLUMNS
from vtbench.weights.states import load_state

GOOD = """\
title: A thing
family: sanity
adapter: vtbench.tokenizers.resample:Resample
options: {factor: 2}
kind: pixels
quantizer: none
licence: Apache-2.0
description: Nothing special.
"""


def deep(n: int) -> str:
    return "[" * n + "]" * n


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x: !!int abc", "tag"),
        ("x: !!float abc", "tag"),
        ("x: !!bool perhaps", "tag"),
        ("x: !!timestamp 2020-01-01", "tag"),
        ("x: !!binary aGk=", "tag"),
        ("x: !!set {a, b}", "tag"),
        ("x: !!omap [a: 1]", "tag"),
        ("x: !own 1", "tag"),
        ("x: 2020-99-99", "quote it"),
        ("x: 2020-01-01", "quote it"),
        ("x: 2020-01-01T99:99:99Z", "quote it"),
        ("x: 99:99:99", "quote it"),
        ("x: 1:30.5", "quote it"),
        ("x: 190:20:30" + ":59" * 300, "quote it"),
        ("x: yes", "quote it"),
        ("x: Off", "quote it"),
        ("x: 0x1F", "quote it"),
        ("x: 0b11", "quote it"),
        ("x: 0o17", "quote it"),
        ("x: 017", "quote it"),
        ("x: 1_000", "quote it"),
        ("x: .inf", "quote it"),
        ("x: -.INF", "quote it"),
        ("x: .nan", "quote it"),
        ("x: 1e400", "not a finite number"),
        ("x: " + "9" * 5000, "more than 40 digits"),
        ("<<: {kind: codec}", "quote it"),
        ("<<: [{name: x}, {path: y}]", "quote it"),
        ("reported: [{<<: {protocol: p}}]", "quote it"),
        ("1: x", "must be text"),
        ("null: x", "must be text"),
        ("{a: 1}: x", "must be text"),
        ("? [a]\n: x", "must be text"),
        (f"x: {deep(33)}", "nested deeper than 32"),
        (f"x: {deep(990)}", "nested deeper than 32"),
        ("x: &a 1\ny: *a", "aliases are refused"),
        ("x: {y: 1, y: 2}", "given twice"),
        ("x: 1\n---\ny: 2", "second YAML document"),
        ('x: "\\u202e"', "hidden character U+202E"),
        ('x: "\\u200b"', "hidden character U+200B"),
        ('x: "\\e[31m"', "hidden character U+001B"),
        ('"\\u202ex": 1', "hidden character U+202E"),
        ('x: "a\\rb"', "hidden character U+000D"),
        ("x: \x1b", "not valid YAML"),
        ("x: \x00", "not valid YAML"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{GOOD}{line}\n", encoding="utf-8")
    with pytest.raises(RegistryError, match=re.escape(message)) as caught:
        load_yaml(path, RegistryError)
    assert str(caught.value).startswith(f"{path}:") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) * 4 + 900


def test_plain_yaml_is_what_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        'a: [1, -2, 0.5, 1e-3, -1.5E+2, true, false, null, ~, ]\nb: "2020-01-01"\nc: v1.2.3\n'
        "d: {e: , f: 'yes', g: 18446744073709551616}\nh: >-\n  two\n  lines\n"
    )
    assert load_yaml(path, RegistryError) == (
        {
            "a": [1, -2, 0.5, 1e-3, -150.0, True, False, None, None],
            "b": "2020-01-01",
            "c": "v1.2.3",
            "d": {"e": None, "f": "yes", "g": 2**64},
            "h": "two lines",
        },
        {("a",): 1, **{("a", n): 1 for n in range(9)}, ("b",): 2, ("c",): 3}
        | {("d",): 4, ("d", "e"): 4, ("d", "f"): 4, ("d", "g"): 4, ("h",): 5},
    )


def test_all_problems_of_a_file_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    text = GOOD.replace("kind: pixels", "kind: pixel").replace("quantizer: none\n", "")
    path.write_text(f"{text}colour: red\nsize: {{multiple: 0}}\n")
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"vtbench: {path}:").partition(": ")[0] for line in said] == [
        *("8", "1", "5", "9"),
    ]
    assert "colour: unknown key" in said[0] and "quantizer: Field required" in said[1]


@pytest.mark.slow
def test_what_is_no_regular_file_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good").write_text(GOOD)
    for name, make in {
        "fifo": lambda path: os.mkfifo(path),
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "link": lambda path: path.symlink_to(tmp_path / "good"),
        "nothing": lambda path: path.symlink_to(tmp_path / "none"),
        "folder": lambda path: path.mkdir(),
    }.items():
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        make(folder / "mine.yaml")
        for command in (["validate", str(folder)], ["list", "--registry", str(folder)]):
            assert main(command) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"vtbench: {folder / 'mine.yaml'}: ") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (deep(33), "nested deeper"),
        (deep(100_000), "nested deeper"),
        ('{"a": ' * 50_000 + "1" + "}" * 50_000, "nested deeper"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given twice"),
        ("NaN", "no number"),
        ("[-Infinity]", "no number"),
        ("1e999", "not a finite number"),
        ("1" * 5000, "more than 40 digits"),
        ("[" + "0," * 500_001 + "0]", "more than 500,000 values"),
        ('{"a": 1', "Expecting"),
    ],
)
def test_json_within_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_json(text.encode())


COLUMNS = {"id": "string", "n": "int64", "x": "float64", "lines": "list<string>"}
VALUES: dict[str, Any] = {
    "id": pa.array(["a", "b"]),
    "n": pa.array([1, 2]),
    "x": pa.array([0.5, None]),
    "lines": pa.array([["é"], None], pa.list_(pa.string())),
}


def write(values: dict[str, Any], **options: Any) -> bytes:
    buffer = pa.BufferOutputStream()
    parquet.write_table(pa.table(values), buffer, compression="zstd", **options)
    return bytes(buffer.getvalue())


def test_parquet_of_the_right_columns_is_read() -> None:
    for options in ({}, {"use_dictionary": False}, {"row_group_size": 1}):
        table = read_parquet(Path("x"), write(VALUES, **options), COLUMNS)
        assert table.to_pylist() == [
            {"id": "a", "n": 1, "x": 0.5, "lines": ["é"]},
            {"id": "b", "n": 2, "x": None, "lines": None},
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": pa.array([1.0, 2.0])}, "column n is float64, not int64"),
        ({"n": pa.array([1, 2], pa.int32())}, "column n is int32"),
        ({"n": pa.array([True, False])}, "column n is bool"),
        ({"x": pa.array([1, 2], pa.decimal128(9, 2))}, "column x is decimal"),
        ({"x": pa.array([1, 2], pa.timestamp("ns"))}, "column x is timestamp"),
        ({"x": pa.array(["1", "2"])}, "column x is string"),
        ({"x": pa.nulls(2)}, "column x is null"),
        ({"x": pa.array([{"a": 1}, None])}, "column x is struct"),
        ({"id": pa.array(["a", "b"], pa.large_string())}, "column id is large_string"),
        ({"id": pa.array([b"\xff", b"b"])}, "column id is binary"),
        ({"lines": pa.array(["a", "b"])}, "column lines is string"),
        ({"lines": pa.array([["a", None], None])}, "a list holds a null"),
        ({"more": pa.array([1, 2])}, "unknown column more"),
    ],
)
def test_parquet_of_other_columns_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        read_parquet(Path("x"), write(VALUES | change), COLUMNS)


@pytest.mark.slow
def test_small_parquet_files_that_would_be_huge_are_refused() -> None:
    many = {"id": pa.array(["x" * 2**20]).take(pa.array([0] * 300))}
    content = write(many)
    assert len(content) < 2000
    with pytest.raises(ResultsError, match="314,572,800 bytes of text"):
        read_parquet(Path("x"), content, {"id": "string"})
    rows = write({"n": pa.nulls(300_000, pa.int64())})
    with pytest.raises(ResultsError, match="300,000 rows, at most 250,000"):
        read_parquet(Path("x"), rows, {"n": "int64"})
    lists = pa.ListArray.from_arrays([0, 2**24 + 1], pa.nulls(2**24 + 1, pa.float64()))
    with pytest.raises(ResultsError, match=r"n\.list\.element: 16,777,217 values"):
        read_parquet(Path("x"), write({"n": lists}), {"n": "list<float64>"})


def test_damaged_parquet_is_refused() -> None:
    content = write(VALUES)
    for broken in (b"", b"PAR1", content[:-9], content[:40] + b"\xff" * 40 + content[80:]):
        with pytest.raises(ResultsError, match=r"^x: "):
            read_parquet(Path("x"), broken, COLUMNS)


@pytest.mark.parametrize("seed", [1916, 4881, 5039])
def test_parquet_that_ends_pyarrows_process_is_refused(seed: int) -> None:
    """pyarrow 26 aborts on each; whatever another version does, this process goes on."""
    whole = (published_dir("embedded") / "patch-vq-f16" / "images.parquet").read_bytes()
    tail = int.from_bytes(whole[-8:-4], "little") + 8
    damaged = whole[:-tail] + mutate_bytes(whole[-tail:], random.Random(seed))
    with pytest.raises(ResultsError, match=r"^x: not a Parquet file of rows"):
        read_parquet(Path("x"), damaged, ROW_COLUMNS, needed=NEEDED_COLUMNS)
    assert len(read_parquet(Path("x"), whole, ROW_COLUMNS, needed=NEEDED_COLUMNS)) > 50


def test_text_is_shown_as_it_is() -> None:
    assert strip_hidden("a\u202eb\u200b\x1b[31m\n c\ufeff") == "ab[31m c"
    assert show_text("a\nb\x1b[2K\u202e") == "a\\nb\\x1b[2K\\u202e"
    assert len(show_text("k" * 10_000)) < 2100
    for text in ("", " ", "a\nb", "a\u2066b", "\x7f"):
        with pytest.raises(ValueError):
            check_line(text)
    assert check_line("हिन्दी · Ürdüng × 2") == "हिन्दी · Ürdüng × 2"


def test_run_json_within_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (deep(5000), '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 10, "\0"):
        (tmp_path / "run.json").write_text(content)
        assert main(["validate", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"vtbench: {tmp_path / 'run.json'}: cannot be read (")
    (tmp_path / "run.json").unlink()
    with (tmp_path / "run.json").open("wb") as sparse:
        sparse.truncate(4 << 30)
    assert main(["validate", str(tmp_path)]) == 2
    assert "4,294,967,296 bytes" in capsys.readouterr().err


def test_a_table_of_the_terminal_has_a_line_a_row() -> None:
    from vtbench.base.text_table import format_table

    text = format_table([("name", "title"), ("a\u202eb", "fine\nregistry: ok"), ("\x1b[2Jx", "y")])
    assert text.splitlines() == [
        "name      title",
        "a\\u202eb  fine\\nregistry: ok",
        "\\x1b[2Jx  y",
    ]


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="of Linux")
def test_a_file_that_says_it_is_empty_is_not_waited_for(tmp_path: Path) -> None:
    """As the kernel's log does, which is a regular file and gives a byte when there is one."""
    for name in ("a.png", "a.safetensors", "a.pt"):
        (tmp_path / name).symlink_to("/proc/version")
    assert sha256_file(tmp_path / "a.png") == hashlib.sha256(b"").hexdigest()
    with pytest.raises(ImageError, match=r"a\.png: is empty"):
        load_rgb8(tmp_path / "a.png")
    for name in ("a.safetensors", "a.pt"):
        with pytest.raises(WeightsMismatch, match="it is empty"):
            load_state(tmp_path / name)
