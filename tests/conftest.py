"""A small suite of three tasks in a temporary data folder, and an environment without surprises."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported: two busy cores spin each other to a standstill otherwise (see cli.main).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from builders import (
    grating,
    make_rows,
    page,
    photo,
    write_results_run,
    write_results_suite,
)
from builders import write_suite as write_suite_files

from vtbench.images import encode_png, pixel_sha256
from vtbench.results.rows import Row


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of tests/parity."""
    for item in items:
        if "parity" in item.path.parts:
            item.add_marker(pytest.mark.parity)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder with the suite `mini`: 4 + 1 + 1 images."""
    return _write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def data_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one such data folder for all tests of a module."""
    return _write_data(tmp_path_factory.mktemp("mini") / "data")


def _write_data(root: Path) -> Path:
    chart, patches = grating()
    text, lines = page()
    meta_text = {"script": "latin", "glyph_px": 14, "lines": lines}
    pictures = [
        *((f"photo-{i}", "reconstruction", "crop", photo(i, 64, 64), {}) for i in range(3)),
        ("photo-odd", "reconstruction", "whole", photo(9, 181, 203), {}),
        ("chart", "detail", "grating", chart, {"chart": "grating", "patches": patches}),
        ("page", "text", "plain", text, meta_text),
    ]
    rows = []
    for name, task, subset, pixels, meta in pictures:
        file = root / "mini" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(pixels))
        row = {
            "id": name,
            "task": task,
            "subset": subset,
            "file": f"mini/{name}.png",
            "crop": None,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "sha256": pixel_sha256(pixels),
            "meta": meta,
        }
        rows.append(json.dumps(row))
    write_suite_files(root, "\n".join(rows) + "\n")
    return root


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of suite.json into a new folder below tmp_path; keywords change the record."""
    return lambda name="suite", **changes: write_results_suite(tmp_path / name, **changes)


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Return a writer of a run with `make_rows`; keywords change the record, by dotted name."""
    return write_results_run


@pytest.fixture
def rows() -> Callable[..., list[Row]]:
    """Return `make_rows`."""
    return make_rows


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Keep what tests cache out of the user's cache; yields where it is instead."""
    from vtbench.base import locations

    place = {"now": tmp_path_factory.getbasetemp() / "cache" / "session"}
    own = locations._home_cache

    def give_place() -> Path:
        return own() if locations.home_dir() is None else place["now"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "_home_cache", give_place)
        yield place


@pytest.fixture(autouse=True)
def _cache_of_one_test(_own_cache: dict[str, Path]) -> None:
    """Let no test find what another one, perhaps with a stand-in for a network, has cached."""
    _own_cache["now"] = _own_cache["now"].with_name(f"test-{next(_TESTS)}")


_TESTS = itertools.count()
