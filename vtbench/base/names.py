"""Names that become files and folders: of tokenizers, suites, subsets, runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""Names of tokenizers, suites and subsets. They become names of files and folders."""


MAX_NAME = 80
"""Longest name, in characters: a run's folder adds its deviations, and a file system takes 255."""


_RESULT_FILES = re.compile(r"suite\.json|originals|leaderboard[-.].*")


_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


DEVIATION = re.compile(
    r"weights-[0-9a-f]{8}|posterior-sample|resize|tile|steps-[0-9]+|tokens-[0-9]+|guidance-[0-9]+(\.[0-9]+)?|fp32|bf16|fp16|compile"
    r"|rapidocr|easyocr|tesseract|doctr-parseq|vision-language|seed[0-9]+|none|(adm|center|pad-lanczos|(tensor-)?resize-crop-[a-z]+)-[0-9]+"
)
"""What may follow the @ of a run's name, several joined by +: how it departs from suite and entry."""


def printable(name: str) -> str:
    """Return the name with what a terminal or a UTF-8 file could not take written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def list_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names; one string is one name, not a sequence of letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def check_below(path: str) -> str:
    """Return a path that stays below where it starts. Raises ValueError for any other."""
    if path.startswith(("/", "~")) or "\\" in path or ".." in path.split("/"):
        raise ValueError(f"{path} leaves its folder")
    return path


_REPOSITORY = re.compile(
    r"(?!.*(--|\.\.))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?(?<!\.git)", re.ASCII
)


def check_repository(name: str) -> str:
    """Return a repository of the Hugging Face hub, OWNER/NAME, as its client takes it. Raises
    ValueError for any other."""
    if not _REPOSITORY.fullmatch(name):
        raise ValueError("is no OWNER/NAME of a repository of the hub")
    return name


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


Name = Annotated[str, AfterValidator(check_name)]


RunName = Annotated[str, AfterValidator(check_run_name)]


Subset = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME)]
"""A part of a task's images. A data set's may be named by its folders, so capitals are allowed."""
