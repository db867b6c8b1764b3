"""Regular expressions of strangers: which are taken, and on which names they are tried for how long.

A search goes back and tries another way wherever a repeat or a choice left one. Their number grows with
the power of the name's length that the repeats say, and with the product of the choices; repeats of
what repeats or chooses make it exponential. `re` cannot be interrupted, so an expression is counted
before it is tried.
"""

from __future__ import annotations

import math
import re
import time
import warnings

MAX_EXPRESSION = 300
"""Characters of an expression."""

MAX_SUBJECT = 400
"""Characters of a name on which an expression is tried."""

MAX_WAYS = 2**30
"""Ways that an expression may have on the longest name: a few seconds."""

MAX_CHOICES = 2**16
"""Of these, how many may come from alternatives and what is optional."""

SECONDS = 5.0
SECONDS_A_NAME = 2e-5
"""Processor time that an expression may take: together, and more for each name."""

_CHARACTER = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
_OPENING = re.compile(r"\(\?(?:P?<[^>=!]*>|P[=>][^)]*|<?[=!]|[:>]|\([^)]*\)|[a-zA-Z-]+:?)")
_LAZY = re.compile(r"([*+?}])[?+]")
_COUNT = re.compile(r"\{[0-9]*(,?)[0-9]*\}")


def check_expression(text: str) -> None:
    """Raise ValueError for what is no regular expression, or one that a name could make endless."""
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"a regular expression of more than {MAX_EXPRESSION} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what a later version reads otherwise
            re.compile(text)
    except (re.error, RecursionError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    repeats, choices = _count_ways(text)
    if choices > MAX_CHOICES or choices * math.comb(MAX_SUBJECT, repeats + 1) > MAX_WAYS:
        raise ValueError("has so many repeats and choices that it takes for ever on some names")


def _count_ways(text: str) -> tuple[int, int]:
    """Return how many repeats of any number an expression has, and the product of its choices."""
    if re.search(r"\(\?[a-wyzA-Z-]*x", text):
        raise ValueError("a regular expression with spaces and comments")
    plain = _LAZY.sub(r"\1", _OPENING.sub("(", _CHARACTER.sub("x", text)))
    plain = _COUNT.sub(lambda found: "*" if found[1] else "#", plain)
    repeats, choices = 0, 1
    branches, ways = [1], [False]  # of each open group: alternatives, and whether it leaves a way
    for index, character in enumerate(plain):
        if character == "(":
            branches.append(1)
            ways.append(False)
        elif character == "|":
            branches[-1] += 1
            ways[-1] = True
        elif character in "*+?":
            repeats += character != "?"
            choices *= 2 if character == "?" else 1
            ways[-1] = True
        elif character == ")" and len(ways) > 1:
            choices *= branches.pop()
            inner = ways.pop()
            if inner and plain[index + 1 : index + 2] in ("*", "+", "#"):
                raise ValueError("repeats a repeat or a choice, which takes for ever on some names")
            ways[-1] |= inner
    return repeats, choices * math.prod(branches)


class NameSearch:
    """An expression that `check_expression` takes, tried on one name after another."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._search = re.compile(expression).search
        self._left = SECONDS

    def find(self, name: str) -> str | None:
        """Return the first match in a name, None for none. Raises ValueError for too long a name,
        and where the names together took too much time."""
        if len(name) > MAX_SUBJECT:
            raise ValueError(f"a name of more than {MAX_SUBJECT} characters: {name[:80]!r}…")
        started = time.process_time()
        found = self._search(name)
        self._left += SECONDS_A_NAME - (time.process_time() - started)
        if self._left < 0:
            raise ValueError(f"the expression {self.expression!r} takes too long on these names")
        return None if found is None else found[0]
