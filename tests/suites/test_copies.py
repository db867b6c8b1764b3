"""Data sets in the forms that users have: one suite, the same rows; what is wrong with a copy is said
in one line, and of a wrong picture its name."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from builders import photo
from PIL import Image

from vtbench.base.child_process import ChildFailed
from vtbench.base.errors import DataMissing, ImageError, SuiteError
from vtbench.base.records import Preprocess, Sample
from vtbench.cli import main
from vtbench.images import encode_png, pixel_sha256
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.results.rows import Row
from vtbench.runs import runner
from vtbench.runs.request import Request
from vtbench.runs.runner import run_suite
from vtbench.suites import batches, parquet_files, parquet_pictures
from vtbench.suites.batches import load_pixels
from vtbench.suites.copies import (
    HubFiles,
    Source,
    locate_source,
    open_data_set,
    open_sample,
    parse_sources,
    sort_for_reading,
)
from vtbench.suites.found_files import find_files
from vtbench.suites.suites import attach_data, load_suite

SUITE = """\
title: Small photographs
version: 1
description: For tests.
source:
  name: photographs
  title: six photographs of the embedded suite
  licence: as theirs
  where: example.org
  n: 6
  task: reconstruction
  names: '[a-z]+_?[a-z]*(?=-nr)'
preprocess: {crop: adm, size: 64, orientation: stored}
dtype: fp32
seed: 0
seeds: [0, 7]
ocr: rapidocr
tasks:
  reconstruction: {metrics: [psnr_db, ssim]}
"""
NAMES = ("camera", "cell", "chelsea", "clock_motion", "coffee", "coins")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder with the suite `small`."""
    (tmp_path / "data" / "suites").mkdir(parents=True)
    (tmp_path / "data" / "suites" / "small.yaml").write_text(SUITE)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    """Return six photographs of the embedded suite as files, under names of another maker."""
    photos = Path(__file__).parents[2] / "data" / "embedded" / "photos"
    return {f"{name}-nr7.png": (photos / f"{name}.png").read_bytes() for name in NAMES}


def write_folder(path: Path, encoded: dict[str, bytes]) -> Path:
    """Write pictures in two subfolders, last name first."""
    for index, (name, content) in enumerate(reversed(encoded.items())):
        file = path / f"class{index % 2}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (path / "LICENCE.txt").write_text("not a picture")
    (path / "._coffee-nr7.png").write_bytes(b"what a Mac leaves")
    return path


def add_to_tar(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(path: Path, encoded: dict[str, bytes]) -> Path:
    """Write two webdataset shards, unsorted, each picture with its class beside it."""
    path.mkdir(parents=True)
    names = list(reversed(encoded))
    for shard in range(2):
        with tarfile.open(path / f"shard-{shard}.tar", "w") as tar:
            for name in names[shard::2]:
                add_to_tar(tar, f"./val/{name}", encoded[name])
                add_to_tar(tar, f"./val/{Path(name).stem}.cls", b"3")
    return path


def write_parquet(path: Path, encoded: dict[str, bytes], *, named: bool = True) -> Path:
    """Write two Parquet files of the hub's form, with row groups of two pictures, unsorted."""
    path.mkdir(parents=True)
    names = list(reversed(encoded)) if named else sorted(encoded)
    for shard in range(2):
        part = names[shard::2] if named else names[3 * shard : 3 * shard + 3]
        rows = [{"bytes": encoded[n], "path": n if named else None} for n in part]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(rows, kind), "label": list(range(len(rows)))})
        parquet.write_table(table, path / f"val-0000{shard}-of-00002.parquet", row_group_size=2)
    return path


FORMS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "folder": write_folder,
    "tar": write_tars,
    "parquet": write_parquet,
}


def run_small(data: Path, out: Path, source: Path, *names: str) -> None:
    suite = attach_data(load_suite("small", [data]), {"photographs": source})
    registry = load_registry()
    entries = tuple(registry[name] for name in names)
    asked = Request(suite, entries, out, ("reconstruction",), device="cpu")
    outcomes = run_suite(asked, Silent())
    assert [outcome.status for outcome in outcomes] == ["measured"] * len(names), outcomes


class Silent:
    """A listener that says nothing."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: object) -> None: ...


def measured(folder: Path) -> list[Row]:
    """Return the rows without what a clock or a memory meter wrote."""
    timed = {"encode_s", "decode_s", "peak_memory_mib"}
    return [{k: v for k, v in row.items() if k not in timed} for row in read_run(folder).rows]


@pytest.mark.slow
def test_one_suite_gives_the_same_rows_from_every_form(
    data: Path, tmp_path: Path, encoded: dict[str, bytes]
) -> None:
    rows = {}
    for form, write in FORMS.items():
        source = write(tmp_path / form, encoded)
        run_small(data, tmp_path / "out" / form, source, "jpeg-q50", "patch-pca-f8c4")
        rows[form] = [
            measured(tmp_path / "out" / form / run) for run in ("jpeg-q50", "patch-pca-f8c4")
        ]
    assert [row["id"] for row in rows["folder"][0]] == sorted(NAMES)
    assert {(row["width"], row["height"]) for row in rows["folder"][0]} == {(64, 64)}
    assert rows["folder"] == rows["tar"] == rows["parquet"]


def test_pixels_are_the_photographs_through_the_suites_crop(
    data: Path, tmp_path: Path, encoded: dict[str, bytes]
) -> None:
    from vtbench.images import load_rgb8, preprocess_rgb8

    source = write_parquet(tmp_path / "set", encoded)
    suite = attach_data(load_suite("small", [data]), {"photographs": source})
    for sample in suite.samples:
        whole = load_rgb8(io.BytesIO(encoded[f"{sample.id}-nr7.png"]))
        assert (load_pixels(sample) == preprocess_rgb8(whole, Preprocess("adm", 64))).all()


def test_rows_without_names_are_numbered(tmp_path: Path, encoded: dict[str, bytes]) -> None:
    source = make_source(names=None)
    files = locate_source(
        source, {"photographs": write_parquet(tmp_path / "set", encoded, named=False)}
    )
    found = open_data_set(source, files, Preprocess()).samples
    assert [sample.id for sample in found] == [f"{i:05d}" for i in range(6)]
    for sample, name in zip(found, sorted(encoded), strict=True):
        assert (
            load_pixels(sample) == np.asarray(Image.open(io.BytesIO(encoded[name])).convert("RGB"))
        ).all()


def test_rows_without_names_are_not_of_a_set_that_has_names(
    tmp_path: Path, encoded: dict[str, bytes]
) -> None:
    with pytest.raises(SuiteError, match="has 6 pictures; 0 whose names match"):
        open_folder(write_parquet(tmp_path / "set", encoded, named=False))


def make_source(**changes: Any) -> Source:
    settings: dict[str, Any] = {
        "name": "photographs",
        "title": "six photographs",
        "licence": "as theirs",
        "where": "example.org",
        "n": 6,
        "task": "reconstruction",
        "names": "[a-z]+_?[a-z]*(?=-nr)",
    }
    return Source(**(settings | changes))


def open_folder(path: Path, **changes: Any) -> tuple[Sample, ...]:
    source = make_source(**changes)
    return open_data_set(source, locate_source(source, {source.name: path}), Preprocess()).samples


def test_subsets_are_read_from_the_path(tmp_path: Path) -> None:
    for language in ("Hindi", "Chinese"):
        for index in range(2):
            file = tmp_path / "set" / language / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(photo(index, 8, 8)))
    found = open_folder(tmp_path / "set", names=None, n=4, subsets="Chinese|Hindi")
    assert [(s.subset, s.id) for s in found] == [
        (language, f"{language}-{i}") for language in ("Chinese", "Hindi") for i in range(2)
    ]


def test_row_groups_are_read_together_and_once(
    tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_folder(write_parquet(tmp_path / "set", encoded))
    reads: list[object] = []
    reader = parquet_pictures.Reader()
    original = parquet_pictures.RowGroup.__init__

    def count(self: Any, *asked: Any) -> None:
        reads.append(asked)
        original(self, *asked)

    def ask(*parts: bytes, wall_seconds: float) -> tuple[bool, bytearray]:
        return True, bytearray(reader.answer(*parts))

    monkeypatch.setattr(parquet_pictures.RowGroup, "__init__", count)
    monkeypatch.setattr(parquet_files._READER, "ask", ask)
    monkeypatch.setattr(parquet_pictures, "allow", lambda *_: None)  # this process is no child
    for sample in sort_for_reading(found):
        open_sample(sample)
    assert len(reads) == 4  # two files of two row groups
    for sample in found:  # the mutant: in order of name, groups are read again and again
        open_sample(sample)
    assert len(reads) > 4 + 4


# What is wrong with a copy is one line.


def test_missing_data_says_where_to_get_it_and_how_to_point_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTBENCH_DATA", str(tmp_path))
    with pytest.raises(DataMissing) as caught:
        locate_source(make_source())
    said = str(caught.value)
    for part in ("six photographs", "example.org", "as theirs", "--source photographs=PATH"):
        assert part in said
    assert str(tmp_path / "photographs") in said
    assert "\n" not in said


def test_data_is_found_by_the_environment(
    tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "photographs", encoded)
    monkeypatch.setenv("VTBENCH_DATA", str(tmp_path))
    source = make_source()
    assert len(open_data_set(source, locate_source(source), Preprocess()).samples) == 6
    with pytest.raises(SuiteError, match="no such file or folder"):  # what was said goes first
        locate_source(source, {"photographs": tmp_path / "elsewhere"})


def test_data_is_found_in_the_hubs_cache(
    tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = make_source(hub=HubFiles(repository="someone/photographs", files="data/val-*.parquet"))
    with pytest.raises(DataMissing, match=re.escape("cache (someone/photographs)")):
        locate_source(source)
    repository = tmp_path / "datasets--someone--photographs"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    write_parquet(repository / "snapshots" / ("a" * 40) / "data", encoded)
    assert len(open_data_set(source, locate_source(source), Preprocess()).samples) == 6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "class0" / "coins-nr7.png").unlink(missing_ok=True), "has 6 pictures; 5 "),
        (lambda p: (p / "moon-nr7.png").write_bytes(b""), "has 6 pictures; 7 "),
        (lambda p: (p / "coins-nr8.jpg").write_bytes(b""), "two pictures are called coins: "),
        (lambda p: (p / "more.tar").write_bytes(b""), "holds tars and pictures; point at one"),
    ],
)
def test_another_set_is_refused(
    tmp_path: Path, encoded: dict[str, bytes], spoil: Callable[[Path], object], message: str
) -> None:
    folder = write_folder(tmp_path / "set", encoded)
    assert (folder / "class0" / "coins-nr7.png").exists()
    spoil(folder)
    with pytest.raises(SuiteError, match=message):
        open_folder(folder)


def make_tar_header(name: str, kind: bytes, size: bytes, body: bytes = b"") -> bytes:
    """Return a header of a tar with its checksum, and what follows it, in whole blocks."""
    head = bytearray(512)
    head[: len(name)] = name.encode()
    head[124 : 124 + len(size)] = size
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + body + bytes(-len(body) % 512)


def make_pax(key: str, value: str) -> bytes:
    """Return a record of a tar before the member that it is about."""
    text = f" {key}={value}\n".encode()
    record = str(len(text) + 2).encode() + text
    return make_tar_header("pax", b"x", b"%011o" % len(record), record)


@pytest.mark.parametrize(
    "content",
    [
        make_pax("GNU.sparse.size", "x"),
        make_pax("GNU.sparse.map", "x,y"),
        make_tar_header("pax", b"x", b"\x80" + bytes(4) + b"\x7f" + bytes(6)),
        make_tar_header("long", b"L", b"%011o" % (1 << 21)) + bytes(1 << 21),
        b"".join(make_tar_header("pax", b"x", b"%011o" % 0) for _ in range(2000)),
    ],
    ids=["size of text", "map of text", "a long record", "a long name", "a chain"],
)
def test_headers_of_a_tar_that_cannot_be_are_one_line(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    picture = make_tar_header("a.png", b"0", b"%011o" % 1, b"x")
    (folder / "a.tar").write_bytes(content + picture + bytes(1024))
    with pytest.raises(SuiteError, match=r"a\.tar: not a tar that can be read in place") as caught:
        open_folder(folder, names=None, n=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "no pictures, tars or Parquet files"),
        ("a.tar.gz", b"x", "unpack it"),
        ("a.tar", b"\x1f\x8b compressed under another name", "not a tar that can be read in place"),
        ("a.parquet", b"PAR1 torn", "not a Parquet file"),
    ],
)
def test_files_that_are_no_data_set_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize("ending", ["tar", "parquet"])
@pytest.mark.parametrize("kind", ["pipe", "dangling link", "device", "nothing"])
def test_archives_that_are_no_files_are_refused(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "nothing":
        path.touch()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/nonexistent")
    with pytest.raises(SuiteError, match=r"not a regular file, or an empty one|cannot be read"):
        open_folder(tmp_path)


def test_parquet_without_pictures_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": ["a"], "x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SuiteError, match="column 'image' holds string, not encoded pictures"):
        open_folder(tmp_path)
    with pytest.raises(SuiteError, match="no column 'picture'; it has image, x"):
        open_folder(tmp_path, column="picture")


def test_a_huge_row_group_is_refused(
    tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_pictures, "MAX_ROW_GROUP_BYTES", 1000)
    for path in write_parquet(tmp_path / "set", encoded).iterdir():
        with pytest.raises(SuiteError, match="row group 0 has"):
            parquet_pictures.list_rows(str(path), "image")


def write_rows(path: Path, rows: list[bytes | None], **options: Any) -> Path:
    table = pa.table({"image": pa.array(rows, pa.binary())})
    parquet.write_table(table, path, compression="zstd", **options)
    return path


def test_parquet_of_more_rows_than_its_bytes_are_pictures_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", [None] * 100_000)
    with pytest.raises(SuiteError, match=r"100,000 rows in [\d,]+ bytes: no pictures"):
        open_folder(tmp_path, n=100_000, names=None)


@pytest.mark.slow
def test_a_row_group_that_expands_fails_and_takes_no_memory(tmp_path: Path) -> None:
    """A dictionary holds one picture of 8 MB, which 60 rows are."""
    noise = np.random.default_rng(0).bytes(2000)  # else the file has no room for 60 pictures
    path = write_rows(tmp_path / "a.parquet", [noise + bytes(2**23)] * 60)
    assert path.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (sample, *others) = open_folder(tmp_path, n=60, names=None)
    for one in (sample, others[-1]):  # the second is told without reading again
        with pytest.raises(
            ImageError, match=r"row group 0 has more than [\d,]+ bytes|cannot be read"
        ):
            open_sample(one)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_file_that_ends_its_reader_is_refused_and_the_next_is_read(
    tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_folder(write_parquet(tmp_path / "set", encoded))
    asked: list[bytes] = []
    ask = parquet_files._READER.ask

    def fail(*parts: bytes, **options: Any) -> Any:
        asked.append(parts[0])
        raise ChildFailed("ended its process by SIGABRT")

    monkeypatch.setattr(parquet_files._READER, "ask", fail)
    first = sort_for_reading(found)[:2]  # of one row group
    for sample in first:
        with pytest.raises(ImageError, match="reading it ended its process by SIGABRT"):
            load_pixels(sample)
    assert len(asked) == 1  # not once a picture
    with pytest.raises(SuiteError, match="reading it ended its process by SIGABRT"):
        open_folder(tmp_path / "set")
    monkeypatch.setattr(parquet_files._READER, "ask", ask)
    open_folder(tmp_path / "set")  # it may have been mended
    assert load_pixels(first[0]).shape[2] == 3


# A wrong picture fails by its name, and the others go on.


def bomb() -> bytes:
    """Return a PNG whose header claims 40000×40000 pixels."""
    header = b"IHDR" + struct.pack(">II5B", 40000, 40000, 8, 2, 0, 0, 0)
    png = encode_png(photo(0, 8, 8))
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def hostile_tar(path: Path, encoded: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        add_to_tar(tar, "camera-nr7.png", encoded["camera-nr7.png"])
        add_to_tar(tar, "../../cell-nr7.png", encoded["cell-nr7.png"])
        add_to_tar(tar, "/etc/chelsea-nr7.png", encoded["chelsea-nr7.png"])
        add_to_tar(tar, "coffee-nr7.png", b"<html>not a picture</html>")
        add_to_tar(tar, "coins-nr7.png", bomb())
        link = tarfile.TarInfo("moon-nr7.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        last = tarfile.TarInfo("clock-nr7.png")
        last.size = 2**40
        tar.fileobj.write(last.tobuf())  # type: ignore[union-attr]
    return path


def test_hostile_tars_fail_image_by_image(tmp_path: Path, encoded: dict[str, bytes]) -> None:
    found = {s.id: s for s in open_folder(hostile_tar(tmp_path / "a.tar", encoded))}
    assert sorted(found) == ["camera", "cell", "chelsea", "clock", "coffee", "coins"]
    assert load_pixels(found["camera"]).shape[2] == 3
    for name, message in {
        "cell": r"\.\./\.\./cell-nr7\.png: its name leaves the archive",
        "chelsea": r"/etc/chelsea-nr7\.png: its name leaves the archive",
        "coffee": r"coffee-nr7\.png: not an image",
        "coins": r"coins-nr7\.png: .*more than 24,500,000 pixels",
        "clock": r"clock-nr7\.png: more than 1 GiB",
    }.items():
        with pytest.raises(ImageError, match=message):
            load_pixels(found[name])


def test_a_tar_that_never_ends_is_refused(tmp_path: Path, encoded: dict[str, bytes]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_to_tar(tar, "camera-nr7.png", encoded["camera-nr7.png"])
        loop = tarfile.TarInfo("cell-nr7.png")
        loop.size = -1024
        tar.fileobj.write(loop.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
    # Newer Pythons refuse the header themselves.
    with pytest.raises(SuiteError, match=r"negative size|cannot be|can be read in place"):
        open_folder(tmp_path, n=2)


def test_a_torn_tar_fails_the_picture_that_it_ends_in(
    tmp_path: Path, encoded: dict[str, bytes]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_to_tar(tar, "camera-nr7.png", encoded["camera-nr7.png"])
        add_to_tar(tar, "cell-nr7.png", encoded["cell-nr7.png"])
    torn = (tmp_path / "a.tar").read_bytes()[: 512 + len(encoded["camera-nr7.png"]) + 2048]
    (tmp_path / "a.tar").write_bytes(torn)
    found = {s.id: s for s in open_folder(tmp_path, n=2)}
    load_pixels(found["camera"])
    with pytest.raises(ImageError, match=r"cell-nr7\.png: the archive ends within it"):
        load_pixels(found["cell"])


def test_a_parquet_row_without_bytes_fails_by_name(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {"bytes": None, "path": "/somewhere/cell-nr7.png"},
        {"bytes": b"x", "path": "coins-nr7.png"},
    ]
    parquet.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "a.parquet")
    cell, coins = open_folder(tmp_path, n=2)
    with pytest.raises(ImageError, match=r"cell-nr7\.png: the row has no bytes"):
        load_pixels(cell)
    with pytest.raises(ImageError, match=r"coins-nr7\.png: not an image"):
        load_pixels(coins)


def test_names_that_no_terminal_takes_are_escaped(tmp_path: Path) -> None:
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as tar:
        add_to_tar(tar, "a\x1b[31m.png", b"x")
        add_to_tar(tar, "caf\xe9.png", b"x")
    found = open_folder(tmp_path, n=2, names=None)
    assert [sample.id for sample in found] == ["a\\x1b[31m", "caf\\udce9"]
    for sample in found:
        with pytest.raises(ImageError) as caught:
            load_pixels(sample)
        assert str(caught.value).isprintable()


def test_sources_are_pairs() -> None:
    assert parse_sources(["a=/b=c"]) == {"a": Path("/b=c")}
    for wrong in ("a", "=b", "a="):
        with pytest.raises(SuiteError, match="expected NAME=PATH"):
            parse_sources([wrong])


# Manifests.


@pytest.mark.slow
def test_a_manifest_pins_a_data_set_in_every_form(
    data: Path,
    tmp_path: Path,
    encoded: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {form: write(tmp_path / form, encoded) for form, write in FORMS.items()}
    manifests = []
    for form, path in given.items():
        command = ("manifest", "small", "--data", str(data), "--source", f"photographs={path}")
        assert main([*command, "--out", f"{form}.jsonl"]) == 0
        manifests.append(Path(f"{form}.jsonl").read_bytes())
    assert manifests[0] == manifests[1] == manifests[2]
    (data / "manifests").mkdir()
    (data / "manifests" / "small.jsonl").write_bytes(manifests[0])
    digest = re.findall(r"manifest_sha256: ([0-9a-f]{64})", capsys.readouterr().out)[0]
    pin = f"manifest: manifests/small.jsonl\nmanifest_sha256: {digest}\ndtype: fp32\n"
    unpinned = load_suite("small", [data])
    (data / "suites" / "small.yaml").write_text(SUITE.replace("dtype: fp32\n", pin))
    suite = load_suite("small", [data])
    assert (suite.pinned, suite.published) == (True, True)
    assert (unpinned.pinned, unpinned.published) == (False, False)
    assert suite.sha256 != unpinned.sha256
    for path in given.values():
        for sample in attach_data(suite, {"photographs": path}).samples:
            load_pixels(sample)

    # Another picture under a pinned name is refused by that name; so is another name.
    changed = np.asarray(Image.open(io.BytesIO(encoded["coins-nr7.png"]))).copy()
    changed[::2] ^= 7
    wrong = encoded | {"coins-nr7.png": encode_png(changed)}
    samples = attach_data(suite, {"photographs": write_tars(tmp_path / "x", wrong)}).samples
    with pytest.raises(SuiteError, match=r"image coins: the pixels of .* are not the ones"):
        load_pixels(next(sample for sample in samples if sample.id == "coins"))
    other = {name.replace("coins", "moon"): content for name, content in encoded.items()}
    with pytest.raises(
        SuiteError, match="not the one that small pins: missing coins; not of it moon"
    ):
        attach_data(suite, {"photographs": write_folder(tmp_path / "y", other)})


@pytest.mark.slow
def test_a_manifest_of_a_folder_and_of_the_embedded_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "a b.png").write_bytes(encode_png(photo(3, 20, 30)))
    assert main(["manifest", "mine"]) == 0
    (written,) = Path().glob("images-mine-*.jsonl")
    (row,) = [json.loads(line) for line in written.read_text().splitlines()]
    assert (row["file"], row["width"], row["height"]) == ("deep/a b.png", 30, 20)
    assert row["sha256"] == pixel_sha256(photo(3, 20, 30))
    (tmp_path / "mine" / "torn.png").write_bytes(b"torn")
    written.unlink()
    assert main(["manifest", "mine"]) == 1
    assert "torn.png: " in capsys.readouterr().err
    assert not written.exists()
    assert main(["manifest", "nothing"]) == 2
    shipped = Path(__file__).parents[2] / "data" / "manifests" / "embedded.jsonl"
    assert main(["manifest", "embedded", "--out", "e.jsonl"]) == 0
    assert Path("e.jsonl").read_bytes() == shipped.read_bytes()


# The command line.


@pytest.mark.slow
def test_a_crop_by_option_is_another_row(
    data: Path,
    tmp_path: Path,
    encoded: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_tars(tmp_path / "set", encoded)
    command = ["run", "--suite", "small", "--data", str(data), "-t", "identity"]
    command += ["--source", f"photographs={source}"]
    assert main(command) == 0
    assert main([*command, "--crop", "resize-crop-lanczos-64"]) == 0
    assert main([*command, "--crop", "adm-64"]) == 0  # the suite's own: the same row, reused
    assert capsys.readouterr().out.count("reused: complete and current") == 1
    folder = Path("results/local/small")
    runs = sorted(path.parent.name for path in folder.glob("*/run.json"))
    assert runs == ["identity", "identity@resize-crop-lanczos-64"]
    own, other = (read_run(folder / run) for run in runs)
    assert own.record.protocol.crop is None
    assert other.record.protocol.crop == "resize-crop-lanczos-64"
    assert all(a["sha256"] != b["sha256"] for a, b in zip(own.rows, other.rows, strict=True))
    assert own.record.suite.manifest_sha256 is None
    for file in ("leaderboard.md", "leaderboard-site/index.html"):
        assert "Unpinned: no manifest" in (folder / file).read_text(encoding="utf-8")
    assert main(["publish", "--results", str(folder)]) == 2
    assert "no manifest pins the images of small" in capsys.readouterr().err
    assert main(["run", "--suite", "embedded", "-t", "identity", "--crop", "adm-64"]) == 2
    assert "fixes what is cut" in capsys.readouterr().err
    for wrong in ("adm", "none-64", "adm-0", "lanczos-64"):
        assert main([*command, "--crop", wrong]) == 2
    assert main([*command, "--source", "photograph=x"]) == 2
    assert "no data set of that name" in capsys.readouterr().err


@pytest.mark.slow
def test_a_changed_copy_is_measured_again(
    data: Path, tmp_path: Path, encoded: dict[str, bytes]
) -> None:
    folder = write_folder(tmp_path / "set", encoded)

    def run() -> str:
        suite = attach_data(load_suite("small", [data]), {"photographs": folder})
        entries = (load_registry()["identity"],)
        asked = Request(suite, entries, tmp_path / "out", ("reconstruction",), device="cpu")
        return run_suite(asked, Silent())[0].status

    assert [run(), run()] == ["measured", "reused"]
    path = folder / "class0" / "coins-nr7.png"
    os.utime(path, ns=(1, 1))  # the same pictures
    assert [run(), run()] == ["reused", "reused"]
    # Another picture of the same size, time of writing and inode, as rsync -t --inplace leaves it.
    size = path.stat().st_size
    for level in (10, 20, 30):
        other = encode_png(np.full((70, 90, 3), level, np.uint8))
        with path.open("r+b") as file:
            file.write(other.ljust(size, b"\0"))  # what follows a PNG is not read
        os.utime(path, ns=(1, 1))
        assert path.stat().st_size == size
        assert [run(), run()] == ["measured", "reused"]


@pytest.mark.slow
def test_a_killed_run_goes_on_without_decoding_what_it_has(
    data: Path, tmp_path: Path, encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "suites" / "small.yaml"
    path.write_text(SUITE + "panel: [{id: coins}]\n")
    given = {"photographs": write_tars(tmp_path / "set", encoded)}
    entries = (load_registry()["identity"],)
    decoded: list[str] = []

    class Killed(Silent):
        def advanced(self, images: int) -> None:
            if images == 4:
                raise KeyboardInterrupt

    def load(sample: Sample) -> Any:
        decoded.append(sample.id)
        return load_pixels(sample)

    def run(listener: Silent) -> None:
        suite = attach_data(load_suite("small", [data]), given)
        run_suite(
            Request(
                suite, entries, tmp_path / "out", ("reconstruction",), device="cpu", batch_size=4
            ),
            listener,
        )

    # What is kept on disk would not be decoded again either.
    monkeypatch.setattr(runner, "open_crops", lambda samples: None)
    with pytest.raises(KeyboardInterrupt):
        run(Killed())
    monkeypatch.setattr(batches, "load_pixels", load)
    run(Silent())
    assert set(decoded) == {"coffee", "coins"}  # coins for the panel too
    assert [row["id"] for row in read_run(tmp_path / "out" / "identity").rows] == sorted(NAMES)
    path.write_text(SUITE + "panel: [{id: moon}]\n")
    with pytest.raises(SuiteError, match="panel: no image 'moon' in photographs"):
        run(Silent())


def test_stochastic_decoders_run_with_each_seed(data: Path, tmp_path: Path) -> None:
    suite = load_suite("small", [data])
    registry = load_registry()
    entries = (registry["jpeg-q50"], registry["consistency-decoder"])
    asked = Request(suite, entries, tmp_path, ("reconstruction",))
    named = [asked.run_name(entry, seed) for entry, seed in asked.cells()]
    assert named == ["jpeg-q50", "consistency-decoder", "consistency-decoder@seed7"]


# Streams.

STREAM = """
import ctypes
import gc
import sys
from pathlib import Path
import torch
from vtbench.suites import batches
from vtbench.runs import runner
from vtbench.runs.request import Request
from vtbench.registry.entries import load_registry
from vtbench.runs.runner import run_suite
from vtbench.suites.suites import attach_data, load_suite

def resident():
    # What is free but not given back to the system is no growth.
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024

class Listener:
    def __init__(self): self.seen, self.mib = 0, []
    def started(self, *a): ...
    def finished(self, outcome): assert outcome.status == "measured", outcome
    def advanced(self, images):
        self.seen += images
        self.mib += [resident()] * (self.seen // 500 - len(self.mib))

torch.set_num_threads(1)
root = Path(sys.argv[1])
suite = attach_data(load_suite("stream", [root]), {"stream": root / "stream.tar"})
entries = (load_registry()["identity"],)
for cache_mib, limit in ((4, None), (1024, 2000)):
    runner.PixelCache = lambda source, limit: batches.PixelCache(limit=cache_mib * 2**20)
    listener = Listener()
    run_suite(Request(suite, entries, root / str(cache_mib), ("reconstruction",), device="cpu",
                      batch_size=64, limit=limit), listener)
    print(listener.mib[-1] - listener.mib[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """2,000 pictures of 75 KiB through the whole pass: from the 500th to the last, memory may grow by
    the rows (about 3 KiB each, 5 MiB) and not by the pictures (110 MiB). The mutant keeps its
    pictures, and grows by so much."""
    (tmp_path / "suites").mkdir()
    text = SUITE.replace("photographs", "stream").replace("n: 6", "n: 2000")
    text = re.sub(r"  names: .*\n", "", text).replace("[psnr_db, ssim]", "[psnr_db]")
    text = text.replace("{crop: adm, size: 64, orientation: stored}", "{crop: none}")
    (tmp_path / "suites" / "stream.yaml").write_text(text)
    head, size = b"P6 160 160 255\n", 160 * 160 * 3
    noise = np.random.default_rng(0).integers(0, 256, size + 2000, dtype=np.uint8).tobytes()
    with tarfile.open(tmp_path / "stream.tar", "w") as tar:
        for index in range(2000):
            add_to_tar(tar, f"{index:05d}.ppm", head + noise[index : index + size])
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    streamed, kept = map(int, done.stdout.split())
    assert streamed < 40, done.stdout
    assert kept > 70, done.stdout


def test_a_chain_of_folders_ends(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 65)
    deep.mkdir(parents=True)
    (deep / "a.png").touch()
    (deep.parent / "b.png").touch()
    found = find_files(tmp_path)
    assert found.files == (deep.parent / "b.png",)
    assert found.left_out == ((deep, "folders more than 64 deep"),)
