"""`vtbench.score`: compares reconstructions that were made elsewhere with their originals."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from vtbench.base.errors import VtbenchError
from vtbench.base.files import list_below
from vtbench.base.names import check_name, list_names
from vtbench.evaluation.evaluate import Callback, open_suite, plan_given, run_request
from vtbench.evaluation.given_images import write_images
from vtbench.evaluation.result import Result
from vtbench.evaluation.scratch import ScratchFolder
from vtbench.images import SUFFIXES
from vtbench.registry.entries import Entry
from vtbench.runs.planning import choose_tasks
from vtbench.runs.reconstruction import StoredReconstructor
from vtbench.runs.request import Request
from vtbench.suites.suites import Suite

_LOG = logging.getLogger("vtbench")
_LOSSY = (".jpg", ".jpeg")

NAMED = 5
"""Names in a message; more are counted."""


def score(
    originals: str | Path | Suite | Sequence[Any],
    reconstructions: str | Path | Sequence[Any],
    *,
    bits_per_image: float | Sequence[float] | Mapping[str, float] | None = None,
    name: str = "scored",
    metrics: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    limit: int | None = None,
    ocr: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    max_pixels: int | None = None,
    data: str | Path | Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
    callback: Callback | None = None,
) -> Result:
    """Compare reconstructions that were made elsewhere with their originals.

    Files of folders are paired by path: `a/b.png` with `a/b.png`, or another image ending. Lists and
    batches are paired by position.

    Args:
        originals: A folder, a list of images, a batch N×3×H×W, or the name of a suite. With a suite the
            result is a row of that suite.
        reconstructions: A folder, a list of images, or a batch.
        bits_per_image: The bits of an image's code: one number for all images, one for each in the order
            of the originals, or a mapping by image id. Without it the rate is not applicable.
        name: The name of the row.
        metrics: A metric's key or the name of a list, or several, measured as well as the suite's own.
        tasks: A task to measure, or several. Default: all of the suite.
        limit: The largest number of images of each task. The result is partial then.
        ocr: The OCR engine. Default: the suite's.
        device: The device of the metrics' networks: auto, cpu, cuda, cuda:N or mps.
        batch_size: Images of 256×256 in a batch, fewer larger ones. Default: the suite's.
        max_pixels: Images of more pixels are refused. Default: 24,500,000.
        data: A folder of your own suites, or several.
        sources: The folder or archive of each data set, by its name.
        out: A folder of results, as for `vtbench run --out`. By default nothing is kept.
        callback: A function that is called with the number of finished images and of all images.

    Raises:
        VtbenchError: A reconstruction is missing or has no original, or the request is not valid.
        CellFailed: An image failed, such as a reconstruction of another size than its original.
    """
    scratch = ScratchFolder()
    folder = scratch.path
    if isinstance(originals, str) and Path(originals).is_dir():
        originals = Path(originals)
    suite = open_suite(originals, folder, data=data, sources=sources, max_pixels=max_pixels)
    if not isinstance(reconstructions, str | Path):
        write_images(reconstructions, folder / "reconstructions", max_pixels=max_pixels)
        reconstructions = folder / "reconstructions"
    request = plan_score(
        suite,
        Path(reconstructions),
        name=name,
        bits_per_image=bits_per_image,
        metrics=metrics,
        tasks=tasks,
        limit=limit,
        ocr=ocr,
        device=device,
        batch_size=batch_size,
        out=Path(out) if out is not None else folder / "results",
    )
    return run_request(request, nullcontext(), callback, scratch)


def plan_score(
    suite: Suite,
    reconstructions: Path,
    *,
    name: str,
    bits_per_image: float | Sequence[float] | Mapping[str, float] | None,
    tasks: str | Sequence[str] = (),
    **options: Any,
) -> Request:
    """Return the request that measures a folder of reconstructions; see `score`.

    options: of `planning.plan_run`.
    """
    if not reconstructions.is_dir():
        raise VtbenchError(f"{reconstructions} is no folder of reconstructions")
    tasks = choose_tasks(suite, list_names(tasks)) if tasks else ()
    known = {sample.id for sample in suite.samples}
    wanted = {sample.id for sample in suite.samples if not tasks or sample.task in tasks}
    paired = pair_files(reconstructions, wanted, known)
    lossy = sum(path.suffix.lower() in _LOSSY for path in paired.values())
    if lossy:
        _LOG.warning(
            "%s of %s reconstructions are JPEG files: what JPEG loses is part of every score. Write PNG",
            *(lossy, len(paired)),
        )
    stored = StoredReconstructor(
        paired,
        _bits(bits_per_image, [sample.id for sample in suite.samples]),
    )
    return plan_given(suite, _describe(name), stored, tasks=tasks, **options)


def pair_files(folder: Path, wanted: set[str], known: set[str]) -> dict[str, Path]:
    """Return the file of each wanted image's reconstruction, by image id.

    A file belongs to the image whose id is its path below the folder, with or without an ending.

    Raises VtbenchError naming images without a file, files without an image, and images with two.
    """
    ids: dict[str, list[str]] = {}
    for image in known:
        ids.setdefault(_stem(image), []).append(image)
    found: dict[str, Path] = {}
    stray = []
    for path in list_below(folder):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = relative.as_posix()
        whole = [image for image in (name, name.removesuffix(path.suffix)) if image in known]
        images = whole[:1] or ids.get(_stem(name), [])
        if len(images) != 1:
            stray.append(name)
        elif images[0] in found:
            raise VtbenchError(
                f"{found[images[0]]} and {path} are both reconstructions of {images[0]}: keep one"
            )
        else:
            found[images[0]] = path
    if stray:
        raise VtbenchError(f"{folder}: no original belongs to {_some(stray)}")
    if missing := sorted(wanted - set(found)):
        raise VtbenchError(f"{folder}: no reconstruction of {_some(missing)}")
    return found


def _stem(name: str) -> str:
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _bits(
    given: float | Sequence[float] | Mapping[str, float] | None, ids: Sequence[str]
) -> dict[str, float]:
    if given is None:
        return {}
    if isinstance(given, int | float):
        given = [given] * len(ids)
    if isinstance(given, Mapping):
        if unknown := sorted(set(given) - set(ids)):
            raise VtbenchError(f"bits_per_image: no image {_some(unknown)}")
        pairs: Iterable[tuple[str, float]] = given.items()
    else:
        if len(given) != len(ids):
            raise VtbenchError(f"bits_per_image: {len(given)} numbers for {len(ids)} images")
        pairs = zip(ids, given, strict=True)
    bits = {image: float(value) for image, value in pairs}
    if bad := sorted(image for image, value in bits.items() if not 0 < value < float("inf")):
        raise VtbenchError(f"bits_per_image of {_some(bad)}: expected a positive number")
    return bits


def _describe(name: str) -> Entry:
    try:
        check_name(name)
    except ValueError as error:
        raise VtbenchError(f"name {name!r}: {error}") from None
    return Entry(
        name=name,
        title=name,
        family="own",
        adapter="vtbench.evaluation.wrap:WrappedModel",
        kind="codec",
        quantizer="unknown",
        licence="unknown",
        description="Reconstructions that were made elsewhere.",
    )
