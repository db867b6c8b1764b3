"""`vtbench manifest`: names, sizes and pixel hashes of images, as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click

from vtbench.base.errors import ImageError, SuiteError, UnknownName
from vtbench.base.files import sha256_bytes, write_atomic
from vtbench.base.names import printable
from vtbench.base.records import Sample
from vtbench.commands.complaints import complain
from vtbench.commands.options import data_option, source_option
from vtbench.images import pixel_sha256
from vtbench.suites.batches import load_pixels
from vtbench.suites.copies import sort_for_reading
from vtbench.suites.suite_file import read_manifest_row
from vtbench.suites.suites import Suite

MAX_FAILURES = 20
"""So many unusable pictures are named; then the work stops, for the data set is not whole."""


@dataclass(frozen=True)
class Written:
    """A manifest that was written, with its sha256; or the pictures for which it was not."""

    sha256: str | None
    failures: tuple[str, ...]


def write_manifest(
    suite: Suite, path: Path, root: Path, report: Callable[[int, int], None]
) -> Written:
    """Write the manifest of a suite's images, one JSON object a line, in the suite's order.

    The pixels are those that a run measures: after the suite's crop. `file` is the picture's path
    from `root`, or in a data set its name there. report: hears after each picture how many of how
    many are done. When pictures cannot be used nothing is written. Raises OutputError when the file
    cannot be, and SuiteError when an image is not the pinned one.
    """
    lines: dict[str, str] = {}  # about 300 bytes an image; the pixels are let go
    failures: list[str] = []
    for done, sample in enumerate(sort_for_reading(suite.samples), start=1):
        try:
            lines[sample.id] = _describe_image(sample, root)
        except ImageError as error:
            failures.append(f"{sample.id}: {error}")
            if len(failures) == MAX_FAILURES:
                break
        report(done, len(suite.samples))
    if failures:
        return Written(None, tuple(failures))
    content = "".join(lines[sample.id] for sample in suite.samples).encode()
    write_atomic(path, content)
    return Written(sha256_bytes(content), ())


def _describe_image(sample: Sample, root: Path) -> str:
    pixels = load_pixels(sample)
    if sample.place is not None:
        file = printable(PurePosixPath(sample.place.name).name) or sample.id
    elif sample.path.is_relative_to(root):
        file = sample.path.relative_to(root).as_posix()
    else:
        file = printable(sample.path.name)
    row = {
        "id": sample.id,
        "task": sample.task,
        "subset": sample.subset,
        "file": file,
        "crop": sample.crop,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": pixel_sha256(pixels),
        "meta": dict(sample.meta),
    }
    try:
        line = json.dumps(row, ensure_ascii=False)
        line.encode()
    except UnicodeEncodeError:
        raise ImageError("its name is no UTF-8, which a manifest cannot hold: rename it") from None
    # JSON allows these three bare; other readers take them for the end of a line.
    for end in ("\x85", "\u2028", "\u2029"):
        line = line.replace(end, json.dumps(end)[1:-1])
    try:
        read_manifest_row(line, "its line")
    except SuiteError as error:  # what is written must be what is read
        raise ImageError(str(error)) from None
    return line + "\n"


@click.command("manifest")
@click.argument("what", metavar="FOLDER|SUITE")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write. Default: NAME.jsonl.",
)
@data_option
@source_option
def manifest_command(
    what: str, out: Path | None, data_folders: tuple[Path, ...], sources: tuple[str, ...]
) -> None:
    """Write names, sizes and pixel hashes of the images of a suite or folder, as JSON Lines.

    The default of --out is NAME.jsonl in the current folder.
    """
    from vtbench.suites.copies import parse_sources
    from vtbench.suites.image_folder import folder_suite
    from vtbench.suites.suites import attach_data, load_suite, suite_paths

    paths = suite_paths(data_folders)
    if what in paths:
        root = paths[what].parent.parent
        suite = load_suite(what, data_folders)
    elif Path(what).is_dir():
        root = Path(what)
        suite = folder_suite(root)
        if suite.left_out:
            complain(suite.left_out)
    else:
        raise UnknownName("suite", what, sorted(paths))
    suite = attach_data(suite, parse_sources(sources))
    target = out or Path(f"{suite.name}.jsonl")

    from vtbench.commands.progress import Steps

    with Steps(suite.name) as steps:
        written = write_manifest(suite, target, root, steps.report)
    if written.sha256 is None:
        for failure in written.failures:
            complain(failure)
        complain(f"{target} was not written")
        raise click.exceptions.Exit(1)
    click.echo(f"{target}: {len(suite.samples)} images\nmanifest_sha256: {written.sha256}")
