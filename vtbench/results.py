"""Result files: `run.json` (everything that changes a number), `images.parquet` (a row an image).

    results/local/<suite>/suite.json                    what the suite is, what was skipped and why
                         /originals/<n>.png             the panel's originals
                         /<run name>/run.json
                                    /images.parquet
                                    /codes.parquet         how often each codeword was seen (discrete)
                                    /panel/<n>.png, <n>.error.png
                         /.<run name>.partial.jsonl     while it runs; a killed run goes on from it
                         /.<run name>.features/         likewise, where the suite has set metrics
                         /leaderboard.{md,csv,tex,html} rendered from the above, and from it alone

Rows are the evidence; every aggregate is computed from them (`leaderboard.aggregate`). Writing is
atomic. Imports no torch.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from vtbench.errors import ImageError, OutputError, ResultsError
from vtbench.files import read_bounded, resolve_below, sha256_bytes, write_atomic
from vtbench.images import load_rgb8
from vtbench.locations import without_paths
from vtbench.metrics.rate import Histogram, Unit, token_entropy
from vtbench.records import Kind, State
from vtbench.registry import Name, RunName, Strict

SCHEMA_VERSION = 3

CODES = "codes.parquet"

ROW_COLUMNS: dict[str, str] = {
    "id": "string",
    "task": "string",
    "subset": "string",
    "width": "int64",
    "height": "int64",
    "sha256": "string",  # of the original's pixels
    "error": "string",  # null, or why this image has no numbers
    "fit": "string",  # none, pad, resize or tile: how the network was given this size
    "tokens": "int64",
    "bits": "float64",
    "entropy_bits": "float64",  # of the tokens under the distribution of codes.parquet
    "q8_bits": "float64",  # of latents quantized to 8 bits, with their ranges
    "batch_size": "int64",
    "encode_s": "float64",  # seconds of the batch ÷ images in it
    "decode_s": "float64",
    "peak_memory_mib": "float64",  # of encode and decode of the batch
    "psnr_db": "float64",
    "ssim": "float64",
    "ms_ssim": "float64",
    "lpips_alex": "float64",
    "lpips_vgg": "float64",
    "mse": "float64",  # squared 8-bit levels: what a pooled PSNR is made of
    "mae": "float64",  # 8-bit levels
    "haarpsi": "float64",
    "dists": "float64",
    "psnr_q8_db": "float64",  # of what those quantized latents decode to
    "contrast_transfer": "list<float64>",  # one a grating patch
    "patch_cpp": "list<float64>",  # the patch's frequency, cycles per pixel
    "script": "string",
    "glyph_px": "float64",
    "chars": "int64",
    "char_edits": "int64",
    "words": "int64",  # null where the script has no spaces
    "word_edits": "int64",
    "ned": "float64",  # normalized edit similarity, mean over the page's lines
    "lines": "int64",
    "reading": "list<string>",  # what the engine read, line by line
    "original_char_edits": "int64",  # the same of the original: the engine's own error
    "original_word_edits": "int64",
    "original_ned": "float64",
    "original_reading": "list<string>",
    "dinov2_cos": "float64",  # cosine of the features of original and reconstruction
    "clip_cos": "float64",
    "siglip_cos": "float64",
    "face_cos": "float64",
}
"""Columns of images.parquet, in order, with their Arrow types. A null without an `error` means not
applicable, or missing as `run.json` says of the metric."""

Row = dict[str, Any]
_Model = TypeVar("_Model", bound=Strict)


class TokenizerRecord(Strict):
    """What was run: the entry's digest and facts, and the hashes of the weights actually loaded."""

    name: Name
    title: str
    family: str
    kind: Kind
    quantizer: str
    downsample: int | None
    codebook_size: int | None
    latent_channels: int | None
    parameters: int | None
    stochastic: bool
    entry_sha256: str
    weights: dict[str, str]
    pinned: bool
    libraries: dict[str, str]


class SuiteRecord(Strict):
    """Which protocol: the suite's name, version and digest, and its manifest's: null where no
    manifest pins the pixels, which then are known by the rows' sha256 alone."""

    name: Name
    version: int
    sha256: str
    manifest_sha256: str | None
    published: bool


Told = Annotated[str, AfterValidator(without_paths)]
"""What a result file says of a failure: no path of the machine that it failed on."""


class MetricRecord(Strict):
    """Whether a metric was measured in this run, by which version, and if not, why."""

    version: int
    state: State
    reason: Told | None = None


class Protocol(Strict):
    """The choices of this run. A deviation from the suite's own is part of the run's name."""

    dtype: str
    seed: int
    tasks: tuple[str, ...]
    metrics: dict[str, MetricRecord]
    ocr: dict[str, str]
    limit: int | None
    crop: str | None = None  # instead of the suite's
    posterior: Literal["mode", "sample"] | None = None  # None: the tokenizer has none
    networks: dict[str, str] = Field(default_factory=dict)
    """sha256 of the weights behind the metrics of deep features, by file name."""


class SetRecord(Strict):
    """A number of all images of a task together, or why there is none."""

    value: float | None = None
    standard_error: float | None = None
    n: int = 0
    state: State
    reason: Told | None = None
    warning: str | None = None
    version: int
    weights: dict[str, str] = Field(default_factory=dict)


class Environment(Strict):
    """Where it ran. No host names, user names or paths."""

    device: str
    processor: str
    threads: int
    platform: str
    python: str
    versions: dict[str, str]
    vtbench: str
    code_sha256: str
    commit: str | None
    dirty: bool | None


class Failure(Strict):
    """One image that has no numbers."""

    id: str
    error: Told


class CodebookRecord(Strict):
    """One codebook of codes.parquet: its words, what was counted, and over how many tokens."""

    size: Annotated[int, Field(ge=1)]
    unit: Unit
    tokens: int


class CodesRecord(Strict):
    """codes.parquet: its digest, its codebooks, and the images that the tokens are of."""

    sha256: str
    images: int
    codebooks: tuple[CodebookRecord, ...]


class RunRecord(Strict):
    """run.json. key: digest of everything that changes a number, for reuse of own results."""

    schema_version: Literal[3]
    run: RunName
    key: str
    suite: SuiteRecord
    tokenizer: TokenizerRecord
    protocol: Protocol
    environment: Environment
    n_expected: int
    n_done: int
    failures: tuple[Failure, ...]
    started: str
    seconds: float
    rows_sha256: str
    codes: CodesRecord | None = None
    sets: dict[str, SetRecord] = Field(default_factory=dict)
    """The set metrics, by `<task>.<metric>`."""

    @property
    def complete(self) -> bool:
        """Whether every image of the whole suite has its numbers."""
        return self.n_done == self.n_expected and self.protocol.limit is None


class Skipped(Strict):
    """A registry entry that was not run, and why."""

    name: RunName
    reason: Told


class PanelItem(Strict):
    """One picture of the side-by-side panel: originals/<n>.png, <run>/panel/<n>.png."""

    n: Annotated[int, Field(ge=0)]
    id: str
    task: str
    width: int
    height: int


class SuiteFolder(Strict):
    """suite.json: what a folder of runs has in common. The board is made from it and the runs."""

    schema_version: Literal[3]
    name: Name
    version: int
    title: str
    description: str
    sha256: str
    published: bool
    pinned: bool = True
    images: dict[str, int]
    cost_subset: str | None
    panel: tuple[PanelItem, ...]
    skipped: tuple[Skipped, ...]
    cut_from: dict[str, str] = Field(default_factory=dict)
    """Images that share a picture file, each with the first of its file: one draw of a bootstrap."""


MAX_JSON_BYTES = 16 * 2**20
MAX_PARQUET_BYTES = 2**30
MAX_PICTURE_BYTES = 8 * 2**20
"""Larger files of a results folder are refused unread: they may come from a stranger."""


@dataclass(frozen=True)
class Run:
    """A run as read from its folder."""

    record: RunRecord
    rows: tuple[Row, ...]
    folder: Path
    codes: tuple[Histogram, ...] = ()


def list_run_files(record: RunRecord, suite: SuiteFolder) -> dict[str, int]:
    """Return the files that a run's folder may hold, by name below it, with their largest sizes."""
    pictures = (f"panel/{item.n}{end}" for item in suite.panel for end in (".png", ".error.png"))
    files = {"run.json": MAX_JSON_BYTES, "images.parquet": MAX_PARQUET_BYTES}
    if record.codes is not None:
        files[CODES] = MAX_PARQUET_BYTES
    return files | dict.fromkeys(pictures, MAX_PICTURE_BYTES)


def list_suite_files(suite: SuiteFolder) -> dict[str, int]:
    """Return the files of a suite's folder beside its runs and tables, with their largest sizes."""
    originals = (f"originals/{item.n}.png" for item in suite.panel)
    return {"suite.json": MAX_JSON_BYTES} | dict.fromkeys(originals, MAX_PICTURE_BYTES)


def read_known_files(folder: Path, files: Mapping[str, int]) -> dict[str, bytes]:
    """Return the content of those of the named files that are in the folder.

    Raises ResultsError for one that is no regular file, is behind a symbolic link, is larger than
    its limit, or is named a picture and is no PNG.
    """
    found = {}
    for name, limit in files.items():
        try:
            path = resolve_below(folder, name)
            found[name] = read_bounded(path, max_bytes=limit, raise_as=ResultsError)
            if name.endswith(".png"):
                load_rgb8(io.BytesIO(found[name]), formats=("PNG",))
        except FileNotFoundError:
            continue
        except OutputError as error:
            raise ResultsError(str(error)) from None
        except ImageError as error:
            raise ResultsError(f"{path}: {error}") from None
    return found


def write_suite_folder(folder: Path, suite: SuiteFolder) -> None:
    """Write suite.json."""
    content = json.dumps(suite.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / "suite.json", (content + "\n").encode())


def read_suite_folder(folder: Path) -> SuiteFolder:
    """Return a folder's suite.json. Raises ResultsError naming the file and what is wrong."""
    return _read_json(folder / "suite.json", SuiteFolder)


def write_run(
    folder: Path,
    record: RunRecord,
    rows: Sequence[Row],
    *,
    codes: Sequence[Histogram] = (),
) -> RunRecord:
    """Write images.parquet, codes.parquet where there are histograms, then run.json, each whole or
    not at all; return the record as written.

    run.json is last and holds the others' digests, so a folder is complete exactly when it validates.
    """
    parquet = encode_rows(
        [{**row, "error": without_paths(row["error"])} if row.get("error") else row for row in rows]
    )
    update: dict[str, Any] = {"rows_sha256": sha256_bytes(parquet), "codes": None}
    write_atomic(folder / "images.parquet", parquet)
    if codes:
        content = encode_codes(codes)
        books = (CodebookRecord(size=c.size, unit=c.unit, tokens=c.tokens) for c in codes)
        update["codes"] = CodesRecord(
            sha256=sha256_bytes(content),
            images=sum(row.get("entropy_bits") is not None for row in rows),
            codebooks=tuple(books),
        )
        write_atomic(folder / CODES, content)
    else:
        (folder / CODES).unlink(missing_ok=True)  # of an earlier run
    record = record.model_copy(update=update)
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / "run.json", (text + "\n").encode())
    return record


def encode_codes(codes: Sequence[Histogram]) -> bytes:
    """Return the histograms as a Parquet file: a row a symbol seen, by codebook and symbol."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    places = [np.full(len(histogram.symbols), place) for place, histogram in enumerate(codes)]
    columns = {
        "codebook": np.concatenate(places),
        "symbol": np.concatenate([histogram.symbols for histogram in codes]),
        "count": np.concatenate([histogram.counts for histogram in codes]),
    }
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    buffer = io.BytesIO()
    # Ascending symbols are stored by their differences.
    parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(columns, "DELTA_BINARY_PACKED"),
    )
    return buffer.getvalue()


def read_codes(folder: Path, record: CodesRecord) -> tuple[Histogram, ...]:
    """Return a run's histograms, which must be the ones that run.json was written with.

    Raises ResultsError for a missing, damaged or edited file, or counts that do not add up.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = folder / CODES
    content = _read_parquet_file(path)
    if sha256_bytes(content) != record.sha256:
        raise ResultsError(f"{path}: not the counts that run.json was written with (edited?)")
    try:
        table = parquet.read_table(io.BytesIO(content))
        place, symbol, count = (table[name].to_numpy() for name in ("codebook", "symbol", "count"))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise ResultsError(f"{path}: not a table of counts ({error})") from None
    codes = []
    for index, book in enumerate(record.codebooks):
        own = place == index
        codes.append(Histogram(book.size, symbol[own], count[own]))
    whole = sum(len(histogram.symbols) for histogram in codes) == len(place)
    for histogram, book in zip(codes, record.codebooks, strict=True):
        largest = book.size if book.unit == "codewords" else 2 * book.size.bit_length()
        symbols = histogram.symbols
        if (
            not whole
            or (histogram.unit, histogram.tokens) != (book.unit, book.tokens)
            or (histogram.counts < 1).any()
            or (symbols[1:] <= symbols[:-1]).any()
            or (len(symbols) and not 0 <= symbols[0] <= symbols[-1] < largest)
        ):
            raise ResultsError(f"{path}: its counts are not those of the codebooks of run.json")
    return tuple(codes)


def _read_parquet_file(path: Path) -> bytes:
    try:
        return read_bounded(path, max_bytes=MAX_PARQUET_BYTES, raise_as=ResultsError)
    except FileNotFoundError:
        raise ResultsError(f"{path}: cannot be read (no such file)") from None


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the rows as a Parquet file. Raises ResultsError for a column that is not known."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for row in rows:
        if unknown := sorted(set(row) - set(ROW_COLUMNS)):
            raise ResultsError(f"row {row.get('id')}: unknown column {unknown[0]}")
    schema = pa.schema([(name, _arrow_type(pa, kind)) for name, kind in ROW_COLUMNS.items()])
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _arrow_type(pa: Any, kind: str) -> Any:
    if kind.startswith("list<"):
        return pa.list_(_arrow_type(pa, kind[5:-1]))
    return {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}[kind]


def read_record(folder: Path) -> RunRecord:
    """Return a folder's run.json. Raises ResultsError naming the file and what is wrong."""
    return _read_json(folder / "run.json", RunRecord)


def _read_json(path: Path, model: type[_Model]) -> _Model:
    try:
        data = json.loads(read_bounded(path, max_bytes=MAX_JSON_BYTES, raise_as=ResultsError))
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: not a result folder") from None
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: cannot be read ({error})") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "update vtbench" if newer else "measure it again"
        raise ResultsError(f"{path}: schema version {version}, this is {SCHEMA_VERSION}: {advice}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ResultsError(f"{path}: {key}: {first['msg']}") from None


def read_run(folder: Path) -> Run:
    """Return a run with its rows; the rows must be the ones that run.json was written with.

    Raises ResultsError for a missing, damaged or edited file, or counts that do not add up.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    record = read_record(folder)
    path = folder / "images.parquet"
    content = _read_parquet_file(path)
    if sha256_bytes(content) != record.rows_sha256:
        raise ResultsError(f"{path}: not the rows that run.json was written with (edited?)")
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise ResultsError(f"{path}: not a Parquet file ({error})") from None
    if table.column_names != list(ROW_COLUMNS):
        raise ResultsError(f"{path}: its columns are not those of schema {SCHEMA_VERSION}")
    rows: tuple[Row, ...] = tuple(table.to_pylist())
    _check_places(path, rows)
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        raise ResultsError(f"{path}: an image appears twice")
    failed = {row["id"] for row in rows if row["error"] is not None}
    if len(rows) != record.n_expected or len(rows) - len(failed) != record.n_done:
        raise ResultsError(
            f"{path}: {len(rows)} rows, {len(failed)} failed; run.json says {record.n_done} of "
            f"{record.n_expected} done"
        )
    if failed != {failure.id for failure in record.failures}:
        raise ResultsError(f"{path}: failed rows differ from run.json's failures")
    codes = read_codes(folder, record.codes) if record.codes is not None else ()
    lengths = [row["entropy_bits"] for row in rows if row["entropy_bits"] is not None]
    total = math.fsum(token_entropy(histogram) * histogram.tokens for histogram in codes)
    if not math.isclose(math.fsum(lengths), total, rel_tol=1e-9, abs_tol=1e-6) or len(lengths) != (
        record.codes.images if record.codes else 0
    ):
        raise ResultsError(f"{path}: the images' code lengths are not those of {CODES}")
    return Run(record, rows, folder, codes)


def _check_places(path: Path, rows: Sequence[Row]) -> None:
    """Raise ResultsError for a row without id, or whose task or subset is no name."""
    for row in rows:
        if not isinstance(row["id"], str):
            raise ResultsError(f"{path}: a row without an id")
        for key in ("task", "subset"):
            if row[key] is not None and not _PLACE.fullmatch(str(row[key])):
                raise ResultsError(f"{path}: {row['id']!r}: {key} {row[key]!r} is no name")


_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def read_runs(folder: Path) -> list[Run]:
    """Return every run below a suite's folder, sorted by run name.

    A folder's name must be its run's name. Raises ResultsError for the first malformed one.
    """
    runs = []
    for path in sorted(folder.glob("*/run.json")):
        run = read_run(path.parent)
        if run.record.run != path.parent.name:
            raise ResultsError(f"{path}: run {run.record.run!r} in folder {path.parent.name!r}")
        runs.append(run)
    return runs


class PartialRows:
    """Rows of an unfinished run, appended batch by batch to a JSON Lines file.

    The first line holds the run's key; a file of another key (another protocol, other code) is
    started anew. A torn last line, left by a kill, is dropped.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.rows: list[Row] = []
        kept = self._read(key)
        if kept is None:
            write_atomic(path, (json.dumps({"key": key}) + "\n").encode())
        else:
            self.rows = kept
            lines = [json.dumps({"key": key}), *(json.dumps(row) for row in kept)]
            write_atomic(path, ("\n".join(lines) + "\n").encode())

    def _read(self, key: str) -> list[Row] | None:
        if not self.path.is_file():
            return None
        rows: list[Row] = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines()):
            try:
                data = json.loads(line)
            except ValueError:
                break
            if number == 0:
                if data != {"key": key}:
                    return None
            elif data.get("error") is None:  # what failed is tried again
                rows.append(data)
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch's rows; they survive a kill from here on."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.rows.extend(rows)

    def restart(self) -> None:
        """Forget the rows that were kept: what belongs to them is gone."""
        write_atomic(self.path, (json.dumps({"key": self.key}) + "\n").encode())
        self.rows = []

    def discard(self) -> None:
        """Remove the file: its rows stand in images.parquet now."""
        self.path.unlink(missing_ok=True)
