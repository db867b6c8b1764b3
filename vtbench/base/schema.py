"""YAML files of strangers, read within limits, and the schemas that they must keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vtbench.base.errors import VtbenchError

MAX_YAML_BYTES = 256 * 1024
"""An entry or suite file larger than this is refused unread; YAML of strangers can be a bomb."""


class Strict(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
