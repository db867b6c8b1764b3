"""What the small suite of the tests is made of, and how its files are written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vtbench.images import RGB8

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
