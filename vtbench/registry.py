"""YAML files → validated entries. Imports no torch and no adapter.

One file a tokenizer; its stem is the name. The schema is `Entry`: unknown keys, wrong types, a name
that exists twice, and a repeated key are errors that name the file and the line. What is known and
cannot be run has files of its own, in the folder `unreleased/`, of the schema `Unreleased`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from vtbench.errors import NotReleased, RegistryError, UnknownName, VtbenchError
from vtbench.locations import data_dir, registry_dir
from vtbench.records import Kind, SizePolicy, Spec

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""Names of tokenizers, suites and subsets. They become names of files and folders."""

MAX_NAME = 80
"""Longest name, in characters: a run's folder adds its deviations, and a file system takes 255."""

_RESULT_FILES = re.compile(r"suite\.json|originals|leaderboard[-.].*")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")

DEVIATION = re.compile(
    r"posterior-sample|resize|tile|steps-[0-9]+|guidance-[0-9]+(\.[0-9]+)?|fp32|bf16|fp16"
    r"|rapidocr|easyocr|seed[0-9]+|none|(adm|center|(tensor-)?resize-crop-[a-z]+)-[0-9]+"
)
"""What may follow the @ of a run's name, several joined by +: how it departs from suite and entry."""


def check_name(name: str) -> str:
    """Return a name that may be a folder of results. Raises ValueError for any other."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} of [a-z0-9.-], a letter or digit first")
    if name.endswith("."):
        raise ValueError("a name that ends in a dot is no folder on Windows")
    if _RESULT_FILES.fullmatch(name):
        raise ValueError("the name of a file or folder that vtbench writes beside the runs")
    if _WINDOWS_DEVICES.fullmatch(name):
        raise ValueError("a name that Windows reserves for a device")
    return name


def check_run_name(name: str) -> str:
    """Return a tokenizer's name, with known deviations after an @ if any. Raises ValueError."""
    tokenizer, at, deviations = name.partition("@")
    check_name(tokenizer)
    if at and not all(DEVIATION.fullmatch(part) for part in deviations.split("+")):
        raise ValueError("after the @ of a run's name only known deviations follow")
    return name


UNRELEASED = "unreleased"
"""The folder, below one of entries, of what is known and cannot be run."""

MAX_YAML_BYTES = 256 * 1024
"""An entry or suite file larger than this is refused unread; YAML of strangers can be a bomb."""


class Strict(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, AfterValidator(check_name)]
RunName = Annotated[str, AfterValidator(check_run_name)]
Subset = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME)]
"""A part of a task's images. A data set's may be named by its folders, so capitals are allowed."""


class PackageWeights(Strict):
    """Parameters that travel with vtbench: a file below `data/`."""

    source: Literal["package"]
    file: str
    sha256: Sha256
    licence: str


class LocalWeights(Strict):
    """A file or folder on this machine; a relative path starts at the entry's own folder."""

    source: Literal["local"]
    path: str
    sha256: Sha256 | None = None
    licence: str | None = None


class HubWeights(Strict):
    """Files of a Hugging Face repository. revision and sha256 are null until someone has pinned
    them on a machine with a network; a null revision means the repository's main branch."""

    source: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    subfolder: str | None = None
    files: tuple[str, ...] = ("config.json", "diffusion_pytorch_model.safetensors")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: dict[str, Sha256] | None = None
    licence: str
    gated: bool = False

    @model_validator(mode="after")
    def _files_stay_below(self) -> HubWeights:
        for file in (self.subfolder or ".", *self.files):
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file} leaves the repository")
        return self


class PageWeights(Strict):
    """A file that its authors publish where no client can fetch it: inside an archive, behind a
    share link or a form. Somebody downloads it and gives it with `--weights NAME=FILE`. beside: the
    other files that must lie in its folder, each with its sha256, or null until someone has pinned it.
    """

    source: Literal["page"]
    url: Annotated[str, Field(pattern=r"^https://\S+$")]
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    beside: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Sha256 | None] = {}
    licence: str
    gated: bool = False


Weights = Annotated[
    PackageWeights | LocalWeights | HubWeights | PageWeights, Field(discriminator="source")
]


MetricKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(@[a-z0-9-]+)?$")]


class PublishedProtocol(Strict):
    """How a table of published numbers was made, as far as its source says; null is "not stated".

    source: the paper and table, README or model card. standing: "verified" where the number was read
    in the source itself, "second-hand" where it comes from another's account of it. data: the set,
    named as suites name it. n: images. size: of the measured square in pixels, or "native". crop:
    named as in suites (adm, center, …). reference: what a set-level metric compares with. posterior:
    which point of a latent distribution. departs: metric → how its definition differs from vtbench's
    of that key. A value of `lpips` is one whose network the source does not state.
    """

    source: str
    url: Annotated[str, Field(pattern=r"^https://\S+$")] | None
    standing: Literal["verified", "second-hand"]
    data: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    n: Annotated[int, Field(ge=1)] | None
    size: Annotated[int, Field(ge=1)] | Literal["native"] | None
    crop: str | None
    reference: str | None = None
    posterior: Literal["mode", "sample"] | None = None
    departs: dict[MetricKey, str] = {}
    note: str | None = None

    @model_validator(mode="after")
    def _verified_has_an_address(self) -> PublishedProtocol:
        if self.standing == "verified" and self.url is None:
            raise ValueError("what was verified has a url where it was read")
        return self


class Reported(Strict):
    """Numbers that somebody published of a tokenizer under one protocol.

    protocol: a name of `data/published_protocols.yaml`, or the protocol itself. named: what the source
    calls the tokenizer, where that does not settle which checkpoint it is. decoder: steps, guidance,
    noise or a refiner that the number depends on.
    """

    protocol: Annotated[
        Annotated[str, Tag("protocol-name")] | Annotated[PublishedProtocol, Tag("own-protocol")],
        Discriminator(lambda value: "protocol-name" if isinstance(value, str) else "own-protocol"),
    ]
    values: Annotated[
        dict[MetricKey, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)
    ]
    named: str | None = None
    decoder: str | None = None


class Gmac(Strict):
    """10⁹ multiply-accumulates for one 256×256 image; `vtbench show NAME --measure` counts them."""

    encode: Annotated[float, Field(gt=0)] | None = None
    decode: Annotated[float, Field(gt=0)] | None = None


Weight = Annotated[float, Field(ge=0)]


class Training(Strict):
    """How a reference tokenizer is trained: `vtbench train-reference NAME` does it.

    batch: crops of crop×crop pixels a step. rate: AdamW's, at its peak after `warmup` steps; a cosine
    takes it to a hundredth at the end. average: decay of the moving average of the weights, which is
    what is exported. drawn: pictures drawn, drawn_share: of the crops that are of them.

    The loss is mse + l1 · mean |error| + edges · mean |error of gradients| over three scales, in the
    network's range, plus kl · divergence a value, commitment · distance of vectors from codewords,
    entropy · the share of their entropy that bits lack. unquantized: steps before the quantizer comes
    in. masked: share of the steps, the first, in which an encoder learns to fill in masked patches;
    after them it is frozen, and the decoder alone learns. noise: τ of what is added to the frozen
    encoder's normalised features then, for each image of a deviation |N(0, τ²)|. precision: of the
    network's matrix products and convolutions; weights, quantizers and losses are float32 in either.
    """

    seed: int
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    crop: Annotated[int, Field(ge=8, le=256)]
    rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[int, Field(ge=0)] = 200
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    drawn: Annotated[int, Field(ge=1)] = 768
    drawn_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    l1: Weight = 0.02
    edges: Weight = 0.02
    kl: Weight = 0.0
    commitment: Weight = 0.0
    entropy: Weight = 0.0
    unquantized: Annotated[int, Field(ge=0)] = 0
    masked: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise: Weight = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"


class Size(Strict):
    """See `records.SizePolicy`."""

    multiple: Annotated[int, Field(ge=1, le=4096)] = 1
    fixed: tuple[int, int] | None = None
    policy: Literal["pad", "resize", "tile"] = "pad"

    @model_validator(mode="after")
    def _fixed_sizes_have_a_policy(self) -> Size:
        if self.fixed is not None and self.policy == "pad":
            raise ValueError("a network of fixed size needs policy: resize or tile")
        if self.fixed is None and self.policy == "tile":
            raise ValueError("policy: tile needs a fixed size, that of a tile")
        return self


class Entry(Strict):
    """One tokenizer of the registry.

    adapter: "module:Class" of vtbench.tokenizers or of an installed plugin. options: keyword
    arguments of that class. kind and quantizer say what a code is; `downsample`, `codebook_size`,
    `latent_channels` its shape. parameters: of encoder and decoder together, codebook included.
    trained_on: the data, where it is known. training: the recipe, where vtbench trained it. licence:
    of the code; weights carry their own. reported: published numbers, never mixed with measured ones.
    """

    title: str
    family: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    adapter: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    options: dict[str, Any] = {}
    kind: Kind
    quantizer: str
    downsample: Annotated[int, Field(ge=1)] | None = None
    codebook_size: Annotated[int, Field(ge=2)] | None = None
    latent_channels: Annotated[int, Field(ge=1)] | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    size: Size = Size()
    stochastic: bool = False
    parameters: Annotated[int, Field(ge=0)] | None = None
    gmac: Gmac | None = None
    trained_on: str | None = None
    training: Training | None = None
    licence: str
    weights: Weights | None = None
    paper: str | None = None
    description: str
    reported: tuple[Reported, ...] = ()

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
        if self.input_range[0] >= self.input_range[1]:
            raise ValueError("input_range must be [low, high] with low < high")
        return self

    @property
    def row(self) -> str:
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
        prose |= {"gmac", "trained_on", "deviations", "training"}
        content = self.model_dump(
            mode="json", exclude=dict.fromkeys(prose, True) | {"weights": {"licence", "gated"}}
        )
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Unreleased(Strict):
    """A published tokenizer that cannot be run as it was published.

    why: what is not there. needed: what would make it an `Entry`. code: its repository, and licence
    that of the code, where there is one.
    """

    state: Literal["unreleased"]
    title: str
    family: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    why: str
    needed: str
    paper: Annotated[str, Field(pattern=r"^https://\S+$")]
    code: Annotated[str, Field(pattern=r"^https://\S+$")] | None = None
    licence: str | None = None
    description: str

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
    """Return the shipped entries and those of the user's folders.

    Raises RegistryError for a folder that is none, a malformed entry, or a name that exists twice.
    """
    entries: dict[str, Entry] = {}
    unreleased: dict[str, Unreleased] = {}
    places: dict[str, Path] = {}
    for folder in (registry_dir(), *folders):
        if not folder.is_dir():
            raise RegistryError(f"registry folder {folder} is not a folder")
        for path in (*sorted(folder.glob("*.y*ml")), *sorted((folder / UNRELEASED).glob("*.y*ml"))):
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
    return load_unreleased(path) if path.parent.name == UNRELEASED else load_entry(path)


def load_entry(path: Path) -> Entry:
    """Return the entry of one YAML file. Raises RegistryError naming file and line."""
    entry, lines = _read_record(path, Entry)
    for index, reported in enumerate(entry.reported):
        if isinstance(reported.protocol, str) and reported.protocol not in published_protocols():
            raise RegistryError(
                f"{path}:{lines[('reported', index)]}: reported.{index}.protocol: no protocol named "
                f"{reported.protocol!r} in {protocols_path()}"
            )
    return entry


def load_unreleased(path: Path) -> Unreleased:
    """Return the record of one file of `unreleased/`. Raises RegistryError naming file and line."""
    return _read_record(path, Unreleased)[0]


Record = TypeVar("Record", Entry, Unreleased)


def _read_record(path: Path, schema: type[Record]) -> tuple[Record, Lines]:
    try:
        if path.suffix != ".yaml":
            raise ValueError("NAME is lower case and the ending .yaml")
        check_name(path.stem)
    except ValueError as error:
        raise RegistryError(f"{path}: a file name must be NAME.yaml: {error}") from None
    data, lines = load_yaml(path, RegistryError)
    for loader_key in ("name", "path", "deviations"):
        if loader_key in data:
            raise RegistryError(
                f"{path}:{lines[(loader_key,)]}: {loader_key}: unknown key (the file's stem is the "
                "name)"
            )
    try:
        return schema.model_validate({**data, "name": path.stem, "path": path}), lines
    except ValidationError as error:
        raise RegistryError(describe_invalid(path, error, lines)) from None


def protocols_path() -> Path:
    """Return the file of the protocols of published numbers."""
    return data_dir() / "published_protocols.yaml"


@functools.cache
def published_protocols() -> Mapping[str, PublishedProtocol]:
    """Return the protocols that entries name, by name. Raises RegistryError with file and line."""
    data, lines = load_yaml(protocols_path(), RegistryError)
    try:
        return TypeAdapter(dict[str, PublishedProtocol]).validate_python(data)
    except ValidationError as error:
        raise RegistryError(describe_invalid(protocols_path(), error, lines)) from None


Lines = Mapping[tuple[str | int, ...], int]


def load_yaml(path: Path, raise_as: type[VtbenchError]) -> tuple[dict[str, Any], Lines]:
    """Return a YAML mapping and the line of each of its keys, safely and with repeated keys refused.

    Raises `raise_as` with file and line for what cannot be read, is too large, is no mapping, has a
    repeated key, or uses an alias (an alias can blow a small file up to gigabytes).
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise raise_as(f"{path}: larger than {MAX_YAML_BYTES // 1024} KiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise raise_as(f"{path}: cannot be read ({error})") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise raise_as(f"{path}:{line}: YAML aliases are refused")
        root = loader.get_single_node()
        lines: dict[tuple[str | int, ...], int] = {}
        _index_lines(root, (), lines, path, raise_as)
        data = loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise raise_as(f"{path}:{line}: not valid YAML: {problem}") from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise raise_as(f"{path}:1: expected a mapping of keys")
    return data, lines


def _index_lines(
    node: yaml.Node | None,
    at: tuple[str | int, ...],
    lines: dict[tuple[str | int, ...], int],
    path: Path,
    raise_as: type[VtbenchError],
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                raise raise_as(f"{path}:{line}: key {key.value!r} is given twice")
            lines[here] = line
            _index_lines(value, here, lines, path, raise_as)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _index_lines(value, (*at, index), lines, path, raise_as)


_TAGS = ("package", "local", "hub", "page", "url", "wheel", "protocol-name", "own-protocol")


def describe_invalid(path: Path, error: ValidationError, lines: Lines) -> str:
    """Return the first complaint of a schema as `file:line: key: what` (and how many follow)."""
    # A misspelt key is also a missing one; the misspelling is what to mend.
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    # pydantic puts the tag of a union into the location; a line is known for the written keys only.
    at: tuple[str | int, ...] = ()
    for depth, part in enumerate(first["loc"], start=1):
        if part not in _TAGS or (*at, part) in lines or depth == len(first["loc"]):
            at = (*at, part)
    line = next((lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in lines), 1)
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    key = ".".join(str(part) for part in at) or "entry"
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}:{line}: {key}: {what}{more}"
