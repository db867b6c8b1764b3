"""The time and memory of a large board: `python benchmarks/board_of_many.py [RUNS] [IMAGES]`.

Writes runs of random rows of a suite of photographs (default 30 of 50 000, with every metric of an
image but a few) into a temporary folder, then reads and aggregates them in a process of its own, and
prints its seconds and its peak of resident memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vtbench.results.folder import write_suite_folder
from vtbench.results.rows import ROW_COLUMNS
from vtbench.results.schema import MetricRecord, RunRecord, SuiteFolder

METRICS = (
    "psnr_db",
    "ssim",
    "ms_ssim",
    "lpips_alex",
    "lpips_vgg",
    "mse",
    "mae",
    "haarpsi",
    "dists",
)
METRICS += ("dinov2_cos", "clip_cos", "siglip_cos", "psnr_q8_db")
COUNTS = ("tokens", "bits", "q8_bits", "batch_size", "encode_s", "decode_s", "peak_memory_mib")


def write_runs(folder: Path, runs: int, images: int) -> None:
    """Write suite.json and the runs."""
    metrics = [key for key in METRICS if key != "mse"]
    suite = SuiteFolder(
        name="many",
        version=1,
        title="Many",
        description="",
        sha256="5" * 64,
        published=True,
        images={"reconstruction": images},
        metrics={"reconstruction": tuple(metrics)},
        cost_subset="val",
        panel=(),
        skipped=(),
    )
    write_suite_folder(folder, suite)
    template = read_template()
    random = np.random.default_rng(0)
    for number in range(runs):
        name = f"run-{number:02}"
        columns: dict[str, object] = dict.fromkeys(ROW_COLUMNS)
        columns |= {"task": ["reconstruction"] * images, "subset": ["val"] * images}
        columns |= {"id": [f"ILSVRC2012_val_{i:08}" for i in range(images)]}
        columns |= {"sha256": [f"{i:064x}" for i in range(images)], "fit": ["none"] * images}
        columns |= {key: np.full(images, 256) for key in ("width", "height")}
        columns |= {key: random.gamma(2.0, 1.0 + number / 30, images) for key in METRICS}
        columns |= {key: random.integers(1, 999, images) for key in COUNTS}
        write_columns(folder / name, template, columns, name=name, images=images, suite=suite)


def read_template() -> RunRecord:
    """Return the record of a published run, whose facts the runs take."""
    from vtbench.base.locations import published_dir
    from vtbench.results.folder import read_record

    return read_record(published_dir("embedded") / "ref-kl-f8")


def write_columns(
    folder: Path,
    template: RunRecord,
    columns: dict[str, object],
    *,
    name: str,
    images: int,
    suite: SuiteFolder,
) -> None:
    """Write a run of these columns as `vtbench run` would."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as parquet

    from vtbench.base.files import sha256_bytes
    from vtbench.results.folder import encode_rows

    schema = parquet.read_schema(pa.BufferReader(encode_rows([dict.fromkeys(ROW_COLUMNS)])))
    arrays = [
        pa.nulls(images, kind) if columns[key] is None else pa.array(columns[key]).cast(kind)
        for key, kind in zip(schema.names, schema.types, strict=True)
    ]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    measured = MetricRecord(version=1, state="measured")
    metrics = {"metrics": dict.fromkeys(suite.metrics["reconstruction"], measured)}
    facts = {"name": suite.name, "version": suite.version, "sha256": suite.sha256}
    record = template.model_copy(
        update={
            "run": name,
            "suite": template.suite.model_copy(update=facts),
            "protocol": template.protocol.model_copy(
                update={"tasks": ("reconstruction",)} | metrics
            ),
            "n_expected": images,
            "n_done": images,
            "rows_sha256": sha256_bytes(content),
            "codes": None,
        }
    )
    folder.mkdir(parents=True)
    (folder / "images.parquet").write_bytes(content)
    (folder / "run.json").write_text(json.dumps(record.model_dump(mode="json")))


MEASURE = """
import resource, sys, time
from pathlib import Path
from vtbench.leaderboard.aggregate import read_board
wall, cpu = time.perf_counter(), time.process_time()
board = read_board(Path(sys.argv[1]))
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
cells = [cell for line in board.lines for cell in line.cells.values()]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{len(board.lines)} runs, {sum(c.low is not None for c in cells)} intervals: "
      f"{wall:.1f} s, {cpu:.1f} s of CPU, peak {peak:.0f} MiB")
"""


def main() -> None:
    """Write the runs, then measure the board of them."""
    runs, images = ([int(x) for x in sys.argv[1:]] + [30, 50_000][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_runs(Path(folder), runs, images)
        print(f"{runs} runs of {images} images written in {time.perf_counter() - start:.0f} s")
        subprocess.run([sys.executable, "-c", MEASURE, folder], check=True)


if __name__ == "__main__":
    main()
