"""What tests are made of: images, a small suite, and folders of results with numbers that are easy to
add up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vtbench.images import RGB8
from vtbench.metrics.rate import Histogram
from vtbench.results.folder import write_run, write_suite_folder
from vtbench.results.rows import ROW_COLUMNS, Row
from vtbench.results.schema import Failure, RunRecord, SuiteFolder

LINES = ("Lot 7746: six pewter jugs", "FLIGHT KR 692 AT GATE 37")


def photo(seed: int, height: int, width: int) -> RGB8:
    """Return a smooth random picture with some edges, uint8 H×W×3."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        draw.ellipse((x, y, x + 14, y + 9), fill=colour)
    return np.asarray(image, dtype=np.uint8)


def grating() -> tuple[RGB8, list[dict[str, object]]]:
    """Return a chart of two patches (4 and 2 px a cycle) and their meta."""
    x = np.arange(96)
    rows = [127.5 * (1 + 0.8 * np.cos(2 * np.pi * x / period)) for period in (4, 2)]
    chart = np.concatenate([np.tile(row, (96, 1)) for row in rows], axis=1)
    pixels = np.floor(chart + 0.5).astype(np.uint8)
    patches: list[dict[str, object]] = [
        {"box": [0, 0, 96, 96], "period_px": 4.0},
        {"box": [96, 0, 96, 96], "period_px": 2.0},
    ]
    return np.repeat(pixels[:, :, None], 3, axis=2), patches


def page() -> tuple[RGB8, list[dict[str, object]]]:
    """Return two lines of black text on white and their boxes."""
    image = Image.new("RGB", (300, 80), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    lines: list[dict[str, object]] = []
    for index, text in enumerate(LINES):
        top = 8 + 36 * index
        draw.text((8, top), text, fill="black", font=font)
        box = [[4, top - 2], [296, top - 2], [296, top + 28], [4, top + 28]]
        lines.append({"text": text, "box": box})
    return np.asarray(image, dtype=np.uint8), lines


def write_suite(root: Path, manifest: str) -> None:
    """Write suites/mini.yaml for a manifest."""
    (root / "manifests").mkdir(parents=True, exist_ok=True)
    (root / "suites").mkdir(exist_ok=True)
    (root / "manifests" / "mini.jsonl").write_text(manifest, encoding="utf-8")
    (root / "suites" / "mini.yaml").write_text(
        f"""\
title: A small suite
version: 1
description: For tests.
manifest: manifests/mini.jsonl
manifest_sha256: {hashlib.sha256(manifest.encode()).hexdigest()}
dtype: fp32
seed: 0
ocr: rapidocr
tasks:
  reconstruction: {{metrics: [psnr_db, mae, ssim, ms_ssim, lpips_alex, haarpsi, dists]}}
  detail: {{metrics: [psnr_db, ssim, contrast_transfer]}}
  text: {{metrics: [psnr_db, cer, wer, ned]}}
cost: {{subset: crop, batch_size: 2}}
panel:
  - {{id: photo-0}}
  - {{id: page, crop: [0, 0, 64, 48]}}
""",
        encoding="utf-8",
    )


DIGEST = "5" * 64
SAME = "0" * 64
"""Stands for the hash of an image's pixels; `write_results_run` makes one of the image's name."""

METRICS = ("psnr_db", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "contrast_transfer")
METRICS += ("cer", "wer", "ned")


def make_rows(**better: float) -> list[Row]:
    """Return two crops and a photo, a grating and a texture, a Latin and a Chinese page.

    psnr, bits and edits shift every row's; all sides are 100 px but the photo's 200.
    """
    psnr, bits, edits = (better.get(key, 0) for key in ("psnr", "bits", "edits"))
    common = dict.fromkeys(ROW_COLUMNS) | {
        "sha256": SAME,
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


def write_results_suite(folder: Path, **changes: Any) -> Path:
    """Write suite.json into a new folder of results and return the folder."""
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
    write_suite_folder(folder, suite.model_copy(update=changes))
    return folder


def write_results_run(
    folder: Path,
    name: str,
    rows: list[Row] | None = None,
    *,
    missing: dict[str, str] | None = None,
    codes: Sequence[Histogram] = (),
    **changes: Any,
) -> Path:
    rows = [
        row | {"sha256": hashlib.sha256(row["id"].encode()).hexdigest()}
        if row["sha256"] == SAME
        else row
        for row in (make_rows() if rows is None else rows)
    ]
    failures = [Failure(id=r["id"], error=r["error"]) for r in rows if r["error"]]
    reasons = missing or {}
    record: dict[str, Any] = {
        "schema_version": 5,
        "run": name,
        "key": "1" * 64,
        "inputs": {"data": None, "batch_size": None, "measures": "5" * 64, "given": None},
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
    write_run(folder / name, RunRecord.model_validate(record), rows, codes=codes)
    return folder / name


class KillingListener:
    """Hears how many images of a run are done; kills the run (Ctrl-C) after so many.

    Args:
        kill_at: how many; None for never.
    """

    def __init__(self, kill_at: int | None = None) -> None:
        self.images, self.kill_at = 0, kill_at

    def started(self, run: str, index: int, total: int, images: int) -> None:
        self.images = 0

    def advanced(self, images: int) -> None:
        self.images += images
        if self.kill_at is not None and self.images >= self.kill_at:
            raise KeyboardInterrupt

    def finished(self, outcome: object) -> None:
        pass
