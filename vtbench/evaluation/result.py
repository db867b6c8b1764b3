"""Results of an evaluation: scores with intervals, a row for each image, and a few pictures."""

from __future__ import annotations

import base64
import html
import logging
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.base.errors import ResultsError
from vtbench.base.files import read_bounded, resolve_below, write_atomic
from vtbench.base.locations import without_paths
from vtbench.base.records import State
from vtbench.evaluation.scratch import ScratchFolder
from vtbench.leaderboard.aggregate import aggregate
from vtbench.leaderboard.board import Board, Bound, Cell, Column
from vtbench.leaderboard.words import describe_column
from vtbench.results.folder import Run, read_checked_run, read_runs, read_suite_folder
from vtbench.results.known_files import (
    MAX_PICTURE_BYTES,
    RECONSTRUCTIONS,
    list_run_files,
    list_suite_files,
    read_known_files,
)
from vtbench.results.rows import ROW_COLUMNS
from vtbench.results.schema import RunRecord, SuiteFolder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure


_LOG = logging.getLogger("vtbench")


@dataclass(frozen=True)
class Score:
    """One number of a result.

    Attributes:
        key: TASK.METRIC, such as "reconstruction.psnr_db".
        group: The task, "rate" or "cost".
        label: The title of the column, with direction and unit.
        unit: The unit, such as "dB"; empty if it has none.
        value: The number; None if it was not measured.
        low: The lower end of the 95 % confidence interval over images; None if it has no interval.
        high: The upper end.
        n: The number of images.
        state: "measured", "missing", "failed" or "not-applicable".
        reason: Why the number was not measured; None if it was.
        bound: "=" if `value` is the number; ">=" or "<" if the number lies beyond what the suite can
            measure, such as an MTF50 above the highest frequency of its charts.
    """

    key: str
    group: str
    label: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    state: State
    reason: str | None
    bound: Bound = "="


class Result:
    """The result of one tokenizer on one suite.

    Attributes:
        record: The contents of run.json: everything that changes a number.
        suite: The contents of suite.json: the protocol.
        folder: The folder of the result's files. A temporary one lives as long as the result.
    """

    def __init__(
        self,
        run: Run,
        suite: SuiteFolder,
        folder: Path,
        *,
        scratch: ScratchFolder | None = None,
    ) -> None:
        self.record: RunRecord = run.record
        self.suite = suite
        self.folder = folder
        self._run = run
        self._scratch = scratch
        self._board: Board | None = None

    @property
    def name(self) -> str:
        """The name of the row."""
        return self.record.run

    @property
    def scores(self) -> dict[str, float]:
        """The measured numbers by key, such as {"reconstruction.psnr_db": 31.2}.

        They are those of `summary(everything=True)`.
        """
        return {s.key: s.value for s in self.summary(everything=True) if s.value is not None}

    def summary(self, *, everything: bool = False) -> list[Score]:
        """Return the main numbers with their intervals, numbers of images and states.

        The numbers of metrics that were asked for by `metrics=` are among them. So are those that could
        not be measured, such as LPIPS without its weights: their `state` is not "measured", and their
        `reason` says what is missing.

        Args:
            everything: Whether to return the further numbers of each task too, such as MAE.
        """
        board = self._aggregate()
        (line,) = board.lines
        main = board.overview.columns
        asked = self.record.protocol.extra
        more = []
        for column in board.columns:
            cell = line.cells[column.key]
            lacking = cell.state in ("missing", "failed") and cell.reason is not None
            wanted = column.metric.key in asked or (everything and cell.value is not None)
            if column.whole and column not in main and (lacking or wanted):
                more.append(column)
        return [_score(column, line.cells[column.key]) for column in (*main, *more)]

    def _aggregate(self) -> Board:
        if self._board is None:
            self._board = aggregate(self.suite, [self._run])
        return self._board

    def to_arrow(self) -> pa.Table:
        """Return a table with a row for each image: its facts (id, task, size, rate) and its metrics."""
        table = self._run.table
        used = [c for c in ROW_COLUMNS if table[c].null_count < len(table)]
        return table.select(used)

    def to_pandas(self) -> pd.DataFrame:
        """Return `to_arrow` as a data frame; needs pandas (`pip install "vtbench[notebook]"`)."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def plot(self, metric: str = "psnr_db") -> Figure:
        """Return a histogram of a metric over images, a colour for each task."""
        from matplotlib.figure import Figure

        rows = [row for row in self._run.rows if row.get(metric) is not None]
        if not rows:
            raise ResultsError(f"no image has a value of {metric!r}")
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        for task in dict.fromkeys(row["task"] for row in rows):
            values = [row[metric] for row in rows if row["task"] == task]
            axes.hist(values, bins=min(40, max(5, len(values) // 4)), alpha=0.6, label=task)
        axes.set(xlabel=metric, ylabel="images", title=f"{self.name} on {self.suite.name}")
        axes.legend()
        return figure

    def panel(self) -> list[tuple[str, Path, Path]]:
        """Return (image id, file of the original, file of the reconstruction) of each kept picture."""
        return [
            (item.id, original, picture)
            for item in self.suite.panel
            if _is_picture(original := self.folder.parent / "originals" / f"{item.n}.png")
            if _is_picture(picture := self.folder / "panel" / f"{item.n}.png")
        ]

    def save(self, folder: str | Path) -> Path:
        """Copy the result into a folder of results, where `vtbench leaderboard` finds it.

        Raises ResultsError where the folder holds another suite.
        """
        target = Path(folder)
        if (target / "suite.json").exists() and read_suite_folder(target).sha256 != (
            self.suite.sha256
        ):
            raise ResultsError(f"{target} holds results of another suite than {self.suite.name}")
        own = read_known_files(self.folder, list_run_files(self.record, self.suite))
        files = {f"{self.name}/{name}": content for name, content in own.items()}
        files |= read_known_files(self.folder.parent, list_suite_files(self.suite))
        for name, content in files.items():
            write_atomic(resolve_below(target, name), content)
        kept = resolve_below(target, f"{self.name}/{RECONSTRUCTIONS}")
        for picture in sorted((self.folder / RECONSTRUCTIONS).glob("*.png")):
            if stat.S_ISREG(picture.lstat().st_mode):
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, resolve_below(kept, picture.name))
        return target / self.name

    def __repr__(self) -> str:
        lines = [f"{self.name} on {self.suite.name}@{self.suite.version}{self._marks()}"]
        for score in self.summary():
            if score.value is not None:
                lines.append(f"  {score.key:<32} {_format(score)}")
        return "\n".join([*lines, *(f"  {text}" for text in self._lacking())])

    def _lacking(self) -> list[str]:
        """Return a line for each reason for which numbers are missing or failed."""
        keys: dict[tuple[str, str], list[str]] = {}
        for score in self.summary():
            if score.state in ("missing", "failed"):
                reason = without_paths(score.reason or "no reason was recorded").rstrip(".")
                keys.setdefault((score.state, reason), []).append(score.key)
        return [f"{state}: {', '.join(of)}: {reason}" for (state, reason), of in keys.items()]

    def _marks(self) -> str:
        marks = [] if self.record.tokenizer.registered else ["not a registry entry"]
        marks += [] if self.record.protocol.source == "pass" else ["scored from files"]
        marks += [self.suite.partial] if self.suite.partial else []
        return f" ({', '.join(marks)})" if marks else ""

    def _repr_html_(self) -> str:
        """Return the numbers and the panel, for a notebook."""
        rows = "".join(
            f"<tr><td>{html.escape(s.group)}</td><td>{html.escape(s.label)}</td>"
            f"<td style='text-align:right'>{html.escape(_format(s))}</td><td>{s.n}</td></tr>"
            for s in self.summary()
            if s.value is not None
        )
        lacking = "".join(f"<p>{html.escape(text)}</p>" for text in self._lacking())
        pictures = "".join(
            "<figure style='display:inline-block;margin:4px'>"
            f"<img src='{_data_url(original)}' title='original'>"
            f"<img src='{_data_url(picture)}' title='reconstruction'>"
            f"<figcaption>{html.escape(name)}</figcaption></figure>"
            for name, original, picture in self.panel()
        )
        head = html.escape(f"{self.name} on {self.suite.name}@{self.suite.version}{self._marks()}")
        return (
            f"<h4>{head}</h4><table><thead><tr><th>task</th><th>metric</th><th>value (95 %)</th>"
            f"<th>n</th></tr></thead><tbody>{rows}</tbody></table>{lacking}{pictures}"
        )


def _score(column: Column, cell: Cell) -> Score:
    return Score(
        key=column.key,
        group=column.group,
        label=describe_column(column),
        unit=column.metric.unit,
        value=cell.value,
        low=cell.low,
        high=cell.high,
        n=cell.n,
        state=cell.state,
        reason=cell.reason,
        bound=cell.bound,
    )


def _format(score: Score) -> str:
    assert score.value is not None
    unit = f" {score.unit}" if score.unit else ""
    interval = "" if score.low is None else f" [{score.low:.4g}, {score.high:.4g}]"
    bound = {"=": "", ">=": "≥", "<": "<"}[score.bound]
    return f"{bound}{score.value:.4g}{unit}{interval}"


def _is_picture(path: Path) -> bool:
    """Return whether a file of the panel is a regular one: a link of a stranger may lead anywhere."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _data_url(path: Path) -> str:
    content = read_bounded(path, max_bytes=MAX_PICTURE_BYTES, raise_as=ResultsError)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def read_result(folder: Path, name: str, scratch: ScratchFolder | None = None) -> Result:
    """Return the result of one run in a folder of results. Raises ResultsError as `read_checked_run`."""
    run = read_checked_run(folder / name)
    return Result(run, read_suite_folder(folder), folder / name, scratch=scratch)


class Results(dict[str, Result]):
    """The results of a folder by the names of their rows.

    Attributes:
        damaged: A message for each run that was left out because its files are damaged.
    """

    def __init__(self, results: Mapping[str, Result], damaged: Sequence[str]) -> None:
        super().__init__(results)
        self.damaged = tuple(damaged)


def read_results(folder: str | Path) -> Results:
    """Return the results in the folder of a suite, by the names of their rows.

    A damaged or edited run is left out. `damaged` of the returned mapping names it, and so does a
    warning in the log.

    Args:
        folder: A folder with suite.json, such as results/local/embedded.

    Raises:
        ResultsError: The folder does not hold results of a suite.
    """
    root = Path(folder)
    suite = read_suite_folder(root)
    damaged: list[str] = []
    runs = read_runs(root, damaged=damaged)
    for complaint in damaged:
        _LOG.warning("%s: left out", complaint)
    return Results({run.record.run: Result(run, suite, run.folder) for run in runs}, damaged)
