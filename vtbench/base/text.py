"""Untrusted text (titles, messages, names): what it may contain, and how a terminal shows it."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

MAX_LINE = 300
"""Longest title or name, in characters."""

MAX_SHOWN = 2000
"""Longest message that is printed, in characters."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters without a glyph of their own: controls but tab and newline, those that turn the direction
of text, joiners and other characters of zero width, surrogates, tags. They change what a reader sees
of the text around them (Unicode Standard Annex 31, table of default ignorable code points)."""


BLANK_BRAILLE = "\u2800"
"""A pattern without dots: no space by its category, and nothing is seen of it."""


def strip_hidden(text: str) -> str:
    """Return the text without hidden characters, on one line."""
    return " ".join(HIDDEN.sub("", text).split())


def show_text(text: str) -> str:
    """Return the text as a terminal may print it: one line of bounded length, what is hidden written
    as escapes."""
    shown = HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
    shown = shown.replace("\n", "\\n").replace("\t", " ")
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}… ({len(shown):,} characters)"


_PILED = re.compile("M{5}")

_MIXED = re.compile(r"\b(?=\w*[A-Za-z])(?=\w*[\u0400-\u052f])\w+")
"""A word of two scripts whose letters look alike: with a Cyrillic letter it is another title."""


def check_line(text: str) -> str:
    """Return a text of one line that can be seen. Raises ValueError for any other."""
    if found := HIDDEN.search(text):
        raise ValueError(f"has the hidden character U+{ord(found[0]):04X}")
    if "\n" in text or "\t" in text:
        raise ValueError("must be one line, without tabs")
    if not text.replace(BLANK_BRAILLE, "").strip():
        raise ValueError("is blank")
    if text.isascii():  # as nearly all are: neither marks nor letters of another script
        return text
    if _PILED.search("".join("M" if unicodedata.combining(c) else "-" for c in text)):
        raise ValueError("has more than four marks on one letter")
    if mixed := _MIXED.search(text):
        raise ValueError(f"mixes Latin and Cyrillic letters in {mixed[0]!r}")
    return text


Line = Annotated[str, Field(max_length=MAX_LINE), AfterValidator(check_line)]
"""A title or name as an entry gives it; any other is refused."""


_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def check_link(text: str) -> str:
    """Return an address of http or https. Raises ValueError for any other."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no http or https address")
    if "@" in parts.netloc:
        raise ValueError("names a user before its host")
    if not _HOST.fullmatch(parts.hostname):
        raise ValueError("has a host of other characters than letters, digits, dots and hyphens")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is none") from None
    if re.search(r"[\s<>\"'`\\]", text):
        raise ValueError("has a character that an address must not have")
    return text


Link = Annotated[
    str, Field(max_length=1000), AfterValidator(check_line), AfterValidator(check_link)
]
"""An address that a page may link to."""


Stripped = Annotated[str, AfterValidator(strip_hidden)]
"""Text of a result file: hidden characters are dropped where it is read."""
