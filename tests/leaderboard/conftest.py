"""Result folders made by hand: full rows of the three tasks, with numbers that are easy to add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vtbench.metrics.rate import Histogram
from vtbench.results import folder as result_folder
from vtbench.results.rows import ROW_COLUMNS, Row
from vtbench.results.schema import Failure, RunRecord, SuiteFolder

DIGEST = "5" * 64
METRICS = ("psnr_db", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "contrast_transfer")
METRICS += ("cer", "wer", "ned")


def make_rows(**better: float) -> list[Row]:
    """Return two crops and a photo, a grating and a texture, a Latin and a Chinese page.

    psnr, bits and edits shift every row's; all sides are 100 px but the photo's 200.
    """
    psnr, bits, edits = (better.get(key, 0) for key in ("psnr", "bits", "edits"))
    common = dict.fromkeys(ROW_COLUMNS) | {
        "sha256": "0" * 64,
        "fit": "none",
        "tokens": 16,
        "bits": 1000.0 + bits,
        "batch_size": 2,
        "encode_s": 0.25,
        "decode_s": 0.5,
        "peak_memory_mib": 100.0,
        "width": 100,
        "height": 100,
        "ssim": 0.5,
        "lpips_alex": 0.25,
        "lpips_vgg": 0.125,
    }
    text = {
        "task": "text",
        "psnr_db": 20.0 + psnr,
        "lines": 4,
        "chars": 100,
        "char_edits": 10 + int(edits),
        "ned": 0.75,
        "reading": ["x"],
        "original_char_edits": 2,
        "original_ned": 0.96875,
        "original_reading": ["x"],
    }
    latin = text | {"script": "latin", "glyph_px": 8.0, "words": 20, "word_edits": 5}
    recon, grating = {"task": "reconstruction"}, {"task": "detail", "psnr_db": 25.0 + psnr}
    own = [
        recon | {"id": "a-1", "subset": "crop256", "psnr_db": 30.0 + psnr, "ms_ssim": 0.75},
        recon | {"id": "a-2", "subset": "crop256", "psnr_db": 32.0 + psnr, "ms_ssim": 0.875},
        recon
        | {
            "id": "b-1",
            "subset": "whole",
            "psnr_db": 34.0 + psnr,
            "width": 200,
            "bits": 2000.0 + bits,
        }
        | {"peak_memory_mib": 300.0},
        grating
        | {"id": "c-1", "subset": "grating", "patch_cpp": [0.125, 0.25, 0.5]}
        | {"contrast_transfer": [1.0, 0.75, 0.25]},
        grating | {"id": "c-2", "subset": "texture"},
        latin | {"id": "d-1", "subset": "plain", "original_word_edits": 1},
        text
        | {"id": "d-2", "subset": "chinese", "script": "chinese", "glyph_px": 14.0, "chars": 300}
        | {"lines": 12, "ned": 0.5, "char_edits": 50 + int(edits)},
    ]
    return [common | row for row in own]


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of suite.json into a new folder below tmp_path."""

    def write(name: str = "suite", **changes: Any) -> Path:
        suite = SuiteFolder(
            name="tiny",
            version=1,
            title="Tiny",
            description="Seven images.",
            sha256=DIGEST,
            published=True,
            images={"reconstruction": 3, "detail": 2, "text": 2},
            cost_subset="crop256",
            panel=(),
            skipped=(),
        )
        result_folder.write_suite_folder(tmp_path / name, suite.model_copy(update=changes))
        return tmp_path / name

    return write


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Return a writer of a run with `make_rows`; keywords change the record, by dotted name."""

    def write(
        folder: Path,
        name: str,
        rows: list[Row] | None = None,
        *,
        missing: dict[str, str] | None = None,
        codes: Sequence[Histogram] = (),
        **changes: Any,
    ) -> Path:
        rows = make_rows() if rows is None else rows
        failures = [Failure(id=r["id"], error=r["error"]) for r in rows if r["error"]]
        reasons = missing or {}
        record: dict[str, Any] = {
            "schema_version": 4,
            "run": name,
            "key": "1" * 64,
            "suite": {
                "name": "tiny",
                "version": 1,
                "sha256": DIGEST,
                "manifest_sha256": "2" * 64,
                "published": True,
            },
            "tokenizer": {
                "name": name,
                "title": f"Title of {name}",
                "family": "vq",
                "kind": "discrete",
                "quantizer": "vq",
                "downsample": 16,
                "codebook_size": 1024,
                "latent_channels": None,
                "parameters": 10,
                "stochastic": False,
                "entry_sha256": "3" * 64,
                "weights": {},
                "pinned": True,
                "libraries": {},
            },
            "protocol": {
                "dtype": "fp32",
                "seed": 0,
                "tasks": ("reconstruction", "detail", "text"),
                "metrics": {
                    key: {
                        "version": 1,
                        "state": "missing" if key in reasons else "measured",
                        "reason": reasons.get(key),
                    }
                    for key in METRICS
                },
                "ocr": {"engine": "toy", "version": "1.0"},
                "limit": None,
            },
            "environment": {
                "device": "cpu",
                "processor": "Toy CPU",
                "threads": 2,
                "platform": "Linux x86_64",
                "python": "3.11.0",
                "versions": {"torch": "2.0"},
                "vtbench": "0.1.0",
                "code_sha256": "4" * 64,
                "commit": "a" * 40,
                "dirty": False,
            },
            "n_expected": len(rows),
            "n_done": len(rows) - len(failures),
            "failures": [failure.model_dump() for failure in failures],
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 1.0,
            "rows_sha256": "",
        }
        for key, value in changes.items():
            *parents, last = key.split("__")
            target = record
            for parent in parents:
                target = target[parent]
            target[last] = value
        result_folder.write_run(folder / name, RunRecord.model_validate(record), rows, codes=codes)
        return folder / name

    return write


@pytest.fixture
def rows() -> Callable[..., list[Row]]:
    """Return `make_rows`."""
    return make_rows
