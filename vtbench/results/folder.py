"""Result files: `run.json` (everything that changes a number), `images.parquet` (a row an image).

    results/local/<suite>/suite.json                    what the suite is, what was skipped and why
                         /originals/<n>.png             the panel's originals
                         /<run name>/run.json
                                    /images.parquet
                                    /codes.parquet         how often each codeword was seen (discrete)
                                    /panel/<n>.png
                                    /reconstructions/      with --keep-reconstructions
                         /.<run name>.partial.jsonl     while it runs; a killed run goes on from it
                         /.<run name>.features/         likewise, where the suite has set metrics
                         /.<run name>.panel/            likewise, the pictures of the panel
         /.<run name>.reconstructions/  likewise, where they are kept
         /.<run name>.adding.jsonl      while metrics are added to the run; likewise .adding.features/
                         /.<run name>.lock              held by the one process that writes the run
                         /leaderboard.{md,csv,tex,json} rendered from the above, and from it alone
                         /leaderboard-site/             likewise, the pages

Rows are the evidence; every aggregate is computed from them (`leaderboard.aggregate`). Writing is
atomic. Imports no torch.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vtbench.base.errors import OutputError, ResultsError
from vtbench.base.files import read_bounded, sha256_bytes, write_atomic
from vtbench.base.locations import without_paths
from vtbench.base.schema import MAX_JSON_BYTES, Strict, load_json, validate_plain
from vtbench.metrics.rate import Histogram, token_entropy
from vtbench.results.codes import CODES, encode_codes, read_codes
from vtbench.results.rows import (
    IMAGE_COLUMNS,
    ROW_COLUMNS,
    Row,
    arrow_type,
    check_table,
    read_table,
)
from vtbench.results.schema import (
    CodebookRecord,
    CodesRecord,
    RunRecord,
    SuiteFolder,
)
from vtbench.results.upgrades import upgrade

if TYPE_CHECKING:
    import pyarrow as pa

_Model = TypeVar("_Model", bound=Strict)


@dataclass(frozen=True)
class Run:
    """A run as read from its folder. table: a row an image, with the columns of `ROW_COLUMNS`."""

    record: RunRecord
    table: pa.Table
    folder: Path
    codes: tuple[Histogram, ...] = ()

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The table as dictionaries: some kB an image, for those who read few."""
        return tuple(self.table.to_pylist())

    def with_rows(self, rows: Sequence[Row]) -> Run:
        """Return the run with other rows."""
        import pyarrow as pa

        schema = self.table.schema
        return replace(self, table=pa.Table.from_pylist([dict(row) for row in rows], schema=schema))

    def find_row(self, image: str, columns: Sequence[str] | None = None) -> Row | None:
        """Return the row of an image, None where the run has none. columns: these alone."""
        import pyarrow.compute as pc

        place = pc.index(self.table["id"], image).as_py()
        if place < 0:
            return None
        table = self.table if columns is None else self.table.select(columns)
        return dict(table.slice(place, 1).to_pylist()[0])

    def has(self, column: str, value: str) -> bool:
        """Return whether any image has this value in a column of strings."""
        return value in self.table[column].unique().to_pylist()

    def list_sizes(self, column: str, value: str) -> dict[tuple[int, int], int]:
        """Return how many images of each (width, height) have this value in a column."""
        import pyarrow.compute as pc

        table = self.table.filter(pc.equal(self.table[column], value))
        counts = table.group_by(["width", "height"]).aggregate([([], "count_all")])
        return {(x["width"], x["height"]): x["count_all"] for x in counts.to_pylist()}


def write_suite_folder(folder: Path, suite: SuiteFolder) -> None:
    """Write suite.json."""
    content = json.dumps(suite.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / "suite.json", (content + "\n").encode())


def read_suite_folder(folder: Path) -> SuiteFolder:
    """Return a folder's suite.json. Raises ResultsError naming the file and what is wrong."""
    return _read_json(folder / "suite.json", SuiteFolder)


def require_own_folder(folder: Path, suite: str) -> None:
    """Raise OutputError where a folder's suite.json is of another suite than this, or none of ours: a
    folder belongs to one suite, and what others wrote is not overwritten."""
    path = folder / "suite.json"
    if not path.exists():
        return
    try:
        data = load_json(read_bounded(path, max_bytes=MAX_JSON_BYTES, raise_as=ResultsError))
    except (ResultsError, ValueError) as error:
        raise OutputError(f"{path}: none of vtbench's ({error}); give another --out") from None
    if not isinstance(data, dict) or "schema_version" not in data:
        raise OutputError(f"{path}: none of vtbench's; give another --out")
    if data.get("name") != suite:
        raise OutputError(
            f"{folder} holds results of {data.get('name')}, not of {suite}: give another --out"
        )


def write_run(
    folder: Path,
    record: RunRecord,
    rows: Sequence[Row] | pa.Table,
    *,
    codes: Sequence[Histogram] = (),
) -> RunRecord:
    """Write images.parquet, codes.parquet where there are histograms, then run.json, each whole or
    not at all; return the record as written.

    run.json is last and holds the others' digests, so a folder is complete exactly when it validates.
    """
    import pyarrow as pa

    table = rows if isinstance(rows, pa.Table) else tabulate(rows)
    errors = [error and without_paths(error) for error in table["error"].to_pylist()]
    place = table.column_names.index("error")
    table = table.set_column(place, "error", pa.array(errors, pa.string()))
    parquet = encode_rows(table)
    update: dict[str, Any] = {"rows_sha256": sha256_bytes(parquet), "codes": None}
    write_atomic(folder / "images.parquet", parquet, durable=True)
    if codes:
        content = encode_codes(codes)
        books = (CodebookRecord(size=c.size, unit=c.unit, tokens=c.tokens) for c in codes)
        update["codes"] = CodesRecord(
            sha256=sha256_bytes(content),
            images=len(table) - table["entropy_bits"].null_count,
            codebooks=tuple(books),
        )
        write_atomic(folder / CODES, content, durable=True)
    else:
        (folder / CODES).unlink(missing_ok=True)  # of an earlier run
    record = record.model_copy(update=update)
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / "run.json", (text + "\n").encode(), durable=True)
    return record


CHUNK = 1000
"""Rows that are dictionaries at a time: a dictionary takes some kB, a row of a table a tenth of it."""


def tabulate(rows: Iterable[Row], *, extra: Collection[str] = ()) -> pa.Table:
    """Return rows as a table with the columns that any of them has, in order, and those of the pass.

    Args:
        rows: each with columns of ROW_COLUMNS alone; they are taken a part at a time.
        extra: further columns of text, behind the others where any row has them.

    Raises:
        ResultsError: a row has a column that is not known.
    """
    import pyarrow as pa

    kinds = {**ROW_COLUMNS, **dict.fromkeys(extra, "string")}

    def make_schema(names: Collection[str]) -> pa.Schema:
        return pa.schema([(name, arrow_type(kinds[name])) for name in kinds if name in names])

    present = set(IMAGE_COLUMNS)
    parts = [make_schema(present).empty_table()]
    rows = iter(rows)
    while part := list(itertools.islice(rows, CHUNK)):
        own: set[str] = set().union(*part)
        if unknown := own - kinds.keys():
            name = min(unknown)
            image = next(row.get("id") for row in part if name in row)
            raise ResultsError(f"row {image}: unknown column {name}")
        present |= own
        # Most columns are of metrics that nobody asked for; nulls take as much memory as numbers.
        parts.append(pa.Table.from_pylist(part, schema=make_schema(own)))
    table = pa.concat_tables(parts, promote_options="default")
    return table.select([name for name in kinds if name in present]).combine_chunks()


def encode_rows(rows: Sequence[Row] | pa.Table) -> bytes:
    """Return the rows as a Parquet file. Raises ResultsError for a column that is not known."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = rows if isinstance(rows, pa.Table) else tabulate(rows)
    buffer = pa.BufferOutputStream()
    parquet.write_table(table, buffer, compression="zstd")
    return bytes(buffer.getvalue())


def read_record(folder: Path) -> RunRecord:
    """Return a folder's run.json. Raises ResultsError naming the file and what is wrong."""
    return _read_json(folder / "run.json", RunRecord)


def _read_json(path: Path, model: type[_Model]) -> _Model:
    try:
        data = load_json(read_bounded(path, max_bytes=MAX_JSON_BYTES, raise_as=ResultsError))
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: not a result folder") from None
    except ValueError as error:
        raise ResultsError(f"{path}: cannot be read ({error})") from None
    try:
        return validate_plain(model, upgrade(data, path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part)[:80] for part in first["loc"])
        raise ResultsError(f"{path}: {key}: {first['msg']}") from None


def read_run(folder: Path) -> Run:
    """Return a run with its rows; the rows must be the ones that run.json was written with.

    Raises ResultsError for a missing, damaged or edited file, or counts that do not add up.
    """
    import pyarrow.compute as pc

    record = read_record(folder)
    path = folder / "images.parquet"
    table = read_table(path, record.rows_sha256)
    failed = set(table.filter(pc.is_valid(table["error"]))["id"].to_pylist())
    if len(table) != record.n_expected or len(table) - len(failed) != record.n_done:
        raise ResultsError(
            f"{path}: {len(table)} rows, {len(failed)} failed; run.json says {record.n_done} of "
            f"{record.n_expected} done"
        )
    if failed != {failure.id for failure in record.failures}:
        raise ResultsError(f"{path}: failed rows differ from run.json's failures")
    codes = read_codes(folder, record.codes) if record.codes is not None else ()
    lengths = table["entropy_bits"].drop_null().to_pylist()
    total = math.fsum(token_entropy(histogram) * histogram.tokens for histogram in codes)
    if not math.isclose(math.fsum(lengths), total, rel_tol=1e-9, abs_tol=1e-6) or len(lengths) != (
        record.codes.images if record.codes else 0
    ):
        raise ResultsError(f"{path}: the images' code lengths are not those of {CODES}")
    return Run(record, table, folder, codes)


def read_runs(folder: Path, *, damaged: list[str] | None = None) -> list[Run]:
    """Return every run below a suite's folder, sorted by run name.

    A folder's name must be its run's name.

    Args:
        folder: the results of one suite.
        damaged: takes the complaints about malformed runs, which are left out then.

    Raises:
        ResultsError: a run is malformed, and `damaged` is None.
    """
    runs: list[Run] = []
    folders = [path.parent for path in sorted(folder.glob("*/run.json"))]
    # Names with a dot are of a file system or an editor.
    for read in _read_ahead([path for path in folders if not path.name.startswith(".")]):
        try:
            run = read()
        except ResultsError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
        else:
            runs.append(_share_columns(run, runs[0]) if runs else run)
    return runs


def read_checked_run(folder: Path) -> Run:
    """Return a run of whose rows a board can be made, and whose name is its folder's. Raises
    ResultsError."""
    run = read_run(folder)
    if run.record.run != folder.name:
        raise ResultsError(
            f"{folder / 'run.json'}: run {run.record.run!r} in folder {folder.name!r}"
        )
    check_table(folder / "images.parquet", run.table)
    return run


def _read_ahead(folders: Sequence[Path]) -> Iterator[Callable[[], Run]]:
    """Yield of each folder in order what returns its run, or raises its ResultsError. Two are read at
    a time: while the child process decodes the one, the other is checked."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[Run]] = deque()
        try:
            for folder in folders:
                waiting.append(pool.submit(read_checked_run, folder))
                if len(waiting) > 2:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result
        finally:
            for one in waiting:
                one.cancel()


def _share_columns(run: Run, other: Run) -> Run:
    """Return the run with the other's columns where they are equal: ids, hashes and sizes of the
    same images, and what neither has, are then held once."""
    import pyarrow as pa

    columns = {}
    for name, own in zip(run.table.column_names, run.table.columns, strict=True):
        values = other.table[name]
        empty = values.null_count == len(values) == own.null_count
        columns[name] = values if empty or values.equals(own) else own
    pa.default_memory_pool().release_unused()
    return replace(run, table=pa.table(columns))
