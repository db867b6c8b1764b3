"""Readings of originals, kept by what they follow from: an original is read once, by any process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.base.files import sha256_bytes
from vtbench.base.record_store import RecordStore
from vtbench.images import RGB8, pixel_sha256
from vtbench.metrics.ocr.reader import LineReader, read_known_lines


class KeptReadings:
    """Reads pages with an OCR engine, and remembers the readings that it is told to keep.

    A reading follows from the pixels, the boxes, the script and the engine. The same pixels read the
    same, so a perfect reconstruction finds the reading of its original.

    Args:
        reader: the engine.

    Attributes:
        store: where kept readings go beside the memory of this process, None for nowhere. Its folder
            is named by the engine, its versions and models, and the code of the reader.
    """

    def __init__(self, reader: LineReader) -> None:
        self.reader = reader
        self.store: RecordStore | None = None
        self._known: dict[str, list[str] | None] = {}

    @property
    def identified(self) -> bool:
        """Whether the engine says by which models it reads: else nobody could tell a stale reading."""
        return any(re.fullmatch("[0-9a-f]{64}", text) for text in self.reader.identity.values())

    def read_lines(
        self, page: RGB8, lines: Sequence[Mapping[str, Any]], *, script: str, keep: bool = False
    ) -> list[str] | None:
        """Return the reading of each line, None where the engine cannot read them.

        Args:
            page: the pixels.
            lines: of a manifest, with their boxes.
            script: what is written there.
            keep: remember the reading, of an original.
        """
        boxes = [[line["box"], [w["box"] for w in line.get("words") or ()]] for line in lines]
        key = _make_key(page, "lines", script, boxes)
        if (found := self._find(key, len(lines), keep=keep)) is not None:
            return found
        reading = read_known_lines(self.reader, page, lines, script=script)
        return self._keep(key, reading) if keep else reading

    def read_page(self, page: RGB8, *, script: str, keep: bool = False) -> list[str]:
        """Return the lines that the engine finds itself. keep: remember them, of an original."""
        key = _make_key(page, "page", script, None)
        if (found := self._find(key, None, keep=keep)) is not None:
            return found
        reading = self.reader.read_page(page, script=script)
        if keep:
            self._keep(key, reading)
        return reading

    def _find(self, key: str, count: int | None, *, keep: bool) -> list[str] | None:
        """Return what is known of a key; count: how many lines it must have. Only what is to be kept
        is looked for on the disk."""
        if key in self._known:
            return self._known[key]
        content = self.store.get(key) if keep and self.store is not None else None
        if content is None:
            return None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
            return None
        if count not in (None, len(found)):
            return None
        self._known[key] = found
        return found

    def _keep(self, key: str, reading: list[str] | None) -> list[str] | None:
        self._known[key] = reading
        if reading is not None and self.store is not None:
            self.store.put(key, json.dumps(reading, ensure_ascii=True).encode())
        return reading


def _make_key(page: RGB8, what: str, script: str, boxes: Any) -> str:
    return sha256_bytes(json.dumps([pixel_sha256(page), what, script, boxes]).encode())
