"""The images on which two runs differ most, and pictures of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtbench.base.errors import ResultsError, UnknownName
from vtbench.base.files import write_atomic
from vtbench.base.text_table import fit_table
from vtbench.images import encode_png
from vtbench.metrics.catalogue import METRICS
from vtbench.results.folder import Run, read_checked_run, read_suite_folder


@dataclass(frozen=True)
class Deciding:
    """An image and the two runs' numbers of it. gain: how much better the second is, below 0 worse."""

    image: str
    task: str
    first: float
    second: float
    gain: float


def find_deciding(folder: Path, names: Sequence[str], key: str, n: int) -> list[Deciding]:
    """Return the n images on which two runs differ most by a metric, the largest difference first.

    Args:
        folder: The results of a suite.
        names: Of the two runs.
        key: A metric of an image ("psnr_db"), or one of a task ("text.cer"): then of its images.
        n: How many, at least 1.

    Raises:
        UnknownName: no such run, or no metric of an image of that name.
        ResultsError: not two runs, or no image has a number in both.
    """
    if len(names) != 2:
        raise ResultsError("--worst compares two runs: name two")
    task, _, metric = key.rpartition(".")
    if metric not in METRICS or METRICS[metric].better is None:
        known = sorted(name for name, one in METRICS.items() if one.better is not None)
        raise UnknownName("metric", key, known)
    first, second = (_read_numbers(folder, name, metric, task) for name in names)
    sign = 1.0 if METRICS[metric].better == "higher" else -1.0
    found = [
        Deciding(image, of, value, second[image, of], sign * (second[image, of] - value))
        for (image, of), value in first.items()
        if (image, of) in second
    ]
    if not found:
        raise ResultsError(f"{folder}: no image has {key} in both {names[0]} and {names[1]}")
    return sorted(found, key=lambda one: (-abs(one.gain), one.image))[:n]


def _read_numbers(folder: Path, name: str, metric: str, task: str) -> dict[tuple[str, str], float]:
    """Return a metric by image and task. Raises UnknownName where there is no such run or column."""
    if not (folder / name / "run.json").is_file():
        runs = sorted(path.parent.name for path in folder.glob("*/run.json"))
        raise UnknownName("run", name, runs)
    table = read_checked_run(folder / name).table
    if metric == "cer":  # of a page: its errors over its characters
        values = zip(table["char_edits"].to_pylist(), table["chars"].to_pylist(), strict=True)
        numbers = [None if None in pair or not pair[1] else pair[0] / pair[1] for pair in values]
    elif metric in table.column_names:
        numbers = table[metric].to_pylist()
    else:
        columns = sorted(set(METRICS) & {*table.column_names, "cer"})
        raise UnknownName("metric of an image", metric, columns)
    return {
        (image, of): float(value)
        for image, of, value in zip(
            table["id"].to_pylist(), table["task"].to_pylist(), numbers, strict=True
        )
        if value is not None and task in ("", of)
    }


def describe_deciding(
    found: Sequence[Deciding], names: Sequence[str], key: str, width: int | None = None
) -> Iterator[str]:
    """Yield the images as a table. width: of the screen; what task they are of goes first."""
    decimals = METRICS[key.rpartition(".")[2]].decimals
    rows: list[tuple[str, ...]] = [("image", "task", names[0], names[1], "better")]
    for one in found:
        numbers = (f"{value:.{decimals}f}" for value in (one.first, one.second))
        better = names[1] if one.gain > 0 else names[0] if one.gain < 0 else "alike"
        rows.append((one.image, one.task, *numbers, better))
    yield fit_table(rows, width, optional=("task",))


def draw_deciding(found: Sequence[Deciding], folder: Path, names: Sequence[str], out: Path) -> None:
    """Write a PNG with a strip an image: the original, and both reconstructions over their errors.

    The images are the suite's own, and go through the registry's tokenizers again.

    Raises:
        ResultsError: a run whose name has a deviation, or whose entry has changed since; an image
            that is none of the suite.
        WeightsError: a tokenizer's weights are not here.
    """
    from vtbench.commands.reconstruct import draw_sheet, reconstruct_picture
    from vtbench.images import error_map
    from vtbench.registry.entries import load_registry
    from vtbench.runs.planning import open_suite
    from vtbench.suites.batches import load_pixels
    from vtbench.tokenizers import build_tokenizer

    registry = load_registry()
    samples = {sample.id: sample for sample in open_suite(read_suite_folder(folder).name).samples}
    if missing := [one.image for one in found if one.image not in samples]:
        raise ResultsError(f"{folder}: {missing[0]} is no image of the suite as it is here")
    pictures = {one.image: load_pixels(samples[one.image]) for one in found}
    cells = {}
    for name in names:
        run = read_checked_run(folder / name)
        _require_entry(run, registry[run.record.tokenizer.name].sha256, name)
        tokenizer = build_tokenizer(registry[name], device="cpu", dtype=run.record.protocol.dtype)
        for image, pixels in pictures.items():
            made, caption = reconstruct_picture(tokenizer, pixels)
            cells[image, name] = (made, error_map(pixels, made), caption)
    write_atomic(out, encode_png(draw_sheet(pictures, list(names), cells)))


def _require_entry(run: Run, sha256: str, name: str) -> None:
    if "@" in name:
        raise ResultsError(
            f"{name}: strips are drawn of runs as their entries are, not of deviations"
        )
    if run.record.tokenizer.entry_sha256 != sha256:
        raise ResultsError(f"{name}: its entry is another than the one that was measured")
