"""YAML files → validated entries. Imports no torch and no adapter.

One file a tokenizer; its stem is the name. The schema is `Entry`: unknown keys, wrong types, a name
that exists twice, and a repeated key are errors that name the file and the line. What is known and
cannot be run has files of its own, in the folder `unreleased/`, of the schema `Unreleased`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from vtbench.base import plugins
from vtbench.base.errors import NotReleased, RegistryError, UnknownName
from vtbench.base.files import sha256_file
from vtbench.base.locations import data_dir, registry_dir
from vtbench.base.names import Name, check_name
from vtbench.base.records import Kind, SizePolicy, Spec
from vtbench.base.schema import At, Strict, describe_invalid, load_yaml, validate_plain
from vtbench.base.text import Line, Link
from vtbench.registry.adapters import find_adapter_fault, find_options
from vtbench.registry.published_protocols import Reported, protocols_path, published_protocols
from vtbench.registry.recipe import Training
from vtbench.registry.sources import HubWeights, PackageWeights, Weights

UNRELEASED = "unreleased"
"""The folder, below one of entries, of what is known and cannot be run."""


MAX_GMAC = 1e9

MAX_SIDE = 16384
"""Pixels of a fixed size."""

SANITY = "vtbench.tokenizers.resample:"
"""Adapters of sanity rows, which stand apart and may give pictures back exactly."""

MIN_RANGE = 1e-6
"""Of the values that a network takes."""

Description = Annotated[str, Field(max_length=5000)]

Family = Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=40)]

Count = Annotated[int, Field(strict=True)]
"""A whole number; true is none."""

Bound = Annotated[float, Field(ge=-1e6, le=1e6)]


class Gmac(Strict):
    """10⁹ multiply-accumulates for one 256×256 image; `vtbench show NAME --measure` counts them."""

    encode: Annotated[float, Field(gt=0, le=MAX_GMAC)] | None = None
    decode: Annotated[float, Field(gt=0, le=MAX_GMAC)] | None = None


class Size(Strict):
    """See `records.SizePolicy`."""

    multiple: Annotated[int, Field(ge=1, le=4096)] = 1
    fixed: (
        tuple[Annotated[int, Field(ge=1, le=MAX_SIDE)], Annotated[int, Field(ge=1, le=MAX_SIDE)]]
        | None
    ) = None
    policy: Literal["pad", "resize", "tile"] = "pad"

    @model_validator(mode="after")
    def _fixed_sizes_have_a_policy(self) -> Size:
        if self.fixed is not None and self.policy == "pad":
            raise ValueError("a network of fixed size needs policy: resize or tile")
        if self.fixed is None and self.policy == "tile":
            raise ValueError("policy: tile needs a fixed size, that of a tile")
        return self


class Order(Strict):
    """Tokens in an order, of which the first ones can be decoded alone.

    tokens: how many there are. group: what is kept is a multiple of this.
    """

    tokens: Annotated[Count, Field(ge=1, le=65536)]
    group: Annotated[Count, Field(ge=1, le=65536)] = 1


class Entry(Strict):
    """One tokenizer of the registry.

    Attributes:
        adapter: "module:Class" of vtbench.tokenizers or of an installed plug-in.
        options: Keyword arguments of that class.
        quantizer: How a code is made of the encoder's output.
        downsample: Pixels of the image on a side of a token; null where tokens are no grid.
        codebook_size: Codewords, of a discrete code.
        latent_channels: Values of a token, of a continuous one.
        input_range: Of the values that the network takes and gives, [low, high].
        size: The sizes that the network takes, and what is done with others.
        ordered: Of tokens whose first ones can be decoded alone (the adapter's plan has `kept`).
        parameters: Of encoder and decoder together, codebook included.
        training: The recipe, where vtbench trained it.
        licence: Of the code; weights carry their own.
        used_by: Generators that decode through it.
        series: The curve that it is a point of, as a legend names it (a codec's settings).
        curve_only: Whether it is measured only when asked for, drawn, and in no ranking.
        needs: A package that does not come with vtbench.
        golden: The figures of the official code in tests/parity that it is held against.
        reported: Published numbers, never mixed with measured ones.
        same_output_as: Entries of the same reconstructions at another rate; both say so.
    """

    title: Line
    family: Family
    adapter: Annotated[str, Field(pattern=r"^[\w.]+:\w+$", max_length=200)]
    options: Annotated[dict[str, Any], Field(max_length=100)] = Field(default_factory=dict)
    kind: Kind
    quantizer: Family
    downsample: Annotated[Count, Field(ge=1, le=4096)] | None = None
    codebook_size: Annotated[Count, Field(ge=2)] | None = None
    latent_channels: Annotated[Count, Field(ge=1, le=65536)] | None = None
    input_range: tuple[Bound, Bound] = (0.0, 1.0)
    size: Size = Size()
    stochastic: bool = False
    ordered: Order | None = None
    parameters: Annotated[Count, Field(ge=0, le=10**13)] | None = None
    gmac: Gmac | None = None
    trained_on: Description | None = None
    training: Training | None = None
    licence: Line
    weights: Weights | None = None
    paper: Link | None = None
    used_by: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    series: Line | None = None
    curve_only: bool = False
    needs: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=80)] | None = None
    golden: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=80)] | None = None
    description: Description
    reported: tuple[Reported, ...] = ()
    same_output_as: Annotated[tuple[Name, ...], Field(max_length=100)] = ()

    # Set by the loader, not by the file.
    name: str = ""
    path: Path = Path()
    deviations: tuple[str, ...] = ()
    """What the command line changed in the entry, as a run's name says it."""

    @model_validator(mode="after")
    def _kind_matches_shape(self) -> Entry:
        if (self.kind == "discrete") != (self.codebook_size is not None):
            raise ValueError("codebook_size belongs to kind: discrete, and to it alone")
        if (self.kind == "continuous") != (self.latent_channels is not None):
            raise ValueError("latent_channels belongs to kind: continuous, and to it alone")
        if self.curve_only and self.series is None:
            raise ValueError("curve_only belongs to a point of a series: name it")
        if self.input_range[0] >= self.input_range[1]:
            raise ValueError("input_range must be [low, high] with low < high")
        if self.input_range[1] - self.input_range[0] < MIN_RANGE:
            raise ValueError(f"input_range is narrower than {MIN_RANGE}")
        return self

    @property
    def row_name(self) -> str:
        """The name, with what the command line changed after an @."""
        return self.name + ("@" + "+".join(self.deviations) if self.deviations else "")

    @property
    def posterior(self) -> Literal["mode", "sample"] | None:
        """Which point of a Gaussian posterior is the latent; None without one."""
        if self.quantizer != "kl":
            return None
        return "sample" if self.options.get("posterior") == "sample" else "mode"

    @property
    def spec(self) -> Spec:
        """What the built tokenizer declares."""
        return Spec(
            name=self.name,
            family=self.family,
            kind=self.kind,
            quantizer=self.quantizer,
            downsample=self.downsample,
            codebook_size=self.codebook_size,
            latent_channels=self.latent_channels,
            input_range=self.input_range,
            size=SizePolicy(self.size.multiple, self.size.fixed, self.size.policy),
            stochastic=self.stochastic,
        )

    @property
    def sha256(self) -> str:
        """The digest of everything in the entry that can change a number: not of its prose."""
        prose = {"title", "description", "paper", "reported", "path", "licence", "parameters"}
        prose |= {
            "gmac",
            "trained_on",
            "deviations",
            "training",
            "used_by",
            "golden",
            "ordered",
            "same_output_as",
            "series",
            "curve_only",
            "needs",
        }
        content = self.model_dump(
            mode="json",
            exclude=dict.fromkeys(prose, True) | {"weights": {"licence", "gated", "official"}},
        )
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Unreleased(Strict):
    """A published tokenizer that cannot be run as it was published.

    why: what is not there. needed: what would make it an `Entry`. code: its repository, and licence
    that of the code, where there is one.
    """

    state: Literal["unreleased"]
    title: Line
    family: Family
    why: str
    needed: str
    paper: Link
    code: Link | None = None
    licence: Line | None = None
    description: Description

    # Set by the loader, not by the file.
    name: str = ""
    path: Path = Path()


class Registry(Mapping[str, Entry]):
    """Entries by name; an unknown name raises UnknownName with the nearest ones.

    unreleased: what is known and cannot be run. It is not among the entries, so that nothing that
    goes through them can run or rank it; asked for by name, it raises NotReleased.
    """

    def __init__(
        self, entries: Mapping[str, Entry], unreleased: Mapping[str, Unreleased] | None = None
    ) -> None:
        self._entries = dict(sorted(entries.items()))
        self.unreleased = MappingProxyType(dict(sorted((unreleased or {}).items())))

    def __getitem__(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        if name in self.unreleased:
            why = self.unreleased[name].why
            raise NotReleased(f"{name} is unreleased: {why}; `vtbench show {name}` has the rest")
        raise UnknownName("tokenizer", name, [*self._entries, *self.unreleased])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_registry(folders: Iterable[Path] = ()) -> Registry:
    """Return the shipped entries, those of plug-ins, and those of the user's folders.

    Raises RegistryError for a folder that is none, a malformed entry, or a name that exists twice.
    """
    entries: dict[str, Entry] = {}
    unreleased: dict[str, Unreleased] = {}
    places: dict[str, Path] = {}
    offered = (folder / "registry" for folder in plugins.list_data_folders())
    for folder in (registry_dir(), *filter(Path.is_dir, offered), *folders):
        if not folder.is_dir():
            raise RegistryError(f"registry folder {folder} is not a folder")
        for path in (*sorted(folder.glob("*.y*ml")), *sorted((folder / UNRELEASED).glob("*.y*ml"))):
            if path.name.startswith("."):  # of a file system or an editor
                continue
            entry = _load_any(path)
            if entry.name in places:
                raise RegistryError(
                    f"{path}:1: tokenizer {entry.name!r} exists already in {places[entry.name]}; "
                    "rename one file"
                )
            places[entry.name] = path
            if isinstance(entry, Unreleased):
                unreleased[entry.name] = entry
            else:
                entries[entry.name] = entry
    return Registry(entries, unreleased)


def _load_any(path: Path) -> Entry | Unreleased:
    if path.parent.name == UNRELEASED:
        return load_unreleased(path)
    return load_entry(path)


def load_entry(path: Path, *, resolve: bool = False) -> Entry:
    """Return the entry of one YAML file. Raises RegistryError with every problem, by file and line.

    resolve: whether to check also that the adapter exists in its module's source, and that the pins
    cover all files. A submitted entry must pass both.
    """
    entry = _read_record(path, Entry, check=_check_adapter if resolve else None)
    if (
        resolve
        and isinstance(entry.weights, HubWeights)
        and (fault := entry.weights.find_pin_fault())
    ):
        raise RegistryError(f"{path}: weights.sha256: {fault}")
    if resolve and isinstance(entry.weights, PackageWeights):
        _check_package_file(path, entry.weights)
    return entry


def _check_package_file(path: Path, weights: PackageWeights) -> None:
    """Raise RegistryError where the package has not the file that an entry pins."""
    file = data_dir() / weights.file
    if file.is_symlink() or not file.is_file():
        raise RegistryError(f"{path}: weights.file: vtbench's data has no file {weights.file}")
    if (sha256 := sha256_file(file)) != weights.sha256:
        raise RegistryError(f"{path}: weights.sha256: {weights.file} has {sha256[:12]}…")


def _check_adapter(data: Mapping[str, Any]) -> Iterator[tuple[At, str]]:
    adapter = data.get("adapter")
    if not isinstance(adapter, str) or adapter.count(":") != 1 or len(adapter) > 200:
        return  # the schema says so
    if fault := find_adapter_fault(adapter):
        yield ("adapter",), fault
    elif data.get("family") == "sanity" and not adapter.startswith(SANITY):
        yield ("family",), f"sanity is the family of {SANITY.rstrip(':')} alone"
    elif (known := find_options(adapter)) is not None and isinstance(data.get("options"), dict):
        for key in data["options"]:
            if key not in known:
                takes = ", ".join(sorted(known)) or "no options"
                yield ("options", key), f"{adapter.partition(':')[2]} takes {takes}"


def _check_protocols(data: Mapping[str, Any]) -> Iterator[tuple[At, str]]:
    reported = data.get("reported")
    for index, record in enumerate(reported if isinstance(reported, list) else ()):
        named = record.get("protocol") if isinstance(record, dict) else None
        if isinstance(named, str) and named not in published_protocols():
            where = f"no protocol named {named!r} in {protocols_path()}"
            yield ("reported", index, "protocol"), where


def load_unreleased(path: Path) -> Unreleased:
    """Return the record of one file of `unreleased/`. Raises RegistryError as `load_entry`."""
    return _read_record(path, Unreleased)


Record = TypeVar("Record", Entry, Unreleased)


_LOADER_KEYS = ("name", "path", "deviations")


def _read_record(
    path: Path,
    schema: type[Record],
    *,
    check: Callable[[Mapping[str, Any]], Iterator[tuple[At, str]]] | None = None,
) -> Record:
    try:
        if path.suffix != ".yaml":
            raise ValueError("NAME is lower case and the ending .yaml")
        check_name(path.stem)
    except ValueError as error:
        raise RegistryError(f"{path}: a file name must be NAME.yaml: {error}") from None
    data, lines = load_yaml(path, RegistryError)
    found: list[tuple[At, str]] = [
        ((key,), "unknown key (the file's stem is the name)") for key in _LOADER_KEYS if key in data
    ]
    found += _check_protocols(data) if schema is Entry else ()
    found += check(data) if check is not None else ()
    problems = [
        f"{path}:{lines.get(at) or lines[at[:1]]}: {'.'.join(map(str, at))}: {what}"
        for at, what in found
    ]
    own = {key: value for key, value in data.items() if key not in _LOADER_KEYS}
    try:
        record = validate_plain(schema, {**own, "name": path.stem}).model_copy(
            update={"path": path}
        )
    except ValidationError as invalid:
        raise RegistryError(*describe_invalid(path, invalid, lines), *problems) from None
    if problems:
        raise RegistryError(*problems)
    return record
