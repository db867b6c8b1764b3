"""cost.json: what encoding and decoding cost one tokenizer on one machine. Imports no torch.

results/local/efficiency/<run name>/cost.json      one a tokenizer (and dtype, and variant)
/efficiency.{md,csv,json}  rendered from them, and from them alone
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vtbench.base.errors import OutputError, ResultsError
from vtbench.base.files import read_bounded, sha256_bytes, write_atomic
from vtbench.base.names import Name, RunName
from vtbench.base.records import Kind
from vtbench.base.schema import Strict, load_json
from vtbench.base.text import Stripped
from vtbench.results.schema import Environment, PathlessText

COST_FILE = "cost.json"

MAX_BYTES = 2**20

PROTOCOL_VERSION = 2
"""Of how cost is measured (`runs.cost_process`); another version's numbers are measured again."""

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


class Spread(Strict):
    """A measured quantity over all repeats of all processes.

    Args:
        median: of the processes' medians.
        low, high: 5th and 95th percentile of all repeats, widened to hold every process's median and,
            of several processes, where another measurement's median is expected.
        repeats: how many calls were timed.
    """

    median: _Positive
    low: _Positive
    high: _Positive
    repeats: _Count


class Throughput(Strict):
    """Images a second at the batch that gave most of them.

    Args:
        batch: images at a time.
        images_per_s: at that batch.
        tried: images a second of every batch that each process tried, by batch.
    """

    batch: _Count
    images_per_s: Spread
    tried: dict[_Count, _Positive]


class PhaseCost(Strict):
    """Encode or decode at one size.

    Args:
        latency_s: seconds of one image at batch 1.
        throughput: at the best batch.
        peak_mib: Peak of tensors in memory during one image at batch 1, those of the weights and the
            input included, as the allocator counted them; None where the device's does not count.
        gmac: 10⁹ multiply-accumulates of one image, by torch's counter; None where it cannot be counted.
    """

    latency_s: Spread
    throughput: Throughput
    peak_mib: float | None = None
    gmac: float | None = None


class SizeCost(Strict):
    """The cost of square images of one size.

    Args:
        size: side in pixels.
        fit: how the images came to the network's size ("resize": the cost is of the network's own).
        error: why there are no numbers.
    """

    size: _Count
    fit: Stripped | None = None
    encode: PhaseCost | None = None
    decode: PhaseCost | None = None
    error: PathlessText | None = None


class Load(Strict):
    """How busy the machine was with other work meanwhile.

    Args:
        load_average: of one minute at the start, None where the system has none.
        others: share of the CPUs that other processes used while this was measured.
        busy: whether that was more than `BUSY_SHARE`.
    """

    load_average: float | None
    others: Annotated[float, Field(ge=0, le=1)]
    busy: bool


class CostRecord(Strict):
    """cost.json. key: digest of all but the numbers and the load, for reuse of what was measured."""

    protocol_version: int = PROTOCOL_VERSION
    run: RunName
    key: str
    tokenizer: Name
    title: Stripped
    family: Stripped
    kind: Kind
    entry_sha256: str
    weights: Literal["loaded", "random", "none needed"]
    dtype: Stripped
    processes: _Count
    seconds: _Positive
    parameters: int | None
    entry_gmac: dict[Literal["encode", "decode"], float | None]
    """What the entry says of one image of 256²."""
    weights_mib: float | None
    environment: Environment
    load: Load
    sizes: tuple[SizeCost, ...]

    @property
    def machine(self) -> str:
        """What must be equal for two costs to be compared."""
        here = self.environment
        versions = here.versions
        return (
            f"{here.device} · {here.processor} · {here.threads} threads · {here.platform} · "
            f"Python {here.python} · torch {versions.get('torch', 'absent')}"
        )

    def find_size(self, size: int) -> SizeCost | None:
        """Return the cost at a size."""
        return next((cost for cost in self.sizes if cost.size == size), None)


def digest_cost_key(parts: Mapping[str, object]) -> str:
    """Return the key of a cost that is measured under these choices."""
    return sha256_bytes(json.dumps(parts, sort_keys=True).encode())


def write_cost(folder: Path, record: CostRecord) -> None:
    """Write a run's cost.json. Raises OutputError."""
    target = folder / record.run / COST_FILE
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {target.parent}: {error.strerror or error}") from error
    content = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_atomic(target, content.encode())


def read_cost(path: Path) -> CostRecord:
    """Return a cost.json. Raises ResultsError for one that is none."""
    content = read_bounded(path, max_bytes=MAX_BYTES, raise_as=ResultsError)
    try:
        return CostRecord.model_validate(load_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultsError(f"{path}: {place}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: {error}") from None


def read_costs(folder: Path) -> tuple[tuple[CostRecord, ...], tuple[str, ...]]:
    """Return the costs of a folder by run name, and what is wrong with those that cannot be read."""
    records, damaged = [], []
    for path in sorted(folder.glob(f"*/{COST_FILE}")):
        try:
            record = read_cost(path)
            if record.run != path.parent.name:
                raise ResultsError(f"{path}: it is of {record.run}")
            records.append(record)
        except ResultsError as error:
            damaged.append(str(error))
    return tuple(records), tuple(damaged)
