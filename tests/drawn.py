"""The drawings and degradations that the tests of detail metrics share."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from vtbench.base.locations import data_dir
from vtbench.images import RGB8, load_rgb8

Row = dict[str, Any]


def to_levels(values: NDArray[np.float64]) -> RGB8:
    levels: RGB8 = np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return levels


def blur(pixels: RGB8, sigma: float) -> RGB8:
    return to_levels(gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), truncate=8))


def add_noise(pixels: RGB8, deviation: float, seed: int = 0) -> RGB8:
    """Add the same gaussian noise to the three channels."""
    noise = np.random.default_rng(seed).normal(0, deviation, (*pixels.shape[:2], 1))
    return to_levels(pixels + noise)


def jpeg(pixels: RGB8, quality: int) -> RGB8:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer), dtype=np.uint8)


def texture(name: str) -> RGB8:
    """Return one of the suite's photographs or textures, 512×512 or 400×600."""
    return load_rgb8(data_dir() / "embedded" / "photos" / f"{name}.png")


def detail_rows(subset: str) -> list[Row]:
    """Return the rows of a subset of the suite `detail`."""
    lines = (data_dir() / "manifests" / "detail.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["subset"] == subset]


def pixels_of(row: Row) -> RGB8:
    return load_rgb8(data_dir() / row["file"])


def detail_generator() -> ModuleType:
    """Return data/detail/make_charts.py as a module."""
    path = Path(data_dir()) / "detail" / "make_charts.py"
    spec = importlib.util.spec_from_file_location("make_detail_charts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
