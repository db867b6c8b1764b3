"""`vtbench.evaluate`: measures a tokenizer, or your own model, on a suite or on your own images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vtbench.base.errors import CellFailed, VtbenchError
from vtbench.base.files import write_atomic
from vtbench.base.locations import list_paths
from vtbench.evaluation.given_images import write_images
from vtbench.evaluation.result import Result, read_result
from vtbench.evaluation.scratch import ScratchFolder
from vtbench.evaluation.undisturbed import undisturbed
from vtbench.evaluation.wrap import Bits, WrappedModel, wrap
from vtbench.registry.entries import Entry, Registry, Size, load_registry
from vtbench.runs.compiled_form import uncompiled_after
from vtbench.runs.outcome import Outcome
from vtbench.runs.planning import open_suite as open_named_suite
from vtbench.runs.planning import plan_run
from vtbench.runs.ranks import ALONE, Ranks, ranks_of_training
from vtbench.runs.reconstruction import LiveReconstructor, Reconstructor
from vtbench.runs.request import Request, parse_batch_size
from vtbench.runs.runner import run_suite
from vtbench.suites.suites import Suite, suite_paths
from vtbench.tokenizers.base import Tokenizer

Callback = Callable[[int, int], None]
"""A function that is called after each batch with the number of finished images and of all images."""


def evaluate(
    tokenizer: str | Entry | Tokenizer | nn.Module,
    suite: str | Path | Suite | Sequence[Any] = "embedded",
    *,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    bits: Bits | None = None,
    name: str | None = None,
    input_range: tuple[float, float] = (-1.0, 1.0),
    codebook_size: int | None = None,
    downsample: int | None = None,
    size: tuple[int, int] | None = None,
    metrics: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    limit: int | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    device: str = "auto",
    compile: bool = False,
    batch_size: int | Literal["auto"] | None = None,
    max_pixels: int | None = None,
    weights: str | Path | None = None,
    registry: str | Path | Sequence[str | Path] = (),
    data: str | Path | Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
    callback: Callback | None = None,
    distributed: bool = False,
) -> Result:
    """Measure a tokenizer on a suite; return its scores, a row for each image, and a few pictures.

    A model is evaluated on its own device, without gradients and in evaluation mode. Afterwards its
    training mode, its gradients and all random states are as before. Results of a model that is not in
    the registry are marked as such and cannot be published.

    Some arguments describe a model: `encode`, `decode`, `bits`, `name`, `input_range`,
    `codebook_size`, `downsample` and `size`. Others choose how a tokenizer of the registry is built:
    `device`, `weights` and `registry`. An argument that does not apply is refused.

    Args:
        tokenizer: A name of the registry, an entry, a `Tokenizer`, or a model (see `wrap`).
        suite: A suite's name, else a folder of images, a `Suite`, or images: a batch N×3×H×W (an array
            also N×H×W×3), or a list of tensors, arrays, pictures of Pillow or paths. Float images are
            RGB in [0, 1].
        encode: A function in place of the model's method `encode`, as in `wrap`.
        decode: A function in place of the model's method `decode`, as in `wrap`.
        bits: The bits of an image's code, as in `wrap`.
        name: The name of the row.
        input_range: The (low, high) values of images that a model takes and returns.
        codebook_size: The number of codewords of a discrete model.
        downsample: The factor between the sides of a model's image and code.
        size: The only (height, width) that a model takes.
        metrics: A metric's key or the name of a list, or several, measured as well as the suite's own.
        tasks: A task to measure, or several. Default: all of the suite.
        limit: The largest number of images of each task. The result is partial then.
        seed: The seed of a stochastic decoder. Default: the suite's.
        dtype: fp32, bf16 or fp16: of the network of a registry's tokenizer (default: the suite's), or
            of the images that a model's `encode` gets (default: the model's own).
        device: The device of a registry's tokenizer: auto, cpu, cuda, cuda:N or mps. A model stays
            where it is.
        compile: Whether torch compiles the networks; the row is NAME@compile. The first batch goes
            through the plain and the compiled networks. `Result.record.compilation` has the difference,
            and one above its tolerance is refused. Your own model is not compiled any more afterwards.
        batch_size: Images of 256×256 in a batch, fewer larger ones; "auto" looks for the fastest that
            fits. Default: the suite's.
        max_pixels: Images of more pixels are refused. Default: 24,500,000.
        weights: A file or folder in place of the entry's own source.
        registry: A folder of your own entries, or several.
        data: A folder of your own suites, or several.
        sources: The folder or archive of each data set, by its name.
        out: A folder of results, as for `vtbench run --out`. Complete and current runs in it are reused.
            By default nothing is kept.
        callback: A function that is called with the number of finished images and of all images. With
            several ranks it is called on rank 0.
        distributed: Whether every rank of a training's process group calls this, each with its own copy
            of the model (`ddp.module`). Each rank measures a part of the images and rank 0 writes. All
            ranks get the result, which does not depend on their number.

    Raises:
        VtbenchError: The request is not valid: an unknown name, missing weights, a bad range, an
            argument that does not apply.
        CellFailed: The tokenizer failed; the message says on which image and where. Or it cannot be
            compiled, or not to the same images.
    """
    if batch_size is not None:
        batch_size = parse_batch_size(str(batch_size), option="batch_size=")
    scratch = ScratchFolder()
    folder = scratch.path
    options: dict[str, Any] = {
        "metrics": metrics,
        "tasks": tasks,
        "limit": limit,
        "seed": seed,
        "batch_size": batch_size,
        "compiled": compile,
        "out": Path(out) if out is not None else folder / "results",
    }
    opened = open_suite(suite, folder, data=data, sources=sources, max_pixels=max_pixels)
    model = None
    named = isinstance(tokenizer, str | Entry)
    described: dict[str, object] = {"encode": encode, "decode": decode, "bits": bits}
    described |= {"codebook_size": codebook_size, "downsample": downsample, "size": size}
    if tuple(input_range) != (-1.0, 1.0):
        described["input_range"] = input_range
    if isinstance(tokenizer, str | Entry | Tokenizer):
        _refuse(described, "a model", f"{'an entry' if named else 'a Tokenizer'} says it by itself")
    if isinstance(tokenizer, str | Entry):
        _refuse({"name": name}, "a model", "the row has the entry's name")
        entries = load_registry(list_paths(registry))
        if isinstance(tokenizer, Entry):
            entries = Registry({**entries, tokenizer.name: tokenizer})
            tokenizer = tokenizer.name
        own = {tokenizer: Path(weights)} if weights is not None else {}
        options |= {"dtype": dtype, "device": device, "weights": own}
        request = plan_run(opened, entries, names=[tokenizer], **options)
    else:
        if not isinstance(tokenizer, Tokenizer):
            tokenizer = wrap(
                tokenizer,
                encode=encode,
                decode=decode,
                bits=bits,
                name=name,
                input_range=input_range,
                codebook_size=codebook_size,
                downsample=downsample,
                size=size,
                dtype=dtype,
            )
        own_device = tokenizer.device
        elsewhere = None if str(device) in ("auto", str(own_device), own_device.type) else device
        built = {"weights": weights, "registry": registry or None, "device": elsewhere}
        _refuse(built, "a registry's tokenizer", f"this one is built and on {own_device}")
        model = tokenizer.model if isinstance(tokenizer, WrappedModel) else None
        entry = describe_model(tokenizer, name)
        options["device"] = str(tokenizer.device)
        request = plan_given(opened, entry, LiveReconstructor(tokenizer), **options)
    ranks = ranks_of_training() if distributed else ALONE
    given = tokenizer if isinstance(tokenizer, Tokenizer) else None
    with uncompiled_after(given):
        return run_request(request, undisturbed(model), callback, scratch, ranks)


def open_suite(
    suite: str | Path | Suite | Sequence[Any],
    folder: Path,
    *,
    data: str | Path | Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
    max_pixels: int | None = None,
) -> Suite:
    """Return the suite; images that are held become a folder below `folder`."""
    if isinstance(suite, str) and Path(suite).is_dir():
        by_path = "/" in suite or "\\" in suite
        if by_path or suite.partition("@")[0] not in suite_paths(list_paths(data)):
            suite = Path(suite)
    if not isinstance(suite, str | Path | Suite):
        write_images(suite, folder / "given", max_pixels=max_pixels)
        suite = folder / "given"
    return open_named_suite(
        suite,
        data_folders=list_paths(data),
        sources={key: Path(path) for key, path in (sources or {}).items()},
        max_pixels=max_pixels,
    )


def _refuse(given: Mapping[str, object], whose: str, why: str) -> None:
    """Raise VtbenchError for the first argument that was given and does not apply."""
    for argument, value in given.items():
        if value is not None:
            raise VtbenchError(f"{argument}= is an argument of {whose}: {why}")


def describe_model(tokenizer: Tokenizer, name: str | None) -> Entry:
    """Return the entry of a tokenizer that no registry has."""
    spec = tokenizer.spec
    size = Size(multiple=spec.size.multiple, fixed=spec.size.fixed, policy=spec.size.policy)
    return Entry(
        name=name or spec.name,
        title=name or spec.name,
        family=spec.family,
        adapter="vtbench.evaluation.wrap:WrappedModel",
        kind=spec.kind,
        quantizer=spec.quantizer,
        downsample=spec.downsample,
        codebook_size=spec.codebook_size,
        latent_channels=spec.latent_channels or (1 if spec.kind == "continuous" else None),
        input_range=spec.input_range,
        size=size,
        stochastic=spec.stochastic,
        licence="unknown",
        description="A model of one's own, not an entry of a registry.",
    )


def plan_given(
    suite: Suite,
    entry: Entry,
    reconstructor: Reconstructor,
    *,
    compiled: bool = False,
    **options: Any,
) -> Request:
    """Return the request that measures what a reconstructor gives, under an entry's name.

    Args:
        suite: The suite with its images attached.
        entry: What the rows say of it.
        reconstructor: What gives the reconstructions.
        compiled: Whether torch compiles its networks. What has none is known when it is called.
        options: As those of `plan_run`.
    """
    request = plan_run(suite, Registry({entry.name: entry}), names=[entry.name], **options)
    return replace(request, given={entry.name: reconstructor}, compiled=compiled)


class _Listener:
    """Passes a run's progress on to a callback."""

    def __init__(self, callback: Callback | None) -> None:
        self.callback = callback
        self.done = self.images = 0

    def started(self, run: str, index: int, total: int, images: int) -> None:
        self.done, self.images = 0, images

    def advanced(self, images: int) -> None:
        self.done += images
        if self.callback is not None:
            self.callback(self.done, self.images)

    def finished(self, outcome: Outcome) -> None: ...


def run_request(
    request: Request,
    surroundings: AbstractContextManager[None],
    callback: Callback | None,
    scratch: ScratchFolder,
    ranks: Ranks = ALONE,
) -> Result:
    """Return the result of a request for one tokenizer. scratch: what holds its files as long as the
    result lives. ranks: this process among those that measure it. Raises CellFailed where it failed,
    RegistryError or WeightsError where it was never begun."""
    if len(request.cells()) > 1:
        raise VtbenchError(
            f"{request.entries[0].name} decodes at random: give seed=, or use `vtbench run` for all "
            f"of the suite's seeds"
        )
    with surroundings:
        (outcome,) = run_suite(request, _Listener(callback), ranks=ranks)
    if outcome.status == "failed":
        kind = type(outcome.error) if outcome.error and outcome.refused else CellFailed
        raise kind(f"{outcome.run}: {outcome.reason}")
    folder = request.out
    if ranks.world > 1:
        files = {} if not ranks.first else _read_files(folder, outcome.run)
        files = ranks.share(files)
        if not ranks.first:
            folder = scratch.path / "shared"
            for name, content in files.items():
                write_atomic(folder / name, content)
    return read_result(folder, outcome.run, scratch)


def _read_files(folder: Path, run: str) -> dict[str, bytes]:
    """Return what a result is made of, by name: ranks on other hosts do not see rank 0's folder."""
    paths = [folder / "suite.json", *sorted((folder / run).iterdir())]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()
    }
