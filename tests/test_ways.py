"""ARCHITECTURE's two lists are the functions that one image and one table cell really pass.

A profiler watches. A function of vtbench counts where the datum passes through it: it returns or
yields the datum in one of its forms; or it returns nothing and puts the datum, which it was given, into
another argument or a file; or it writes the datum with `write_atomic`. A function that only looks at
the datum and answers something else (a count, a name, a yes) is not passed.

Not counted: generator expressions, comprehensions, lambdas, constructors and properties; `base/` and
`images`, the vocabulary of all rooms; what an adapter's `_encode` and `_decode` and a metric's function
call, for these are the ends that everybody adds; of a cell, the formats that are written beside
Markdown, and `results/`, where its rows are read as the image's way has written them.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from vtbench.base.locations import package_dir
from vtbench.leaderboard import plots, tables
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.board import Board, Cell, Line
from vtbench.leaderboard.pools import Pooled
from vtbench.leaderboard.selection import Selection
from vtbench.leaderboard.sound_runs import SoundRuns
from vtbench.metrics import pixel
from vtbench.registry.entries import load_registry
from vtbench.results.folder import Run
from vtbench.runs import reuse, runner
from vtbench.runs.measuring import Measured
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import open_suite, plan_run
from vtbench.runs.reconstruction import Reconstruction
from vtbench.suites.batches import Batch
from vtbench.tokenizers.base import Code

ARCHITECTURE = package_dir().parent / "ARCHITECTURE.md"
MOST_FUNCTIONS, MOST_FILES = 18, 9

PREFIX = f"{package_dir()}/"
UNCOUNTED = ("base/", "images.py")
BESIDE_A_CELL = (
    "results/",
    "leaderboard/site/",
    *(f"leaderboard/{x}.py" for x in ("csv_file", "latex", "json_file", "plots")),
)
CONSTRUCTORS = ("__init__", "__post_init__", "__new__")
ENDS = ("_encode", "_decode", "measure_psnr")

pytestmark = pytest.mark.skipif(
    not ARCHITECTURE.is_file(), reason="ARCHITECTURE.md is in the repository alone"
)


class Way:
    """The functions that a datum passes, in the order in which it has passed them.

    Args:
        holds: Whether a value is the datum in one of its forms.
        uncounted: Files, or beginnings of their names, that are not counted.
    """

    def __init__(self, holds: Callable[[Any], bool], uncounted: tuple[str, ...]) -> None:
        self.holds, self.uncounted = holds, uncounted
        self.passed: dict[str, None] = {}
        self._took: dict[FrameType, bool] = {}
        self._ends = threading.local()  # of each thread, the end that it is in

    @property
    def _end(self) -> FrameType | None:
        return getattr(self._ends, "frame", None)

    @_end.setter
    def _end(self, frame: FrameType | None) -> None:
        self._ends.frame = frame

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Listen to the calls of this thread, and of those that begin meanwhile."""
        threading.setprofile(self._hear)
        sys.setprofile(self._hear)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _hear(self, frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(PREFIX):
            return
        if event == "call":
            if self._end is None and code.co_name in ENDS:
                self._end = frame
            given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            self._took[frame] = any(self._has(frame.f_locals.get(name)) for name in given)
            if code.co_name == "write_atomic" and self._took[frame]:
                self._pass(frame.f_back)
            return
        took = self._took.pop(frame, False)
        if self._end in (None, frame) and (self._has(value) or (took and _gives_nothing(frame))):
            self._pass(frame)
        if self._end is frame:
            self._end = None

    def _has(self, value: Any, depth: int = 3) -> bool:
        if self.holds(value):
            return True
        items = value.values() if isinstance(value, dict) else value
        several = isinstance(value, list | tuple | dict)
        return bool(depth and several) and any(self._has(item, depth - 1) for item in items)

    def _pass(self, frame: FrameType | None) -> None:
        if frame is not None and (name := self._name(frame.f_code)) is not None:
            self.passed.setdefault(name)

    def _name(self, code: CodeType) -> str | None:
        """Return `file: function` of what is counted, None of what is not."""
        file = code.co_filename.removeprefix(PREFIX)
        if file == code.co_filename or file.startswith(self.uncounted):
            return None
        if code.co_name.startswith("<") or code.co_name in CONSTRUCTORS:
            return None
        name = code.co_qualname.replace(".<locals>", "")
        return None if _is_property(_find(file, name)) else f"{file}: {name}"


def _find(file: str, name: str) -> Any:
    """Return what a name stands for in a module, None for what stands within a function."""
    value: Any = sys.modules["vtbench." + file.removesuffix(".py").replace("/", ".")]
    for part in name.split("."):
        value = vars(value).get(part) if hasattr(value, "__dict__") else None
    return value


def _is_property(value: Any) -> bool:
    return value is not None and hasattr(type(value), "__get__") and not inspect.isroutine(value)


def _gives_nothing(frame: FrameType) -> bool:
    """Return whether a function says that it returns None."""
    code = frame.f_code
    file = code.co_filename.removeprefix(PREFIX)
    function = _find(file, code.co_qualname) if "<locals>" not in code.co_qualname else None
    return getattr(function, "__annotations__", {}).get("return", "not said") in ("None", None)


def read_list(heading: str) -> dict[str, list[str]]:
    """Return the functions that ARCHITECTURE lists below a heading, by file."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text.split(f"**{heading}**", 1)[1].split("\n\n", 2)[1]
    rows = re.findall(r"^\| `([\w/.]+)` \| (.+?) \|", section, re.MULTILINE)
    return {file: re.findall(r"`([\w.]+)`", functions) for file, functions in rows}


def by_file(way: Way) -> dict[str, set[str]]:
    files: dict[str, set[str]] = {}
    for name in way.passed:
        file, function = name.split(": ")
        files.setdefault(file, set()).add(function)
    return files


def hold(way: Way, heading: str) -> None:
    """Compare what was passed with what is listed, and count it."""
    listed = read_list(heading)
    assert by_file(way) == {file: set(names) for file, names in listed.items()}
    assert len(way.passed) <= MOST_FUNCTIONS, list(way.passed)
    assert len(listed) <= MOST_FILES


def is_image(value: Any) -> bool:
    """Return whether a value is the image: pixels, a batch, its code, its reconstruction, its value of
    a metric, its row, or Parquet of it. There is no other image."""
    if isinstance(value, dict):
        return value.get("id") == "photo-0" or "psnr_db" in value
    if isinstance(value, bytes):
        return value.startswith(b"PAR1")
    return isinstance(
        value, Batch | Code | Reconstruction | Measured | Tensor | np.ndarray | pa.Table
    )


class Silent:
    """Hears nothing of a run."""

    def started(self, run: str, index: int, total: int, images: int) -> None: ...
    def advanced(self, images: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...


@pytest.mark.slow
def test_one_image_passes_what_architecture_lists(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, suite = data / "manifests" / "mini.jsonl", data / "suites" / "mini.yaml"
    manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])
    pinned = hashlib.sha256(manifest.read_bytes()).hexdigest()
    text = suite.read_text().split("tasks:")[0]
    text = re.sub(r"(manifest_sha256:) .*", rf"\1 {pinned}", text)
    suite.write_text(f"{text}tasks:\n  reconstruction: {{metrics: [psnr_db]}}\n")
    request = plan_run(
        open_suite("mini", data_folders=[data]),
        load_registry(),
        names=["jpeg-q50"],
        out=tmp_path / "out",
        device="cpu",
    )
    way = Way(is_image, UNCOUNTED)
    runner.run_suite(request, Silent())  # what is opened once is open now
    original = runner.run_tokenizer

    def watch(*arguments: Any, **options: Any) -> Outcome:
        with way.watched():
            return original(*arguments, **options)

    monkeypatch.setattr(runner, "run_tokenizer", watch)
    (outcome,) = runner.run_suite(replace(request, fresh=True), Silent())
    assert outcome.status == "measured"
    hold(way, "One image")


NUMBER = 32.17
"""The mean PSNR of the images of the traced cell."""


def is_cell(value: Any) -> bool:
    """Return whether a value is what becomes the cell: the run, its rows, the column of its values,
    their mean, and whatever holds or says it."""
    if isinstance(value, Pooled | Cell):
        return value.value == pytest.approx(NUMBER)
    if isinstance(value, np.ndarray):
        return value.dtype == np.float64 and value.tolist() == [31.17, 32.17, 33.17]
    if isinstance(value, bytes | str):
        said = str(NUMBER)
        return said in value if isinstance(value, str) else said.encode() in value
    return isinstance(value, Run | SoundRuns | Selection | Line | Board)


@pytest.mark.slow
def test_one_table_cell_passes_what_architecture_lists(
    write_suite: Callable[..., Path],
    write_run: Callable[..., Path],
    rows: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_suite()
    images = rows()
    for row, value in zip(images, (31.17, 32.17, 33.17), strict=False):
        row["psnr_db"] = value
    write_run(folder, "a", images)
    monkeypatch.setattr(plots, "draw_plots", lambda board, published: {})
    tables.render_board(read_board(folder))  # what is imported late is here now
    way = Way(is_cell, (*UNCOUNTED, *BESIDE_A_CELL))
    with way.watched():
        tables.write_board(folder, tables.render_board(read_board(folder)))
    assert f"**{NUMBER}**" in (folder / "leaderboard.md").read_text(encoding="utf-8")
    hold(way, "One table cell")


def test_a_function_that_only_looks_is_not_passed_and_one_that_hands_on_is() -> None:
    way = Way(is_image, UNCOUNTED)
    batch = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with way.watched():
        assert not reuse.list_failures([{"id": "photo-0", "error": None}])
        pixel.measure_psnr(batch, batch)
        pixel.psnr_of_mse(torch.ones(1))
    assert list(way.passed) == ["metrics/pixel.py: measure_psnr", "metrics/pixel.py: psnr_of_mse"]
