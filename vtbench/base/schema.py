"""YAML and JSON files of strangers, read within limits, and the schemas that they must keep."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vtbench.base.errors import VtbenchError
from vtbench.base.files import read_bounded
from vtbench.base.locations import package_dir
from vtbench.base.text import HIDDEN

MAX_YAML_BYTES = 256 * 1024
"""An entry or suite file larger than this is refused unread; YAML of strangers can be a bomb."""

MAX_JSON_BYTES = 16 * 2**20

MAX_DEPTH = 32
"""Mappings and lists inside each other, in either format."""

MAX_DIGITS = 40
"""Of a number as it is written. The largest honest one is a codebook of 2⁶⁴ words."""

MAX_JSON_ITEMS = 500_000
"""Values of a JSON file: a small file can hold millions, each a hundred bytes in memory."""

MAX_PROBLEMS = 20
"""Problems of one file that are told; the others are counted."""


class Strict(BaseModel):
    """A frozen record that refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,  # most records are parts of others, and built as such
    )


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Model = TypeVar("Model", bound=BaseModel)

At = tuple[str | int, ...]
"""Where a value stands in a file: the keys and list indices that lead to it."""

Lines = Mapping[At, int]


def load_yaml(path: Path, raise_as: type[VtbenchError]) -> tuple[dict[str, Any], Lines]:
    """Return a YAML mapping and the line of each of its keys and list items.

    What is read is plain: mappings with text as keys, lists, text, integers, finite numbers, true,
    false and null. Whatever YAML 1.1 would make another thing of (a date, 1:30, 0x1F, yes) is refused
    unless it is quoted, and so are tags, aliases, merges, repeated keys and hidden characters: what a
    reader sees is what is loaded.

    Raises:
        raise_as: with file and line of every problem; of one that ends the reading, of that alone.
    """
    try:
        # An installer may link the package's own files from its cache; nobody else's are followed.
        own = package_dir() / "_share" in path.parents
        content = read_bounded(path, max_bytes=MAX_YAML_BYTES, raise_as=raise_as, links=own)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise raise_as(f"{path}: does not exist") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise raise_as(f"{path}:{line}: is not UTF-8 text") from None
    reader = _YamlReader(text)
    try:
        data = reader.read_document()
    except yaml.YAMLError as error:
        line, problem = _describe_yaml_error(error, text)
        raise raise_as(f"{path}:{line}: not valid YAML: {problem}") from None
    except _Refused as refused:
        raise raise_as(f"{path}:{refused}") from None
    finally:
        reader.close()
    if reader.problems:
        raise raise_as(*_cut([f"{path}:{problem}" for problem in reader.problems]))
    if not isinstance(data, dict):
        raise raise_as(f"{path}:1: expected a mapping of keys")
    return data, _LinesOf(text)


class _Refused(Exception):
    """`line: what` for which the reading ends."""


class _LinesOf(Lines):
    """The line of each key and list item of a text. They are asked for where something is wrong,
    so the text is read again for them then."""

    def __init__(self, text: str) -> None:
        self._text = text

    @functools.cached_property
    def _found(self) -> dict[At, int]:
        found: dict[At, int] = {}
        reader = _YamlReader(self._text, found)
        try:
            reader.read_document()
        finally:
            reader.close()
        return found

    def __getitem__(self, at: At) -> int:
        return self._found[at]

    def __iter__(self) -> Iterator[At]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _YamlReader:
    """One YAML document, made from the parser's events: no node or object is made by a library.

    Args:
        text: of the file.
        lines: where the line of each key and list item is noted, None for nowhere.
    """

    def __init__(self, text: str, lines: dict[At, int] | None = None) -> None:
        self.problems: list[str] = []
        self._lines = lines
        self._at: list[str | int] = []
        self._hidden = HIDDEN.search(text) is not None
        self._loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._take: Callable[[], Any] = self._loader.get_event

    def close(self) -> None:
        """Free the parser."""
        self._loader.dispose()

    def read_document(self) -> object:
        """Return what the text holds; None for an empty one."""
        self._take()  # the start of the stream
        if isinstance(self._take(), yaml.StreamEndEvent):
            return None
        value = self._read_value(self._take())
        self._take()  # the end of the document
        event = self._take()
        if not isinstance(event, yaml.StreamEndEvent):
            self._refuse(event, "a second YAML document")
        return value

    def _refuse(self, event: Any, what: str) -> NoReturn:
        raise _Refused(f"{_line_of(event)}: {what}")

    def _note(self, event: Any, what: str) -> None:
        self.problems.append(f"{_line_of(event)}: {what}")

    def _read_value(self, event: Any) -> Any:
        kind = type(event)
        if kind is yaml.AliasEvent:
            self._refuse(event, "YAML aliases are refused")
        if event.tag is not None:
            self._note(event, f"the tag {event.tag[:80]!r} is refused: not valid YAML here")
        if kind is yaml.ScalarEvent:
            return self._read_scalar(event)
        if len(self._at) >= MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH}")
        return self._read_list() if kind is yaml.SequenceStartEvent else self._read_mapping()

    def _read_list(self) -> list[Any]:
        items: list[Any] = []
        while type(item := self._take()) is not yaml.SequenceEndEvent:
            items.append(self._read_below(len(items), item, item))
        return items

    def _read_mapping(self) -> dict[str, Any]:
        content: dict[str, Any] = {}
        while type(event := self._take()) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                self._refuse(event, "a key must be text")
            key = self._read_value(event)
            if not isinstance(key, str):
                self._note(event, f"key {event.value[:80]!r} must be text; quote it")
                key = event.value
            if key in content:
                self._note(event, f"key {key!r} is given twice")
            content[key] = self._read_below(key, event, self._take())
        return content

    def _read_below(self, part: str | int, named: Any, event: Any) -> Any:
        """Return the value that begins with an event, of a key or index that stands at `named`."""
        self._at.append(part)
        if self._lines is not None:
            self._lines.setdefault(tuple(self._at), _line_of(named))
        value = self._read_value(event)
        self._at.pop()
        return value

    def _read_scalar(self, event: Any) -> str | int | float | bool | None:
        text: str = event.value
        # Only text in double quotes can hold what the file does not.
        if (self._hidden or event.style == '"') and (found := HIDDEN.search(text)):
            self._note(event, f"has the hidden character U+{ord(found[0]):04X}")
        if event.style:  # quoted, or a block
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _FIRST:
            return text
        if _INTEGER.fullmatch(text):
            if len(text) <= MAX_DIGITS:
                return int(text)
            self._note(event, f"{text[:24]}… has more than {MAX_DIGITS} digits")
        elif _FLOAT.fullmatch(text):
            if len(text) <= MAX_DIGITS and math.isfinite(number := float(text)):
                return number
            self._note(event, f"{text[:24]} is not a finite number")
        elif _AMBIGUOUS.fullmatch(text):
            self._note(
                event,
                f"{text[:40]!r} is a number, date or truth value to some readers of YAML; quote it, or "
                "write a decimal number, true or false",
            )
        return text


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1


_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(
    r"<<|=|(yes|no|on|off|true|false|null|[-+]?\.inf|\.nan)"
    r"|[-+]?0[0-7_]+|[-+]?0[box][0-9a-f_]+|[-+]?[0-9][0-9_]*\.?[0-9_]*"
    r"|[-+]?[0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*",
    re.IGNORECASE,
)
"""Plain text that YAML 1.1 or 1.2 reads as something else than text."""

_FIRST = frozenset("+-.0123456789<=~yYnNoOtTfF")
"""What such text, and a number, can begin with."""


def _describe_yaml_error(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    mark: Any = getattr(error, "problem_mark", None)
    if mark is not None:
        line = mark.line + 1
    else:
        line = text[: getattr(error, "position", 0) or 0].count("\n") + 1
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return line, " ".join(str(problem).split())


def validate_plain(model: type[Model], data: object) -> Model:
    """Return the record that YAML or JSON data are, each value of the type that is written: text is no
    number, true is none, and 4.0 is no integer. Raises ValidationError."""
    # Of JSON a list is a tuple also where types are strict.
    return model.model_validate_json(json.dumps(data), strict=True)


def load_json(content: bytes) -> Any:
    """Return what a JSON text holds.

    Raises ValueError for what is no JSON, is nested deeper than `MAX_DEPTH`, holds more than
    `MAX_JSON_ITEMS` values, has a key twice, NaN, an infinity, or a number of more than
    `MAX_DIGITS` characters.
    """
    try:
        data = json.loads(
            content,
            object_pairs_hook=_take_pairs,
            parse_constant=_refuse_constant,
            parse_int=_take_int,
            parse_float=_take_float,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    todo = [(data, 0)]
    passed = 0
    while todo:
        item, depth = todo.pop()
        if isinstance(item, dict | list):
            inner = item.values() if isinstance(item, dict) else item
            passed += len(inner)
            if depth >= MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
            if passed > MAX_JSON_ITEMS:
                raise ValueError(f"more than {MAX_JSON_ITEMS:,} values")
            todo += [(value, depth + 1) for value in inner]
    return data


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} is given twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _take_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:24]}… has more than {MAX_DIGITS} digits")
    return int(text)


def _take_float(text: str) -> float:
    if len(text) > MAX_DIGITS or not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:24]}… is not a finite number")
    return number


_TAGS = ("package", "local", "hub", "page", "url", "wheel", "protocol-name", "own-protocol")


def describe_invalid(path: Path, error: ValidationError, lines: Lines) -> list[str]:
    """Return every complaint of a schema as `file:line: key: what`, by line; they are the arguments of
    the exception that is raised for the file."""
    found: dict[tuple[int, str], None] = {}
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    places = {problem["loc"][:end] for problem in errors for end in range(len(problem["loc"]))}
    for problem in errors:
        if problem["type"] == "too_short" and problem["loc"] in places:
            continue  # of a list whose items are wrong
        # pydantic puts the tag of a union into the location; a line is known for written keys only.
        at: At = ()
        loc = problem["loc"]
        for depth, part in enumerate(loc, start=1):
            if part not in _TAGS or (*at, part) in lines or depth == len(loc):
                at = (*at, part)
        line = next((lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in lines), 1)
        what = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
        key = ".".join(str(part)[:80] for part in at) or "entry"
        found[line, f"{path}:{line}: {key}: {what.removeprefix('Value error, ')}"] = None
    # A misspelt key is also a missing one; the misspelling is what to mend, so it is told first.
    order = sorted(found, key=lambda item: ("unknown key" not in item[1], item[0]))
    return _cut([text for _, text in order])


def _cut(problems: list[str]) -> list[str]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more problems"]
