"""Files of strangers, mutated for a while: whatever they hold, what is raised is ours, and soon."""

from __future__ import annotations

import functools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml
from gate.fuzz.mutate import fuzz, mutate_bytes, mutate_value
from PIL import Image

from vtbench.base.errors import ResultsError
from vtbench.base.files import sha256_bytes
from vtbench.base.locations import published_dir, registry_dir
from vtbench.base.records import Sample
from vtbench.commands.audit.folder import audit_results
from vtbench.commands.audit.pictures import decode_panel_png
from vtbench.commands.audit.plots import audit_svg
from vtbench.images import load_rgb8
from vtbench.leaderboard.aggregate import aggregate
from vtbench.registry.entries import load_entry, load_registry
from vtbench.results.codes import read_codes
from vtbench.results.folder import read_run, read_runs, read_suite_folder
from vtbench.results.rows import check_table, read_table
from vtbench.results.schema import RunRecord
from vtbench.suites.parquet_files import RowGroup, list_parquet

pytestmark = pytest.mark.slow

ENTRIES = ("jpeg-q25", "ref-vq-f16", "flux.1-vae", "titok-l32", "sd-vae-ft-mse")
RUNS = ("jpeg-q25", "patch-vq-f16")
LONGER = 6
"""Of the four kinds of files that strangers send most."""


@functools.cache
def published(name: str) -> bytes:
    return (published_dir("embedded") / name).read_bytes()


def test_entries(tmp_path: Path) -> None:
    texts = [path for name in ENTRIES if (path := registry_dir() / f"{name}.yaml").is_file()]
    assert len(texts) >= 3
    target = tmp_path / "mine.yaml"

    def make(draw: random.Random) -> bytes:
        content = draw.choice(texts).read_bytes()
        if draw.random() < 0.5:
            return mutate_bytes(content, draw)
        value = mutate_value(yaml.safe_load(content), draw)
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")

    def read(content: bytes) -> None:
        target.write_bytes(content)
        load_entry(target, resolve=True)

    fuzz(make, read, times=LONGER)


def test_run_json(tmp_path: Path) -> None:
    """Read, put on a board, and audited."""
    records: list[dict[str, Any]] = [json.loads(published(f"{name}/run.json")) for name in RUNS]
    for name in RUNS:
        shutil.copytree(published_dir("embedded") / name, tmp_path / name)
    suite = read_suite_folder(published_dir("embedded"))
    registry = load_registry()

    def make(draw: random.Random) -> tuple[str, bytes]:
        place = draw.randrange(len(RUNS))
        if draw.random() < 0.3:
            return RUNS[place], mutate_bytes(published(f"{RUNS[place]}/run.json"), draw)
        value = mutate_value(records[place], draw)
        text = json.dumps(value).encode("utf-8", "surrogatepass")
        return RUNS[place], text

    def read(drawn: tuple[str, bytes]) -> None:
        name, content = drawn
        path = tmp_path / name / "run.json"
        try:
            path.write_bytes(content)
            run = read_run(path.parent)
            runs = read_runs(tmp_path)
            aggregate(suite, runs)
            audit_results(tmp_path, suite, [run], registry, published=True)
        finally:
            path.write_bytes(published(f"{name}/run.json"))

    fuzz(make, read, times=LONGER)


def test_suite_json(tmp_path: Path) -> None:
    value = json.loads(published("suite.json"))

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return mutate_bytes(published("suite.json"), draw)
        return json.dumps(mutate_value(value, draw)).encode("utf-8", "surrogatepass")

    def read(content: bytes) -> None:
        (tmp_path / "suite.json").write_bytes(content)
        aggregate(read_suite_folder(tmp_path), [])

    fuzz(make, read)


@pytest.mark.parametrize("name", ["images.parquet", "codes.parquet"])
def test_parquet(tmp_path: Path, name: str) -> None:
    """Sealed again: its digest is that of what it holds."""
    path = tmp_path / name
    whole = published(f"patch-vq-f16/{name}")
    record = RunRecord.model_validate(read_run(published_dir("embedded") / "patch-vq-f16").record)
    assert record.codes is not None
    codes = record.codes

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.5:
            return mutate_bytes(whole, draw)
        tail = int.from_bytes(whole[-8:-4], "little") + 8  # the footer: what is read first
        return whole[:-tail] + mutate_bytes(whole[-tail:], draw)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        digest = sha256_bytes(content)
        if name == "images.parquet":
            check_table(path, read_table(path, digest))
        else:
            read_codes(tmp_path, codes.model_copy(update={"sha256": digest}))

    fuzz(make, read, times=LONGER if name == "images.parquet" else 1)


def test_parquet_of_pictures(tmp_path: Path) -> None:
    """Read by another process: also what ends that one is an error of ours."""
    path = tmp_path / "a.parquet"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": bytes([n]) * 40 * n, "path": f"{n}.png"} for n in range(9)]
    parquet.write_table(pa.table({"image": pa.array(rows, kind)}), path, row_group_size=4)
    whole = path.read_bytes()

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.5:
            return mutate_bytes(whole, draw)
        tail = int.from_bytes(whole[-8:-4], "little") + 8
        return whole[:-tail] + mutate_bytes(whole[-tail:], draw)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        group = RowGroup()
        for file, _, place in list_parquet(path, "image"):
            group.read(Sample("a", "reconstruction", "s", file, 0, 0, place=place))

    fuzz(make, read)


def pictures(folder: Path) -> list[Path]:
    """Write a small picture in each format that is read."""
    rough = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(rough)
    paths = []
    for ending in ("png", "jpg", "webp", "gif", "bmp", "tif", "jp2", "avif", "ppm"):
        paths.append(folder / f"whole.{ending}")
        image.save(paths[-1])
    Image.fromarray(rough[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    image.convert("P").save(folder / "palette.png", transparency=3)
    image.save(
        folder / "exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    )
    return [*paths, folder / "deep.png", folder / "palette.png", folder / "exif.jpg"]


def test_images(tmp_path: Path) -> None:
    wholes = [path.read_bytes() for path in pictures(tmp_path)]
    target = tmp_path / "mine.png"

    def make(draw: random.Random) -> bytes:
        return mutate_bytes(draw.choice(wholes), draw)

    def read(content: bytes) -> None:
        target.write_bytes(content)
        assert load_rgb8(target).ndim == 3

    assert fuzz(make, read, times=LONGER) > 0


def test_panel_pictures_and_plots() -> None:
    panel = published("jpeg-q25/panel/0.png")
    plots = [path.read_bytes() for path in sorted(published_dir("embedded").glob("*.svg"))][:2]
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><path d="M0 0"/></svg>'

    def make(draw: random.Random) -> tuple[bool, bytes]:
        is_panel = draw.random() < 0.5
        return is_panel, mutate_bytes(panel if is_panel else draw.choice([*plots, svg]), draw)

    def read(drawn: tuple[bool, bytes]) -> None:
        is_panel, content = drawn
        if is_panel:
            decode_panel_png("0.png", content)
        elif found := list(audit_svg("x.svg", content)):
            raise ResultsError(*found)

    fuzz(make, read)
