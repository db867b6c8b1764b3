"""The audit of SVG plots: no active content, and the points of the leaderboard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from vtbench.base.errors import ResultsError
from vtbench.base.files import read_bounded

MAX_SVG_BYTES = 4 * 2**20

ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "path", "use", "rect", "text", "tspan", "clipPath", "style"),
        *("metadata", "title", "circle", "line", "polyline"),
    )
)
"""What matplotlib writes, and Dublin Core within its metadata."""

_DOCTYPE = re.compile(rb'<!DOCTYPE svg PUBLIC "[^"<>\[\]]*"\s+"http://www\.w3\.org/[\w./-]*">')
_XLINK = "{http://www.w3.org/1999/xlink}href"
_ACTIVE = re.compile(r"@import|javascript:|expression\(|url\((?!#)|</", re.IGNORECASE)


def audit_svg(name: str, content: bytes) -> Iterator[str]:
    """Yield what a plot holds beside shapes and text."""
    rest = _DOCTYPE.sub(b"", content, count=1)
    if b"<!DOCTYPE" in rest or b"<!ENTITY" in rest or b"<?xml-" in rest:
        yield f"{name}: has a document type of its own"
        return
    try:
        root = ElementTree.fromstring(rest)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        yield f"{name}: is no SVG ({error})"
        return
    for node in root.iter():
        space, _, tag = str(node.tag).rpartition("}")
        if space.startswith("{http://www.w3.org/2000/svg") and tag not in ELEMENTS:
            yield f"{name}: has <{tag[:40]}>"
        elif not space.startswith(("{http://www.w3.org/2000/svg", *_METADATA)):
            yield f"{name}: has <{str(node.tag)[:80]}>"
        if tag == "style" and _ACTIVE.search(node.text or ""):
            yield f"{name}: its style refers elsewhere"
        for key, value in node.attrib.items():
            plain = key.rpartition("}")[2].lower()
            if plain.startswith("on"):
                yield f"{name}: has {plain[:40]}="
            elif (plain == "href" and not _is_local(key, value, space)) or _ACTIVE.search(value):
                yield f"{name}: refers to {value[:80]!r}"


_METADATA = (
    "{http://creativecommons.org/ns",
    "{http://purl.org/dc/",
    "{http://www.w3.org/1999/02/22-rdf-syntax-ns",
)


def _is_local(key: str, value: str, space: str) -> bool:
    return value.startswith("#") or not space.startswith("{http://www.w3.org/2000/svg")


def list_labels(content: bytes) -> list[str]:
    """Return the texts of a plot, in order of the alphabet."""
    root = ElementTree.fromstring(_DOCTYPE.sub(b"", content, count=1))
    return sorted(
        "".join(node.itertext()) for node in root.iter() if str(node.tag).endswith("}text")
    )


_POINT = re.compile(r"[-+]?[0-9]+\.?[0-9]*")


def list_points(content: bytes) -> list[tuple[float, float]]:
    """Return where a plot's markers stand, in points of the page."""
    root = ElementTree.fromstring(_DOCTYPE.sub(b"", content, count=1))
    return [
        (float(x), float(y))
        for node in root.iter()
        if str(node.tag).endswith("}use") and (node.get(_XLINK) or node.get("href"))
        if (x := node.get("x")) is not None and (y := node.get("y")) is not None
        if _POINT.fullmatch(x) and _POINT.fullmatch(y)
    ]


def audit_plots(folder: Path, drawn: Iterable[dict[str, bytes]]) -> Iterator[str]:
    """Yield plots of the folder that act, or that are not those of the board.

    Args:
        folder: of the results.
        drawn: the board's plots as they may be drawn, alone or beside published rows; all of the
            folder's must be of one of these. Labels must be the same; points too, unless another
            version of matplotlib has laid the page out otherwise.
    """
    if not any(folder.glob("*.svg")):
        return
    complaints: list[str] = []
    for plots in drawn:
        complaints = list(_audit_against(folder, plots))
        if not complaints:
            return
    yield from complaints


def _audit_against(folder: Path, drawn: dict[str, bytes]) -> Iterator[str]:
    for path in sorted(folder.glob("*.svg")):
        try:
            content = read_bounded(path, max_bytes=MAX_SVG_BYTES, raise_as=ResultsError)
        except ResultsError as error:
            yield str(error)
            continue
        complaints = list(audit_svg(path.name, content))
        yield from complaints[:3]
        if complaints:
            continue
        if path.name not in drawn:
            yield f"{path.name}: is no plot of this board"
        elif content != drawn[path.name]:
            yield from _compare(path.name, content, drawn[path.name])


def _compare(name: str, content: bytes, drawn: bytes) -> Iterator[str]:
    if list_labels(content) != list_labels(drawn):
        yield f"{name}: its labels are not those of the rows; run `vtbench leaderboard`"
        return
    here, there = list_points(content), list_points(drawn)
    version = [re.search(rb"Matplotlib v?([0-9.]+)", text) for text in (content, drawn)]
    same = version[0] is not None and version[1] is not None and version[0][1] == version[1][1]
    if len(here) != len(there) or (
        same
        and any(abs(a - c) + abs(b - d) > 0.05 for (a, b), (c, d) in zip(here, there, strict=True))
    ):
        yield f"{name}: its points are not those of the rows; run `vtbench leaderboard`"
