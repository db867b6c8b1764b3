"""Facts about a tokenizer on its page, from its entry and its run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from vtbench.leaderboard.board import Line
from vtbench.registry.entries import Entry
from vtbench.registry.licences import classify_licence
from vtbench.results.schema import RunRecord, SuiteFolder

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Fact:
    """A column of the table that is no number of the rows.

    Attributes:
        key: Its name in the data and in addresses of pages.
        filtered: Whether the page offers its values as a filter.
        better: As of a metric; None for what is neither.
    """

    key: str
    label: str
    definition: str
    filtered: bool = False
    better: str | None = None
    numeric: bool = False


FACTS = (
    Fact("family", "Family", "The family of the registry's entry.", filtered=True),
    Fact("kind", "Kind", "discrete, continuous, codec or pixels.", filtered=True),
    Fact("quantizer", "Quantizer", "How a code is quantized.", filtered=True),
    Fact("stride", "Stride", "Pixels of a side for one place of the code.", filtered=True),
    Fact("size", "Size policy", "How a network takes images of any size.", filtered=True),
    Fact("licence_class", "May be used", "By the licence of the weights.", filtered=True),
    Fact("trained_on", "Trained on", "The data, where they are known.", filtered=True),
    Fact("licence", "Licence", "Of the weights, or of the code where there are none."),
    Fact(
        "parameters", "Parameters (M)", "Of encoder and decoder, in millions.", numeric=True,
        better="lower",
    ),
    Fact(
        "gmac_encode", "GMAC encode", "10⁹ multiply-accumulates for one 256×256 image.",
        numeric=True, better="lower",
    ),
    Fact(
        "gmac_decode", "GMAC decode", "10⁹ multiply-accumulates for one 256×256 image.",
        numeric=True, better="lower",
    ),
    Fact("paper", "Paper", "Where the tokenizer was published."),
)  # fmt: skip


def list_facts(line: Line, entry: Entry | None) -> dict[str, str | float | None]:
    """Return a run's facts by key, None where they are not known."""
    tokenizer = line.record.tokenizer
    facts: dict[str, str | float | None] = {
        "family": tokenizer.family,
        "kind": tokenizer.kind,
        "quantizer": tokenizer.quantizer,
        "stride": None if tokenizer.downsample is None else str(tokenizer.downsample),
        "parameters": None if tokenizer.parameters is None else tokenizer.parameters / 1e6,
    }
    return facts | (describe_entry(entry) if entry is not None else {})


def describe_entry(entry: Entry) -> dict[str, str | float | None]:
    """Return the facts that an entry states."""
    stated = entry.licence if entry.weights is None else entry.weights.licence
    gmac = entry.gmac
    return {
        "family": entry.family,
        "kind": entry.kind,
        "quantizer": entry.quantizer,
        "stride": None if entry.downsample is None else str(entry.downsample),
        "parameters": None if entry.parameters is None else entry.parameters / 1e6,
        "size": describe_size(entry),
        "licence": stated or NOT_STATED,
        "licence_class": classify_licence(entry),
        "trained_on": entry.trained_on,
        "gmac_encode": None if gmac is None else gmac.encode,
        "gmac_decode": None if gmac is None else gmac.decode,
        "paper": entry.paper,
    }


def describe_size(entry: Entry) -> str:
    """Return how a network takes an image of any size."""
    if entry.size.fixed is None:
        return "any" if entry.size.multiple == 1 else f"pad to {entry.size.multiple}"
    return f"{entry.size.policy} to {entry.size.fixed[0]}×{entry.size.fixed[1]}"


_OPTIONS: Mapping[str, str] = {
    "fp32": "--dtype", "bf16": "--dtype", "fp16": "--dtype",
    "rapidocr": "--ocr", "easyocr": "--ocr", "tesseract": "--ocr", "doctr-parseq": "--ocr",
    "vision-language": "--ocr", "resize": "--size-policy", "tile": "--size-policy",
}  # fmt: skip
"""The option that a deviation of a run's name was made by."""


def write_command(record: RunRecord, suite: SuiteFolder) -> str | None:
    """Return the command that makes the run, None where no command alone does."""
    if record.protocol.source == "files" or not record.tokenizer.registered:
        return None
    where = ["--suite", suite.name] if suite.published else ["--images", "FOLDER"]
    command = ["vtbench", "run", *where, "--tokenizer", record.tokenizer.name]
    _, _, deviations = record.run.partition("@")
    for part in filter(None, deviations.split("+")):
        command += _write_option(part, record.tokenizer.name)
    if record.protocol.limit is not None:
        command += ["--limit", str(record.protocol.limit)]
    return shlex.join(command)


def _write_option(deviation: str, name: str) -> list[str]:
    if deviation.startswith("seed"):
        return []  # a suite's seeds run by themselves
    if deviation == "compile":
        return ["--compile"]
    if deviation.startswith("weights-"):
        return ["--weights", f"{name}=FILE"]
    for word, option in (
        ("posterior", "--posterior"),
        ("steps", "--decoder-steps"),
        ("guidance", "--guidance"),
    ):
        if deviation.startswith(f"{word}-"):
            return [option, deviation.partition("-")[2]]
    return [_OPTIONS.get(deviation, "--crop"), deviation]
